/**
 * What the writer of a poptrie knows of its nodes besides what readers see: the routes of each, as a
 * prefix heap (prefix-heap.ts) of 64 cells, its place in the address space, and where its block is.
 * It grows with the number of nodes, 278 bytes each and the words of an address.
 */

import { wordMask } from '../route.ts'
import { CELLS, STRIDE } from './layout.ts'

/** Entries of a node's heap. Number 1 is never used: a route of that length belongs further up. */
export const HEAP = 2 * CELLS
/** Words of the bit map of a heap. */
export const TAKEN = HEAP / 32
/** Nodes that there is room for at first. */
const FIRST_NODES = 64

export class PoptrieBook {
  /** HEAP entries a node: next hops of its routes. */
  heap = new Uint16Array(FIRST_NODES * HEAP)
  /** Routes of a node, and a bit map of their numbers. */
  routes = new Uint8Array(FIRST_NODES)
  taken = new Uint32Array(FIRST_NODES * TAKEN)
  /** Bits above a node, and what they are. */
  depth = new Uint8Array(FIRST_NODES)
  prefix: Uint32Array
  /** Word of the node's block. */
  word = new Int32Array(FIRST_NODES)
  /** Nodes are 1 .. `end - 1`; those that were given back have depth 0. */
  end = 1
  readonly words: 1 | 4
  readonly #free: number[] = []

  constructor(words: 1 | 4) {
    this.words = words
    this.prefix = new Uint32Array(FIRST_NODES * words)
  }

  /** A node without routes and block; the first `depth` bits of the address, whose words begin at `from`, lead to it. */
  make(address: ArrayLike<number>, from: number, depth: number): number {
    const node = this.#free.pop() ?? this.#next()
    for (let w = 0; w < this.words; w++) {
      this.prefix[node * this.words + w] = address[from + w]! & wordMask(depth, w)
    }
    this.depth[node] = depth
    return node
  }

  /** A node that has no routes is no longer one. */
  drop(node: number): void {
    this.depth[node] = 0
    this.#free.push(node)
  }

  /** Next hop of the node's route of that number, 0 for none. */
  hop(node: number, number: number): number {
    return this.heap[node * HEAP + number]!
  }

  /** Puts a route in, changes its next hop, or takes it out (0). */
  set(node: number, number: number, nextHop: number): void {
    const at = node * HEAP + number
    const was = this.heap[at] === 0 ? 0 : 1
    const is = nextHop === 0 ? 0 : 1
    this.heap[at] = nextHop
    if (was === is) return
    this.routes[node]! += is - was
    this.taken[node * TAKEN + (number >>> 5)]! ^= 1 << number
  }

  /** Number of the route of the node that decides a cell, 0 when that is one further up. */
  decider(node: number, cell: number): number {
    const base = node * HEAP
    let number = CELLS + cell
    while (number > 1 && this.heap[base + number] === 0) number >>>= 1
    return number > 1 ? number : 0
  }

  /** Bits that an address and the node's prefix have in common, in whole strides from `start`, where they are the same. */
  common(address: ArrayLike<number>, node: number, start: number): number {
    const depth = this.depth[node]!
    for (let w = 0; w * 32 < depth; w++) {
      const differ = this.prefix[node * this.words + w]! ^ address[w]!
      if (differ === 0) continue
      const same = w * 32 + Math.clz32(differ)
      return Math.min(depth, same - ((same - start) % STRIDE))
    }
    return depth
  }

  #next(): number {
    const node = this.end++
    if (node < this.word.length) return node
    const grow = <A extends Uint8Array | Uint16Array | Uint32Array | Int32Array>(old: A): A => {
      const grown = new (old.constructor as new (length: number) => A)(2 * old.length)
      grown.set(old)
      return grown
    }
    this.heap = grow(this.heap)
    this.routes = grow(this.routes)
    this.taken = grow(this.taken)
    this.depth = grow(this.depth)
    this.prefix = grow(this.prefix)
    this.word = grow(this.word)
    return node
  }
}
