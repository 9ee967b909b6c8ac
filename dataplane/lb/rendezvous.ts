/**
 * Rendezvous hashing (highest random weight): D. G. Thaler, C. V. Ravishankar, "Using Name-Based
 * Mappings to Increase Hit Rates" (IEEE/ACM Transactions on Networking 6(1), 1998). Each backend
 * draws a number for the flow, from the flow's hash and a hash of its id; the best one wins. When a
 * backend goes, exactly its flows move, and when it comes back, exactly these return. The price is
 * that each choice looks at all backends.
 *
 * Weights by the logarithm: with u in (0, 1) drawn by a backend of weight w, -w / ln u is greatest for
 * each backend with probability w / W (C. Schindelhauer, G. Schomaker, "Weighted Distributed Hash
 * Tables", SPAA 2005). Compared is ln u / w, and no logarithm is taken where u - 1, which is never
 * less than ln u, shows that it can't win. With equal weights the largest draw wins, which is the same
 * backend. Of equal draws the smaller id wins.
 *
 * Memory: columns.ts.
 */
import { checkLbLimits, headerOf, overtaken, published } from './bank.ts'
import {
  allEqual,
  type Columns,
  columnsBytes,
  columnsOf,
  columnsWriter,
  countOf,
  mixed,
} from './columns.ts'
import type { Lb, LbLimits, LbReader } from './lb.ts'

/** The draw as a number between 0 and 1, never either. */
function unit(draw: number): number {
  return (draw + 0.5) / 2 ** 32
}

/** Index of the best backend for a hash; -1 when there is none. */
function best({ salts, weights }: Columns, count: number, equal: boolean, hash: number): number {
  let winner = -1
  if (equal) {
    let most = -1
    for (let b = 0; b < count; b++) {
      const draw = mixed(hash, salts[b]!)
      if (draw > most) {
        most = draw
        winner = b
      }
    }
    return winner
  }
  let most = Number.NEGATIVE_INFINITY
  for (let b = 0; b < count; b++) {
    const u = unit(mixed(hash, salts[b]!))
    const weight = weights[b]!
    if ((u - 1) / weight <= most) continue
    const score = Math.log(u) / weight
    if (score > most) {
      most = score
      winner = b
    }
  }
  return winner
}

function reader(memory: Uint8Array, limits: LbLimits): LbReader {
  const [even, odd] = columnsOf(memory, limits)
  const header = headerOf(memory)
  return {
    choose(hashes, n, backends) {
      let generation: number
      do {
        generation = published(header)
        const bank = (generation & 1) === 0 ? even : odd
        const { ids } = bank
        const count = countOf(bank)
        const equal = allEqual(bank)
        for (let i = 0; i < n; i++) {
          const winner = best(bank, count, equal, hashes[i]!)
          backends[i] = winner < 0 ? 0 : ids[winner]!
        }
      } while (overtaken(header, generation))
    },
    release() {},
    load: () => 0,
  }
}

export const rendezvous: Lb = {
  name: 'rendezvous',
  counts: false,
  bytes(limits) {
    checkLbLimits(limits)
    return columnsBytes(limits)
  },
  writer: columnsWriter,
  reader,
}
