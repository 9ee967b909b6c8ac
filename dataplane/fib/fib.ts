/**
 * Longest-prefix match: the interface of every FIB. A FIB answers a destination address with a next
 * hop id (tables/next-hops.ts says what the id means).
 *
 * Storage is one region of the arena that the main thread and all workers share. There is **one
 * writer** (the main thread) and any number of **readers** (one a worker), which take no lock: a
 * lookup that runs beside changes gives a next hop that the address had at some moment between its
 * beginning and its end; beside one change that is the old or the new one, never a third. What a
 * change frees is used again after `quiesced`, or earlier where the algorithm itself makes sure that no
 * reader takes an answer from it (its header comment says how).
 *
 * Addresses are 32-bit words in host order, the most significant first: one for IPv4, four for
 * IPv6. Next hop ids are 1 .. MAX_NEXT_HOP_ID; 0 means "no route".
 */

/** Largest next hop id: 15 bits, so that an algorithm has one bit of a 16-bit entry for itself. */
export const MAX_NEXT_HOP_ID = 0x7fff

/** What a FIB must have room for; its memory is laid out for it. */
export interface FibLimits {
  /** Most routes, 1 .. MAX_ROUTES (route.ts). An algorithm may have a narrower limit of its own; its header comment says which. */
  readonly routes: number
}

export interface FibRoute {
  /** Words of the prefix; bits behind its length are zero. */
  readonly address: Uint32Array
  /** Bits that count: 0 .. 32 or 0 .. 128. */
  readonly prefix: number
  readonly nextHop: number
}

/** The main thread's end. Its own book-keeping lies outside the arena. */
export interface FibWriter {
  /** Routes that are in it. */
  readonly size: number
  /**
   * Adds a route, or gives an existing one another next hop. Throws RangeError, and changes
   * nothing, when an argument is out of range, bits behind the prefix are set, or a limit is
   * reached. Memory that `limits.routes` removals left behind may wait for `quiesced`; more may not.
   */
  insert(address: ArrayLike<number>, prefix: number, nextHop: number): void
  /** Takes a route out; false when there is none of that prefix. Throws RangeError as `insert` does for its arguments; else never. */
  remove(address: ArrayLike<number>, prefix: number): boolean
  /** Every route, in no special order. The FIB must not change meanwhile. */
  routes(): Iterable<FibRoute>
  /**
   * The caller's word that no reader is still inside a lookup that began before the last `insert`
   * or `remove`: memory that those freed may be used again (some algorithms need no such word). A caller that waits for its readers
   * must not change the FIB meanwhile, or wait again.
   */
  quiesced(): void
}

/** A worker's end. */
export interface FibReader {
  /**
   * Looks up `n` addresses (`addresses[0 .. n)` for IPv4, four words each for IPv6) and writes a
   * next hop id for each. Allocates nothing, throws nothing, whatever the addresses are. The arrays
   * are the caller's own, not shared, and at least that long.
   */
  lookup(addresses: Uint32Array, n: number, nextHops: Uint16Array): void
}

/** An algorithm. */
export interface Fib {
  readonly name: string
  readonly family: 4 | 6
  /** Bytes of the region that `writer` and `reader` are given. Throws RangeError for limits out of range. */
  bytes(limits: FibLimits): number
  /** An empty FIB in `memory` (zeroed, page aligned, `bytes(limits)` long at least). */
  writer(memory: Uint8Array, limits: FibLimits): FibWriter
  /** A reader of the FIB that a `writer` made in the same memory with the same limits. */
  reader(memory: Uint8Array, limits: FibLimits): FibReader
}
