/**
 * Numbered blocks of a FIB's memory, as the writer hands them out. A block that a change unlinked
 * may still be read, so it waits until `quiesced` before it is given out again.
 */
export interface Slots {
  /** Blocks that `take` can give out now. */
  readonly available: number
  /** Blocks that wait for `quiesced`. */
  readonly waiting: number
  /** A block that nobody reads. The caller has looked at `available`. */
  take(): number
  /** The block is unlinked. */
  retire(slot: number): void
  quiesced(): void
}

/** Blocks `first` .. `end - 1`; low ones first, so that memory that was never needed is never touched. */
export function slots(first: number, end: number): Slots {
  const free: number[] = []
  let retired: number[] = []
  let next = first
  return {
    get available() {
      return free.length + end - next
    },
    get waiting() {
      return retired.length
    },
    take: () => free.pop() ?? next++,
    retire(slot) {
      retired.push(slot)
    },
    quiesced() {
      for (const slot of retired) free.push(slot)
      retired = []
    },
  }
}
