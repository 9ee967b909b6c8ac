/**
 * Memory of `poptrie4` and `poptrie6`, after H. Asai, Y. Ohara, "Poptrie: A Compressed Trie with
 * Population Count for Fast and Scalable Software IP Routing Table Lookup" (SIGCOMM 2015).
 *
 * A table for the first bits of the address points directly to the answer or to a node for the next
 * six bits, and so on. A node of 64 *cells* keeps two bit maps instead of 64 entries: cells with a
 * node below them (`vector`), and cells where another route begins to decide (`leafvec`; cells of
 * `vector` don't count). The number of bits up to the cell's own is the number of its entry.
 *
 *   header   64 bytes. Word 0: version. Word 1: next hop of /0, 0 for none
 *   direct   2^DIRECT_BITS slots: 18 bits of an IPv4 address, 16 of an IPv6 one
 *   blocks   units of 16 bytes (poptrie-blocks.ts), each block one table, node or skip
 *   tail     TAIL_WORDS words behind the last unit, so that any block reads inside the region
 *
 *   slot     32 bits: a next hop, 0 for "only /0"; or POINTER | word of a node; or, IPv6 only,
 *            POINTER | SKIP | word of a skip. In the direct table of IPv6: a next hop, or
 *            POINTER | word of a table
 *   table    IPv6 only: 256 slots for the next eight bits. The Internet is in a hundred of 2^16 /16s
 *   node     at its word: 64 bits vector, 64 bits leafvec, low word first. Behind them the slots of
 *            the cells of `vector`; before them, in descending order, 16 bits each, the next hops of
 *            the runs that `leafvec` begins: both are found without the number of the other
 *   skip     16 bits next hop, 16 bits n, then a word with n (6 .. 30) bits of address, then a slot.
 *            It stands for n / 6 nodes that have nothing but one way on: the slot if the address
 *            has those bits, else the next hop
 *
 * Differences to the paper. (1) A node points to its nodes one by one, so that one of them can be
 * replaced by a single store: with the paper's one pointer to a contiguous array, all siblings would
 * move at each change. Nodes need 16 + 4 bytes instead of 24, and what a node needs lies in one or
 * two cache lines. (2) A run of leaves is one of one *route*, whatever its next hop. So a route
 * changes its next hop, or shows through in nodes below, by stores of 16 bits in place; and the
 * memory a FIB needs doesn't depend on its next hops. (3) Skips, and tables behind the direct one.
 *
 * Readers meet a change so. The answer for an address stands in one place, a slot or a leaf, and a
 * change stores there once (plain aligned integers don't tear) or in one slot on the way to it. A new
 * block is complete before the Atomics.store (release) that links it, and is reached through the
 * value loaded from there only, an address dependency that x86-64 and arm64 keep in order. An
 * unlinked block keeps what it held in that moment: who still comes by reads what was right then.
 * So a lookup waits for nobody, and any number of changes beside it do no harm.
 *
 * Two things need the version (version.ts). A lookup that ends at 0 takes the next hop of /0, which
 * was loaded before: so the version is advanced after each change of /0. And memory of unlinked
 * blocks is used again after `quiesced`, or *after an advance*: a lookup that began before the
 * advance sees that the version moved, and looks again; one that begins later finds no way to these
 * blocks. So memory for changes stays small when `quiesced` comes late. What a lookup reads in a
 * block that was taken away from it can be anything: so a word that points behind the blocks ends
 * it, and so does a number of steps that no address has. (The direct table is never anything else, so
 * that what its slots point to is inside the blocks.)
 */
import type { FibLimits } from '../fib.ts'
import { checkLimits } from '../route.ts'

const HEADER_WORDS = 16
/** Words of the header; VERSION is word 0. */
export const DEFAULT = 1
/** First slot of the direct table. */
export const DIRECT = HEADER_WORDS
export const DIRECT_BITS = { 4: 18, 6: 16 } as const
/** Bits of an IPv6 address that the table behind a slot of the direct one decides, and its slots. */
export const TABLE_BITS = 8
export const TABLE = 1 << TABLE_BITS
/** Bits above all nodes. */
export const TOP_BITS = { 4: DIRECT_BITS[4], 6: DIRECT_BITS[6] + TABLE_BITS } as const
/** Bits that a node decides. */
export const STRIDE = 6
export const CELLS = 1 << STRIDE

/** Bits of a slot. Slots are read as signed integers, so that those with POINTER are negative. */
export const POINTER = 1 << 31
export const SKIP = 1 << 30
export const WORD = SKIP - 1
/** Words behind the start of a node: vector, leafvec, slots. */
export const LEAFVEC = 2
export const SLOTS = 4
/** Words behind the start of a skip, and halves: its next hop, its number of bits. */
export const SKIP_ADDRESS = 1
export const SKIP_SLOT = 2
export const SKIP_BITS = 1
/** Most bits of one skip, in whole strides. */
export const MAX_SKIP = 30

export const UNIT_WORDS = 4
const UNIT_BYTES = 16
export const TABLE_UNITS = TABLE / UNIT_WORDS
const TAIL_WORDS = SLOTS + CELLS
/**
 * Units that a route needs at worst. IPv4: three nodes of a slot and a leaf each. IPv6: two nodes,
 * and four skips to each.
 */
const WORST_UNITS = { 4: 10, 6: 16 } as const
/** Tables of IPv6: as many as 2000::/3 (RFC 4291), where the Internet is, can need. */
const TABLES = 1 << 13
/** Units that there are besides: for the change itself, and for blocks that wait. */
const SPARE_UNITS = 3 * 4096
/** What large FIBs get: see `unitsFor`. */
const LARGE_UNITS = 1 << 18
const LARGE_UNITS_PER_ROUTE = { 4: 0.5, 6: 2 } as const

/**
 * Units of 16 bytes for blocks. A small FIB has what its routes need at worst. With more than 27,000
 * (IPv4) or 18,000 (IPv6) it is 4 MiB and 8 or 32 bytes a route, three times what a full Internet
 * table takes; and in IPv6 a table for each route, at most TABLES.
 */
export function unitsFor(family: 4 | 6, limits: FibLimits): number {
  checkLimits(limits)
  const { routes } = limits
  const worst = WORST_UNITS[family] * routes
  const large = LARGE_UNITS + Math.ceil(LARGE_UNITS_PER_ROUTE[family] * routes)
  const tables = family === 6 ? Math.min(routes, TABLES) * TABLE_UNITS : 0
  return SPARE_UNITS + Math.min(worst, large) + tables
}

/** First word of the blocks. */
export function blocksAt(family: 4 | 6): number {
  return DIRECT + (1 << DIRECT_BITS[family])
}

export function bytesFor(family: 4 | 6, limits: FibLimits): number {
  return (blocksAt(family) + TAIL_WORDS) * 4 + unitsFor(family, limits) * UNIT_BYTES
}

/** The region as words and as halves; word and half numbers count from its start. */
export interface Tables {
  header: Int32Array
  words: Int32Array
  halves: Uint16Array
  /** First word behind the blocks. */
  end: number
}

export function open({ buffer, byteOffset }: Uint8Array, family: 4 | 6, limits: FibLimits): Tables {
  const words = bytesFor(family, limits) / 4
  return {
    header: new Int32Array(buffer, byteOffset, HEADER_WORDS),
    words: new Int32Array(buffer, byteOffset, words),
    halves: new Uint16Array(buffer, byteOffset, 2 * words),
    end: words - TAIL_WORDS,
  }
}

/** How many bits of two words are set (H. S. Warren, "Hacker's Delight", 5-1), counted together. */
export function ones(a: number, b: number): number {
  let x = a - ((a >>> 1) & 0x5555_5555)
  let y = b - ((b >>> 1) & 0x5555_5555)
  x = (x & 0x3333_3333) + ((x >>> 2) & 0x3333_3333)
  y = (y & 0x3333_3333) + ((y >>> 2) & 0x3333_3333)
  // Up to 8 in each four bits.
  x += y
  x = (x & 0x0f0f_0f0f) + ((x >>> 4) & 0x0f0f_0f0f)
  return Math.imul(x, 0x0101_0101) >>> 24
}

/** Bits of the map at `word` that are set, from cell 0 to `cell`. */
export function rank(words: Int32Array, word: number, cell: number): number {
  const high = -(cell >>> 5)
  const upTo = (2 << cell) - 1
  return ones(words[word]! & (upTo | high), words[word + 1]! & upTo & high)
}

/** `count` (1 .. 32) bits of an address whose words begin at `from`, behind `depth`; zeros behind its `words` words. */
export function bitsAt(
  address: ArrayLike<number>,
  from: number,
  words: number,
  depth: number,
  count: number,
): number {
  const w = depth >>> 5
  const shift = depth & 31
  let bits = address[from + w]! << shift
  if (shift + count > 32 && w + 1 < words) bits |= address[from + w + 1]! >>> (32 - shift)
  return bits >>> (32 - count)
}
