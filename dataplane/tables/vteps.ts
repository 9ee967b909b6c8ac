/**
 * The table of known VTEPs: open addressing, linear probing, in the arena. Made whole by the main
 * thread beside it (`vtepTable`), put in inside a change of the tables (`writeVteps`), read by workers
 * in their copy. It has as many slots as its VTEPs need: a small cluster touches little memory.
 *
 * Head, VTEP_BYTES bytes: word 0 the number of slots less one, a mask.
 * Slot, VTEP_BYTES bytes, half of a cache line: word 0 the family (0 empty, 4, 6), words 1-4 the
 * address (IPv4 in the first, host order).
 */
import { type Arena, BLOCK_BYTES, VTEP_BYTES, vtepSlots, vtepTableBytes } from '../memory/arena.ts'
import { markMoved } from './blocks.ts'

const WORDS = VTEP_BYTES / 4
const BLOCK_WORDS = BLOCK_BYTES.vteps / 4

function slotOf(a: number, b: number, c: number, d: number, mask: number): number {
  let h = Math.imul(a, 0x9e3779b1) ^ Math.imul(b, 0x85ebca6b) ^ Math.imul(c, 0xc2b2ae35)
  h = Math.imul(h ^ d ^ (h >>> 15), 0x27d4eb2f)
  return (h ^ (h >>> 13)) & mask
}

export interface VtepAddress {
  family: 4 | 6
  /** Four words; IPv4 in the first. */
  words: Uint32Array
}

/** A table of these VTEPs, head and slots. */
export function vtepTable(vteps: readonly VtepAddress[]): Int32Array {
  const words = new Int32Array(vtepTableBytes(vteps.length) / 4)
  const mask = vtepSlots(vteps.length) - 1
  words[0] = mask
  for (const { family, words: address } of vteps) {
    let slot = slotOf(address[0]!, address[1]!, address[2]!, address[3]!, mask)
    while (words[(slot + 1) * WORDS] !== 0) slot = (slot + 1) & mask
    words[(slot + 1) * WORDS] = family
    words.set(address, (slot + 1) * WORDS + 1)
  }
  return words
}

/** Inside a change of the tables: `table` in place of the one that is there. Throws RangeError when the arena's place for it is smaller. */
export function writeVteps(arena: Arena, table: Int32Array): void {
  const { layout, words } = arena
  if (table.length * 4 > layout.vteps.bytes) {
    throw new RangeError(
      `VTEP table of ${table.length * 4} bytes: its place has ${layout.vteps.bytes}`,
    )
  }
  const at = layout.vteps.offset / 4
  for (let block = 0; block < table.length; block += BLOCK_WORDS) {
    const part = table.subarray(block, block + BLOCK_WORDS)
    if (part.every((word, i) => words[at + block + i] === word)) continue
    words.set(part, at + block)
    markMoved(arena, 'vteps', block * 4, part.length * 4)
  }
}

/** Whether the address is in the table at word index `at`. At most half of the slots are looked at: the others are empty. */
export function knowsVtep(
  words: Int32Array,
  at: number,
  family: number,
  a: number,
  b: number,
  c: number,
  d: number,
): boolean {
  const mask = words[at]!
  let slot = slotOf(a, b, c, d, mask)
  for (;;) {
    const p = at + (slot + 1) * WORDS
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
    slot = (slot + 1) & mask
  }
}
