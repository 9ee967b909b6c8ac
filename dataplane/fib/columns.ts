/** Routes in flat columns, as they travel between threads; and seeded ones, for who has none. */
import type { FibRoute } from './fib.ts'
import { wordMask } from './route.ts'

export interface RouteColumns {
  readonly count: number
  /** One word a route (IPv4) or four. */
  readonly addresses: Uint32Array
  readonly prefixes: Uint8Array
  readonly nextHops: Uint16Array
}

function columns(words: number, count: number) {
  return {
    count,
    addresses: new Uint32Array(words * count),
    prefixes: new Uint8Array(count),
    nextHops: new Uint16Array(count),
  }
}

/** Columns of `count` routes that `routes` gives. */
export function columnsOf(words: 1 | 4, count: number, routes: Iterable<FibRoute>): RouteColumns {
  const into = columns(words, count)
  let i = 0
  for (const { address, prefix, nextHop } of routes) {
    into.addresses.set(address, words * i)
    into.prefixes[i] = prefix
    into.nextHops[i++] = nextHop
  }
  return into
}

/** 32-bit numbers from a seed (xorshift32, G. Marsaglia 2003). */
export function seeded(seed: number): () => number {
  let state = seed | 1
  return () => {
    state ^= state << 13
    state ^= state >>> 17
    state ^= state << 5
    return state >>> 0
  }
}

/** Prefix lengths that meet the borders of words and of usual strides. */
const LENGTHS = {
  1: [0, 1, 8, 15, 16, 17, 20, 22, 23, 24, 24, 24, 25, 28, 31, 32, 32],
  4: [0, 1, 16, 29, 32, 33, 44, 48, 48, 48, 56, 63, 64, 64, 65, 96, 127, 128, 128],
}

/** At most `count` different routes below a few short prefixes, so that many lie in each other. */
export function seededRoutes(words: 1 | 4, count: number, nextHops: number): RouteColumns {
  const random = seeded(0x726f_7574)
  const seen = new Map<string, FibRoute>()
  for (let i = 0; i < 2 * count && seen.size < count; i++) {
    const prefix = LENGTHS[words][random() % LENGTHS[words].length]!
    const address = Uint32Array.from({ length: words }, (_, w) => {
      const word = w === 0 ? ((random() & 7) << 29) | (random() & 0x0f0f_ffff) : random()
      return word & wordMask(prefix, w)
    })
    seen.set(`${address}/${prefix}`, { address, prefix, nextHop: 1 + (random() % nextHops) })
  }
  return columnsOf(words, seen.size, seen.values())
}
