/**
 * The pool of addresses, seen from outside: attached until ADD is refused, and counted. Done at the
 * start and at the end of a run, it tells whether anything between (killed ADDs, lost namespaces)
 * leaked a single address (contract 11, 19, 22).
 */

import { type Answer, refused, succeeded, told } from '../answer.ts'
import { type Case, Skipped } from '../case.ts'
import type { Attached, Context } from '../context.ts'
import { Failed } from '../failed.ts'
import { atLeast } from '../versions.ts'

/** Larger pools are not filled. */
const MAX_POOL = 260
const AT_ONCE = 8
const MEASURED = 'pool'

/** Attaches until ADD is refused; gives the first refusal. Throws `Skipped` when the pool is too large. */
async function fill(context: Context): Promise<{ attached: Attached[]; refusal: Answer }> {
  const attached: Attached[] = []
  for (;;) {
    const answers = await Promise.all(
      Array.from({ length: AT_ONCE }, async () => {
        const pod = await context.pod()
        return context.add(pod).catch(async (error: unknown) => {
          if (!(error instanceof Failed)) throw error
          // Once more, alone: what is refused now is refused for want of an address.
          return pod
        })
      }),
    )
    for (const each of answers) {
      if ('result' in each) {
        attached.push(each)
        continue
      }
      const refusal = await context.call('ADD', each)
      if (refusal.code === 0) throw new Failed('an ADD failed that succeeds when it is tried again')
      return { attached: [...attached, ...answers.filter(isLater(each, answers))], refusal }
    }
    if (attached.length > MAX_POOL) {
      throw new Skipped(`the pool has more than ${MAX_POOL} addresses`)
    }
  }
}

/** Of one round, the attachments behind `pod`. */
function isLater(pod: object, answers: readonly object[]) {
  return (each: object, k: number): each is Attached => k > answers.indexOf(pod) && 'result' in each
}

async function empty(context: Context, attached: readonly Attached[]): Promise<void> {
  for (let k = 0; k < attached.length; k += AT_ONCE) {
    await Promise.all(attached.slice(k, k + AT_ONCE).map(each => context.del(each)))
  }
}

export const poolAtStart: readonly Case[] = [
  {
    id: '22-pool-full',
    name: 'the pool gives out each address once; then ADD is refused, STATUS is not, until one comes back',
    runs: 'once',
    run: async context => {
      await context.del(await context.add())
      const before = await context.inventory()
      const { attached, refusal } = await fill(context)
      context.memo.set(MEASURED, attached.length)
      refused(refusal)
      const addresses = attached.flatMap(each => each.result.ips.map(ip => ip.address))
      if (new Set(addresses).size < addresses.length) throw new Failed('an address came twice')
      const gateways = attached.flatMap(each => each.result.ips.map(ip => ip.gateway))
      const own = addresses.find(address => gateways.includes(address))
      if (own !== undefined) throw new Failed(`${own} is the gateway, and was given out`)
      if (atLeast(context.version, '1.1.0')) succeeded(await context.call('STATUS'))
      const [first, ...others] = attached
      await context.del(first!)
      const again = await context.add()
      await empty(context, [again, ...others])
      await context.clean(before, [first!.pod, again.pod])
      if (atLeast(context.version, '1.1.0')) succeeded(await context.call('STATUS'))
      return `${attached.length} pods, then ${told(refusal)}`
    },
  },
]

export const poolAtEnd: readonly Case[] = [
  {
    id: '11-pool-whole',
    name: 'behind all other cases the pool is as large as it was at the start',
    runs: 'once',
    run: async context => {
      const measured = context.memo.get(MEASURED)
      if (measured === undefined) throw new Skipped('22-pool-full has not measured the pool')
      const { attached } = await fill(context)
      await empty(context, attached)
      if (attached.length !== measured) {
        throw new Failed(`${measured} pods at the start, ${attached.length} at the end`)
      }
      return `${attached.length} pods, as at the start`
    },
  },
]
