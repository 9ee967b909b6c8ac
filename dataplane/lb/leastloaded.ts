/**
 * The less loaded of two: M. Mitzenmacher, "The Power of Two Choices in Randomized Load Balancing"
 * (IEEE TPDS 12(10), 2001). A flow's hash draws two different backends, each with the probability of
 * its weight; the one with fewer flows for its weight gets the flow. That keeps the most loaded within
 * a few flows of the average, with two counts looked at.
 *
 * The answer depends on the counts, so it is no function of the hash: what a flow got is remembered
 * by the flow table alone. A flow that ends gives its count back (`release`).
 *
 * Memory: columns.ts, behind it one i32 for each id 0 .. MAX_BACKEND_ID: its flows. The counts are
 * all workers', changed by atomic additions, and stay what they are when the backends change: a
 * backend that goes and comes back still has the flows that it has.
 *
 * Compared are (flows + 1) / weight, by multiplying; at a tie the first draw wins. Between comparing
 * and adding another worker may add: then the answer is what was right a moment before.
 */
import { checkLbLimits, headerOf, overtaken, published } from './bank.ts'
import {
  type Columns,
  columnsBytes,
  columnsOf,
  columnsWriter,
  countOf,
  mixed,
  totalOf,
} from './columns.ts'
import { type Lb, type LbLimits, type LbReader, MAX_BACKEND_ID } from './lb.ts'

/** Two salts that make two draws of one hash. */
export const DRAWS = [0x2545_f491, 0x9e6c_63d1] as const

/** Index of the backend that draw `salt` of a hash picks, each with the probability of its weight. */
function drawn(bank: Columns, count: number, total: number, hash: number, salt: number): number {
  const { sums } = bank
  const at = Math.floor(mixed(hash, salt) * (total / 2 ** 32))
  let low = 0
  let high = count - 1
  while (low < high) {
    const middle = (low + high) >>> 1
    if (sums[middle]! > at) high = middle
    else low = middle + 1
  }
  return low
}

function reader(memory: Uint8Array, limits: LbLimits): LbReader {
  const [even, odd] = columnsOf(memory, limits)
  const header = headerOf(memory)
  const { buffer, byteOffset } = memory
  const counts = new Int32Array(buffer, byteOffset + columnsBytes(limits), MAX_BACKEND_ID + 1)

  function one(bank: Columns, count: number, total: number, hash: number): number {
    const { ids, weights } = bank
    const a = drawn(bank, count, total, hash, DRAWS[0])
    let b = drawn(bank, count, total, hash, DRAWS[1])
    if (a === b) b = b + 1 < count ? b + 1 : 0
    const loadA = (counts[ids[a]!]! + 1) * weights[b]!
    const loadB = (counts[ids[b]!]! + 1) * weights[a]!
    return ids[loadA <= loadB ? a : b]!
  }

  function release(backends: Uint16Array, n: number): void {
    for (let i = 0; i < n; i++) {
      const id = backends[i]!
      if (id === 0) continue
      // More ends than beginnings are the caller's mistake; a count doesn't go below 0 for it.
      if (Atomics.sub(counts, id, 1) <= 0) Atomics.add(counts, id, 1)
    }
  }

  return {
    choose(hashes, n, backends) {
      for (;;) {
        const generation = published(header)
        const bank = (generation & 1) === 0 ? even : odd
        const count = countOf(bank)
        const total = totalOf(bank)
        for (let i = 0; i < n; i++) {
          const id = count === 0 ? 0 : one(bank, count, total, hashes[i]!) & MAX_BACKEND_ID
          backends[i] = id
          if (id !== 0) Atomics.add(counts, id, 1)
        }
        if (!overtaken(header, generation)) return
        release(backends, n)
      }
    },
    release,
    load: backend => Atomics.load(counts, backend & MAX_BACKEND_ID),
  }
}

export const leastloaded: Lb = {
  name: 'leastloaded',
  counts: true,
  bytes(limits) {
    checkLbLimits(limits)
    return columnsBytes(limits) + 4 * (MAX_BACKEND_ID + 1)
  },
  writer: columnsWriter,
  reader,
}
