/**
 * Builds the trees of a tree ACL (layout: tree-layout.ts).
 *
 * 1. Of rules with equal fields the first one stays.
 * 2. Rules are parted by which of their addresses are wide (tree-part.ts). A wide rule among narrow
 *    ones would be repeated below every cut of that address (EffiCuts, CutSplit).
 * 3. Each part becomes a tree: the rules of a node are cut (tree-cut.ts) until LANES or fewer are
 *    left, or no cut is worth its copies. Of rules that lie inside an earlier one, as far as headers
 *    that come here can tell, only the earlier one stays. Children with the same rules are one.
 * 4. Leaves share blocks (tree-pack.ts).
 *
 * When nodes or blocks run out, it starts anew with larger leaves and fewer copies; the last of PLANS
 * doesn't cut at all, and that always fits: so does every rule set.
 */
import type { Columns } from '../rebuild/columns.ts'
import { type Box, type Cut, chooseCut, distribute, type Taste } from './cut.ts'
import {
  BLOCKS_AT,
  BLOCKS_USED,
  cutWord,
  EMPTY_LEAF,
  LANES,
  leafWord,
  MAX_LEAF_BLOCKS,
  NODES_AT,
  NODES_USED,
  ROOTS,
  TREES,
  type TreeMemory,
} from './layout.ts'
import { NoRoom, packer } from './pack.ts'
import { different, parted } from './part.ts'

/** Copies that a part of few rules may make anyway. */
const FREE_COPIES = 4096
const MAX_GROWTH = 16

/** A list of more rules than that is cut by the next taste when the one before finds nothing. */
const CROWDED = 4 * LANES

/** How nodes are cut, the best way first; without a taste they aren't. */
const PLANS: readonly (readonly Taste[])[] = [
  [
    { leaf: LANES, growth: 2, thrift: 1 },
    { leaf: LANES, growth: 8, thrift: 0.25 },
  ],
  [{ leaf: LANES, growth: 2, thrift: 1 }],
  [{ leaf: 2 * LANES, growth: 1.5, thrift: 2 }],
  [{ leaf: 8 * LANES, growth: 1.2, thrift: 4 }],
  [],
]

/** Leaves that are made in one step. */
const LEAVES = 64

/** Lists up to here lose the rules that an earlier one covers, compared with so many before. */
const SIFTED_RULES = 512
const SIFT_BACK = 32

export function* buildTrees(
  columns: Columns,
  memory: TreeMemory,
): Generator<void, void, undefined> {
  const orders = yield* different(columns)
  for (const plan of PLANS) {
    try {
      yield* grow(columns, memory, orders, plan)
      return
    } catch (error) {
      if (!(error instanceof NoRoom)) throw error
    }
  }
  throw new RangeError(`${columns.rules.length} rules: no room for their trees`)
}

/** Lists that each fit a leaf. */
function chunked(orders: Uint16Array): Uint16Array[] {
  const lists: Uint16Array[] = []
  const most = MAX_LEAF_BLOCKS * LANES
  for (let i = 0; i < orders.length; i += most) lists.push(orders.subarray(i, i + most))
  return lists
}

/** A part of few rules may be copied more. */
function adapted(plan: readonly Taste[], rules: number): readonly Taste[] {
  const [taste, ...others] = plan
  const growth = Math.min(MAX_GROWTH, FREE_COPIES / rules)
  if (taste === undefined || taste.leaf > LANES || growth <= taste.growth) return plan
  return [{ ...taste, growth, thrift: 0.4 }, ...others]
}

function* grow(
  columns: Columns,
  memory: TreeMemory,
  orders: Uint16Array,
  plan: readonly Taste[],
): Generator<void, void, undefined> {
  const { fields, first, last } = columns
  const { words, nodesAt, sizes } = memory
  const blocks = packer(columns, memory)
  let nodes = 0
  let leaves = 0

  /** Writes the node for these rules to word `at`. */
  function* node(
    rules: Uint16Array,
    box: Box,
    at: number,
    tastes: readonly Taste[],
  ): Generator<void, void, undefined> {
    const list = sift(rules, box)
    const cut = yield* best(list, box, tastes)
    if (cut === undefined) {
      const leaf = list.length === 0 ? undefined : blocks.take(list)
      words[at] = leaf?.block ?? 0
      words[at + 1] = leaf === undefined ? EMPTY_LEAF : leafWord(list[0]!, leaf.blocks)
      if (++leaves % LEAVES === 0) yield
      return
    }
    const children = distribute(columns, list, box, cut)
    const { word, shift } = fields[cut.field]!
    const child = nodes
    nodes += children.length
    if (nodes > sizes.nodes) throw new NoRoom()
    words[at] = child
    words[at + 1] = cutWord(list[0]!, word, shift + cut.shift, cut.width)
    yield
    for (const { values, list: shared } of equal(children)) {
      const to = nodesAt + 2 * (child + values[0]!)
      yield* node(shared, shrunk(box, cut, values), to, tastes)
      for (const value of values) {
        words[nodesAt + 2 * (child + value)] = words[to]!
        words[nodesAt + 2 * (child + value) + 1] = words[to + 1]!
      }
    }
  }

  const everything: Box = {
    first: new Uint32Array(fields.length),
    last: Uint32Array.from(fields, ({ bits }) => 2 ** bits - 1),
  }
  const parts = plan.length === 0 ? chunked(orders) : yield* parted(columns, orders)
  parts.sort((a, b) => a[0]! - b[0]!)
  for (const [tree, part] of parts.entries()) {
    yield* node(part, everything, ROOTS + 2 * tree, adapted(plan, part.length))
  }
  blocks.close()
  words[TREES] = parts.length
  words[NODES_AT] = nodesAt * 4
  words[BLOCKS_AT] = memory.blocksAt
  words[NODES_USED] = nodes
  words[BLOCKS_USED] = blocks.used

  /** The cut for this list, if there is one that the first taste takes, or for many rules a later one. */
  function* best(
    list: Uint16Array,
    box: Box,
    tastes: readonly Taste[],
  ): Generator<void, Cut | undefined, undefined> {
    for (const [i, taste] of tastes.entries()) {
      if (list.length <= (i === 0 ? taste.leaf : CROWDED)) return undefined
      const cut = yield* chooseCut(columns, list, box, taste)
      if (cut !== undefined) return cut
    }
    return undefined
  }

  /** The list without rules that an earlier one covers inside the box. */
  function sift(list: Uint16Array, box: Box): Uint16Array {
    if (list.length > SIFTED_RULES) return list
    let kept = 0
    const left = new Uint16Array(list.length)
    for (const rule of list) {
      let covered = false
      for (let i = 0; i < kept && i < SIFT_BACK && !covered; i++) {
        covered = covers(left[i]!, rule, box)
      }
      if (!covered) left[kept++] = rule
    }
    return left.subarray(0, kept)
  }

  function covers(earlier: number, rule: number, box: Box): boolean {
    for (let f = 0; f < fields.length; f++) {
      const from = first[f]!
      const to = last[f]!
      if (Math.max(from[rule]!, box.first[f]!) < from[earlier]!) return false
      if (Math.min(to[rule]!, box.last[f]!) > to[earlier]!) return false
    }
    return true
  }
}

/** Children with the same rules, each with the window's values that lead to it, ascending. */
function equal(
  children: readonly Uint16Array[],
): Iterable<{ values: number[]; list: Uint16Array }> {
  const byHash = new Map<number, { values: number[]; list: Uint16Array }[]>()
  const groups: { values: number[]; list: Uint16Array }[] = []
  for (const [value, list] of children.entries()) {
    let hash = list.length
    for (const rule of list) hash = Math.imul(hash ^ rule, 0x9e37_79b1)
    const bucket = byHash.get(hash) ?? []
    const known = bucket.find(group => same(group.list, list))
    if (known !== undefined) {
      known.values.push(value)
      continue
    }
    const group = { values: [value], list }
    bucket.push(group)
    byHash.set(hash, bucket)
    groups.push(group)
  }
  return groups
}

function same(a: Uint16Array, b: Uint16Array): boolean {
  if (a.length !== b.length) return false
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return false
  return true
}

/** What is left of a box for the headers with one of these values in the window. */
function shrunk(box: Box, { field, shift, width }: Cut, values: readonly number[]): Box {
  const low = box.first[field]!
  const high = box.last[field]!
  // Only a window on top of the bits that the box leaves open makes a range of the values.
  const span = 2 ** (shift + width)
  if (Math.floor(low / span) !== Math.floor(high / span)) return box
  const base = Math.floor(low / span) * span
  const first = Uint32Array.from(box.first)
  const last = Uint32Array.from(box.last)
  first[field] = Math.max(low, base + values[0]! * 2 ** shift)
  last[field] = Math.min(high, base + (values.at(-1)! + 1) * 2 ** shift - 1)
  return { first, last }
}
