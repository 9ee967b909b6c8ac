/**
 * The writer of `poptrie4` and `poptrie6`; poptrie-layout.ts has the layout.
 *
 * A route up to TOP_BITS belongs to the top (poptrie-top.ts), a longer one of L bits to the node of
 * the last depth TOP_BITS + 6k below L; each node has a prefix heap of its routes (poptrie-book.ts).
 * IPv4 has nodes at every depth down to a route's; IPv6 only where routes end or ways part, at most
 * 2R - 1 for R routes, and skips lie between them.
 *
 * A change does some of these:
 *
 *   paint    stores a next hop in each leaf that a route decides, there and in nodes below: for a
 *            next hop that changes, a route above others, one that goes
 *   replace  writes a node anew: for a new route in it, and to make it small when one is gone
 *   grow     links a new node, and in IPv6 the one where its way leaves another
 *   tidy     unlinks nodes that have become idle, and in IPv6 those with one way on and no route
 *
 * To take a route out, painting is enough, which needs no memory, and so does unlinking idle nodes:
 * their slot becomes a next hop. Making nodes small waits for the next change where there is no room.
 */
import { wordsToIp } from '../../addresses.ts'
import type { FibLimits, FibRoute, FibWriter } from '../fib.ts'
import { covering, lengthOf, numberOf } from '../prefix-heap.ts'
import { checkPrefix, checkRoute, full, routeOf } from '../route.ts'
import { advance } from '../version.ts'
import { HEAP } from './book.ts'
import { bitsAt, CELLS, DEFAULT, rank, SLOTS, STRIDE, type Tables, TOP_BITS } from './layout.ts'
import { PoptrieNodes } from './nodes.ts'
import { topOf } from './top.ts'

/** More than any address has depths. */
const MAX_STEPS = 32

export function writer(tables: Tables, family: 4 | 6, limits: FibLimits): FibWriter {
  const { header, words } = tables
  const width = family === 4 ? 1 : 4
  const bits = TOP_BITS[family]
  const nodes = new PoptrieNodes(tables, family, limits)
  const top = topOf(tables, nodes, family)
  const { book, memory, slots } = nodes
  /** The way of an address: `steps` cells of `parents`, of which 0 is the top. */
  const parents = new Uint32Array(MAX_STEPS)
  const cells = new Uint32Array(MAX_STEPS)
  let steps = 0
  let size = 0

  function depthOf(prefix: number): number {
    return prefix - 1 - ((prefix - 1 - bits) % STRIDE)
  }

  function cellOf(address: ArrayLike<number>, from: number, depth: number): number {
    return bitsAt(address, from, width, depth, STRIDE)
  }

  /** Word of the slot that step number `i` leads to; -1 when the node has a leaf there. */
  function slotAt(i: number): number {
    const cell = cells[i]!
    if (parents[i] === 0) return top.slotAt(cell)
    const word = book.word[parents[i]!]!
    const there = (words[word + (cell >>> 5)]! >>> cell) & 1
    return there === 0 ? -1 : word + SLOTS - 1 + rank(words, word, cell)
  }

  /** Goes down to the place of the address's node of that depth; returns the node that stands there or below, 0 for none. */
  function descend(address: ArrayLike<number>, depth: number): number {
    parents[0] = 0
    cells[0] = address[0]! >>> (32 - bits)
    for (steps = 1; ; steps++) {
      const at = slotAt(steps - 1)
      const node = at < 0 ? 0 : nodes.behind(words[at]!)
      if (node === 0) return 0
      const below = book.depth[node]!
      if (below >= depth || book.common(address, node, bits) < below) return node
      parents[steps] = node
      cells[steps] = cellOf(address, 0, below)
    }
  }

  /** `node` if it is the address's node of that depth, else 0. */
  function exactly(node: number, address: ArrayLike<number>, depth: number): number {
    return book.depth[node] === depth && book.common(address, node, bits) === depth ? node : 0
  }

  /** Next hop that the routes above step number `i`'s end give to it. */
  function above(i: number): number {
    for (let step = i; step > 0; step--) {
      const number = book.decider(parents[step]!, cells[step]!)
      if (number !== 0) return book.hop(parents[step]!, number)
    }
    return top.above(cells[0]!)
  }

  /** A route into a node that is not there. `there`: what stands in its place or below, 0 for nothing. */
  function grow(address: ArrayLike<number>, prefix: number, nextHop: number, there: number): void {
    const last = steps - 1
    const parent = parents[last]!
    const outside = above(last)
    const depth = depthOf(prefix)
    const fork = there === 0 ? depth : Math.min(depth, book.common(address, there, bits))
    const way = (node: number) => cellOf(book.prefix, node * width, fork)
    const number = numberOf(cellOf(address, 0, depth), STRIDE, prefix - depth)

    const made = book.make(address, 0, depth)
    book.set(made, number, nextHop)
    slots.fill(0)
    const old = there === 0 ? 0 : nodes.tie(fork + STRIDE, there, outside)
    if (there !== 0 && fork === depth) slots[way(there)] = old
    nodes.write(made, outside)
    let upper = made
    if (fork < depth) {
      upper = book.make(address, 0, fork)
      slots.fill(0)
      slots[way(there)] = old
      slots[way(made)] = nodes.tie(fork + STRIDE, made, outside)
      nodes.write(upper, outside)
    }
    const at = parent === 0 ? top.open(cells[0]!) : slotAt(last)
    const slot = nodes.tie(parent === 0 ? bits : book.depth[parent]! + STRIDE, upper, outside)
    if (at >= 0) {
      nodes.link(at, slot)
    } else {
      nodes.load(parent)
      slots[cells[last]!] = slot
      nodes.replace(slotAt(last - 1), parent, above(last - 1))
    }
    if (there !== 0) nodes.paint(made, number, nextHop)
  }

  /** Unlinks the node that the last step leads to if it is idle, and then the one above it; makes the last one small that stays. */
  function tidy(): void {
    for (let i = steps - 1; i >= 0; i--) {
      const at = slotAt(i)
      const node = nodes.behind(words[at]!)
      const ways = nodes.load(node)
      if (ways > 0 || book.routes[node]! > 0) {
        if (!memory.ready()) return
        if (family === 6 && ways === 1 && book.routes[node] === 0) bypass(i, at, node)
        else nodes.replace(at, node, above(i))
        return
      }
      nodes.link(at, above(i))
      nodes.retire(node)
    }
    top.close(cells[0]!)
  }

  /** Leads around a node that decides nothing; `slots` has its one way on. */
  function bypass(i: number, at: number, node: number): void {
    const on = slots.find(slot => slot !== 0)!
    const start = i === 0 ? bits : book.depth[parents[i]!]! + STRIDE
    nodes.link(at, nodes.tie(start, nodes.behind(on), above(i)))
    nodes.retireSkips(on)
    nodes.retire(node)
  }

  function noRoom(address: ArrayLike<number>, prefix: number): RangeError {
    return new RangeError(
      `no room for ${wordsToIp(address)}/${prefix}: the memory for ${limits.routes} routes is ` +
        `taken by ${size} of this shape`,
    )
  }

  function insertLong(address: ArrayLike<number>, prefix: number, nextHop: number): boolean {
    const depth = depthOf(prefix)
    const there = descend(address, depth)
    const node = exactly(there, address, depth)
    const number = numberOf(cellOf(address, 0, depth), STRIDE, prefix - depth)
    const before = node === 0 ? 0 : book.hop(node, number)
    if (before === nextHop) return false
    if (before !== 0) {
      book.set(node, number, nextHop)
      nodes.paint(node, number, nextHop)
      return false
    }
    if (size >= limits.routes) throw full(address, prefix, limits.routes)
    if (!memory.ready()) throw noRoom(address, prefix)
    if (node === 0) {
      grow(address, prefix, nextHop, there)
      return true
    }
    book.set(node, number, nextHop)
    const ways = nodes.load(node)
    nodes.replace(slotAt(steps - 1), node, above(steps - 1))
    if (ways > 0) nodes.paint(node, number, nextHop)
    return true
  }

  function removeLong(address: ArrayLike<number>, prefix: number): boolean {
    const depth = depthOf(prefix)
    const node = exactly(descend(address, depth), address, depth)
    const number = numberOf(cellOf(address, 0, depth), STRIDE, prefix - depth)
    if (node === 0 || book.hop(node, number) === 0) return false
    const shown = covering(book.heap, node * HEAP, number) || above(steps - 1)
    nodes.paint(node, number, shown)
    book.set(node, number, 0)
    tidy()
    return true
  }

  function insertShort(address: ArrayLike<number>, prefix: number, nextHop: number): boolean {
    const cell = address[0]! >>> (32 - bits)
    const before = prefix === 0 ? header[DEFAULT]! : top.hop(cell, prefix)
    if (before === nextHop) return false
    if (before === 0 && size >= limits.routes) throw full(address, prefix, limits.routes)
    if (prefix === 0) setDefault(nextHop)
    else if (!top.grows(cell, prefix) || memory.ready()) top.set(cell, prefix, nextHop)
    else throw noRoom(address, prefix)
    return before === 0
  }

  function removeShort(address: ArrayLike<number>, prefix: number): boolean {
    const cell = address[0]! >>> (32 - bits)
    const before = prefix === 0 ? header[DEFAULT]! : top.hop(cell, prefix)
    if (before === 0) return false
    if (prefix === 0) setDefault(0)
    else top.set(cell, prefix, 0)
    return true
  }

  /** /0 is a word of its own. Whoever ends without a next hop takes it, and sees if it changes meanwhile. */
  function setDefault(nextHop: number): void {
    Atomics.store(header, DEFAULT, nextHop)
    advance(header)
  }

  return {
    get size() {
      return size
    },

    insert(address, prefix, nextHop) {
      checkRoute(width, address, prefix, nextHop)
      const insert = prefix > bits ? insertLong : insertShort
      if (insert(address, prefix, nextHop)) size++
    },

    remove(address, prefix) {
      checkPrefix(width, address, prefix)
      const gone = (prefix > bits ? removeLong : removeShort)(address, prefix)
      if (gone) size--
      return gone
    },

    *routes(): Iterable<FibRoute> {
      const zeros = new Array<number>(width - 1).fill(0)
      if (header[DEFAULT] !== 0) yield routeOf([0, ...zeros], 0, header[DEFAULT]!)
      for (const { cell, prefix, nextHop } of top.routes()) {
        yield routeOf([cell << (32 - bits), ...zeros], prefix, nextHop)
      }
      for (let node = 1; node < book.end; node++) {
        const depth = book.depth[node]!
        if (depth === 0) continue
        for (let number = 2; number < HEAP; number++) {
          const nextHop = book.hop(node, number)
          if (nextHop === 0) continue
          const length = lengthOf(number)
          const address = [...book.prefix.subarray(node * width, (node + 1) * width)]
          put(address, depth, (number << (STRIDE - length)) & (CELLS - 1))
          yield routeOf(address, depth + length, nextHop)
        }
      }
    },

    quiesced: memory.quiesced,
  }
}

/** Sets the six bits of an address behind `depth`, which are zero, as far as it has them. */
function put(address: number[], depth: number, cell: number): void {
  const w = depth >>> 5
  const right = 32 - STRIDE - (depth & 31)
  address[w]! |= right >= 0 ? cell << right : cell >>> -right
  if (right < 0 && w + 1 < address.length) address[w + 1]! |= cell << (32 + right)
}
