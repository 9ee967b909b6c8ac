/**
 * Blocks of a tree ACL: who has few rules shares a block with others.
 *
 * Most leaves have one to four rules. A block takes the rules of several leaves, sorted by order,
 * as long as they are no more than its lanes: rules of a stranger in it cost nothing, because all
 * lanes are compared at once, and can't decide wrongly, because they match or don't wherever they
 * are found.
 */
import type { Columns } from '../rebuild/columns.ts'
import { ANY_PROTOCOL, wordsOf } from '../rule.ts'
import { blockShape, LANES, MAX_LEAF_BLOCKS, type TreeMemory } from './layout.ts'

/** Blocks that still take rules. */
const OPEN_BLOCKS = 4

export interface Leaf {
  readonly block: number
  readonly blocks: number
}

/** Thrown when blocks or nodes run out; a thriftier tree may still fit. */
export class NoRoom extends Error {}

interface OpenBlock {
  readonly block: number
  orders: number[]
}

export interface Packer {
  /** Blocks that were given out. */
  readonly used: number
  /** Room for a leaf with these rules, at least one, in order. */
  take(list: Uint16Array): Leaf
  /** Writes the blocks that are still open. */
  close(): void
}

export function packer(columns: Columns, memory: TreeMemory): Packer {
  let used = 0
  let open: OpenBlock[] = []

  function claim(blocks: number): number {
    if (used + blocks > memory.sizes.blocks) throw new NoRoom()
    used += blocks
    return used - blocks
  }

  function single(list: Uint16Array): Leaf {
    for (const each of open) {
      const union = merged(each.orders, list)
      if (union.length > LANES) continue
      each.orders = union
      return { block: each.block, blocks: 1 }
    }
    if (open.length >= OPEN_BLOCKS) {
      let fullest = 0
      for (let i = 1; i < open.length; i++) {
        if (open[i]!.orders.length > open[fullest]!.orders.length) fullest = i
      }
      const [{ block, orders }] = open.splice(fullest, 1) as [OpenBlock]
      writeBlock(columns, memory, block, orders)
    }
    const block = claim(1)
    open.push({ block, orders: [...list] })
    return { block, blocks: 1 }
  }

  return {
    get used() {
      return used
    },
    take(list) {
      if (list.length <= LANES) return single(list)
      const blocks = Math.ceil(list.length / LANES)
      if (blocks > MAX_LEAF_BLOCKS) throw new NoRoom()
      const block = claim(blocks)
      for (let i = 0; i < blocks; i++) {
        writeBlock(columns, memory, block + i, [...list.subarray(i * LANES, (i + 1) * LANES)])
      }
      return { block, blocks }
    },
    close() {
      for (const { block, orders } of open) writeBlock(columns, memory, block, orders)
      open = []
    },
  }
}

/** Both lists in one, in order, without repetition. */
function merged(orders: readonly number[], list: Uint16Array): number[] {
  const union: number[] = []
  let i = 0
  for (const rule of list) {
    while (i < orders.length && orders[i]! < rule) union.push(orders[i++]!)
    if (orders[i] === rule) i++
    union.push(rule)
  }
  while (i < orders.length) union.push(orders[i++]!)
  return union
}

/** Writes a block of one to eight rules, in order. */
function writeBlock(
  columns: Columns,
  memory: TreeMemory,
  block: number,
  orders: readonly number[],
): void {
  const { family, rules, first, last } = columns
  const { words, shorts, bytes, blocksAt } = memory
  const shape = blockShape(family)
  const addressWords = 2 * wordsOf(family)
  const at = blocksAt + block * shape.bytes
  const port = addressWords
  for (let lane = 0; lane < LANES; lane++) {
    const order = orders[Math.min(lane, orders.length - 1)]!
    const rule = rules[order]!
    for (let w = 0; w < addressWords; w++) words[at / 4 + w * LANES + lane] = first[w]![order]!
    for (let side = 0; side < 2; side++) {
      const from = first[port + side]![order]!
      const lane16 = at / 2 + side * LANES + lane
      shorts[lane16 + shape.first / 2] = from
      shorts[lane16 + shape.span / 2] = last[port + side]![order]! - from
    }
    bytes[at + shape.lengths + lane] = rule.sourceLength
    bytes[at + shape.lengths + LANES + lane] = rule.destinationLength
    const any = rule.protocol === ANY_PROTOCOL
    bytes[at + shape.protocols + lane] = any ? 0 : rule.protocol
    bytes[at + shape.protocols + LANES + lane] = any ? 0 : 255
    words[(at + shape.answers) / 4 + lane] = (order << 16) | rule.id
  }
}
