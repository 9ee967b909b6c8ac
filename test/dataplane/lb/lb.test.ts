/** What every balancer promises (dataplane/lb/lb.ts), held against the naive ones (dataplane/lb/oracles.ts). */
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { lbByName, lbNames } from '../../../dataplane/lb/index.ts'
import { type Backend, MAX_BACKEND_ID, MAX_BACKENDS, MAX_WEIGHT } from '../../../dataplane/lb/lb.ts'
import { placesFor } from '../../../dataplane/lb/maglev.ts'
import { ORACLES } from '../../../dataplane/lb/oracles.ts'
import { backendsOf, balancer, chooseAll, hashesOf, tally } from './balancers.ts'

const ones = (n: number) => new Array<number>(n).fill(1)
const FLOWS = 100_000

/** Deviation of a backend's share from its weight's, at the most, in parts of the latter. */
function unevenness(backends: readonly Backend[], chosen: Uint16Array): number {
  const counts = tally(chosen)
  const total = backends.reduce((sum, { weight }) => sum + weight, 0)
  return Math.max(
    ...backends.map(({ id, weight }) => {
      const right = (chosen.length * weight) / total
      return Math.abs((counts.get(id) ?? 0) - right) / right
    }),
  )
}

/** Of the flows of backends that are in both sets, the part that changed. */
function moved(before: Uint16Array, after: Uint16Array, gone: ReadonlySet<number>): number {
  let stayed = 0
  let changed = 0
  for (const [i, id] of before.entries()) {
    if (gone.has(id)) continue
    stayed++
    if (after[i] !== id) changed++
  }
  return changed / stayed
}

describe.each(lbNames())('%s', name => {
  test('without backends nobody gets a flow', () => {
    const { writer, reader } = balancer(name, { backends: 4 })
    expect(writer.size).toBe(0)
    expect(new Set(chooseAll(reader, hashesOf(300)))).toEqual(new Set([0]))
    writer.set([{ id: 7, weight: 3 }])
    expect(new Set(chooseAll(reader, hashesOf(300)))).toEqual(new Set([7]))
    writer.set([])
    expect(new Set(chooseAll(reader, hashesOf(300)))).toEqual(new Set([0]))
    reader.choose(new Uint32Array(0), 0, new Uint16Array(0))
  })

  test('any backends, one set after another, as the naive one', () => {
    const backend = fc.record({
      id: fc.oneof(fc.integer({ min: 1, max: 20 }), fc.integer({ min: 1, max: MAX_BACKEND_ID })),
      weight: fc.oneof(fc.constant(1), fc.integer({ min: 1, max: MAX_WEIGHT })),
    })
    const set = fc.uniqueArray(backend, { maxLength: 12, selector: ({ id }) => id })
    const limits = { backends: 12 }
    fc.assert(
      fc.property(fc.array(set, { minLength: 1, maxLength: 4 }), fc.integer(), (sets, seed) => {
        const { writer, reader } = balancer(name, limits)
        const loads = new Map<number, number>()
        const hashes = hashesOf(300, seed)
        hashes.set([0, 1, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff])
        for (const backends of sets) {
          writer.set(backends)
          const sorted = [...backends].sort((a, b) => a.id - b.id)
          expect([...writer.backends()]).toEqual(sorted)
          expect(writer.size).toBe(backends.length)
          const oracle = ORACLES[name]!(backends, placesFor(limits), loads)
          const chosen = chooseAll(reader, hashes)
          expect([...chosen]).toEqual([...hashes].map(hash => oracle.choose(hash)))
          const ends = chosen.slice(0, 100)
          reader.release(ends, 100)
          for (const id of ends) oracle.release(id)
        }
      }),
      { numRuns: 60 },
    )
  })

  test('the order of backends, and what was there before, mean nothing', () => {
    const backends = backendsOf([1, 5, 2, 9, 3, 3])
    const one = balancer(name, { backends: 6 })
    one.writer.set(backends)
    const other = balancer(name, { backends: 6 })
    other.writer.set(backendsOf(ones(3)))
    other.writer.set([...backends].reverse())
    const hashes = hashesOf(2000)
    expect(chooseAll(other.reader, hashes)).toEqual(chooseAll(one.reader, hashes))
  })

  // Binomial noise alone is sqrt((n - 1) / FLOWS) of a share: 0.4 %, 3.1 %, 10 %; the worst of n.
  test.each([
    [3, 0.02],
    [100, 0.13],
    [1000, 0.45],
  ])('%i equal backends get equal shares, to within %f', (n, bound) => {
    const { writer, reader } = balancer(name, { backends: n })
    const backends = backendsOf(ones(n))
    writer.set(backends)
    expect(unevenness(backends, chooseAll(reader, hashesOf(FLOWS)))).toBeLessThan(bound)
  })

  test('weights are shares, to within 10 %', () => {
    const backends = backendsOf([1, 2, 4, 8, 16, 1, 64, 100, 3])
    const { writer, reader } = balancer(name, { backends: 20 })
    writer.set(backends)
    expect(unevenness(backends, chooseAll(reader, hashesOf(FLOWS)))).toBeLessThan(0.1)
  })

  test('errors name the backend, and change nothing', () => {
    const { writer, reader } = balancer(name, { backends: 3 })
    const good = backendsOf([1, 2, 3])
    writer.set(good)
    const hashes = hashesOf(500)
    const { release } = reader
    const before = chooseAll(reader, hashes)
    release(before, 500)
    const bad: [Backend[], string][] = [
      [[{ id: 0, weight: 1 }], 'backend 0: its id is not in 1..65535 (MAX_BACKEND_ID)'],
      [[{ id: 65_536, weight: 1 }], 'backend 65536: its id'],
      [[{ id: 1.5, weight: 1 }], 'backend 1.5: its id'],
      [[{ id: 5, weight: 0 }], 'backend 5: its weight 0 is not in 1..256 (MAX_WEIGHT)'],
      [[{ id: 5, weight: 257 }], 'backend 5: its weight 257'],
      [[{ id: 5, weight: Number.NaN }], 'backend 5: its weight NaN'],
      [
        [
          { id: 9, weight: 1 },
          { id: 8, weight: 1 },
          { id: 9, weight: 2 },
        ],
        'backend 9: it is there twice',
      ],
      [[...good, { id: 77, weight: 1 }], 'no room for backend 77: the balancer has its 3 backends'],
    ]
    for (const [backends, message] of bad) {
      expect(() => writer.set(backends)).toThrow(RangeError)
      expect(() => writer.set(backends)).toThrow(message)
    }
    expect(writer.size).toBe(3)
    expect(chooseAll(reader, hashes)).toEqual(before)
    for (const backends of [0, 1.5, MAX_BACKENDS + 1]) {
      expect(() => lbByName(name).bytes({ backends })).toThrow('MAX_BACKENDS')
      expect(() => lbByName(name).writer(new Uint8Array(64), { backends })).toThrow(RangeError)
    }
  })
})

describe('what a change moves', () => {
  const n = 100
  const backends = backendsOf(ones(n))
  const gone = backends[41]!.id
  const fewer = backends.filter(({ id }) => id !== gone)
  const hashes = hashesOf(FLOWS)

  function change(name: string) {
    const { writer, reader } = balancer(name, { backends: n })
    writer.set(backends)
    const before = chooseAll(reader, hashes)
    writer.set(fewer)
    const after = chooseAll(reader, hashes)
    writer.set(backends)
    return { before, after, again: chooseAll(reader, hashes) }
  }

  test('rendezvous: the flows of the backend that goes, and no other', () => {
    const { before, after, again } = change('rendezvous')
    expect(moved(before, after, new Set([gone]))).toBe(0)
    expect(again).toEqual(before)
    expect(tally(after).has(gone)).toBe(false)
  })

  test('maglev: of the others less than 3 %, and all come back', () => {
    const { before, after, again } = change('maglev')
    expect(moved(before, after, new Set([gone]))).toBeLessThan(0.03)
    expect(again).toEqual(before)
    expect(tally(after).has(gone)).toBe(false)
  })

  test('rendezvous with weights: a backend that grows takes, and nobody else gains', () => {
    const { writer, reader } = balancer('rendezvous', { backends: n })
    const weighted = backendsOf(Array.from({ length: 30 }, (_, i) => 1 + (i % 7)))
    writer.set(weighted)
    const before = chooseAll(reader, hashes)
    const grown = weighted[11]!.id
    writer.set(weighted.map(each => (each.id === grown ? { id: grown, weight: 50 } : each)))
    const after = chooseAll(reader, hashes)
    for (const [i, id] of after.entries()) if (id !== before[i]) expect(id).toBe(grown)
    expect(tally(after).get(grown)).toBeGreaterThan(tally(before).get(grown)!)
  })
})

describe('leastloaded', () => {
  test('the most loaded backend has few flows more than the average', () => {
    const n = 200
    const { writer, reader } = balancer('leastloaded', { backends: n })
    writer.set(backendsOf(ones(n)))
    const counts = [...tally(chooseAll(reader, hashesOf(100 * n))).values()]
    expect(counts.length).toBe(n)
    expect(Math.max(...counts)).toBeLessThan(100 + 8)
    // One choice, for comparison: the most of 200 draws lies some 25 above the average.
    const random = balancer('rendezvous', { backends: n })
    random.writer.set(backendsOf(ones(n)))
    const alone = [...tally(chooseAll(random.reader, hashesOf(100 * n))).values()]
    expect(Math.max(...alone)).toBeGreaterThan(100 + 12)
  })

  test('counts what it chose, whoever asks, and takes ends back', () => {
    const { memory, writer, reader } = balancer('leastloaded', { backends: 5 })
    const backends = backendsOf([1, 1, 2, 2, 4])
    writer.set(backends)
    const other = lbByName('leastloaded').reader(memory, { backends: 5 })
    const chosen = chooseAll(reader, hashesOf(1000))
    const loads = () => backends.map(({ id }) => other.load(id))
    expect(loads()).toEqual(backends.map(({ id }) => tally(chosen).get(id)))
    // A backend that is gone keeps the flows that it has.
    writer.set(backends.slice(1))
    expect(loads()[0]).toBe(tally(chosen).get(backends[0]!.id))
    other.release(chosen, 1000)
    expect(loads()).toEqual([0, 0, 0, 0, 0])
    // Too many ends take nothing from others.
    other.release(chosen, 1000)
    expect(loads()).toEqual([0, 0, 0, 0, 0])
    expect(other.load(0)).toBe(0)
  })

  test('new flows go where room has become', () => {
    const { writer, reader } = balancer('leastloaded', { backends: 2 })
    writer.set([
      { id: 1, weight: 1 },
      { id: 2, weight: 1 },
    ])
    const chosen = chooseAll(reader, hashesOf(400))
    const ones = chosen.filter(id => id === 1)
    reader.release(ones, ones.length)
    // With two backends both are looked at each time.
    expect(new Set(chooseAll(reader, hashesOf(150, 2)))).toEqual(new Set([1]))
  })
})

test('maglev: places are a prime, a hundred a backend', () => {
  expect([1, 10, 100, 1000].map(backends => placesFor({ backends }))).toEqual([
    1009, 1009, 10_007, 100_003,
  ])
})

test('names', () => {
  expect(lbNames()).toEqual(['maglev', 'rendezvous', 'leastloaded'])
  expect(() => lbByName('ring')).toThrow('balancer "ring": there is none')
})
