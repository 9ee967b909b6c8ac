/**
 * Blocks of a poptrie's memory, in units of 16 bytes, as the writer hands them out.
 *
 * A block comes from the list of free ones of its size, or else from the *span*: the run of units
 * that blocks are cut from, at first all there are. When no span has room for a whole change, free
 * units that lie side by side are put together, and runs that are long enough become the next spans.
 *
 * A block that a change unlinked may still be read, so it waits. It is free after `quiesced`, or when
 * the writer has made sure by `recycle` that everyone who could read it will look again
 * (poptrie-layout.ts); so not much more than RECYCLE_UNITS ever wait.
 */

/** Blocks have 1 .. MAX_UNITS units. */
export const MAX_UNITS = 64
/** Most units that one change takes. */
export const CHANGE_UNITS = 112
/** How runs that are too short for spans are cut. */
const CUT_UNITS = 16
/** Units that may wait before they are recycled, 64 KiB. */
export const RECYCLE_UNITS = 4096
/** Units are put together when this part of all was freed since the last time: it reads all of them. */
const MERGE_SHARE = 256
export interface Blocks {
  /** Units of the blocks that are in use. */
  readonly used: number
  /** Before a change: whether there is room for the CHANGE_UNITS that it may take. */
  ready(): boolean
  /** First unit of a block that nobody reads; what was there before is still in it. */
  take(units: number): number
  /** The block is unlinked. */
  retire(first: number, units: number): void
  /** No one reads what was retired. */
  quiesced(): void
}

/** End of a list of blocks. */
const NONE = -1

/** Units 0 .. `count - 1`; low ones first, so that memory that was never needed is never touched. */
export function blocks(count: number, recycle: () => void): Blocks {
  /** Lists of blocks by their first units: free ones of each size, and those that wait. */
  const next = new Int32Array(count)
  const sizes = new Uint8Array(count)
  const free = new Int32Array(MAX_UNITS + 1).fill(NONE)
  let retired = NONE
  const spans: { first: number; end: number }[] = []
  let span = 0
  let end = count
  let waiting = 0
  /** Units freed since units were last put together. */
  let loose = 0
  let used = 0

  function give(first: number, units: number): void {
    next[first] = free[units]!
    free[units] = first
  }

  function release(): void {
    for (let first = retired; first !== NONE; ) {
      const after = next[first]!
      give(first, sizes[first]!)
      first = after
    }
    loose += waiting
    retired = NONE
    waiting = 0
  }

  /** A run that is too short for a span, as blocks. */
  function cut(first: number, until: number): void {
    for (let at = first; at < until; at += CUT_UNITS) give(at, Math.min(CUT_UNITS, until - at))
  }

  function merge(): void {
    const open = new Uint8Array(count)
    open.fill(1, span, end)
    for (const { first, end: until } of spans) open.fill(1, first, until)
    for (let units = 1; units <= MAX_UNITS; units++) {
      for (let first = free[units]!; first !== NONE; first = next[first]!) {
        open.fill(1, first, first + units)
      }
    }
    free.fill(NONE)
    spans.length = 0
    span = end = loose = 0
    for (let first = open.indexOf(1); first >= 0; ) {
      const closed = open.indexOf(0, first)
      const until = closed < 0 ? count : closed
      if (until - first < CHANGE_UNITS) cut(first, until)
      else spans.push({ first, end: until })
      first = open.indexOf(1, until)
    }
    spans.reverse()
  }

  function nextSpan(): boolean {
    const following = spans.pop()
    if (following === undefined) return false
    cut(span, end)
    span = following.first
    end = following.end
    return true
  }

  return {
    get used() {
      return used
    },

    ready() {
      if (waiting >= RECYCLE_UNITS) {
        recycle()
        release()
      }
      if (end - span >= CHANGE_UNITS || nextSpan()) return true
      if (waiting > 0) {
        recycle()
        release()
      }
      if (loose < Math.max(CHANGE_UNITS, count / MERGE_SHARE)) return false
      merge()
      return nextSpan()
    },

    take(units) {
      used += units
      const known = free[units]!
      if (known !== NONE) {
        free[units] = next[known]!
        return known
      }
      const first = span
      span += units
      return first
    },

    retire(first, units) {
      used -= units
      waiting += units
      sizes[first] = units
      next[first] = retired
      retired = first
    },

    quiesced: release,
  }
}
