/** Flows of a batch that `coalesce` may have open at once; two in one slot close each other. */
export const SLOTS = 16

export const NONE = -1

/** What is open while one batch goes by. */
export class OpenFlows {
  /** Index of the first segment in the batch; NONE. */
  readonly first = new Int16Array(SLOTS).fill(NONE)
  /** Bytes of its TCP payload: the size of all but the last. */
  readonly size = new Uint32Array(SLOTS)
  /** Sequence number that comes next. */
  readonly next = new Uint32Array(SLOTS)
  /** Segments until now. */
  readonly count = new Uint32Array(SLOTS)
  /** Whether the last one had PSH. */
  readonly push = new Uint8Array(SLOTS)
}
