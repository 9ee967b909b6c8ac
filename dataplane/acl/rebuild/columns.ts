/**
 * Rules as builders want them: sorted by rank, so that a rule is a number (its *order*, 0 for the
 * one that decides first), and a column each for the first and the last value of every field. A
 * prefix is a range in each word of the address, so all fields look alike.
 *
 *     IPv4   IPv6    field                     header word, shift, bits
 *     0      0-3     source address, a word    0 (0-3), 0, 32
 *     1      4-7     destination address       1 (4-7), 0, 32
 *     2      8       source port, ICMP type    2 (8), 16, 16
 *     3      9       destination port, code    2 (8), 0, 16
 *     4      10      protocol                  3 (9), 0, 8
 */
import { ANY_PROTOCOL, type FlatRule, idOf, wordMask, wordsOf } from '../rule.ts'

/** Where a field lies in a header. */
export interface Field {
  readonly word: number
  readonly shift: number
  readonly bits: number
}

export interface Columns {
  readonly family: 4 | 6
  readonly fields: readonly Field[]
  /** In order of rank. */
  readonly rules: readonly FlatRule[]
  /** By field, then by order; both ends belong to the rule. */
  readonly first: readonly Uint32Array[]
  readonly last: readonly Uint32Array[]
}

/** Rules between two steps of `columnsOf`. */
const STEP = 2048

export function fieldsOf(family: 4 | 6): Field[] {
  const words = 2 * wordsOf(family)
  const addresses = Array.from({ length: words }, (_, word) => ({ word, shift: 0, bits: 32 }))
  return [
    ...addresses,
    { word: words, shift: 16, bits: 16 },
    { word: words, shift: 0, bits: 16 },
    { word: words + 1, shift: 0, bits: 8 },
  ]
}

/** Sorted by rank. Typed arrays sort ten times as fast as objects do. */
function* ranked(flat: Iterable<FlatRule>): Generator<void, FlatRule[], undefined> {
  const byId: FlatRule[] = []
  // All of them at once: this is what the rules are at this moment.
  for (const rule of flat) byId[rule.id] = rule
  yield
  const ranks = Uint32Array.from(
    byId.filter(rule => rule !== undefined),
    ({ rank }) => rank,
  ).sort()
  yield
  return Array.from(ranks, rank => byId[idOf(rank)]!)
}

/** Columns of these rules; between its steps others may work. */
export function* columnsOf(
  family: 4 | 6,
  flat: Iterable<FlatRule>,
): Generator<void, Columns, undefined> {
  const rules = yield* ranked(flat)
  const fields = fieldsOf(family)
  const words = wordsOf(family)
  const first = fields.map(() => new Uint32Array(rules.length))
  const last = fields.map(() => new Uint32Array(rules.length))
  for (const [order, rule] of rules.entries()) {
    let field = 0
    const add = (from: number, to: number) => {
      first[field]![order] = from
      last[field++]![order] = to
    }
    const prefix = (address: Uint32Array, length: number) => {
      for (let w = 0; w < words; w++) add(address[w]!, address[w]! | ~wordMask(length, w))
    }
    prefix(rule.source, rule.sourceLength)
    prefix(rule.destination, rule.destinationLength)
    add(rule.sourceFirst, rule.sourceLast)
    add(rule.destinationFirst, rule.destinationLast)
    if (rule.protocol === ANY_PROTOCOL) add(0, 255)
    else add(rule.protocol, rule.protocol)
    if (order % STEP === STEP - 1) yield
  }
  return { family, fields, rules, first, last }
}
