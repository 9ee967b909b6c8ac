/**
 * Aggregated bit vectors. Each field alone says which rules may match, as a bit for every rule in
 * order of rank; the first bit that is set in all five is the answer. A bit of the aggregate stands
 * for 32 bits of a vector, so that most of a vector is never read.
 *
 * T. V. Lakshman, D. Stiliadis: High-speed policy-based packet forwarding using efficient
 * multi-dimensional range matching (SIGCOMM 1998); F. Baboescu, G. Varghese: Scalable packet
 * classification (SIGCOMM 2001).
 *
 * Memory: bitvector-layout.ts, in each of the two halves of rebuild.ts, which says why a concurrent
 * reader sees one set of rules. All sets of `limits.rules` rules fit, but vectors of all rules for
 * every prefix and port grow with the square of their number, so `limits.rules` ends at
 * MAX_BITVECTOR_RULES: `bytes` throws RangeError above it. Pages that no vector needs stay untouched.
 */
import { type Acl, type AclLimits, type AclReader, HEADER_WORDS } from '../acl.ts'
import { rebuilt } from '../rebuild/rebuild.ts'
import { wordsOf } from '../rule.ts'
import { buildBitvector } from './build.ts'
import { bitvectorBytes, FIELDS, INTERVALS, openBitvector, RULES, vectorWords } from './layout.ts'

function bitvector(family: 4 | 6): Acl {
  return rebuilt({
    name: `bitvector${family}`,
    family,
    halfBytes: limits => bitvectorBytes(family, limits),
    build: (rules, half, limits) => buildBitvector(rules, openBitvector(family, half, limits)),
    reader: (half, limits) => reader(family, half, limits),
  })
}

function reader(family: 4 | 6, half: Uint8Array, limits: AclLimits): AclReader {
  const { header, ids, starts, intervals, values, vectors } = openBitvector(family, half, limits)
  const words = wordsOf(family)
  const stride = HEADER_WORDS[family]
  const search = family === 4 ? search4 : search6
  /** Where the vector of each field begins. */
  const at = new Uint32Array(FIELDS)
  const [ofSource, ofDestination, ofSourcePort, ofDestinationPort, ofProtocol] = vectors as [
    Uint32Array,
    Uint32Array,
    Uint32Array,
    Uint32Array,
    Uint32Array,
  ]

  /** Finds the five vectors of a header. */
  function look(headers: Uint32Array, from: number, length: number): void {
    for (let address = 0; address < 2; address++) {
      const count = header[INTERVALS + address]!
      const interval = search(starts[address]!, count, headers, from + address * words)
      at[address] = intervals[address]![interval]! * length
    }
    const ports = headers[from + 2 * words]!
    at[2] = values[0]![ports >>> 16]! * length
    at[3] = values[1]![ports & 0xffff]! * length
    at[4] = values[2]![headers[from + 2 * words + 1]! & 255]! * length
  }

  function and(word: number): number {
    return (
      ofSource[at[0]! + word]! &
      ofDestination[at[1]! + word]! &
      ofSourcePort[at[2]! + word]! &
      ofDestinationPort[at[3]! + word]! &
      ofProtocol[at[4]! + word]!
    )
  }

  /** The order of the first rule in all five vectors, or -1. */
  function first(aggregate: number): number {
    for (let a = 0; a < aggregate; a++) {
      for (let some = and(a); some !== 0; some &= some - 1) {
        const word = 32 * a + lowestBit(some)
        const bits = and(aggregate + word)
        if (bits !== 0) return 32 * word + lowestBit(bits)
      }
    }
    return -1
  }

  return {
    classify(headers, n, rules) {
      const { vector, aggregate } = vectorWords(header[RULES]!)
      for (let i = 0; i < n; i++) {
        look(headers, i * stride, aggregate + vector)
        const order = first(aggregate)
        rules[i] = order < 0 ? 0 : ids[order]!
      }
    },
  }
}

function lowestBit(bits: number): number {
  return 31 - Math.clz32(bits & -bits)
}

/** The last of the `count` intervals that doesn't begin behind the address at `headers[at]`. */
function search4(starts: Uint32Array, count: number, headers: Uint32Array, at: number): number {
  const address = headers[at]!
  let low = 0
  for (let high = count; high - low > 1; ) {
    const middle = (low + high) >>> 1
    if (starts[middle]! <= address) low = middle
    else high = middle
  }
  return low
}

function search6(starts: Uint32Array, count: number, headers: Uint32Array, at: number): number {
  let low = 0
  for (let high = count; high - low > 1; ) {
    const middle = (low + high) >>> 1
    let w = 0
    while (w < 3 && starts[4 * middle + w] === headers[at + w]) w++
    if (starts[4 * middle + w]! <= headers[at + w]!) low = middle
    else high = middle
  }
  return low
}

export const bitvector4: Acl = bitvector(4)
export const bitvector6: Acl = bitvector(6)
