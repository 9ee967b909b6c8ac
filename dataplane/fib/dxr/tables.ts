/**
 * Where the parts of a DXR table lie (dxr.ts says what they are for), and how a chunk's ranges are
 * read. Byte offsets in the region:
 *
 *   0        words. 0: version (version.ts)   1: next hop of 0.0.0.0/0, 0 for none
 *                   2: readers ever opened   3: readers without a lane (dxr_lanes.ts)
 *   64       LANES lanes of 64 bytes (dxr_lanes.ts); the first word of each is used
 *   4,160    2^16 direct entries of 32 bits, by the address's first 16 bits:
 *              0, or granule << 8 | kind: where the chunk's ranges begin in the heap, and their form
 *   266,304  2^16 next hops of 16 bits, by the same bits: of the longest route of 1 .. 16 bits, 0 for none
 *   397,376  the heap: granules of 8 bytes
 *
 * A chunk is what lies behind one direct entry: 2^16 addresses, cut into ranges by *edges*, the
 * positions (1 .. 65,535) where a range begins; the first one begins at 0. The address at position p
 * belongs to range number *rank(p)*: how many edges are not behind p. A range's value is a next hop,
 * or 0 where no route longer than /16 lies. The forms, from their first granule on:
 *
 *   list    kind e = 1 .. LIST_MOST edges; each is a multiple of 256 and each value at most 255
 *             e bytes: edge / 256, ascending; e + 1 bytes: values
 *   bitmap  kind BITMAP; as a list, of more edges (e)
 *             32 bytes: bit p % 32 of word p / 32 is set where p * 256 is an edge
 *             8 bytes: how many edges lie in the words before this one
 *             e + 1 bytes: values
 *   wide    kind WIDE; any edges, any values
 *             a 32-bit word: e; e halves: edges, ascending; e + 1 halves: values
 *
 * Edges don't change while a chunk is linked; values do, one aligned store each.
 */
import type { FibLimits } from '../fib.ts'
import { checkLimits } from '../route.ts'

export const CHUNKS = 1 << 16
/** Positions of a chunk. */
export const POSITIONS = 1 << 16
export const LANES = 64
const LANE_WORDS = 16
const LANES_AT = 64
const DIRECT_AT = LANES_AT + LANES * LANE_WORDS * 4
const INHERITED_AT = DIRECT_AT + CHUNKS * 4
export const HEAP_AT = INHERITED_AT + CHUNKS * 2

/** Words of the header. Word 0 is the version. */
export const DEFAULT = 1
export const READERS = 2
export const CROWD = 3

export const GRANULE = 8
/** Bits of a direct entry below the granule's number. */
export const KIND_BITS = 8
const KIND_MASK = 0xff
/** Most edges of a list: with more, finding the rank takes longer than in a bitmap. */
export const LIST_MOST = 8
export const WIDE = 254
export const BITMAP = 255
const BITMAP_WORDS = 8
/** Bytes of a bitmap chunk before its counts, and before its values. */
const COUNTS = 32
const VALUES = 40
/** Largest value of the two narrow forms. */
export const NARROW_VALUE = 255

/** Heap that any table gets, and what `routes` routes may take, each alone in a chunk, with a copy of it. */
const HEAP_LEAST = 1 << 16
const BYTES_ANY_ROUTE = 32
/** Heap of a table of the Internet's shape: so much, and so much more a route. */
const HEAP_LARGE = 1 << 20
const BYTES_TYPICAL_ROUTE = 2.5

/** Granules of the heap. dxr.ts says which tables they are enough for. */
export function granulesFor(limits: FibLimits): number {
  checkLimits(limits)
  const any = BYTES_ANY_ROUTE * limits.routes
  const typical = HEAP_LARGE + BYTES_TYPICAL_ROUTE * limits.routes
  return Math.ceil((HEAP_LEAST + Math.min(any, typical)) / GRANULE)
}

export interface Tables {
  readonly header: Int32Array
  readonly lanes: Int32Array
  readonly direct: Int32Array
  readonly inherited: Uint16Array
  /** The heap, three times. */
  readonly bytes: Uint8Array
  readonly halves: Uint16Array
  readonly words: Int32Array
}

export function openTables({ buffer, byteOffset }: Uint8Array, limits: FibLimits): Tables {
  const heap = byteOffset + HEAP_AT
  const length = granulesFor(limits) * GRANULE
  return {
    header: new Int32Array(buffer, byteOffset, LANES_AT / 4),
    lanes: new Int32Array(buffer, byteOffset + LANES_AT, LANES * LANE_WORDS),
    direct: new Int32Array(buffer, byteOffset + DIRECT_AT, CHUNKS),
    inherited: new Uint16Array(buffer, byteOffset + INHERITED_AT, CHUNKS),
    bytes: new Uint8Array(buffer, heap, length),
    halves: new Uint16Array(buffer, heap, length / 2),
    words: new Int32Array(buffer, heap, length / 4),
  }
}

/** Index of lane `lane`'s word in `lanes`. */
export function laneAt(lane: number): number {
  return (lane & (LANES - 1)) * LANE_WORDS
}

export function kindOf(entry: number): number {
  return entry & KIND_MASK
}

export function granuleOf(entry: number): number {
  return entry >>> KIND_BITS
}

/** Bits that are set in a 32-bit word. */
function population(word: number): number {
  const pairs = word - ((word >>> 1) & 0x5555_5555)
  const fours = (pairs & 0x3333_3333) + ((pairs >>> 2) & 0x3333_3333)
  return Math.imul((fours + (fours >>> 4)) & 0x0f0f_0f0f, 0x0101_0101) >>> 24
}

function rankInBitmap({ bytes, words }: Tables, at: number, position: number): number {
  const p = position >>> 8
  const w = p >>> 5
  const upTo = words[at * 2 + w]! & (-1 >>> (31 - (p & 31)))
  return bytes[at * GRANULE + COUNTS + w]! + population(upTo)
}

function rankInWide({ halves, words }: Tables, at: number, position: number): number {
  const base = at * 4 + 2
  let rank = 0
  for (let left = words[at * 2]!; left > 0; ) {
    const half = (left + 1) >>> 1
    // 1 when the edge is not behind the position, without a branch.
    const passed = (halves[base + rank + half - 1]! - position - 1) >>> 31
    rank += half & -passed
    left -= half
  }
  return rank
}

function rankInList({ bytes }: Tables, at: number, edges: number, position: number): number {
  const p = position >>> 8
  const end = at * GRANULE + edges
  let rank = 0
  for (let i = at * GRANULE; i < end; i++) rank += (bytes[i]! - p - 1) >>> 31
  return rank
}

/** The range of a chunk (its direct entry) that has `position`. */
export function rankOf(tables: Tables, entry: number, position: number): number {
  const at = granuleOf(entry)
  const kind = kindOf(entry)
  if (kind === BITMAP) return rankInBitmap(tables, at, position)
  if (kind === WIDE) return rankInWide(tables, at, position)
  return rankInList(tables, at, kind, position)
}

/** Index of a chunk's first value: in `halves` for a wide one, else in `bytes`. */
export function valuesAt({ words }: Tables, entry: number): number {
  const at = granuleOf(entry)
  const kind = kindOf(entry)
  if (kind === BITMAP) return at * GRANULE + VALUES
  if (kind === WIDE) return at * 4 + 2 + words[at * 2]!
  return at * GRANULE + kind
}

/** What a chunk says of a position: a next hop, or 0. Chooses the form once, for the readers' sake. */
export function valueAt(tables: Tables, entry: number, position: number): number {
  const { bytes, halves, words } = tables
  const at = granuleOf(entry)
  const kind = kindOf(entry)
  if (kind === BITMAP) return bytes[at * GRANULE + VALUES + rankInBitmap(tables, at, position)]!
  if (kind === WIDE) return halves[at * 4 + 2 + words[at * 2]! + rankInWide(tables, at, position)]!
  return bytes[at * GRANULE + kind + rankInList(tables, at, kind, position)]!
}

/** Granules of a chunk of this kind with `edges` edges. */
export function granulesOf(kind: number, edges: number): number {
  const ends = edges + 1
  const size =
    kind === WIDE ? 4 + 2 * (edges + ends) : kind === BITMAP ? VALUES + ends : edges + ends
  return Math.ceil(size / GRANULE)
}

/** Edges of a chunk. */
export function edgesOf(tables: Tables, entry: number): number {
  const kind = kindOf(entry)
  if (kind === WIDE) return tables.words[granuleOf(entry) * 2]!
  return kind === BITMAP ? rankOf(tables, entry, POSITIONS - 1) : kind
}

/** A chunk that is being made: its edges, and one value more than those. */
export interface Ranges {
  count: number
  readonly edges: Uint16Array
  readonly values: Uint16Array
}

export function newRanges(): Ranges {
  return { count: 0, edges: new Uint16Array(POSITIONS), values: new Uint16Array(POSITIONS + 1) }
}

/** Reads a chunk; entry 0 is one range without a route. */
export function readChunk(tables: Tables, entry: number, into: Ranges): void {
  const { bytes, halves, words } = tables
  const { edges, values } = into
  const at = granuleOf(entry)
  const kind = kindOf(entry)
  let count = 0
  if (entry === 0) {
    values[0] = 0
  } else if (kind === WIDE) {
    count = words[at * 2]!
    const from = at * 4 + 2
    edges.set(halves.subarray(from, from + count))
    values.set(halves.subarray(from + count, from + 2 * count + 1))
  } else {
    if (kind === BITMAP) {
      for (let w = 0; w < BITMAP_WORDS; w++) {
        for (let left = words[at * 2 + w]!; left !== 0; left &= left - 1) {
          edges[count++] = (w * 32 + 31 - Math.clz32(left & -left)) << 8
        }
      }
    } else {
      for (let i = at * GRANULE; count < kind; i++) edges[count++] = bytes[i]! << 8
    }
    const from = valuesAt(tables, entry)
    for (let i = 0; i <= count; i++) values[i] = bytes[from + i]!
  }
  into.count = count
}

/** Writes a chunk of that kind to granule `at`, where no reader is. Returns its direct entry. */
export function writeChunk(tables: Tables, at: number, kind: number, from: Ranges): number {
  const { bytes, halves, words } = tables
  const { count, edges, values } = from
  const entry = (at << KIND_BITS) | kind
  if (kind === WIDE) {
    words[at * 2] = count
    halves.set(edges.subarray(0, count), at * 4 + 2)
    halves.set(values.subarray(0, count + 1), at * 4 + 2 + count)
    return entry
  }
  if (kind === BITMAP) {
    let i = 0
    for (let w = 0; w < BITMAP_WORDS; w++) {
      bytes[at * GRANULE + COUNTS + w] = i
      let word = 0
      for (; i < count && edges[i]! >>> 13 === w; i++) word |= 1 << (edges[i]! >>> 8)
      words[at * 2 + w] = word
    }
  } else {
    for (let i = 0; i < count; i++) bytes[at * GRANULE + i] = edges[i]! >>> 8
  }
  const to = valuesAt(tables, entry)
  for (let i = 0; i <= count; i++) bytes[to + i] = values[i]!
  return entry
}
