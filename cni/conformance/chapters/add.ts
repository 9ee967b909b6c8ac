/** ADD: what is there already, all or nothing, many at once (contract 1, 4, 7, 9, 11, 13, 14). */

import { randomBytes } from 'node:crypto'
import { refused, seconds, succeeded, told } from '../answer.ts'
import type { Case } from '../case.ts'
import type { Attached, Context, Pod } from '../context.ts'
import { Failed } from '../failed.ts'
import { interfaces, routes } from '../namespaces.ts'
import { tool } from '../process.ts'
import { atLeast } from '../versions.ts'

/** Milliseconds behind its start at which a plugin is killed; which step that meets differs each time. */
const KILL_DELAYS_MS = [0, 1, 3, 6, 12, 25]
const PARALLEL = 100

/** All that can be seen of an interface and its routes. */
async function portrait(pod: Pod): Promise<string> {
  const own = (await interfaces(pod.netns)).filter(each => each.name === pod.ifname)
  const ways = (await routes(pod.netns)).filter(each => each.device === pod.ifname)
  return JSON.stringify([own, ways.map(each => each.dst).sort()])
}

/** Another sandbox of the same namespace: what kubelet makes when the first one failed. */
function retried(pod: Pod): Pod {
  return { ...pod, containerId: randomBytes(32).toString('hex') }
}

async function stillGood(context: Context, attached: Attached): Promise<void> {
  if (atLeast(context.version, '0.4.0')) succeeded(await context.check(attached))
  else await context.interfaceOf(attached.pod)
}

/** An earlier plugin's result, as a runtime hands it on. */
function earlier(context: Context): Record<string, unknown> {
  const { version: cniVersion } = context
  if (!atLeast(cniVersion, '0.3.0')) {
    return { cniVersion, ip4: { ip: '192.0.2.7/24', gateway: '192.0.2.1' } }
  }
  const family = atLeast(cniVersion, '1.0.0') ? {} : { version: '4' }
  return {
    cniVersion,
    interfaces: [{ name: 'net9', mac: '02:00:00:00:00:09', sandbox: '/run/netns/elsewhere' }],
    ips: [{ ...family, address: '192.0.2.7/24', gateway: '192.0.2.1', interface: 0 }],
    routes: [{ dst: '198.51.100.0/24', gw: '192.0.2.1' }],
    dns: {},
  }
}

export const add: readonly Case[] = [
  {
    id: '10-add-and-del',
    name: 'ADD makes the interface, DEL removes all that came with it',
    runs: 'each',
    run: async context => {
      await context.del(await context.add())
      const before = await context.inventory()
      const attached = await context.add()
      await context.interfaceOf(attached.pod)
      await context.del(attached)
      await context.clean(before, [attached.pod])
      return `ADD took ${seconds(attached.ms)}, and nothing is left`
    },
  },
  {
    id: '04-error-document',
    name: 'an error has the cniVersion asked for, a numeric code and a message',
    runs: 'each',
    run: async context => {
      const answer = await context.call('ADD', await context.pod(), { env: { CNI_IFNAME: '..' } })
      refused(answer)
      const { cniVersion, msg } = answer.document!
      if (cniVersion !== context.version) {
        throw new Failed(`the error has the cniVersion ${String(cniVersion)}`)
      }
      if (msg === '') throw new Failed('the error has an empty msg')
      return told(answer)
    },
  },
  {
    id: '04-stdout',
    name: 'stdout has exactly one document behind ADD, and none but a document behind DEL',
    runs: 'each',
    run: async context => {
      const attached = await context.add()
      const gone = await context.call('DEL', attached.pod)
      succeeded(gone)
      return gone.stdout === '' ? 'DEL prints nothing' : `DEL prints ${gone.stdout.trim()}`
    },
  },
  {
    id: '04-stderr-unread',
    name: 'ADD and DEL work when nobody reads stderr',
    runs: 'each',
    run: async context => {
      const unread = { stderrUnread: true }
      await context.del(await context.add(undefined, unread), unread)
      return 'ADD and DEL succeeded'
    },
  },
  {
    id: '04-own-netns',
    name: "the node's own namespace is refused, and stays as it is",
    runs: 'each',
    run: async context => {
      const before = await context.inventory()
      const pod = { ...(await context.pod()), netns: context.node }
      const answer = await context.call('ADD', pod)
      const after = await context.inventory()
      if (after.has(`link ${pod.ifname}`)) {
        await context.call('DEL', pod)
        await tool('ip', ['link', 'delete', pod.ifname], context.node).catch(() => {})
      }
      refused(answer)
      const came = [...after].filter(line => !before.has(line))
      if (came.length > 0) throw new Failed(`it was refused, and left ${came.join(', ')}`)
      return told(answer)
    },
  },
  {
    id: '07-prev-result-kept',
    name: "what earlier plugins answered stays in the result, in front of the plugin's own",
    runs: 'each',
    since: '0.3.0',
    run: async context => {
      const before = earlier(context)
      const attached = await context.add(undefined, { config: { prevResult: before } })
      const { interfaces: listed, ips, routes: ways } = attached.result
      if (listed[0]?.name !== 'net9') throw new Failed('the earlier interface is not in front')
      if (!ips.some(ip => ip.cidr === '192.0.2.7/24' && listed[ip.interface ?? -1] === listed[0])) {
        throw new Failed("the earlier address is gone, or on another interface's index")
      }
      if (!ways.some(each => each.dst === '198.51.100.0/24')) throw new Failed('its route is gone')
      const own = ips.filter(ip => ip.cidr !== '192.0.2.7/24')
      if (own.some(ip => listed[ip.interface ?? -1]?.name !== attached.pod.ifname)) {
        throw new Failed("an index of the plugin's own addresses did not move")
      }
      await context.del(attached)
      return `${listed.length} interfaces, the earlier one in front`
    },
  },
  {
    id: '09-add-twice',
    name: 'a second ADD is an error, and touches nothing',
    runs: 'each',
    run: async context => {
      const attached = await context.add()
      const before = await portrait(attached.pod)
      const answer = await context.call('ADD', attached.pod)
      refused(answer)
      if ((await portrait(attached.pod)) !== before) throw new Failed('the interface was changed')
      await stillGood(context, attached)
      await context.del(attached)
      return told(answer)
    },
  },
  {
    id: '09-foreign-interface',
    name: 'an interface of that name that is there already is an error, is untouched, and nothing is left',
    runs: 'each',
    run: async context => {
      const before = await context.inventory()
      const pod = await context.pod()
      const pair = ['type', 'veth', 'peer', 'name', 'other']
      await tool('ip', ['link', 'add', pod.ifname, ...pair], pod.netns)
      await tool('ip', ['addr', 'add', '192.0.2.9/24', 'dev', pod.ifname], pod.netns)
      const untouched = await portrait(pod)
      const answer = await context.call('ADD', pod)
      refused(answer)
      if ((await portrait(pod)) !== untouched) throw new Failed('the stranger was changed')
      await context.clean(before, [])
      return told(answer)
    },
  },
  {
    id: '13-two-interfaces',
    name: 'a pod has two interfaces of one network; DEL of one leaves the other',
    runs: 'each',
    run: async context => {
      const first = await context.add()
      const second = await context.add({ ...first.pod, ifname: 'net1' })
      const addresses = [first, second].map(each => each.result.ips[0]?.address)
      if (addresses[0] === addresses[1]) throw new Failed(`both have ${addresses[0]}`)
      await context.del(second)
      await context.interfaceOf(first.pod)
      await context.del(first)
      return addresses.join(', ')
    },
  },
  {
    id: '13-late-del',
    name: "the DEL of an earlier sandbox that comes late leaves the new one's interface",
    runs: 'each',
    run: async context => {
      const first = await context.pod()
      const second = await context.add(retried(first))
      await context.del(first)
      await context.interfaceOf(second.pod)
      await context.del(second)
      return 'the interface is there'
    },
  },
  ...KILL_DELAYS_MS.map(
    (delay): Case => ({
      id: `11-add-killed-${String(delay).padStart(2, '0')}`,
      name: `ADD killed ${delay} ms behind its start: DEL succeeds, ADD works again, nothing is left`,
      runs: 'each',
      run: async context => {
        const before = await context.inventory()
        const pod = await context.pod()
        const killed = await context.call('ADD', pod, { killAfterMs: delay })
        await context.del(pod)
        await context.clean(before, [pod])
        const again = await context.add(retried(pod))
        await stillGood(context, again)
        await context.del(again)
        await context.clean(before, [pod])
        return killed.signal === null ? 'it had ended before' : `killed at ${seconds(killed.ms)}`
      },
    }),
  ),
  ...KILL_DELAYS_MS.filter((_, k) => k % 2 === 1).map(
    (delay): Case => ({
      id: `11-del-killed-${String(delay).padStart(2, '0')}`,
      name: `DEL killed ${delay} ms behind its start: the next DEL removes all`,
      runs: 'each',
      run: async context => {
        const before = await context.inventory()
        const attached = await context.add()
        const killed = await context.call('DEL', attached.pod, { killAfterMs: delay })
        await context.del(attached)
        await context.clean(before, [attached.pod])
        return killed.signal === null ? 'it had ended before' : `killed at ${seconds(killed.ms)}`
      },
    }),
  ),
  {
    id: '14-hundred-at-once',
    name: 'of a hundred ADDs at once all succeed, with different addresses; a hundred DELs remove all',
    runs: 'once',
    run: async context => {
      await context.del(await context.add())
      const before = await context.inventory()
      const pods: Pod[] = []
      while (pods.length < PARALLEL) pods.push(await context.pod())
      const attached = await settled(pods.map(pod => context.add(pod)))
      const addresses = attached.flatMap(each => each.result.ips.map(ip => ip.address))
      const twice = addresses.length - new Set(addresses).size
      if (twice > 0) throw new Failed(`${twice} addresses were given out twice`)
      await settled(attached.map(each => context.del(each)))
      await context.clean(before, [])
      for (const pod of pods.filter((_, k) => k % 10 === 0)) await context.clean(before, [pod])
      const slowest = Math.max(...attached.map(each => each.ms))
      return `${addresses.length} addresses, the slowest ADD took ${seconds(slowest)}`
    },
  },
]

/** All values; the first failure when there is one, with the number of them. */
async function settled<T>(work: readonly Promise<T>[]): Promise<T[]> {
  const results = await Promise.allSettled(work)
  const failures = results.filter(each => each.status === 'rejected')
  if (failures.length > 0) {
    const { message } = failures[0]!.reason as Error
    throw new Failed(`${failures.length} of ${work.length} failed, the first: ${message}`)
  }
  return results.flatMap(each => (each.status === 'fulfilled' ? [each.value] : []))
}
