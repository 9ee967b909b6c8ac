/**
 * Load balancing: the interface of every balancer. It answers a new flow's hash with the backend that
 * serves the flow. Asked once a flow: what it said is kept in the flow table, so an established flow
 * keeps its backend whatever happens to the others. How much a change of the backends moves what is
 * *not* in a flow table (another node's, or one that has aged out) is what the algorithms differ in.
 *
 * Storage is one region that the main thread and all workers share. There is **one writer** and any
 * number of **readers**, which take no lock. A change is built beside what readers use and becomes
 * visible as one, by generation (bank.ts): all answers of one call come from one set of backends,
 * which was the current one at some moment of the call.
 */

/** Ids are 1 .. MAX_BACKEND_ID; 0 in an answer means that there is no backend. */
export const MAX_BACKEND_ID = 0xffff
/** Weights are 1 .. MAX_WEIGHT: shares of the flows relative to each other. */
export const MAX_WEIGHT = 256
/** Most backends that limits may ask for. */
export const MAX_BACKENDS = MAX_BACKEND_ID

/** What a balancer must have room for; its memory is laid out for it. */
export interface LbLimits {
  /** Most backends, 1 .. MAX_BACKENDS. */
  readonly backends: number
}

export interface Backend {
  readonly id: number
  readonly weight: number
}

/** The main thread's end. */
export interface LbWriter {
  /** Backends that are in it. */
  readonly size: number
  /**
   * Replaces all backends; their order means nothing, and none is allowed. Throws RangeError with the
   * backend's id, and changes nothing, when an id or a weight is out of range, an id is there twice,
   * or there are more than `limits.backends`.
   */
  set(backends: readonly Backend[]): void
  /** The backends, by id. */
  backends(): Iterable<Backend>
}

/** A worker's end. Allocates nothing and throws nothing. */
export interface LbReader {
  /**
   * Chooses for `n` new flows, by their hashes (any 32-bit words, well mixed), and writes a backend's
   * id for each, 0 when there is none. An algorithm that counts flows (`counts`) adds one to what it
   * chose. The arrays are the caller's own, not shared, and at least that long.
   */
  choose(hashes: Uint32Array, n: number, backends: Uint16Array): void
  /**
   * Tells that `n` flows of these backends ended, or that they were chosen in vain (another worker
   * inserted the flow first). Whoever takes entries out of the flow table (`remove`, `sweep`) calls
   * it with what their actions say; 0 is passed over. Does nothing where flows are not counted.
   */
  release(backends: Uint16Array, n: number): void
  /** Flows that a backend has; 0 where flows are not counted. */
  load(backend: number): number
}

/** An algorithm. */
export interface Lb {
  readonly name: string
  /** `choose` depends on how many flows each backend has. */
  readonly counts: boolean
  /** Bytes of the region that `writer` and `reader` are given. Throws RangeError for limits out of range. */
  bytes(limits: LbLimits): number
  /** A balancer without backends in `memory` (zeroed, page aligned, `bytes(limits)` long at least). */
  writer(memory: Uint8Array, limits: LbLimits): LbWriter
  /** A reader of the balancer that a `writer` made in the same memory with the same limits. */
  reader(memory: Uint8Array, limits: LbLimits): LbReader
}
