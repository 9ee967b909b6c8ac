/**
 * The writer of a tuple space: which rules are in which table, and the steps by which readers get
 * to see it. Which tuple a rule goes to is the business of `tss` and `tuplemerge`.
 *
 * **A step** first advances the version (fib/version.ts), then writes what no reader can reach (a
 * node, slots, the directory that is not valid), and last makes exactly one visible store of 32
 * bits: a slot, or which directory is valid. Before and after that store every header has an answer
 * that is right: the old one or the new one of one change. A reader takes an answer only if the
 * version is what it was when it began, so it has met the visible store of one step at most; each
 * header it has classified therefore has the old answer or the new one. Everything is built of
 * steps:
 *
 *   insert    the node is written, then a free slot gets it
 *   replace   the new rule is inserted, then the old one removed: while both are there the smaller
 *             rank decides, which is the old answer or the new one
 *   remove    the slot gets the last node of the run that may as well be there (which then is there
 *             twice), that one's slot the next such one, the last slot 0
 *   directory another best rank, a new table, one less, more slots for a table, rules that move to
 *             another table: the tables concerned get slots of their own, filled before the
 *             directory that leads to them is valid
 *
 * A best rank in the directory is never larger than that of a rule that was there before the step,
 * so that a reader who skips the table misses at most the rule that is being inserted.
 *
 * What a step frees (a node, a directory, a half) is written again in a later step at the earliest.
 * A reader that still is in there reads words that mean something else, all of them in bounds, finds
 * the version advanced and begins anew. So nothing has to wait for `quiesced`, and nothing runs out.
 *
 * Slots are handed out from the start of a half to its end. When it is full all tables move to the
 * other half, with as few slots as they need; that is the step of the change that asked for more.
 */
import { advance } from '../../fib/version.ts'
import { type RankHeap, rankHeap } from '../rank-heap.ts'
import { type FlatRule, NO_RANK, wordMask } from '../rule.ts'
import {
  BEST,
  DIRECTORY,
  DIRECTORY_HEADER,
  describe,
  hashOf,
  masksOf,
  NODE4,
  NODE6,
  PORTS_MASK,
  SLOTS,
  SLOTS_OF_RULE,
  type Space,
  slotsWord,
  TAG,
  TAG_BITS,
  type Tuple,
} from './memory.ts'

export interface Table {
  readonly tuple: Tuple
  readonly masks: Uint32Array
  /** Nodes in it. */
  readonly members: Set<number>
  readonly ranks: RankHeap
  best: number
  /** First word and log2 of its slots; 0 bits before it has any. */
  slots: number
  bits: number
}

export interface TupleTables {
  /** Those with rules, the smallest best rank first. */
  readonly tables: readonly Table[]
  /** The table of the tuple, or a new one that becomes visible with its first rule. */
  of(tuple: Tuple): Table
  insert(rule: FlatRule, table: Table): void
  /** The rule is the very object that was inserted. */
  remove(rule: FlatRule): void
  /** Moves rules to a new table in one step. */
  move(nodes: readonly number[], from: Table, to: Table): void
  /** The rule in a node. */
  ruleIn(node: number): FlatRule
  /** Nodes of the table whose keys' hash is the one that the rule has there, `most` at most. */
  meeting(rule: FlatRule, table: Table, most: number): number[]
}

const keyOf = (of: Tuple) =>
  `${of.source} ${of.destination} ${of.sourcePort} ${of.destinationPort} ${of.protocol}`

/** The tables of an empty space. */
export function tupleTables(space: Space): TupleTables {
  const { places, header, words } = space
  const { family, stride, directories, nodes, halves, half } = places
  const free: number[] = []
  let next = 1
  /** By node. */
  const ruleAt: (FlatRule | undefined)[] = []
  const tableAt: (Table | undefined)[] = []
  const hashAt = new Uint32Array(places.rules + 1)
  const nodeOf = new Map<FlatRule, number>()
  const tables: Table[] = []
  const byTuple = new Map<string, Table>()
  let bump = halves[0]
  let end = bump + half

  describe(space)

  function step(): void {
    advance(header)
  }

  function writeNode(rule: FlatRule): number {
    const node = free.pop() ?? next++
    const at = nodes + node * stride
    const ports = (rule.sourceFirst << 16) | rule.destinationFirst
    const portsFar =
      ((rule.sourceLast - rule.sourceFirst) << 16) | (rule.destinationLast - rule.destinationFirst)
    const protocol = Math.max(rule.protocol, 0) | (rule.rank << 16)
    const protocolFar = (rule.protocol < 0 ? 0xffff : 0) | (rule.rank & 0xffff_0000)
    if (family === 4) {
      words.set([rule.source[0]!, rule.destination[0]!, ports, protocol], at)
      const [source, destination] = [rule.sourceLength, rule.destinationLength]
      const behind = (length: number) => ~wordMask(length, 0)
      words.set([behind(source), behind(destination), portsFar, protocolFar], at + NODE4.far)
    } else {
      words.set(rule.source, at + NODE6.source)
      words.set(rule.destination, at + NODE6.destination)
      words.set([ports, protocol, portsFar, protocolFar], at + NODE6.ports)
      words[at + NODE6.lengths] = rule.sourceLength | (rule.destinationLength << 8)
    }
    ruleAt[node] = rule
    nodeOf.set(rule, node)
    return node
  }

  /** Into the table's books. */
  function enter(node: number, table: Table): void {
    const rule = ruleAt[node]!
    tableAt[node] = table
    hashAt[node] = hashOf(rule, table.masks)
    table.members.add(node)
    table.ranks.push(rule.rank, node)
    table.best = Math.min(table.best, rule.rank)
  }

  function leave(node: number, table: Table): void {
    table.members.delete(node)
    if (tableAt[node] === table) tableAt[node] = undefined
    if (ruleAt[node]!.rank !== table.best) return
    const there = (at: number, rank: number) => table.members.has(at) && ruleAt[at]!.rank === rank
    table.best = table.ranks.best(there, NO_RANK)
  }

  /** First slot at or behind the hash's own that is free or holds `node`. */
  function find(table: Table, hash: number, node: number): number {
    const mask = (1 << table.bits) - 1
    let p = hash >>> (32 - table.bits)
    for (;;) {
      const slot = words[table.slots + p]!
      if (slot === 0 || slot >>> TAG_BITS === node) return p
      p = (p + 1) & mask
    }
  }

  const slotOf = (node: number) => ((node << TAG_BITS) | (hashAt[node]! & TAG)) >>> 0

  /** log2 of the slots that so many rules get. */
  const bitsFor = (rules: number) => 32 - Math.clz32(SLOTS_OF_RULE * rules - 1)

  /** Slots of their own for tables whose members changed; all tables move when the half is full. */
  function refill(changed: readonly Table[]): void {
    let wanted = 0
    for (const table of changed) wanted += 1 << bitsFor(table.members.size)
    let moving = changed
    if (bump + wanted > end) {
      bump = end > halves[1] ? halves[0] : halves[1]
      end = bump + half
      moving = [...new Set([...tables, ...changed])]
    }
    for (const table of moving) {
      table.bits = bitsFor(table.members.size)
      table.slots = bump
      bump += 1 << table.bits
      words.fill(0, table.slots, bump)
      for (const node of table.members) {
        words[table.slots + find(table, hashAt[node]!, 0)] = slotOf(node)
      }
    }
  }

  /** Writes the other directory and makes it valid: the step's visible store. */
  function publish(): void {
    const other = 1 - header[DIRECTORY]!
    let at = directories[other]! + DIRECTORY_HEADER
    for (const table of tables) {
      words[at + BEST] = table.best
      words[at + SLOTS] = slotsWord(table.slots, table.bits)
      words.set(table.masks, at + PORTS_MASK)
      at += stride
    }
    Atomics.store(words, directories[other]!, tables.length)
    Atomics.store(header, DIRECTORY, other)
  }

  /** Puts a table where its best rank belongs, or out; says whether that is a change. */
  function place(table: Table, before: number): boolean {
    const at = tables.indexOf(table)
    if (at >= 0 && table.best === before) return false
    if (at >= 0) tables.splice(at, 1)
    if (table.members.size === 0) {
      byTuple.delete(keyOf(table.tuple))
      return true
    }
    byTuple.set(keyOf(table.tuple), table)
    let low = 0
    let high = tables.length
    while (low < high) {
      const middle = (low + high) >>> 1
      if (tables[middle]!.best < table.best) low = middle + 1
      else high = middle
    }
    tables.splice(low, 0, table)
    return true
  }

  /** Takes the node out of its slot, by one step a store. */
  function vacate(table: Table, node: number): void {
    const mask = (1 << table.bits) - 1
    let hole = find(table, hashAt[node]!, node)
    for (;;) {
      const last = lastFor(table, hole, mask)
      step()
      Atomics.store(words, table.slots + hole, last < 0 ? 0 : words[table.slots + last]!)
      if (last < 0) return
      hole = last
    }
  }

  /** The last slot of the run whose node may as well be in `hole`; -1 when there is none. */
  function lastFor(table: Table, hole: number, mask: number): number {
    let last = -1
    for (let p = (hole + 1) & mask; ; p = (p + 1) & mask) {
      const slot = words[table.slots + p]!
      if (slot === 0) return last
      const home = hashAt[slot >>> TAG_BITS]! >>> (32 - table.bits)
      if (((p - home) & mask) >= ((p - hole) & mask)) last = p
    }
  }

  return {
    tables,

    of: tuple =>
      byTuple.get(keyOf(tuple)) ?? {
        tuple,
        masks: masksOf(places.words, tuple),
        members: new Set(),
        ranks: rankHeap(),
        best: NO_RANK,
        slots: 0,
        bits: 0,
      },

    insert(rule, table) {
      const before = table.best
      step()
      const node = writeNode(rule)
      enter(node, table)
      const grows = table.bits === 0 || bitsFor(table.members.size) > table.bits
      if (grows) {
        refill([table])
      } else {
        Atomics.store(words, table.slots + find(table, hashAt[node]!, 0), slotOf(node))
      }
      if (!place(table, before) && !grows) return
      if (!grows) step()
      publish()
    },

    remove(rule) {
      const node = nodeOf.get(rule)!
      const table = tableAt[node]!
      const before = table.best
      vacate(table, node)
      leave(node, table)
      nodeOf.delete(rule)
      if (place(table, before)) {
        step()
        publish()
      }
      ruleAt[node] = undefined
      free.push(node)
    },

    move(moved, from, to) {
      const before = [from.best, to.best] as const
      step()
      for (const node of moved) {
        leave(node, from)
        enter(node, to)
      }
      place(from, before[0])
      place(to, before[1])
      refill(from.members.size === 0 ? [to] : [from, to])
      publish()
    },

    ruleIn: node => ruleAt[node]!,

    meeting(rule, table, most) {
      const found: number[] = []
      if (table.bits === 0) return found
      const hash = hashOf(rule, table.masks)
      const mask = (1 << table.bits) - 1
      for (let p = hash >>> (32 - table.bits); ; p = (p + 1) & mask) {
        const node = words[table.slots + p]! >>> TAG_BITS
        if (node === 0 || found.length >= most) return found
        if (hashAt[node] === hash) found.push(node)
      }
    },
  }
}
