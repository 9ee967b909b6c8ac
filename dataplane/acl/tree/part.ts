/**
 * Which rules share a tree. A rule with a wide source among rules with narrow ones would be copied
 * below every cut of the source, so rules are parted by which of their addresses are wide: neither,
 * one, the other, both.
 *
 * An address is wide when many other prefixes of the set lie inside it; a fixed prefix length, as
 * papers have it, would depend on how addresses are dealt out (and on the family).
 */
import type { Columns } from '../rebuild/columns.ts'
import { prefixesOf } from '../rebuild/prefixes.ts'
import { wordsOf } from '../rule.ts'

/** A prefix is wide with more than 1/WIDE of all prefixes inside it, */
const WIDE = 64
/** but not with so few. */
const FEW = 16

/** Rules between two steps. */
const STEP = 4096

/** The orders of the rules that no earlier one equals in every field. */
export function* different(columns: Columns): Generator<void, Uint16Array, undefined> {
  const { first, last, rules } = columns
  const size = 2 ** Math.ceil(Math.log2(2 * rules.length + 2))
  /** Rules with the same hash, the latest first; one more than their order, 0 ends a list. */
  const heads = new Uint16Array(size)
  const next = new Uint16Array(rules.length)
  const found = new Uint16Array(rules.length)
  let count = 0
  for (let rule = 0; rule < rules.length; rule++) {
    let hash = 0
    for (let f = 0; f < first.length; f++) {
      hash = Math.imul(hash ^ first[f]![rule]!, 0x9e37_79b1)
      hash = Math.imul(hash ^ (hash >>> 15) ^ last[f]![rule]!, 0x85eb_ca6b)
    }
    const slot = (hash ^ (hash >>> 16)) & (size - 1)
    let other = heads[slot]!
    while (other !== 0 && !equal(columns, rule, other - 1)) other = next[other - 1]!
    if (other !== 0) continue
    next[rule] = heads[slot]!
    heads[slot] = rule + 1
    found[count++] = rule
    if (rule % STEP === STEP - 1) yield
  }
  return found.subarray(0, count)
}

function equal({ first, last }: Columns, a: number, b: number): boolean {
  for (let f = 0; f < first.length; f++) {
    if (first[f]![a] !== first[f]![b] || last[f]![a] !== last[f]![b]) return false
  }
  return true
}

/** Parts these rules into at most four lists of orders, ascending; none is empty. */
export function* parted(
  columns: Columns,
  orders: Uint16Array,
): Generator<void, Uint16Array[], undefined> {
  const source = yield* wide(columns, 0)
  const destination = yield* wide(columns, wordsOf(columns.family))
  const parts: number[][] = [[], [], [], []]
  for (const rule of orders) {
    parts[2 * source[rule]! + destination[rule]!]!.push(rule)
  }
  return parts.filter(part => part.length > 0).map(part => Uint16Array.from(part))
}

/** 1 for each rule whose address from field `field` on is wide. */
function* wide(columns: Columns, field: number): Generator<void, Uint8Array, undefined> {
  const { of, inside } = yield* prefixesOf(columns, field)
  const most = Math.max(FEW, inside.length / WIDE)
  return Uint8Array.from(of, prefix => (inside[prefix]! > most ? 1 : 0))
}
