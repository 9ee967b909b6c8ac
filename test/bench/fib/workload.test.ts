import { describe, expect, test } from 'vitest'
import { prefixOf, wordsOf } from '../../../bench/data/routes.ts'
import { oracleOf, traces } from '../../../bench/fib/traces.ts'
import {
  addressesIn,
  addressesZipf,
  bruteForce,
  randomTable,
  sampleOf,
} from '../../../bench/fib/workload.ts'

describe.each([4, 6] as const)('IPv%d', family => {
  const table = randomTable(family, 500)
  const words = wordsOf(family)

  test('the oracle answers as the whole table, read route by route', () => {
    const oracle = oracleOf(table)
    for (const { addresses, answers, n } of traces(table, 300)) {
      for (let i = 0; i < n; i++) {
        const address = addresses.subarray(i * words, (i + 1) * words)
        expect(answers[i]).toBe(bruteForce(table, address))
        expect(oracle.lookup(addresses, i * words)).toBe(answers[i])
      }
    }
  })

  test('addresses in the table have a route, and are the same in every run', () => {
    for (const make of [addressesIn, addressesZipf]) {
      const addresses = make(table, 1000)
      expect(make(table, 1000)).toEqual(addresses)
      for (let i = 0; i < 1000; i++) {
        expect(bruteForce(table, addresses.subarray(i * words, (i + 1) * words))).not.toBe(0)
      }
    }
  })

  test('a sample has so many different routes of the table, in its order', () => {
    const sample = sampleOf(table, 100)
    const keys = (of: typeof table) =>
      Array.from({ length: of.count }, (_, i) => `${prefixOf(of, i)}/${of.lengths[i]}`)
    const all = keys(table)
    const places = keys(sample).map(key => all.indexOf(key))
    expect(places).toEqual(places.toSorted((a, b) => a - b))
    expect(new Set(places).size).toBe(100)
    expect(places[0]).toBeGreaterThanOrEqual(0)
    // Not the first hundred.
    expect(places.at(-1)).toBeGreaterThan(400)
    for (const [i, place] of places.entries()) {
      expect(sample.nextHops[i]).toBe(table.nextHops[place])
    }
  })
})

test('Zipf: the most frequent route of n has a share of 1 / (1 + 1/2 + ... + 1/n)', () => {
  const table = randomTable(4, 64)
  const n = 50_000
  const counts = new Map<number, number>()
  // Every prefix is a /16 or longer, so few lie in each other.
  for (const address of addressesZipf(table, n)) {
    const route = bestRoute(address)
    counts.set(route, (counts.get(route) ?? 0) + 1)
  }
  function bestRoute(address: number): number {
    let best = -1
    for (let i = 0; i < table.count; i++) {
      const shift = 32 - table.lengths[i]!
      if (((address ^ table.addresses[i]!) >>> shift) % 2 ** 32 !== 0) continue
      if (best < 0 || table.lengths[i]! > table.lengths[best]!) best = i
    }
    return best
  }
  const shares = [...counts.values()].sort((a, b) => b - a).map(count => count / n)
  let harmonic = 0
  for (let k = 1; k <= 64; k++) harmonic += 1 / k
  expect(shares[0]).toBeCloseTo(1 / harmonic, 2)
  expect(shares[1]).toBeCloseTo(1 / 2 / harmonic, 2)
  expect(shares[9]).toBeCloseTo(1 / 10 / harmonic, 2)
})
