/**
 * A daemon behind the plugin that is dead, frozen or starting anew (contract 14, 16, 19, 20). A DEL
 * must succeed in any case: it is made up for before the daemon serves again.
 */

import { randomBytes } from 'node:crypto'
import { setTimeout as pause } from 'node:timers/promises'
import { type Answer, refused, seconds, succeeded, told } from '../answer.ts'
import { type Case, Skipped } from '../case.ts'
import type { Attached, Context } from '../context.ts'
import { Failed } from '../failed.ts'
import type { NodeDaemon } from '../node-daemon.ts'
import { atLeast } from '../versions.ts'

/** Milliseconds that a runtime waits: kubelet's runtimeRequestTimeout. */
const LIMIT_MS = 120_000
const KILL_DELAYS_MS = [1, 4, 10]
/** Milliseconds that a daemon is frozen for a short while. */
const SHORT_MS = 1_000
const TRY_AGAIN = 11

function frozen({ daemon }: Context): NodeDaemon {
  if (daemon === undefined) throw new Skipped('no daemon: --daemon or --daemon-pid')
  return daemon
}

function restarted(context: Context): NodeDaemon {
  const daemon = frozen(context)
  if (!daemon.restartable) throw new Skipped('only --daemon can be ended and started again')
  return daemon
}

function inTime(answer: Answer): string {
  if (answer.ms > LIMIT_MS) throw new Failed(`${answer.verb} took ${seconds(answer.ms)}`)
  return `${told(answer)}, in ${seconds(answer.ms)}`
}

/** A verb that is called while the daemon is dead. */
function dead(
  id: string,
  name: string,
  call: (context: Context, attached: Attached) => Promise<string>,
  more: Partial<Case> = {},
): Case {
  return {
    ...{ id, name, runs: 'once', ...more },
    run: async context => {
      const daemon = restarted(context)
      const before = await context.inventory()
      const attached = await context.add()
      await daemon.stop('SIGKILL')
      const seen = await call(context, attached)
      if (!daemon.running) await daemon.start()
      await context.del(attached)
      await context.clean(before, [attached.pod])
      return seen
    },
  }
}

interface Hung {
  add: Answer
  del: Answer
  status: Answer | undefined
}

/** ADD, DEL and STATUS, all at once, of a daemon that is stopped by SIGSTOP; the answers are shared by the cases. */
function hung(context: Context): Promise<Hung> {
  const daemon = frozen(context)
  const known = context.memo.get('hung') as Promise<Hung> | undefined
  if (known !== undefined) return known
  const tried = (async () => {
    const attached = await context.add()
    const pod = await context.pod()
    daemon.freeze()
    try {
      const [add, del, status] = await Promise.all([
        context.call('ADD', pod),
        context.call('DEL', attached.pod),
        atLeast(context.version, '1.1.0') ? context.call('STATUS') : undefined,
      ])
      return { add, del, status }
    } finally {
      daemon.thaw()
      await context.del(pod)
      await context.del(attached)
    }
  })()
  context.memo.set('hung', tried)
  return tried
}

export const daemon: readonly Case[] = [
  dead(
    '14-dead-add',
    'without its daemon ADD is refused with code 11, in bounded time',
    async context => {
      const answer = await context.call('ADD', await context.pod())
      refused(answer, [TRY_AGAIN])
      return inTime(answer)
    },
  ),
  dead(
    '16-dead-del',
    'without its daemon DEL succeeds; it is made up for before the daemon serves',
    async (context, { pod }) => {
      const answer = await context.call('DEL', pod)
      succeeded(answer)
      await restarted(context).start()
      await context.clean(new Set(await context.inventory()), [pod])
      return inTime(answer)
    },
  ),
  dead(
    '16-dead-del-unknown',
    'without its daemon DEL of what was never added succeeds',
    async context => {
      const pod = { ...(await context.pod()), containerId: randomBytes(32).toString('hex') }
      const answer = await context.call('DEL', pod)
      succeeded(answer)
      return inTime(answer)
    },
  ),
  dead(
    '16-dead-del-dead-netns',
    'without its daemon DEL in a namespace that is gone succeeds',
    async context => {
      const pod = await context.pod()
      await context.lose(pod)
      const answer = await context.call('DEL', pod)
      succeeded(answer)
      return inTime(answer)
    },
  ),
  dead(
    '18-dead-check',
    'without its daemon CHECK is refused, in bounded time',
    async (context, attached) => {
      const answer = await context.check(attached)
      refused(answer)
      return inTime(answer)
    },
    { since: '0.4.0' },
  ),
  dead(
    '19-dead-status',
    'without its daemon STATUS is refused with code 50',
    async context => {
      const answer = await context.call('STATUS')
      refused(answer, [50])
      return inTime(answer)
    },
    { since: '1.1.0' },
  ),
  dead(
    '20-dead-gc',
    'without its daemon GC does nothing that is not made up for, in bounded time',
    async (context, { pod }) => {
      const attachments = [{ containerID: pod.containerId, ifname: pod.ifname }]
      const answer = await context.call('GC', undefined, {
        config: { 'cni.dev/valid-attachments': attachments },
      })
      await context.interfaceOf(pod)
      return inTime(answer)
    },
    { since: '1.1.0' },
  ),
  {
    id: '20-restart-keeps',
    name: 'a restart of the daemon leaves pods as they are',
    runs: 'once',
    run: async context => {
      const own = restarted(context)
      const attached = await context.add()
      const before = JSON.stringify(await context.interfaceOf(attached.pod))
      for (const signal of ['SIGTERM', 'SIGKILL'] as const) {
        await own.stop(signal)
        await own.start()
        const after = JSON.stringify(await context.interfaceOf(attached.pod))
        if (after !== before) throw new Failed(`behind ${signal}: ${after}`)
        if (atLeast(context.version, '0.4.0')) {
          succeeded(await context.check(attached), `behind ${signal}: `)
        }
      }
      await context.del(attached)
      return 'behind SIGTERM and SIGKILL the interface is as it was, and CHECK succeeds'
    },
  },
  {
    id: '14-restart-add',
    name: 'ADDs during a restart succeed or are refused with code 11, and then succeed',
    runs: 'once',
    run: async context => {
      const own = restarted(context)
      const before = await context.inventory()
      const pods = await Promise.all(Array.from({ length: 8 }, () => context.pod()))
      const stopped = own.stop('SIGTERM')
      const asked = Promise.all(pods.map(pod => context.call('ADD', pod)))
      await stopped
      await own.start()
      const answers = await asked
      const failures = answers.filter(each => each.code !== 0)
      for (const each of failures) refused(each, [TRY_AGAIN])
      for (const [k, pod] of pods.entries()) {
        if (answers[k]!.code === 0) continue
        await context.clean(new Set(await context.inventory()), [pod])
        await context.add(pod)
      }
      for (const pod of pods) await context.del(pod)
      await context.clean(before, pods)
      return `${pods.length - failures.length} of ${pods.length} succeeded at once, the others then`
    },
  },
  ...KILL_DELAYS_MS.map(
    (delay): Case => ({
      id: `16-daemon-killed-${String(delay).padStart(2, '0')}`,
      name: `the daemon killed ${delay} ms behind the start of an ADD: DEL, then ADD works, nothing is left`,
      runs: 'once',
      run: async context => {
        const own = restarted(context)
        const before = await context.inventory()
        const pod = await context.pod()
        const asked = context.call('ADD', pod)
        await pause(delay)
        await own.stop('SIGKILL')
        await own.start()
        const answer = await asked
        if (answer.code !== 0) refused(answer, [TRY_AGAIN])
        await context.del(pod)
        await context.clean(before, [pod])
        await context.del(
          await context.add({ ...pod, containerId: randomBytes(9).toString('hex') }),
        )
        await context.clean(before, [pod])
        return inTime(answer)
      },
    }),
  ),
  {
    id: '14-frozen-shortly',
    name: 'an ADD waits for a daemon that is frozen for a second',
    runs: 'once',
    run: async context => {
      const own = frozen(context)
      const pod = await context.pod()
      own.freeze()
      const asked = context.add(pod)
      await pause(SHORT_MS)
      own.thaw()
      const attached = await asked
      await context.del(attached)
      return `it took ${seconds(attached.ms)}`
    },
  },
  {
    id: '14-hung-add',
    name: 'with a daemon that hangs ADD is refused with code 11 before the runtime gives up',
    runs: 'once',
    run: async context => {
      const { add } = await hung(context)
      refused(add, [TRY_AGAIN])
      return inTime(add)
    },
  },
  {
    id: '16-hung-del',
    name: 'with a daemon that hangs DEL succeeds before the runtime gives up',
    runs: 'once',
    run: async context => {
      const { del } = await hung(context)
      succeeded(del)
      return inTime(del)
    },
  },
  {
    id: '19-hung-status',
    name: 'with a daemon that hangs STATUS is refused with code 50',
    runs: 'once',
    since: '1.1.0',
    run: async context => {
      const { status } = await hung(context)
      refused(status!, [50])
      return inTime(status!)
    },
  },
]
