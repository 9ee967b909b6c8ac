/**
 * The routes of one chunk that are longer than its 16 bits, on the writer's heap: sorted by where
 * they begin, the shorter first, so that what lies inside a route stands right behind it.
 */
import { POSITIONS } from './tables.ts'

/** Bits of the longest prefix below a chunk. */
const BITS = 16
/** Bits of a key for the length (0 .. 15 stands for 1 .. 16). */
const LENGTH_BITS = 4
const LENGTH_MASK = (1 << LENGTH_BITS) - 1
const LEAST = 4

function keyOf(start: number, length: number): number {
  return (start << LENGTH_BITS) | (length - 1)
}

export class ChunkRoutes {
  count = 0
  /** Routes taken out since the chunk's edges were last made from the routes that there are. */
  removed = 0
  private keys = new Uint32Array(LEAST)
  private hops = new Uint16Array(LEAST)

  /** Position where route `i` begins. */
  start(i: number): number {
    return this.keys[i]! >>> LENGTH_BITS
  }

  /** Bits of route `i` behind the chunk's: 1 .. 16. */
  length(i: number): number {
    return (this.keys[i]! & LENGTH_MASK) + 1
  }

  /** The position behind route `i`. */
  end(i: number): number {
    return this.start(i) + (POSITIONS >>> this.length(i))
  }

  hop(i: number): number {
    return this.hops[i]!
  }

  /** Index of a route, or ~index where it would stand. */
  find(start: number, length: number): number {
    const key = keyOf(start, length)
    let low = 0
    for (let high = this.count; low < high; ) {
      const middle = (low + high) >>> 1
      if (this.keys[middle]! < key) low = middle + 1
      else high = middle
    }
    return low < this.count && this.keys[low] === key ? low : ~low
  }

  /** Next hop of the longest route that is shorter than this prefix and covers it, 0 for none. */
  covering(start: number, length: number): number {
    for (let shorter = length - 1; shorter > 0; shorter--) {
      const i = this.find(start & (-1 << (BITS - shorter)), shorter)
      if (i >= 0) return this.hops[i]!
    }
    return 0
  }

  setHop(i: number, hop: number): void {
    this.hops[i] = hop
  }

  /** Puts a route at the index that `find` gave. */
  add(i: number, start: number, length: number, hop: number): void {
    if (this.count === this.keys.length) this.grow()
    const { keys, hops, count } = this
    keys.copyWithin(i + 1, i, count)
    hops.copyWithin(i + 1, i, count)
    keys[i] = keyOf(start, length)
    hops[i] = hop
    this.count++
  }

  delete(i: number): void {
    this.keys.copyWithin(i, i + 1, this.count)
    this.hops.copyWithin(i, i + 1, this.count)
    this.count--
    this.removed++
  }

  private grow(): void {
    const { keys, hops } = this
    this.keys = new Uint32Array(2 * keys.length)
    this.hops = new Uint16Array(2 * hops.length)
    this.keys.set(keys)
    this.hops.set(hops)
  }
}
