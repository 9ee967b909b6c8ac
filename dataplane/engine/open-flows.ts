/**
 * The TCP flows that `coalesce` has met in a batch: a hash table with two places for each packet of a
 * batch, so that flows whose segments are interleaved don't meet. A flow keeps its place until the batch
 * ends; one that finds PROBES places in a row taken has none, and is not joined. A flow is its hash: two
 * of the same 32 bits share a place, and only close each other. A stamp says in which batch a place was
 * taken, so that nothing is cleared between two of them.
 */
import { BATCH_SIZE } from '../limits.ts'

const PLACES = 2 * BATCH_SIZE
/** Places that a flow may have, from the one that its hash says. */
const PROBES = 8

export const NONE = -1

export class OpenFlows {
  /** Segments that are open in a place; 0: none, and what stands in the other columns means nothing. */
  readonly count = new Uint16Array(PLACES)
  /** Index of the first one in the batch. */
  readonly first = new Uint16Array(PLACES)
  /** Bytes of its TCP payload: the size of all but the last. */
  readonly size = new Uint32Array(PLACES)
  /** Sequence number that comes next. */
  readonly next = new Uint32Array(PLACES)
  /** Whether the last one ends it. */
  readonly ended = new Uint8Array(PLACES)
  /** The `taken` places of this batch, in the order in which they were taken. */
  readonly places = new Uint16Array(BATCH_SIZE)
  taken = 0
  private readonly stamp = new Uint32Array(PLACES)
  private readonly hash = new Int32Array(PLACES)
  private batch = 0

  /** A batch begins: all places are free. */
  begin(): void {
    this.taken = 0
    if (++this.batch <= 0xffff_ffff) return
    this.stamp.fill(0)
    this.batch = 1
  }

  /** The place of the flow of that hash (32 bits, signed); NONE: all that it may have are taken. Once a packet of the batch at the most. */
  place(hash: number): number {
    const { stamp, batch } = this
    for (let probe = 0; probe < PROBES; probe++) {
      const at = (hash + probe) & (PLACES - 1)
      if (stamp[at] !== batch) {
        stamp[at] = batch
        this.hash[at] = hash
        this.count[at] = 0
        this.places[this.taken++] = at
        return at
      }
      if (this.hash[at] === hash) return at
    }
    return NONE
  }
}
