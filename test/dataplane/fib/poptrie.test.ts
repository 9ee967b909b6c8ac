/** What only the poptries have: skips, tables behind the direct one, memory that ends, the native twins. */
import { describe, expect, test } from 'vitest'
import { addressesAnywhere, addressesIn, randomTable } from '../../../bench/fib/workload.ts'
import { seeded } from '../../../dataplane/fib/columns.ts'
import { fibByName } from '../../../dataplane/fib/index.ts'
import { RECYCLE_UNITS } from '../../../dataplane/fib/poptrie/blocks.ts'
import { bitsAt, ones, rank, unitsFor } from '../../../dataplane/fib/poptrie/layout.ts'
import { VERSION } from '../../../dataplane/fib/version.ts'
import { native } from '../../../native/native.ts'
import { clip, lookUp, table, wordsOf } from './tables.ts'

const LOOKUPS = 500_000

test('bytes of a region', () => {
  const bytes = (family: 4 | 6, routes: number) =>
    fibByName(`poptrie${family}`, family).bytes({ routes })
  const tail = 4 * 68
  const spare = 3 * 2 ** 16
  for (const R of [1, 1000, 16_384, 1_000_000]) {
    const blocks4 = Math.min(160 * R, 2 ** 22 + 8 * R)
    const blocks6 = Math.min(256 * R, 2 ** 22 + 32 * R) + 1024 * Math.min(R, 8192)
    expect(bytes(4, R)).toBe(64 + 4 * 2 ** 18 + tail + spare + blocks4)
    expect(bytes(6, R)).toBe(64 + 4 * 2 ** 16 + tail + spare + blocks6)
  }
})

test('counting bits', () => {
  const random = seeded(7)
  const slowly = (word: number) => [...(word >>> 0).toString(2)].filter(bit => bit === '1').length
  expect([ones(0, 0), ones(-1, -1), ones(1 << 31, 1)]).toEqual([0, 64, 2])
  for (let i = 0; i < 100; i++) {
    const map = Int32Array.of(random(), random())
    expect(ones(map[0]!, map[1]!)).toBe(slowly(map[0]!) + slowly(map[1]!))
    let set = 0
    const ranks = Array.from({ length: 64 }, (_, cell) => {
      set += (map[cell >>> 5]! >>> cell) & 1
      return set
    })
    expect(ranks.map((_, cell) => rank(map, 0, cell))).toEqual(ranks)
  }
})

test('bits of an address, across its words and behind its end', () => {
  const address = [9, 0x0123_4567, 0x89ab_cdef]
  expect(bitsAt(address, 1, 2, 0, 32)).toBe(0x0123_4567)
  expect(bitsAt(address, 1, 2, 28, 8)).toBe(0x78)
  expect(bitsAt(address, 1, 2, 32, 30)).toBe(0x89ab_cdef >>> 2)
  expect(bitsAt(address, 1, 2, 60, 6)).toBe(0xf << 2)
  expect(bitsAt(address, 1, 1, 30, 6)).toBe(0b11 << 4)
})

describe.each([
  { family: 4, place: [0x0a00_0000], longest: 28 },
  { family: 6, place: [0x2001_0d00, 0, 0, 0], longest: 36 },
] as const)('nodes of poptrie$family', ({ family, place, longest }) => {
  const words = wordsOf(family)
  /** Depth of a node; there are others six and twelve bits further, of the last one only the first bits count here. */
  const depth = family === 4 ? 18 : 24
  const bits = longest - depth

  /** The address with these `bits` bits behind `depth`. */
  function address(value: number): number[] {
    const at = [...place, 0] as number[]
    const shift = 32 - longest
    at[0] = (at[0]! | (shift >= 0 ? value << shift : value >>> -shift)) >>> 0
    if (shift < 0) at[1] = (value << (32 + shift)) >>> 0
    return at.slice(0, words)
  }

  test('one route and one way on, wherever they are', () => {
    const { writer, reader } = table(`poptrie${family}`, family, 3)
    const probes = new Uint32Array(64 * words)
    for (let cell = 0; cell < 64; cell++) probes.set(address(cell << (bits - 6)), cell * words)
    const wrong: string[] = []
    for (let number = 2; number < 128; number++) {
      const length = 31 - Math.clz32(number)
      const first = (number << (6 - length)) & 63
      writer.insert(address(first << (bits - 6)), depth + length, 1)
      for (let way = 0; way < 64; way++) {
        writer.insert(address(way << (bits - 6)), longest, 2)
        for (const [cell, nextHop] of lookUp(reader, probes, words).entries()) {
          const covered = cell >= first && cell < first + (64 >>> length)
          if (nextHop !== (cell === way ? 2 : covered ? 1 : 0))
            wrong.push(`${number} ${way} ${cell}`)
        }
        writer.remove(address(way << (bits - 6)), longest)
      }
      writer.remove(address(first << (bits - 6)), depth + length)
    }
    expect(wrong).toEqual([])
  })

  test('every cell of every node, after any changes', () => {
    const random = seeded(family)
    const of = table(`poptrie${family}`, family, 4000)
    const oracle = table(`linear${family}`, family, 4000)
    const probes = new Uint32Array((1 << bits) * words)
    for (let value = 0; value < 1 << bits; value++) probes.set(address(value), value * words)
    const known: { at: number[]; prefix: number }[] = []
    for (let change = 1; change <= 1500; change++) {
      const leave =
        random() % 3 === 0 ? known.splice(random() % (known.length + 1), 1)[0] : undefined
      if (leave !== undefined) {
        for (const { writer } of [of, oracle]) writer.remove(leave.at, leave.prefix)
      } else {
        const prefix = depth + 1 + (random() % bits)
        const at = clip(address(random() % (1 << bits)), prefix)
        const nextHop = 1 + (random() % 1000)
        for (const { writer } of [of, oracle]) writer.insert(at, prefix, nextHop)
        known.push({ at, prefix })
      }
      if (change % 100 !== 0) continue
      const right = lookUp(oracle.reader, probes, words)
      const found = lookUp(of.reader, probes, words)
      expect(found.findIndex((nextHop, i) => nextHop !== right[i])).toBe(-1)
    }
  })
})

describe('IPv6 ways', () => {
  const near = [0xfd44_0000, 0x0000_0001, 0, 2]

  test('two hosts that part at any bit, each with and without the other', () => {
    const { writer, reader } = table('poptrie6', 6, 2)
    for (let bit = 0; bit < 128; bit++) {
      const far = [...near]
      far[bit >>> 5] = (far[bit >>> 5]! ^ (1 << (31 - (bit & 31)))) >>> 0
      const probes = Uint32Array.from([...near, ...far])
      writer.insert(near, 128, 1)
      expect([...lookUp(reader, probes, 4)]).toEqual([1, 0])
      writer.insert(far, 128, 2)
      expect([...lookUp(reader, probes, 4)]).toEqual([1, 2])
      writer.remove(near, 128)
      expect([...lookUp(reader, probes, 4)]).toEqual([0, 2])
      writer.remove(far, 128)
      expect([...lookUp(reader, probes, 4)]).toEqual([0, 0])
    }
  })

  test('who leaves a skip takes what is above it, whatever that becomes', () => {
    const { writer, reader } = table('poptrie6', 6, 8)
    const outside = [near[0]!, near[1]!, 0x8000_0000, 0]
    const probes = Uint32Array.from([...near, ...outside])
    const found = () => [...lookUp(reader, probes, 4)]
    writer.insert(near, 128, 1)
    for (const [i, prefix] of [0, 3, 16, 17, 24, 25, 48, 64].entries()) {
      const above = clip(near, prefix)
      writer.insert(above, prefix, 10 + i)
      expect(found()).toEqual([1, 10 + i])
      writer.insert(above, prefix, 20 + i)
      expect(found()).toEqual([1, 20 + i])
      expect(writer.remove(above, prefix)).toBe(true)
      expect(found()).toEqual([1, 0])
    }
  })
})

describe.each([4, 6] as const)('memory of poptrie%i', family => {
  const words = wordsOf(family)
  const bits = 32 * words
  const host = (i: number) => {
    const address = new Array<number>(words).fill(0)
    // Each below a slot of the direct table of its own, as far as there are.
    address[0] = family === 4 ? Math.imul(i, 1 << 13) >>> 0 : Math.imul(i, 1 << 8) >>> 0
    address[words - 1]! |= 1
    return address
  }

  test('a table changes for ever without quiesced, and says so to its readers', () => {
    const { writer, reader, memory } = table(`poptrie${family}`, family, 2)
    const version = () => new Int32Array(memory.buffer, memory.byteOffset)[VERSION]!
    const before = version()
    const rounds = unitsFor(family, { routes: 2 })
    for (let i = 1; i < rounds; i++) {
      writer.insert(host(1), bits, 1 + (i % 7))
      expect(writer.remove(host(1), bits)).toBe(true)
    }
    writer.insert(host(1), bits, 9)
    expect(lookUp(reader, Uint32Array.from(host(1)), words)[0]).toBe(9)
    // Each round leaves a block or more behind.
    expect(version() - before).toBeGreaterThanOrEqual(Math.floor(rounds / RECYCLE_UNITS) - 1)
    expect(version() - before).toBeLessThan(rounds / 10)
  })

  test('hosts spread evenly fill it before `routes`: an error, no change, and room again', () => {
    const routes = 200_000
    const { writer, reader } = table(`poptrie${family}`, family, routes)
    let taken = 0
    const fill = () => {
      for (; taken < routes; taken++) writer.insert(host(taken), bits, 1 + (taken % 100))
    }
    expect(fill).toThrow(RangeError)
    expect(fill).toThrow(`the memory for ${routes} routes is taken by ${taken} of this shape`)
    expect(writer.size).toBe(taken)
    expect(taken).toBeGreaterThan(4000)
    const probes = new Uint32Array((taken + 1) * words)
    for (let i = 0; i <= taken; i++) probes.set(host(i), i * words)
    const right = Uint16Array.from({ length: taken + 1 }, (_, i) => (i < taken ? 1 + (i % 100) : 0))
    expect(lookUp(reader, probes, words)).toEqual(right)
    // A full one can be changed and emptied.
    writer.insert(host(0), bits, 500)
    expect(lookUp(reader, probes.subarray(0, words), words)[0]).toBe(500)
    for (let i = 0; i < taken; i++) {
      if (!writer.remove(host(i), bits)) throw new Error(`route ${i} is not there`)
    }
    expect(writer.size).toBe(0)
    expect(lookUp(reader, probes, words).every(nextHop => nextHop === 0)).toBe(true)
    const before = taken
    taken = 0
    expect(fill).toThrow(RangeError)
    expect(taken).toBeGreaterThan(0.9 * before)
  })
})

describe.each([4, 6] as const)('poptrie%i_native', family => {
  const words = wordsOf(family)
  const scalar = family === 4 ? native.lookupPoptrie4Scalar : native.lookupPoptrie6Scalar

  /** Batches of all sizes up to 300, so that each way through the native code is taken. */
  function compare(of: ReturnType<typeof table>, probes: Uint32Array): void {
    const twin = fibByName(`poptrie${family}_native`, family).reader(of.memory, { routes: 1 })
    const handle = native.openTable(of.memory)
    const expected = lookUp(of.reader, probes, words)
    const total = expected.length
    const found = [new Uint16Array(total), new Uint16Array(total)] as const
    for (let from = 0, n = 1; from < total; from += n, n = 1 + ((n + 37) % 300)) {
      const batch = Math.min(n, total - from)
      const keys = probes.subarray(from * words, (from + batch) * words)
      twin.lookup(keys, batch, found[0].subarray(from))
      scalar(handle, keys, batch, found[1].subarray(from))
    }
    for (const answers of found) {
      expect(answers.findIndex((nextHop, i) => nextHop !== expected[i])).toBe(-1)
    }
  }

  test('a million addresses: the same as in TypeScript, while the table changes', () => {
    const size = 20_000
    const routes = randomTable(family, size)
    const of = table(`poptrie${family}`, family, size + 1)
    const address = (i: number) => routes.addresses.subarray(i * words, (i + 1) * words)
    const inside = addressesIn(routes, LOOKUPS)
    const anywhere = addressesAnywhere(family, LOOKUPS)
    const parts = 10
    for (let part = 0; part < parts; part++) {
      for (let i = part; i < size; i += parts) {
        of.writer.insert(address(i), routes.lengths[i]!, routes.nextHops[i]!)
        if (i % 3 === 0) of.writer.remove(address(i), routes.lengths[i]!)
      }
      if (part === parts / 2) of.writer.insert(new Array<number>(words).fill(0), 0, 0x7fff)
      const from = (part * LOOKUPS * words) / parts
      const until = ((part + 1) * LOOKUPS * words) / parts
      compare(of, inside.subarray(from, until))
      compare(of, anywhere.subarray(from, until))
    }
  })

  test('a region that is too short, or no addresses, change nothing', () => {
    const answers = Uint16Array.of(7)
    const short = native.openTable(new Uint8Array(new SharedArrayBuffer(4096)))
    scalar(short, new Uint32Array(words), 1, answers)
    const { memory } = table(`poptrie${family}`, family, 1)
    scalar(native.openTable(memory), new Uint32Array(words), 0, answers)
    expect([...answers]).toEqual([7])
  })
})
