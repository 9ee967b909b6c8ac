/**
 * The table of known VTEPs: open addressing, linear probing, in the arena. Written whole by the
 * main thread inside a change of the tables, read by workers in their copy.
 *
 * Slot, VTEP_BYTES bytes: word 0 the family (0 empty, 4, 6), words 1-4 the address (IPv4 in the
 * first, host order).
 */
import { VTEP_SLOTS } from '../limits.ts'
import { VTEP_BYTES } from '../memory/arena.ts'

const WORDS = VTEP_BYTES / 4

/** Most VTEPs that the table takes: half full, so that a probe stays short. */
export const MAX_VTEPS = VTEP_SLOTS / 2

function slotOf(a: number, b: number, c: number, d: number): number {
  let h = Math.imul(a, 0x9e3779b1) ^ Math.imul(b, 0x85ebca6b) ^ Math.imul(c, 0xc2b2ae35)
  h = Math.imul(h ^ d ^ (h >>> 15), 0x27d4eb2f)
  return (h ^ (h >>> 13)) & (VTEP_SLOTS - 1)
}

export interface VtepAddress {
  family: 4 | 6
  /** Four words; IPv4 in the first. */
  words: Uint32Array
}

/** Writes the whole table at word index `at`. Throws RangeError above MAX_VTEPS. */
export function writeVteps(words: Int32Array, at: number, vteps: readonly VtepAddress[]): void {
  if (vteps.length > MAX_VTEPS) {
    throw new RangeError(`${vteps.length} VTEPs: the table takes ${MAX_VTEPS}`)
  }
  words.fill(0, at, at + VTEP_SLOTS * WORDS)
  for (const { family, words: address } of vteps) {
    let slot = slotOf(address[0]!, address[1]!, address[2]!, address[3]!)
    while (words[at + slot * WORDS] !== 0) slot = (slot + 1) & (VTEP_SLOTS - 1)
    words[at + slot * WORDS] = family
    for (let i = 0; i < 4; i++) words[at + slot * WORDS + 1 + i] = address[i]! | 0
  }
}

/** Whether the address is in the table at word index `at`. At most VTEP_SLOTS probes: half of the slots are empty. */
export function knowsVtep(
  words: Int32Array,
  at: number,
  family: number,
  a: number,
  b: number,
  c: number,
  d: number,
): boolean {
  let slot = slotOf(a, b, c, d)
  for (;;) {
    const p = at + slot * WORDS
    const kind = words[p]!
    if (kind === 0) return false
    if (
      kind === family &&
      words[p + 1] === (a | 0) &&
      words[p + 2] === (b | 0) &&
      words[p + 3] === (c | 0) &&
      words[p + 4] === (d | 0)
    ) {
      return true
    }
    slot = (slot + 1) & (VTEP_SLOTS - 1)
  }
}
