/**
 * Extents of a heap of equal granules, as DXR's writer hands them out: of any length, joined with
 * their free neighbours when they come back. Free extents of one length (of one power of two, when
 * longer) hang in one list; the smallest that is enough is taken, and granules that were never
 * needed come last, so that their pages are never touched.
 */
export interface Extents {
  /** Granules that are not taken. */
  readonly free: number
  /** The first granule of an extent, -1 when none is long enough. */
  take(granules: number): number
  /** Gives an extent back that nobody reads. */
  give(at: number, granules: number): void
}

/** Lengths that have a list of their own; the lists behind them are of powers of two. */
const EXACT = 64
const LISTS = EXACT + 32

function listOf(granules: number): number {
  return granules < EXACT ? granules : EXACT + 31 - Math.clz32(granules)
}

export function extents(count: number): Extents {
  /** At the first and last granule of a free extent: its length. */
  const length = new Int32Array(count)
  const next = new Int32Array(count)
  const before = new Int32Array(count)
  const heads = new Int32Array(LISTS).fill(-1)
  /** From here on nothing was ever taken, or it all came back. */
  let frontier = 0
  let free = count

  function hang(at: number, granules: number): void {
    const list = listOf(granules)
    const head = heads[list]!
    length[at] = granules
    length[at + granules - 1] = granules
    next[at] = head
    before[at] = -1
    if (head >= 0) before[head] = at
    heads[list] = at
  }

  function unhang(at: number): number {
    const granules = length[at]!
    const after = next[at]!
    if (before[at]! >= 0) next[before[at]!] = after
    else heads[listOf(granules)] = after
    if (after >= 0) before[after] = before[at]!
    length[at] = 0
    length[at + granules - 1] = 0
    return granules
  }

  /** The first extent of a list that is long enough. */
  function within(list: number, granules: number): number {
    let at = heads[list]!
    while (at >= 0 && length[at]! < granules) at = next[at]!
    return at
  }

  return {
    get free() {
      return free
    },

    take(granules) {
      for (let list = listOf(granules); list < LISTS; list++) {
        const at = within(list, granules)
        if (at < 0) continue
        const had = unhang(at)
        if (had > granules) hang(at + granules, had - granules)
        free -= granules
        return at
      }
      if (frontier + granules > count) return -1
      const at = frontier
      frontier += granules
      free -= granules
      return at
    },

    give(at, granules) {
      free += granules
      let first = at
      let end = at + granules
      if (first > 0 && length[first - 1]! > 0) {
        const neighbour = first - length[first - 1]!
        unhang(neighbour)
        first = neighbour
      }
      if (end < frontier && length[end]! > 0) end += unhang(end)
      if (end === frontier) frontier = first
      else hang(first, end - first)
    },
  }
}
