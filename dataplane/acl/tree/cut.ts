/**
 * Which bits of a header a node looks at.
 *
 * A cut is a window of neighbouring bits of one field, anywhere in it (ByteCuts: J. Daly, E. Torng,
 * INFOCOM 2018, and BitCuts: Z. Liu et al., 2017, see why not only at the top: rules share leading
 * bits). A rule goes to every child whose window value is possible in its range; a good window
 * spreads the rules evenly and repeats few.
 *
 * All windows are estimated, from the entropy of each bit among the rules that determine it and from
 * how many bits of the window each rule leaves open; the best EXACT of them are counted out.
 */
import type { Columns } from '../rebuild/columns.ts'
import { MAX_WIDTH } from './layout.ts'

export interface Cut {
  readonly field: number
  readonly shift: number
  readonly width: number
}

/** What is known of the headers that come to a node: a range of every field. */
export interface Box {
  readonly first: Uint32Array
  readonly last: Uint32Array
}

export interface Taste {
  /** Rules of a leaf. */
  readonly leaf: number
  /** How many times its rules a node's children may hold, together. */
  readonly growth: number
  /** What a doubling of the rules weighs against halving what is left to search. */
  readonly thrift: number
}

/** Windows that are counted out. */
const EXACT = 24
/** What a child costs, in rules. */
const CHILD_COST = 0.1
/** A child more than rules is worth looking at. */
const WIDER = 1
/** Rules of a node above which each part of the work is a step of its own. */
const LARGE = 128

/** What is left to search below a child of `rules` rules. */
function remaining(rules: number, leaf: number): number {
  return rules <= leaf ? (0.4 * rules) / leaf : Math.log2(rules / leaf) + 1
}

interface Estimate extends Cut {
  readonly value: number
}

/** The windows of one field that are worth counting. */
function estimate(
  columns: Columns,
  list: Uint16Array,
  field: number,
  taste: Taste,
  found: Estimate[],
): void {
  const { bits } = columns.fields[field]!
  const first = columns.first[field]!
  const last = columns.last[field]!
  const rules = list.length
  const ones = new Uint32Array(bits)
  /** Rules that leave so many low bits open. */
  const open = new Uint32Array(bits + 1)
  for (let i = 0; i < rules; i++) {
    const value = first[list[i]!]!
    const free = 32 - Math.clz32(value ^ last[list[i]!]!)
    open[free]!++
    for (let bit = free; bit < bits; bit++) ones[bit]! += (value >>> bit) & 1
  }
  const entropy = new Float64Array(bits)
  for (let bit = 0, all = 0; bit < bits; bit++) {
    all += open[bit]!
    const one = ones[bit]!
    const zero = all - one
    if (one === 0 || zero === 0) continue
    const sum = all * Math.log2(all) - one * Math.log2(one) - zero * Math.log2(zero)
    entropy[bit] = sum / rules
  }
  const widest = Math.min(MAX_WIDTH, Math.ceil(Math.log2(rules)) + WIDER)
  for (let shift = 0; shift < bits; shift++) {
    if (entropy[shift] === 0) continue
    let gain = 0
    for (let width = 1; width <= widest && shift + width <= bits; width++) {
      gain += entropy[shift + width - 1]!
      if (entropy[shift + width - 1] === 0) continue
      let copies = 0
      for (let free = 0; free <= bits; free++) {
        const wild = Math.min(width, Math.max(0, free - shift))
        copies += open[free]! * 2 ** wild
      }
      if (copies > taste.growth * rules + 4) continue
      const value =
        Math.min(gain, width) -
        taste.thrift * Math.log2(copies / rules) -
        (CHILD_COST * 2 ** width) / rules
      found.push({ field, shift, width, value })
    }
  }
}

/** Of one cut at a time. */
const counts = new Uint32Array(2 ** MAX_WIDTH)

/** Puts the rules of each child into `counts`. Nobody yields between counting and using it. */
function count(columns: Columns, list: Uint16Array, box: Box, cut: Cut): void {
  const { field, shift, width } = cut
  const first = columns.first[field]!
  const last = columns.last[field]!
  const low = box.first[field]!
  const high = box.last[field]!
  const mask = 2 ** width - 1
  counts.fill(0, 0, mask + 1)
  for (let i = 0; i < list.length; i++) {
    const from = Math.max(first[list[i]!]!, low) >>> shift
    const to = Math.min(last[list[i]!]!, high) >>> shift
    if (to - from >= mask) for (let v = 0; v <= mask; v++) counts[v]!++
    else for (let v = from; v <= to; v++) counts[v & mask]!++
  }
}

/** What a cut costs whose children hold `counts` rules; Infinity when one of them holds all. */
function cost(rules: number, children: number, taste: Taste): number {
  let sum = 0
  let weighed = 0
  for (let v = 0; v < children; v++) {
    const child = counts[v]!
    if (child >= rules) return Number.POSITIVE_INFINITY
    sum += child
    weighed += child * remaining(child, taste.leaf)
  }
  return weighed / sum + taste.thrift * Math.log2(sum / rules) + (CHILD_COST * children) / rules
}

/** The best cut for these rules, or undefined when a leaf is better. */
export function* chooseCut(
  columns: Columns,
  list: Uint16Array,
  box: Box,
  taste: Taste,
): Generator<void, Cut | undefined, undefined> {
  const found: Estimate[] = []
  for (let field = 0; field < columns.fields.length; field++) {
    estimate(columns, list, field, taste, found)
    if (list.length > LARGE) yield
  }
  found.sort((a, b) => b.value - a.value)
  let best: Cut | undefined
  let least = remaining(list.length, taste.leaf)
  for (const cut of found.slice(0, EXACT)) {
    count(columns, list, box, cut)
    const price = cost(list.length, 2 ** cut.width, taste)
    if (price < least) {
      least = price
      best = cut
    }
    if (list.length > LARGE) yield
  }
  return best
}

/** The rules of each child, each a list in order. */
export function distribute(columns: Columns, list: Uint16Array, box: Box, cut: Cut): Uint16Array[] {
  count(columns, list, box, cut)
  const { field, shift, width } = cut
  const mask = 2 ** width - 1
  const children: Uint16Array[] = []
  for (let v = 0; v <= mask; v++) children.push(new Uint16Array(counts[v]!))
  counts.fill(0, 0, mask + 1)
  for (const rule of list) {
    const from = Math.max(columns.first[field]![rule]!, box.first[field]!) >>> shift
    const to = Math.min(columns.last[field]![rule]!, box.last[field]!) >>> shift
    const end = Math.min(to, from + mask)
    for (let v = from; v <= end; v++) children[v & mask]![counts[v & mask]!++] = rule
  }
  return children
}
