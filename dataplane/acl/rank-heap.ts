/** The smallest rank of a table's nodes, as rules come and go: a binary heap whose nodes leave late. */

/** Ranks have 32 bits, nodes fewer than this. */
const NODES = 2 ** 20

export interface RankHeap {
  push(rank: number, node: number): void
  /** The smallest rank of the nodes that are still `there`, NO_RANK when none is. */
  best(there: (node: number, rank: number) => boolean, none: number): number
}

export function rankHeap(): RankHeap {
  const heap: number[] = []

  function sink(value: number): void {
    let at = 0
    for (;;) {
      let child = 2 * at + 1
      if (child >= heap.length) break
      if (child + 1 < heap.length && heap[child + 1]! < heap[child]!) child++
      if (heap[child]! >= value) break
      heap[at] = heap[child]!
      at = child
    }
    heap[at] = value
  }

  return {
    push(rank, node) {
      const value = rank * NODES + node
      let at = heap.length
      while (at > 0 && heap[(at - 1) >>> 1]! > value) {
        heap[at] = heap[(at - 1) >>> 1]!
        at = (at - 1) >>> 1
      }
      heap[at] = value
    },
    best(there, none) {
      while (heap.length > 0) {
        const rank = Math.floor(heap[0]! / NODES)
        if (there(heap[0]! % NODES, rank)) return rank
        const last = heap.pop()!
        if (heap.length > 0) sink(last)
      }
      return none
    },
  }
}
