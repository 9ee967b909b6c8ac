/**
 * The word of an action in the flow table: what holds for every packet of one direction of a flow.
 *
 *     bit  0      ALLOWED: policy lets the flow be
 *     bit  1      REPLY: this direction goes from the flow's second end to its first
 *     bits 2-15   incarnation of the next hop
 *     bits 16-31  next hop id; 0: not known for this direction yet
 *
 * A next hop's incarnation moves when a route to it goes, when one below it comes, and when its id is free: flows that
 * name an older one are routed again, and what policy has said of them stays. (Ids and incarnations would have to come
 * round, 16,384 moves of one id, while a flow has no packet.)
 */

export const ACTION = { ALLOWED: 1, REPLY: 2 } as const

const INCARNATION_SHIFT = 2
const INCARNATION_MASK = 0x3fff
const HOP_SHIFT = 16
/** Bits of an action that say what policy has decided. */
export const VERDICT_BITS = ACTION.ALLOWED | ACTION.REPLY

/** The part of an action that names a next hop, by its id and the incarnation that its entry has. */
export function routeBits(hop: number, incarnation: number): number {
  return ((hop << HOP_SHIFT) | ((incarnation & INCARNATION_MASK) << INCARNATION_SHIFT)) >>> 0
}

/** The next hop that an action names. */
export function hopOf(action: number): number {
  return action >>> HOP_SHIFT
}
