/** What every FIB promises (dataplane/fib/fib.ts), held against the linear one; that one against Maps. */
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { type FibRoute, MAX_NEXT_HOP_ID } from '../../../dataplane/fib/fib.ts'
import { mapOracle } from '../../../dataplane/fib/map-oracle.ts'
import { MAX_ROUTES } from '../../../dataplane/fib/route.ts'
import {
  ALL,
  anyAddress,
  anyNextHop,
  anyPrefix,
  clip,
  edges,
  lookUp,
  type Prefix,
  table,
  wordsOf,
} from './tables.ts'

interface Oracle {
  insert(address: ArrayLike<number>, prefix: number, nextHop: number): void
  remove(address: ArrayLike<number>, prefix: number): void
  lookUp(addresses: Uint32Array): Uint16Array
}

function oracleFor(name: string, family: 4 | 6, routes: number): Oracle {
  const words = wordsOf(family)
  if (name !== `linear${family}`) {
    const { writer, reader } = table(`linear${family}`, family, routes)
    return { ...writer, lookUp: addresses => lookUp(reader, addresses, words) }
  }
  const maps = mapOracle(words)
  return {
    ...maps,
    lookUp: addresses =>
      Uint16Array.from({ length: addresses.length / words }, (_, i) =>
        maps.lookup(addresses, i * words),
      ),
  }
}

const text = (address: ArrayLike<number>, prefix: number) =>
  `${Array.from(address, word => word.toString(16)).join(':')}/${prefix}`

function routesOf(routes: Iterable<FibRoute>): Map<string, number> {
  const found = new Map<string, number>()
  for (const { address, prefix, nextHop } of routes) {
    expect(found.has(text(address, prefix))).toBe(false)
    found.set(text(address, prefix), nextHop)
  }
  return found
}

describe.each(ALL)('$name', ({ name, family }) => {
  const words = wordsOf(family)
  const bits = 32 * words
  const zero = new Array<number>(words).fill(0)
  const ones = new Array<number>(words).fill(0xffff_ffff)
  const one = (reader: ReturnType<typeof table>['reader'], address: readonly number[]) =>
    lookUp(reader, Uint32Array.from(address), words)[0]

  test('an empty one knows no route', () => {
    const { writer, reader } = table(name, family, 4)
    expect(writer.size).toBe(0)
    expect([...writer.routes()]).toEqual([])
    expect([zero, ones].map(address => one(reader, address))).toEqual([0, 0])
    reader.lookup(new Uint32Array(0), 0, new Uint16Array(0))
  })

  test('the longest prefix decides, and what is below shows through again', () => {
    const { writer, reader } = table(name, family, bits + 1)
    for (let prefix = 0; prefix <= bits; prefix++)
      writer.insert(clip(ones, prefix), prefix, prefix + 1)
    expect(writer.size).toBe(bits + 1)
    // The address that leaves all-ones behind `prefix` bits.
    const leaving = (prefix: number) => {
      const address = [...ones]
      address[prefix >>> 5] = (address[prefix >>> 5]! ^ (1 << (31 - (prefix & 31)))) >>> 0
      return address
    }
    for (let prefix = 0; prefix < bits; prefix++)
      expect(one(reader, leaving(prefix))).toBe(prefix + 1)
    for (let prefix = bits; prefix >= 0; prefix--) {
      expect(one(reader, ones)).toBe(prefix + 1)
      expect(writer.remove(clip(ones, prefix), prefix)).toBe(true)
      expect(writer.remove(clip(ones, prefix), prefix)).toBe(false)
    }
    expect(writer.size).toBe(0)
    expect(one(reader, ones)).toBe(0)
  })

  test('any changes, any order, down to empty', () => {
    const limit = 64
    // One table for all runs: each run must leave it empty, and a leak would fill it.
    const { writer, reader } = table(name, family, limit)
    const oracle = oracleFor(name, family, limit)
    const insert = fc.record({
      what: fc.constant('insert'),
      at: anyPrefix(family),
      nextHop: anyNextHop,
    })
    const remove = fc.record({
      what: fc.constant('remove'),
      at: anyPrefix(family),
      nextHop: fc.nat(),
    })
    const again = fc.record({
      what: fc.constant('again'),
      at: anyPrefix(family),
      nextHop: anyNextHop,
    })
    const change = fc.oneof(
      { weight: 6, arbitrary: insert },
      { weight: 2, arbitrary: remove },
      { weight: 2, arbitrary: again },
    )
    const property = fc.property(
      fc.array(change, { maxLength: limit, size: 'max' }),
      fc.array(anyAddress(family), { minLength: 8, maxLength: 8 }),
      fc.infiniteStream(fc.nat()),
      (changes, strangers, dice) => {
        const routes = new Map<string, Prefix & { nextHop: number }>()
        const roll = (sides: number) => (dice.next().value as number) % sides
        const probes = Uint32Array.from(
          [...strangers, ...changes.flatMap(({ at }) => edges(at))].flat(),
        )
        const compare = () => {
          const expected = oracle.lookUp(probes)
          expect(lookUp(reader, probes, words)).toEqual(expected)
        }
        const takeOut = ({ address, prefix }: Prefix) => {
          expect(writer.remove(address, prefix)).toBe(routes.delete(text(address, prefix)))
          oracle.remove(address, prefix)
        }
        for (const { what, at, nextHop } of changes) {
          const known = [...routes.values()]
          if (what === 'remove') {
            takeOut(known.length > 0 && roll(4) > 0 ? known[roll(known.length)]! : at)
          } else {
            const { address, prefix } =
              what === 'again' && known.length > 0 ? known[roll(known.length)]! : at
            writer.insert(address, prefix, nextHop)
            oracle.insert(address, prefix, nextHop)
            routes.set(text(address, prefix), { address, prefix, nextHop })
          }
          if (roll(8) === 0) writer.quiesced()
          expect(writer.size).toBe(routes.size)
          compare()
        }
        const expected = new Map([...routes].map(([key, { nextHop }]) => [key, nextHop]))
        expect(routesOf(writer.routes())).toEqual(expected)
        while (routes.size > 0) {
          takeOut([...routes.values()][roll(routes.size)]!)
          compare()
        }
        expect(writer.size).toBe(0)
        expect(lookUp(reader, probes, words).every(nextHop => nextHop === 0)).toBe(true)
        writer.quiesced()
      },
    )
    fc.assert(property, { numRuns: name.startsWith('linear') ? 12 : 24 })
    expect([...writer.routes()]).toEqual([])
  })

  test('a full table refuses one more route and changes nothing', () => {
    const routes = fc.uniqueArray(anyPrefix(family), {
      minLength: 9,
      maxLength: 9,
      selector: ({ address, prefix }) => text(address, prefix),
    })
    const { writer, reader } = table(name, family, 8)
    const property = fc.property(routes, prefixes => {
      const last = prefixes.pop()!
      for (const [i, { address, prefix }] of prefixes.entries())
        writer.insert(address, prefix, i + 1)
      const probes = Uint32Array.from([...prefixes, last].flatMap(edges).flat())
      const before = lookUp(reader, probes, words)
      const insert = () => writer.insert(last.address, last.prefix, 100)
      expect(insert).toThrow(RangeError)
      expect(insert).toThrow('has its 8 routes')
      expect(writer.size).toBe(8)
      expect(lookUp(reader, probes, words)).toEqual(before)
      // Another next hop needs no room; a route less makes room.
      writer.insert(prefixes[0]!.address, prefixes[0]!.prefix, 77)
      expect(writer.size).toBe(8)
      expect(writer.remove(prefixes[0]!.address, prefixes[0]!.prefix)).toBe(true)
      insert()
      expect(writer.size).toBe(8)
      expect(one(reader, last.address)).toBeGreaterThan(0)
      for (const { address, prefix } of [...prefixes.slice(1), last]) {
        expect(writer.remove(address, prefix)).toBe(true)
      }
      writer.quiesced()
    })
    fc.assert(property, { numRuns: 32 })
  })

  test('any `routes` routes fit, and as many again before the first quiescence', () => {
    const limit = 24
    const sets = fc.uniqueArray(anyPrefix(family), {
      minLength: 2 * limit,
      maxLength: 2 * limit,
      selector: ({ address, prefix }) => text(address, prefix),
    })
    const { writer, reader } = table(name, family, limit)
    const property = fc.property(sets, prefixes => {
      const first = prefixes.slice(0, limit)
      const second = prefixes.slice(limit)
      for (const { address, prefix } of first) writer.insert(address, prefix, 1)
      for (const { address, prefix } of first) writer.remove(address, prefix)
      for (const { address, prefix } of second) writer.insert(address, prefix, 2)
      const probes = Uint32Array.from(second.flatMap(({ address }) => address))
      expect(lookUp(reader, probes, words).every(nextHop => nextHop === 2)).toBe(true)
      for (const { address, prefix } of second) writer.remove(address, prefix)
      writer.quiesced()
    })
    fc.assert(property, { numRuns: 32 })
  })

  test('arguments out of range', () => {
    const { writer, reader } = table(name, family, 4)
    writer.insert(zero, 0, 1)
    const host = [...ones]
    const bad: [string, ArrayLike<number>, number, number, RegExp][] = [
      ['next hop 0', host, bits, 0, /next hop 0 is not in 1\.\.32767/],
      ['next hop above the last', host, bits, MAX_NEXT_HOP_ID + 1, /MAX_NEXT_HOP_ID/],
      ['next hop with a fraction', host, bits, 1.5, /next hop 1\.5/],
      ['next hop not a number', host, bits, Number.NaN, /next hop NaN/],
      ['negative prefix', zero, -1, 1, /prefix length -1/],
      [
        'prefix too long',
        host,
        bits + 1,
        1,
        new RegExp(`${bits + 1} of .* is not in 0\\.\\.${bits}`),
      ],
      ['prefix with a fraction', zero, 0.5, 1, /prefix length 0\.5/],
      ['bits behind the prefix', host, bits - 1, 1, /bits behind the prefix are set/],
      ['bits behind /0', [...zero.slice(1), 1], 0, 1, /bits behind the prefix are set/],
      ['too few words', zero.slice(1), 0, 1, /words/],
      ['too many words', [...zero, 0], 0, 1, /words/],
      ['a negative word', [...zero.slice(1), -1], bits, 1, /address word -1/],
      ['a word of 33 bits', [...zero.slice(1), 2 ** 32], bits, 1, /address word 4294967296/],
    ]
    for (const [what, address, prefix, nextHop, message] of bad) {
      const insert = () => writer.insert(address, prefix, nextHop)
      expect(insert, what).toThrow(RangeError)
      expect(insert, what).toThrow(message)
      if (!what.startsWith('next hop')) {
        expect(() => writer.remove(address, prefix), what).toThrow(RangeError)
      }
    }
    expect([...writer.routes()].length).toBe(1)
    expect([zero, ones].map(address => one(reader, address))).toEqual([1, 1])
    writer.insert(host, bits, MAX_NEXT_HOP_ID)
    expect(one(reader, host)).toBe(MAX_NEXT_HOP_ID)
  })

  test('limits out of range', () => {
    const { fib } = table(name, family, 1)
    for (const routes of [0, -1, 1.5, Number.NaN, MAX_ROUTES + 1]) {
      expect(() => fib.bytes({ routes }), String(routes)).toThrow(/MAX_ROUTES/)
    }
    expect(fib.bytes({ routes: 1 })).toBeLessThanOrEqual(fib.bytes({ routes: 2 }))
  })

  test('stays inside its memory', () => {
    const limits = { routes: 2 }
    const { fib } = table(name, family, 2)
    const bytes = fib.bytes(limits)
    const whole = new Uint8Array(new SharedArrayBuffer(bytes + 2 * 4096))
    whole.fill(0xa5, 0, 4096)
    whole.fill(0xa5, 4096 + bytes)
    const writer = fib.writer(whole.subarray(4096, 4096 + bytes), limits)
    for (let round = 0; round < 4; round++) {
      writer.insert(ones, bits, 3)
      writer.insert(zero, bits, 4)
      expect(() => writer.insert(clip(ones, bits - 1), bits - 1, 5)).toThrow(RangeError)
      writer.remove(ones, bits)
      writer.remove(zero, bits)
      writer.quiesced()
    }
    for (const part of [whole.subarray(0, 4096), whole.subarray(4096 + bytes)]) {
      expect(part.every(byte => byte === 0xa5)).toBe(true)
    }
  })
})
