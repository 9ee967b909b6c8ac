/** GC removes what the runtime does not know, of this network, and nothing else (contract 2, 20). */

import { succeeded } from '../answer.ts'
import type { Case } from '../case.ts'
import type { Attached, Context } from '../context.ts'
import { Failed } from '../failed.ts'
import { interfaces } from '../namespaces.ts'
import type { Config } from '../subject.ts'

const KEY = 'cni.dev/valid-attachments'

function valid(attached: readonly Attached[]): Config {
  return {
    [KEY]: attached.map(({ pod }) => ({ containerID: pod.containerId, ifname: pod.ifname })),
  }
}

async function kept(context: Context, attached: Attached): Promise<void> {
  const answer = await context.check(attached)
  if (answer.code !== 0) throw new Failed('an attachment that was to stay is damaged')
}

async function gone(context: Context, before: ReadonlySet<string>, stale: Attached): Promise<void> {
  const answer = await context.check(stale)
  if (answer.code === 0) throw new Failed('CHECK of a stale attachment still succeeds')
  const there = (await interfaces(stale.pod.netns)).map(each => each.name)
  if (there.includes(stale.pod.ifname)) throw new Failed('a stale interface is there')
  await context.clean(before, [stale.pod])
}

/** GC with `keys`, of two attachments: which of them must stay, by number. */
function collects(
  id: string,
  name: string,
  keys: (attached: readonly Attached[]) => Config,
  stay: readonly number[],
): Case {
  return {
    ...{ id, name, runs: 'each', since: '1.1.0' },
    run: async context => {
      const before = await context.inventory()
      const attached = [await context.add(), await context.add()]
      for (const _ of ['once', 'again']) {
        succeeded(await context.call('GC', undefined, { config: keys(attached) }))
      }
      for (const k of stay) await kept(context, attached[k]!)
      for (const k of stay) await context.del(attached[k]!)
      for (const [k, each] of attached.entries()) {
        if (!stay.includes(k)) await gone(context, before, each)
      }
      for (const each of attached) await context.del(each)
      return `${stay.length} of 2 stay, twice`
    },
  }
}

export const gc: readonly Case[] = [
  collects('20-gc-absent', 'without the list nothing is stale', () => ({}), [0, 1]),
  collects('20-gc-null', 'a null is no list', () => ({ [KEY]: null }), [0, 1]),
  collects('20-gc-all', 'with all in the list nothing is stale', valid, [0, 1]),
  collects('20-gc-partial', 'what is not in the list goes', ([first]) => valid([first!]), [0]),
  collects('20-gc-empty', 'with an empty list all goes', () => ({ [KEY]: [] }), []),
  collects(
    '20-gc-foreign-network',
    "another network's GC touches nothing",
    () => ({ [KEY]: [], name: 'another-network' }),
    [0, 1],
  ),
  collects(
    '20-gc-other-ifname',
    'an attachment is known by its interface too',
    attached => ({
      [KEY]: attached.map(({ pod }, k) => ({
        containerID: pod.containerId,
        ifname: k === 0 ? pod.ifname : 'net1',
      })),
    }),
    [0],
  ),
  {
    id: '02-gc-bare',
    name: 'GC needs no variable but CNI_COMMAND and CNI_PATH',
    runs: 'each',
    since: '1.1.0',
    run: async context => {
      const env = { CNI_COMMAND: 'GC', CNI_PATH: context.subject.cniPath.join(':') }
      succeeded(await context.call('GC', undefined, { bare: true, env }))
      return 'it succeeded'
    },
  },
]
