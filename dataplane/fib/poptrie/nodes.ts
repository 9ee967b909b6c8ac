/**
 * Nodes and skips in a poptrie's memory as its writer makes, links and repaints them;
 * poptrie-layout.ts has the layout. A *slot* is the value of one, `at` the word where it is.
 */
import type { FibLimits } from '../fib.ts'
import { lengthOf } from '../prefix-heap.ts'
import { advance } from '../version.ts'
import { type Blocks, blocks } from './blocks.ts'
import { PoptrieBook, TAKEN } from './book.ts'
import {
  bitsAt,
  blocksAt,
  CELLS,
  LEAFVEC,
  MAX_SKIP,
  ones,
  POINTER,
  SKIP,
  SKIP_ADDRESS,
  SKIP_BITS,
  SKIP_SLOT,
  SLOTS,
  STRIDE,
  TABLE_UNITS,
  type Tables,
  UNIT_WORDS,
  unitsFor,
  WORD,
} from './layout.ts'

const LEAVES_PER_UNIT = 8
const SLOTS_PER_UNIT = 4

export class PoptrieNodes {
  readonly book: PoptrieBook
  readonly memory: Blocks
  /** Slots by cell of the node that is to be written; 0 for none. */
  readonly slots = new Int32Array(CELLS)
  readonly #words: Int32Array
  readonly #halves: Uint16Array
  readonly #skips: boolean
  /** First word of the blocks. */
  readonly #base: number
  /** By unit: the node whose block has its first map there. */
  readonly #nodes: Uint32Array
  /** Scratch of `write`: the parts of the block. */
  readonly #maps = new Int32Array(SLOTS)
  readonly #ways = new Int32Array(CELLS)
  readonly #leaves = new Uint16Array(CELLS)

  constructor({ header, words, halves }: Tables, family: 4 | 6, limits: FibLimits) {
    const units = unitsFor(family, limits)
    this.book = new PoptrieBook(family === 4 ? 1 : 4)
    this.memory = blocks(units, () => advance(header))
    this.#words = words
    this.#halves = halves
    this.#skips = family === 6
    this.#base = blocksAt(family)
    this.#nodes = new Uint32Array(units)
  }

  /** The node that a slot leads to, 0 for none. */
  behind(slot: number): number {
    if (slot >= 0) return 0
    let last = slot
    while (last & SKIP) last = this.#words[(last & WORD) + SKIP_SLOT]!
    return this.#nodes[this.#unit(last & WORD)]!
  }

  /** Loads `slots` with what leads on from the node; returns how many. */
  load(node: number): number {
    const words = this.#words
    const word = this.book.word[node]!
    this.slots.fill(0)
    let ways = 0
    let at = word + SLOTS
    for (let half = 0; half < 2; half++) {
      for (let bits = words[word + half]!; bits !== 0; bits &= bits - 1) {
        const slot = words[at++]!
        // A way that has become idle is a next hop like the leaves.
        if (slot >= 0) continue
        this.slots[half * 32 + lowest(bits)] = slot
        ways++
      }
    }
    return ways
  }

  /**
   * A block for the node, from its routes, `slots`, and the next hop that is above it. Nothing leads
   * there yet.
   */
  write(node: number, above: number): void {
    const { book, slots } = this
    const maps = this.#maps
    const leaves = this.#leaves
    const ways = this.#ways
    this.#edges(node)
    let wayCount = 0
    let runs = 0
    let decider = -1
    for (let half = 0; half < 2; half++) {
      let vector = 0
      let leafvec = 0
      for (let bits = maps[half]!; bits !== 0; bits &= bits - 1) {
        const bit = lowest(bits)
        const cell = half * 32 + bit
        if (slots[cell] !== 0) {
          ways[wayCount++] = slots[cell]!
          vector |= 1 << bit
          continue
        }
        const decides = book.decider(node, cell)
        if (decides === decider) continue
        decider = decides
        leaves[runs++] = decider === 0 ? above : book.hop(node, decider)
        leafvec |= 1 << bit
      }
      maps[half] = vector
      maps[LEAFVEC + half] = leafvec
    }
    const front = unitsOf(runs, LEAVES_PER_UNIT)
    const first = this.memory.take(front + 1 + unitsOf(wayCount, SLOTS_PER_UNIT))
    const word = this.#base + (first + front) * UNIT_WORDS
    for (let i = 0; i < SLOTS; i++) this.#words[word + i] = maps[i]!
    for (let i = 0; i < wayCount; i++) this.#words[word + SLOTS + i] = ways[i]!
    for (let i = 0; i < runs; i++) this.#halves[2 * word - 1 - i] = leaves[i]!
    book.word[node] = word
    this.#nodes[this.#unit(word)] = node
  }

  /** Writes the node anew and links it in place of its block, which the slot at `at` leads to. */
  replace(at: number, node: number, above: number): void {
    const old = this.book.word[node]!
    this.write(node, above)
    let last = at
    while (this.#words[last]! & SKIP) last = (this.#words[last]! & WORD) + SKIP_SLOT
    Atomics.store(this.#words, last, POINTER | this.book.word[node]!)
    this.#retireBlock(old)
  }

  /** A slot for what begins at `depth` and leads to the node and nothing else; `above` is the next hop beside the way. */
  tie(depth: number, node: number, above: number): number {
    const { book } = this
    let slot = POINTER | book.word[node]!
    let from = book.depth[node]!
    while (from > depth) {
      const bits = this.#skips ? Math.min(MAX_SKIP, from - depth) : STRIDE
      from -= bits
      const place = node * book.words
      const address = bitsAt(book.prefix, place, book.words, from, bits)
      if (this.#skips) {
        const skip = this.#base + this.memory.take(1) * UNIT_WORDS
        this.#halves[2 * skip] = above
        this.#halves[2 * skip + SKIP_BITS] = bits
        this.#words[skip + SKIP_ADDRESS] = address
        this.#words[skip + SKIP_SLOT] = slot
        slot = POINTER | SKIP | skip
      } else {
        const made = book.make(book.prefix, place, from)
        this.slots.fill(0)
        this.slots[address] = slot
        this.write(made, above)
        slot = POINTER | book.word[made]!
      }
    }
    return slot
  }

  /** Links `slot` at `at`, and gives back the skips that were there. */
  link(at: number, slot: number): void {
    const old = this.#words[at]!
    Atomics.store(this.#words, at, slot)
    this.retireSkips(old)
  }

  retireSkips(slot: number): void {
    for (let next = slot; next & SKIP; ) {
      const skip = next & WORD
      next = this.#words[skip + SKIP_SLOT]!
      this.memory.retire(this.#unit(skip), 1)
    }
  }

  /** Word of a table that nothing leads to yet. */
  takeTable(): number {
    return this.#base + this.memory.take(TABLE_UNITS) * UNIT_WORDS
  }

  retireTable(word: number): void {
    this.memory.retire(this.#unit(word), TABLE_UNITS)
  }

  /** The node is unlinked and has no routes. */
  retire(node: number): void {
    this.#retireBlock(this.book.word[node]!)
    this.book.drop(node)
  }

  /** Gives a next hop to what route `number` of the node decides (0: what none of them does), there and in nodes below. */
  paint(node: number, number: number, nextHop: number): void {
    const { book } = this
    const words = this.#words
    const word = book.word[node]!
    const length = number === 0 ? 0 : lengthOf(number)
    const first = (number << (STRIDE - length)) & (CELLS - 1)
    const last = first + (CELLS >>> length) - 1
    let leaf = 2 * word - 1
    let at = word + SLOTS
    for (let half = 0; half < 2; half++) {
      const vector = words[word + half]!
      for (let bits = vector | words[word + LEAFVEC + half]!; bits !== 0; bits &= bits - 1) {
        const cell = half * 32 + lowest(bits)
        const mine = cell >= first && cell <= last && book.decider(node, cell) === number
        if (((vector >>> cell) & 1) !== 0) {
          if (mine) this.paintSlot(at, nextHop)
          at++
        } else {
          if (mine) this.#halves[leaf] = nextHop
          leaf--
        }
      }
    }
  }

  /** Gives a next hop to what begins at a slot and has no route of its own. */
  paintSlot(at: number, nextHop: number): void {
    let slot = this.#words[at]!
    if (slot >= 0) {
      this.#words[at] = nextHop
      return
    }
    while (slot & SKIP) {
      const skip = slot & WORD
      this.#halves[2 * skip] = nextHop
      slot = this.#words[skip + SKIP_SLOT]!
    }
    this.paint(this.#nodes[this.#unit(slot & WORD)]!, 0, nextHop)
  }

  /** Sets the first two of `maps` to the cells where a run may begin, and those of `slots`. */
  #edges(node: number): void {
    const { book, slots } = this
    const maps = this.#maps
    maps.fill(0)
    maps[0] = 1
    for (let w = 0; w < TAKEN; w++) {
      for (let bits = book.taken[node * TAKEN + w]!; bits !== 0; bits &= bits - 1) {
        const number = w * 32 + lowest(bits)
        const size = CELLS >>> lengthOf(number)
        const first = number * size - CELLS
        // Cell 64 falls into the map behind, which is not made yet.
        maps[first >>> 5]! |= 1 << first
        maps[(first + size) >>> 5]! |= 1 << (first + size)
      }
    }
    // What follows a cell with a slot may be the first leaf behind an edge in that cell.
    for (let cell = 0; cell < CELLS; cell++) {
      if (slots[cell] === 0) continue
      maps[cell >>> 5]! |= 1 << cell
      maps[(cell + 1) >>> 5]! |= 1 << (cell + 1)
    }
  }

  #unit(word: number): number {
    return (word - this.#base) / UNIT_WORDS
  }

  #retireBlock(word: number): void {
    const words = this.#words
    const front = unitsOf(ones(words[word + LEAFVEC]!, words[word + LEAFVEC + 1]!), LEAVES_PER_UNIT)
    const ways = unitsOf(ones(words[word]!, words[word + 1]!), SLOTS_PER_UNIT)
    this.memory.retire(this.#unit(word) - front, front + 1 + ways)
  }
}

function unitsOf(entries: number, perUnit: number): number {
  return Math.ceil(entries / perUnit)
}

/** Number of the lowest bit that is set. */
function lowest(bits: number): number {
  return 31 - Math.clz32(bits & -bits)
}
