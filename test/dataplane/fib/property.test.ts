/**
 * Every FIB on tables and changes drawn from a seed, down to empty, against a sorted list of ranges
 * (range-oracle.ts). About a million lookups for each FIB and seed, of addresses at the edges of the
 * routes: where ranges begin and end, the neighbours outside, all zeros, all ones.
 *
 * `HAWSER_SEEDS=100` takes the seeds 1 .. 100 instead of seed 1. A failure shrinks to few routes and
 * prints the seed and the case: one more of REGRESSIONS.
 */
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { seeded } from '../../../dataplane/fib/columns.ts'
import { fibByName } from '../../../dataplane/fib/index.ts'
import { wordMask } from '../../../dataplane/fib/route.ts'
import { SEEDS } from '../../runner/tiers.ts'
import { rangeOracle } from './range-oracle.ts'
import {
  anyAddress,
  anyNextHop,
  anyPrefix,
  clip,
  edges,
  GROUPS,
  lookUp,
  type Prefix,
  table,
  wordsOf,
} from './tables.ts'

type Route = Prefix & { nextHop: number }

/** What failed once, or is likely to: the counterexamples that a failure prints (routes, other addresses, seed of the changes). */
const REGRESSIONS: Record<4 | 6, [Route[], number[][], number][]> = {
  4: [
    [
      [
        { address: [0], prefix: 0, nextHop: 1 },
        { address: [0x8000_0000], prefix: 1, nextHop: 2 },
        { address: [0xffff_ffff], prefix: 32, nextHop: 3 },
      ],
      [],
      1,
    ],
  ],
  6: [
    [
      [
        { address: [0, 0, 0, 0], prefix: 0, nextHop: 1 },
        { address: [0x8000_0000, 0, 0, 0], prefix: 1, nextHop: 2 },
        { address: new Array<number>(4).fill(0xffff_ffff), prefix: 128, nextHop: 3 },
      ],
      [],
      1,
    ],
  ],
}

const RUNS = 48
const LEAST_LOOKUPS = 500_000
const MOST_ROUTES = 96
/** Changes between two comparisons, as a share of the table: a table is compared 1 + 2 * 8 + 8 times. */
const SHARE = 8

/** Addresses of each kind in `around`. */
const TURNS = 10

describe.each(GROUPS)('$names', ({ name, family, names }) => {
  const words = wordsOf(family)
  // One table for all runs: each leaves it empty, and what leaks fills it.
  const { writer, memory } = table(name, family, MOST_ROUTES)
  const readers = names.map(each => ({
    each,
    reader: fibByName(each, family).reader(memory, { routes: MOST_ROUTES }),
  }))
  let lookups = 0

  const route = fc
    .tuple(anyPrefix(family), anyNextHop)
    .map(([prefix, nextHop]) => ({ ...prefix, nextHop }))

  const property = fc.property(
    fc.array(route, { minLength: 1, maxLength: MOST_ROUTES, size: 'max' }),
    fc.array(anyAddress(family), { minLength: 8, maxLength: 8 }),
    fc.integer({ min: 1, max: 0x7fff_ffff }),
    (routes, strangers, seed) => {
      const random = seeded(seed)
      const pick = <T>(of: readonly T[]): T => of[random() % of.length]!
      const present = new Map<string, Route>()
      const ends = [new Array<number>(words).fill(0), new Array<number>(words).fill(0xffff_ffff)]
      const near = routes.flatMap(at => [...edges(at), ...around(at, random)])
      const probes = Uint32Array.from([...ends, ...strangers, ...near].flat())
      const share = Math.max(1, Math.floor(routes.length / SHARE))

      const compare = () => {
        const right = rangeOracle(words, columns([...present.values()], words))(probes)
        for (const { each, reader } of readers) {
          const found = lookUp(reader, probes, words)
          lookups += found.length
          for (const [i, nextHop] of found.entries()) {
            if (nextHop === right[i]) continue
            const address = probes.subarray(i * words, (i + 1) * words)
            expect.fail(`${each}: ${hex(address)} has ${right[i]}, not ${nextHop}`)
          }
        }
        expect(writer.size).toBe(present.size)
      }
      const put = (of: Route) => {
        writer.insert(of.address, of.prefix, of.nextHop)
        present.set(`${hex(of.address)}/${of.prefix}`, of)
      }
      const takeOut = ({ address, prefix }: Prefix) => {
        const known = present.delete(`${hex(address)}/${prefix}`)
        expect(writer.remove(address, prefix)).toBe(known)
      }
      /** `change` is called `times`; compares now and then. */
      const phase = (times: number, change: () => void) => {
        for (let step = 1; step <= times; step++) {
          change()
          if (random() % 4 === 0) writer.quiesced()
          if (step % share === 0) compare()
        }
      }

      try {
        for (const each of routes) put(each)
        compare()
        phase(2 * routes.length, () => {
          const at = pick(routes)
          if (random() % 2 === 0) takeOut(at)
          else put({ ...at, nextHop: 1 + (random() % 0x7fff) })
        })
        phase(present.size, () => takeOut(pick([...present.values()])))
        compare()
        expect([...writer.routes()]).toEqual([])
      } finally {
        // A failed run must not fail the ones that shrink it.
        for (const left of present.values()) writer.remove(left.address, left.prefix)
        writer.quiesced()
      }
    },
  )

  test.each(Array.from({ length: SEEDS }, (_, i) => i + 1))('seed %i', seed => {
    lookups = 0
    fc.assert(property, { seed, numRuns: RUNS, examples: REGRESSIONS[family] })
    expect(lookups / names.length).toBeGreaterThan(LEAST_LOOKUPS)
  })
})

/** Addresses in the prefix, and addresses that leave it, or one of its neighbours, in one bit. */
function around(at: Prefix, random: () => number): number[][] {
  const inside = Array.from({ length: TURNS }, () =>
    clip(at.address, at.prefix).map(
      (word, w) => (word | (random() & ~wordMask(at.prefix, w))) >>> 0,
    ),
  )
  const turned = Array.from({ length: TURNS }, () => {
    const address = [...edges(at)[random() % 4]!]
    const bit = random() % (32 * address.length)
    address[bit >>> 5] = (address[bit >>> 5]! ^ (1 << (31 - (bit & 31)))) >>> 0
    return address
  })
  return [...inside, ...turned]
}

function columns(routes: readonly Route[], words: number) {
  const addresses = new Uint32Array(routes.length * words)
  for (const [i, { address }] of routes.entries()) addresses.set(address, i * words)
  return {
    count: routes.length,
    addresses,
    lengths: routes.map(({ prefix }) => prefix),
    nextHops: routes.map(({ nextHop }) => nextHop),
  }
}

function hex(address: ArrayLike<number>): string {
  return Array.from(address, word => word.toString(16)).join(':')
}
