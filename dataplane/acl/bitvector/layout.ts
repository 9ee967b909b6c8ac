/**
 * Where everything of a bit vector ACL lies in its half of the region. W is 1 (IPv4) or 4 (IPv6),
 * R is `limits.rules`, n the rules that are in it.
 *
 *   0     32-bit words: 0 rules n   1, 2 intervals of source and destination   3-15 zero
 *   64    rule ids by order, R x u16
 *   ...   of each of the two addresses:
 *           starts of intervals, ascending, (2 R + 1) x W x u32; the first one is zero
 *           the vector of each interval, (2 R + 1) x u16
 *   ...   vectors of ports: 65,536 x u16 for the source, 65,536 x u16 for the destination
 *   ...   vectors of protocols, 256 x u16
 *   ...   vectors, field by field: 2 x (R + 1), 2 x (2 R + 1), 257 of them at most
 *
 * (each part begins on a cache line). A vector has V = ceil(n / 32) words, bit i % 32 of word i / 32
 * for the rule of order i, behind A = ceil(V / 32) words of aggregate: bit i % 32 of word i / 32
 * says whether word i of the vector has any bit. The vectors of a field lie (A + V) words apart.
 */
import type { AclLimits } from '../acl.ts'
import { checkLimits, wordsOf } from '../rule.ts'

/** Most rules: two halves for them take 163 MB (IPv4) of address space. */
export const MAX_BITVECTOR_RULES = 10_240

export const RULES = 0
/** Words of the number of intervals. */
export const INTERVALS = 1
const IDS_AT = 64
const LINE = 64
export const PORTS = 0x1_0000
export const PROTOCOLS = 256
/** Source, destination, source port, destination port, protocol. */
export const FIELDS = 5

/** Words of a vector of `rules` rules, and of its aggregate. */
export function vectorWords(rules: number): { vector: number; aggregate: number } {
  const vector = Math.ceil(rules / 32)
  return { vector, aggregate: Math.ceil(vector / 32) }
}

/** A half. */
export interface BitvectorMemory {
  readonly header: Uint32Array
  readonly ids: Uint16Array
  /** Of source and destination. */
  readonly starts: readonly Uint32Array[]
  readonly intervals: readonly Uint16Array[]
  /** Of source port, destination port, protocol: the vector of each value. */
  readonly values: readonly Uint16Array[]
  /** By field. */
  readonly vectors: readonly Uint32Array[]
}

/** Lengths of the parts, in the order in which they lie. */
function partsOf(family: 4 | 6, { rules }: AclLimits) {
  const starts = (2 * rules + 1) * wordsOf(family)
  const { vector, aggregate } = vectorWords(rules)
  const most = [rules + 1, rules + 1, 2 * rules + 1, 2 * rules + 1, PROTOCOLS + 1]
  return {
    ids: rules,
    starts,
    intervals: 2 * rules + 1,
    vectors: most.map(count => count * (vector + aggregate)),
  }
}

const align = (bytes: number) => Math.ceil(bytes / LINE) * LINE

export function bitvectorBytes(family: 4 | 6, limits: AclLimits): number {
  checkLimits(limits)
  if (limits.rules > MAX_BITVECTOR_RULES) {
    throw new RangeError(
      `rules: ${limits.rules} is not in 1..${MAX_BITVECTOR_RULES} (MAX_BITVECTOR_RULES)`,
    )
  }
  const { ids, starts, intervals, vectors } = partsOf(family, limits)
  const addresses = 2 * (align(4 * starts) + align(2 * intervals))
  const values = 2 * align(2 * PORTS) + align(2 * PROTOCOLS)
  const all = vectors.reduce((sum, words) => sum + align(4 * words), 0)
  return IDS_AT + align(2 * ids) + addresses + values + all
}

export function openBitvector(family: 4 | 6, half: Uint8Array, limits: AclLimits): BitvectorMemory {
  const parts = partsOf(family, limits)
  let at = half.byteOffset
  const take = <T>(
    View: new (b: ArrayBufferLike, o: number, n: number) => T,
    n: number,
    size: number,
  ): T => {
    const view = new View(half.buffer, at, n)
    at += align(n * size)
    return view
  }
  const header = take(Uint32Array, IDS_AT / 4, 4)
  const ids = take(Uint16Array, parts.ids, 2)
  const starts: Uint32Array[] = []
  const intervals: Uint16Array[] = []
  for (let address = 0; address < 2; address++) {
    starts.push(take(Uint32Array, parts.starts, 4))
    intervals.push(take(Uint16Array, parts.intervals, 2))
  }
  const values = [PORTS, PORTS, PROTOCOLS].map(count => take(Uint16Array, count, 2))
  const vectors = parts.vectors.map(words => take(Uint32Array, words, 4))
  return { header, ids, starts, intervals, values, vectors }
}
