/**
 * Addresses for pods, out of the pools of their network (ipam-ranges.ts): one of each family that
 * it has, both or none.
 *
 * Theory of operation. Next-fit: the search begins behind the address that was found last in this pool, so an
 * address comes back as late as the pool allows, whatever other pools do. One that was freed rests for COOLING_MS besides:
 * peers, conntrack tables and clients still speak to its last owner. That is measured by a clock that
 * nobody can set (clock.ts), and begins anew with each daemon. When nothing else is left the
 * one that has rested longest is taken; a pod that starts matters more. One that a pod asks for
 * (ipam-request.ts) must be free and have rested. The choice and its reservation are one
 * transaction, written before any interface is made and durable before ADD answers (state.ts).
 */

import { steadyNow } from '../base/clock.ts'
import { type Address, addressText } from '../netip/cidr.ts'
import { inSpans, type Span, sizeOf } from '../netip/spans.ts'
import { CniError, CODE } from '../spec/errors.ts'
import { type AddressUse, type Attachment, attachmentId, type State } from '../state/state.ts'
import { type Pool, refusal } from './ranges.ts'

/** Milliseconds that a freed address rests while another one is to be had. */
export const COOLING_MS = 30_000
/** The part of a pool that is left when `hawser status` begins to say so. */
export const LOW_ADDRESSES = 0.1

/** An attachment before it has addresses. */
export type Wanted = Omit<Attachment, 'phase' | 'ip4' | 'ip6' | 'created'>

/** The next address in `spans` (sorted, disjoint) at time `now`, or undefined when all are taken. */
export function pick(spans: readonly Span[], use: AddressUse, now: number): bigint | undefined {
  const { taken, cooling, cursor } = use
  // Among that many different addresses at least one is neither taken nor cooling.
  let enough = taken.size + cooling.size + 1
  for (const { first, last } of behind(spans, cursor)) {
    for (let address = first; address <= last && enough > 0; address++, enough--) {
      if (taken.has(address)) continue
      const freed = cooling.get(address)
      if (freed === undefined || now - freed >= COOLING_MS) return address
    }
  }
  for (const address of cooling.keys()) {
    if (inSpans(spans, address) && !taken.has(address)) return address
  }
  return undefined
}

/** The same addresses, beginning with the one behind `cursor`. */
function behind(spans: readonly Span[], cursor: bigint | undefined): Span[] {
  if (cursor === undefined) return [...spans]
  const after = spans.flatMap(({ first, last }) =>
    last > cursor ? [{ first: first > cursor ? first : cursor + 1n, last }] : [],
  )
  const before = spans.flatMap(({ first, last }) =>
    first <= cursor ? [{ first, last: last < cursor ? last : cursor }] : [],
  )
  return [...after, ...before]
}

/**
 * Chooses addresses for `wanted`, those in `asked` where it names one, and writes it down as
 * reserved. Throws CniError when a family has none left, or for one that was asked for: code 11 when
 * it is in use or rests, 7 when it can't be had. Addresses that have rested are forgotten on the way.
 */
export function reserve(
  state: State,
  pools: readonly Pool[],
  asked: readonly Address[],
  wanted: Wanted,
  now: number = steadyNow(),
): Attachment {
  if (pools.length === 0) throw new CniError(CODE.tryAgain, 'this node has no pod CIDR')
  const strange = asked.find(each => !pools.some(pool => pool.family === each.family))
  if (strange !== undefined) {
    throw new CniError(CODE.config, `${strange.text}: the network has no IPv${strange.family}`)
  }
  return state.transactionUnsynced(() => {
    state.cooled(now - COOLING_MS)
    const attachment: Attachment = { ...wanted, phase: 'reserved', created: Date.now() }
    const chosen: (4 | 6)[] = []
    for (const pool of pools) {
      const { family } = pool
      const use = state.addressUse(family, pool.text)
      const request = asked.find(each => each.family === family)
      if (request === undefined) chosen.push(family)
      else checkRequest(state, pool, use, request)
      const address = request?.value ?? pick(pool.spans, use, now)
      if (address === undefined) {
        throw new CniError(
          CODE.tryAgain,
          `no IPv${family} address is left in ${pool.text}`,
          'remove pods from this node, or give it a larger pod CIDR',
        )
      }
      const text = addressText(family, address)
      attachment[family === 4 ? 'ip4' : 'ip6'] = text
      if (request === undefined) state.moveCursor(pool.text, text)
    }
    state.insert(attachment, chosen)
    return attachment
  })
}

function checkRequest(state: State, pool: Pool, use: AddressUse, request: Address): void {
  const cause = refusal(pool, request)
  if (cause !== undefined) throw new CniError(CODE.config, `${request.text}: ${cause}`)
  const what = inUse(state, use, request)
  if (what !== undefined) throw new CniError(CODE.tryAgain, `${request.text}: ${what}`)
}

/** Why an address can't be had now. */
function inUse(
  state: State,
  use: AddressUse,
  { family, text, value }: Address,
): string | undefined {
  if (use.taken.has(value)) {
    const holder = state.holder(family, text)
    return `taken by ${holder === undefined ? 'another pod' : attachmentId(holder)}`
  }
  return use.cooling.has(value) ? 'it was freed a moment ago and still cools down' : undefined
}

/**
 * Writes down, as reserved, an attachment with addresses that an IPAM plugin gave. Throws CniError
 * (code 11) when one of them belongs to another attachment.
 */
export function record(
  state: State,
  addresses: readonly Address[],
  wanted: Wanted,
  now: number = Date.now(),
): Attachment {
  return state.transaction(() => {
    const attachment: Attachment = { ...wanted, phase: 'reserved', created: now }
    for (const { family, text } of addresses) {
      const holder = state.holder(family, text)
      if (holder !== undefined) {
        throw new CniError(
          CODE.tryAgain,
          `${text}: the IPAM plugin gave it, and ${attachmentId(holder)} has it`,
          'what do the plugin and the pod CIDRs share?',
        )
      }
      attachment[family === 4 ? 'ip4' : 'ip6'] = text
    }
    state.insert(attachment, [])
    return attachment
  })
}

/** The pools of which every address is taken, as text. */
export function exhausted(state: State, pools: readonly Pool[]): string[] {
  return pools
    .filter(pool => pick(pool.spans, state.addressUse(pool.family), Infinity) === undefined)
    .map(pool => pool.text)
}

/** A sentence for each pool that has less than LOW_ADDRESSES of its addresses left. */
export function lowNotes(state: State, pools: readonly Pool[]): string[] {
  return pools.flatMap(pool => {
    const all = sizeOf(pool.spans)
    const { taken } = state.addressUse(pool.family)
    const left = all - BigInt([...taken].filter(value => inSpans(pool.spans, value)).length)
    if (Number(left) >= LOW_ADDRESSES * Number(all)) return []
    return [`${left} of ${all} addresses are left in ${pool.text}`]
  })
}
