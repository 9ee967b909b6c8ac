/** How the sources, or the destinations, of a rule set lie inside each other. */

import { wordsOf } from '../rule.ts'
import type { Columns } from './columns.ts'

/** The different prefixes of one address, sorted; an outer one stands right before those inside it. */
export interface Prefixes {
  /** By rule: the number of its prefix. */
  readonly of: Uint16Array
  /** By prefix: a rule that has it. */
  readonly rule: Uint16Array
  /** By prefix: how many others lie inside; they are the next ones. */
  readonly inside: Uint16Array
}

/** Of the address whose first word is field `field`: 0, or `wordsOf(family)`. */
export function* prefixesOf(columns: Columns, field: number): Generator<void, Prefixes, undefined> {
  const { family, first, last, rules } = columns
  const words = wordsOf(family)
  const end = field + words
  // Word by word: the place of each address among all; then its length, outer before inner.
  let place: Float64Array = new Float64Array(rules.length)
  for (let w = field; w < end; w++) {
    const word = first[w]!
    place = yield* places(place.map((before, rule) => before * 2 ** 32 + word[rule]!))
  }
  place = yield* places(place.map((at, rule) => at * 256 + lengthOf(rule)))
  yield
  const count = place.reduce((most, at) => Math.max(most, at + 1), 0)
  const rule = new Uint16Array(count)
  for (let r = 0; r < rules.length; r++) rule[place[r]!] = r
  const inside = new Uint16Array(count)
  const outer: number[] = []
  for (let at = 0; at <= count; at++) {
    while (outer.length > 0 && (at === count || !contains(rule[outer.at(-1)!]!, rule[at]!))) {
      const from = outer.pop()!
      inside[from] = at - from - 1
    }
    outer.push(at)
  }
  yield
  return { of: Uint16Array.from(place), rule, inside }

  function lengthOf(of: number): number {
    return field === 0 ? rules[of]!.sourceLength : rules[of]!.destinationLength
  }

  function contains(outerRule: number, innerRule: number): boolean {
    for (let w = field; w < end; w++) {
      const word = first[w]![innerRule]!
      if (word < first[w]![outerRule]! || word > last[w]![outerRule]!) return false
    }
    return true
  }
}

/** How many different smaller keys there are, for each key. */
function* places(keys: Float64Array): Generator<void, Float64Array, undefined> {
  const sorted = Float64Array.from(keys).sort()
  let different = 0
  for (const key of sorted) {
    if (different === 0 || sorted[different - 1] !== key) sorted[different++] = key
  }
  yield
  const found = keys.map(key => {
    let low = 0
    for (let high = different; low < high; ) {
      const middle = (low + high) >>> 1
      if (sorted[middle]! < key) low = middle + 1
      else high = middle
    }
    return low
  })
  yield
  return found
}
