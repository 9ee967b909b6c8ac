/** Builds the vectors of a bit vector ACL (layout: bitvector-layout.ts). */

import type { Columns } from '../rebuild/columns.ts'
import { prefixesOf } from '../rebuild/prefixes.ts'
import { wordsOf } from '../rule.ts'
import { type BitvectorMemory, INTERVALS, PORTS, PROTOCOLS, RULES, vectorWords } from './layout.ts'

/** Words that are written in one step. */
const STEP = 1 << 16

export function* buildBitvector(
  columns: Columns,
  memory: BitvectorMemory,
): Generator<void, void, undefined> {
  const { family, rules } = columns
  const words = wordsOf(family)
  memory.header[RULES] = rules.length
  for (const [order, { id }] of rules.entries()) memory.ids[order] = id
  for (let address = 0; address < 2; address++) yield* addresses(columns, memory, address)
  for (let side = 0; side < 2; side++) {
    yield* values(columns, memory, 2 * words + side, side, PORTS)
  }
  yield* values(columns, memory, 2 * words + 2, 2, PROTOCOLS)
}

/** Writes vectors of one field behind each other. */
function vectorWriter(rules: number, to: Uint32Array) {
  const { vector, aggregate } = vectorWords(rules)
  const stride = vector + aggregate
  let count = 0
  return {
    stride,
    /** Where the vector `number` begins, behind its aggregate. */
    at: (number: number) => number * stride + aggregate,
    /** Appends a copy; its aggregate too. */
    append(bits: Uint32Array): number {
      const at = count * stride
      to.fill(0, at, at + aggregate)
      to.set(bits, at + aggregate)
      for (let w = 0; w < vector; w++) if (bits[w] !== 0) to[at + (w >>> 5)]! |= 1 << (w & 31)
      return count++
    },
  }
}

/**
 * An interval ends where a prefix begins or ends; the innermost prefix around it says which rules
 * match, and its vector is the outer one's with its own rules. Vector 0 is that of no prefix.
 */
function* addresses(
  columns: Columns,
  memory: BitvectorMemory,
  address: number,
): Generator<void, void, undefined> {
  const { family, rules, first, last } = columns
  const words = wordsOf(family)
  const field = address * words
  const { of, rule, inside } = yield* prefixesOf(columns, field)
  const ruleLists = listsBy(of, rule.length)
  const vectors = memory.vectors[address]!
  const writer = vectorWriter(rules.length, vectors)
  const { vector } = vectorWords(rules.length)
  const starts = memory.starts[address]!
  const intervals = memory.intervals[address]!
  let count = 0

  /** From this address on, the prefix of this vector is the innermost one. */
  function begin(start: (w: number) => number, number: number): void {
    let same = count > 0
    for (let w = 0; w < words && same; w++) same = starts[(count - 1) * words + w] === start(w)
    if (same) count--
    for (let w = 0; w < words; w++) starts[count * words + w] = start(w)
    intervals[count++] = number
  }

  /** Behind the end of a prefix the one around it goes on, unless the address space ends too. */
  function resume(prefix: number, outer: number): void {
    const next = new Uint32Array(words)
    let carry = 1
    for (let w = words - 1; w >= 0; w--) {
      next[w] = last[field + w]![rule[prefix]!]! + carry
      carry = carry === 1 && next[w] === 0 ? 1 : 0
    }
    if (carry === 0) begin(w => next[w]!, outer)
  }

  const bits = new Uint32Array(vector)
  begin(() => 0, writer.append(bits))
  const outer: number[] = []
  let written = 0
  for (let prefix = 0; prefix <= rule.length; prefix++) {
    while (outer.length > 0 && (prefix === rule.length || ends(outer.at(-1)!, prefix))) {
      const ended = outer.pop()!
      resume(ended, outer.length === 0 ? 0 : outer.at(-1)! + 1)
    }
    if (prefix === rule.length) break
    const around = writer.at(outer.length === 0 ? 0 : outer.at(-1)! + 1)
    bits.set(vectors.subarray(around, around + vector))
    for (const each of ruleLists(prefix)) bits[each >>> 5]! |= 1 << (each & 31)
    begin(w => first[field + w]![rule[prefix]!]!, writer.append(bits))
    outer.push(prefix)
    written += writer.stride
    if (written > STEP) {
      written = 0
      yield
    }
  }
  memory.header[INTERVALS + address] = count

  function ends(prefix: number, next: number): boolean {
    return next > prefix + inside[prefix]!
  }
}

/** The rules of each number: `of` says which number a rule has. */
function listsBy(of: Uint16Array, count: number): (number: number) => Uint16Array {
  const ends = new Uint32Array(count + 1)
  for (const number of of) ends[number + 1]!++
  for (let i = 0; i < count; i++) ends[i + 1]! += ends[i]!
  const at = ends.slice()
  const lists = new Uint16Array(of.length)
  for (const [rule, number] of of.entries()) lists[at[number]!++] = rule
  return number => lists.subarray(ends[number]!, ends[number + 1]!)
}

/** A sweep over all values of a small field: rules come and go, equal vectors are one. */
function* values(
  columns: Columns,
  memory: BitvectorMemory,
  field: number,
  which: number,
  count: number,
): Generator<void, void, undefined> {
  const first = columns.first[field]!
  const last = columns.last[field]!
  const rules = columns.rules.length
  const coming = listsBy(Uint16Array.from(first), count)
  const going = listsBy(Uint16Array.from(last), count)
  const vectors = memory.vectors[2 + which]!
  const writer = vectorWriter(rules, vectors)
  const { vector } = vectorWords(rules)
  const known = new Map<number, number[]>()
  const bits = new Uint32Array(vector)
  const table = memory.values[which]!
  let number = find()
  let changed = false
  let written = 0
  for (let value = 0; value < count; value++) {
    for (const rule of coming(value)) {
      bits[rule >>> 5]! |= 1 << (rule & 31)
      changed = true
    }
    if (changed) {
      number = find()
      changed = false
      written += 2 * writer.stride
    }
    table[value] = number
    for (const rule of going(value)) {
      bits[rule >>> 5]! &= ~(1 << (rule & 31))
      changed = true
    }
    if (++written > STEP) {
      written = 0
      yield
    }
  }

  /** The vector with these bits, a new one if there is none. */
  function find(): number {
    let hash = 0
    for (const word of bits) hash = Math.imul(hash ^ word, 0x9e37_79b1)
    const candidates = known.get(hash) ?? []
    for (const candidate of candidates) {
      const at = writer.at(candidate)
      let w = 0
      while (w < vector && vectors[at + w] === bits[w]) w++
      if (w === vector) return candidate
    }
    const added = writer.append(bits)
    known.set(hash, [...candidates, added])
    return added
  }
}
