/** What only dxr has: chunks and their forms, memory for ranges that ends before the routes do, readers' lanes. */
import { describe, expect, test } from 'vitest'
import { fullTable, fullTablePath, prefixOf } from '../../../bench/data/routes.ts'
import { seeded } from '../../../dataplane/fib/columns.ts'
import { extents } from '../../../dataplane/fib/dxr/extents.ts'
import {
  BITMAP,
  CROWD,
  kindOf,
  LANES,
  LIST_MOST,
  laneAt,
  openTables,
  POSITIONS,
  WIDE,
} from '../../../dataplane/fib/dxr/tables.ts'
import type { DxrWriter } from '../../../dataplane/fib/dxr/writer.ts'
import { MAX_NEXT_HOP_ID } from '../../../dataplane/fib/fib.ts'
import { fibByName } from '../../../dataplane/fib/index.ts'
import { noData } from '../../harness/needs.ts'
import { lookUp, type Table, table } from './tables.ts'

/** 10.1.0.0/16. */
const CHUNK = 0x0a01_0000
/** Every address of the chunk, and some on both sides. */
const ALL = Uint32Array.from({ length: POSITIONS + 512 }, (_, i) => CHUNK - 256 + i)

interface Dxr extends Table {
  writer: DxrWriter
  kind(): number
}

function dxr(routes: number): Dxr {
  const made = table('dxr', 4, routes)
  const { direct } = openTables(made.memory, { routes })
  return {
    ...made,
    writer: made.writer as DxrWriter,
    kind: () => kindOf(direct[CHUNK >>> 16]!),
  }
}

/** Around everything that begins or ends in a test where linear4 has to answer too. */
const NEAR = ALL.filter(address => [0, 1, 0x33, 0x34, 0x35, 0x36, 254, 255].includes(address & 255))

const KINDS = (kind: number) => (kind === WIDE ? 'wide' : kind === BITMAP ? 'bitmap' : kind)

describe('a chunk', () => {
  const routes = 4096

  test('takes the form that its routes need, and answers every address right in each', () => {
    const fib = dxr(routes)
    const oracle = table('linear4', 4, routes)
    const known: [number, number][] = []
    const both = (address: number, prefix: number, nextHop: number) => {
      fib.writer.insert([address >>> 0], prefix, nextHop)
      oracle.writer.insert([address >>> 0], prefix, nextHop)
      known.push([address >>> 0, prefix])
    }
    const compare = (kind: ReturnType<typeof KINDS>) => {
      expect(KINDS(fib.kind())).toBe(kind)
      expect(lookUp(fib.reader, NEAR, 1)).toEqual(lookUp(oracle.reader, NEAR, 1))
    }
    both(CHUNK & 0xfffe_0000, 15, 1)
    both(CHUNK, 16, 2)
    compare(0)
    // One edge: the routes begin and end with the chunk.
    both(CHUNK, 17, 3)
    both(CHUNK | 0x8000, 17, 4)
    compare(1)
    both(CHUNK, 24, 5)
    both(CHUNK | 0xff00, 24, 6)
    compare(3)
    both(CHUNK | 0x0100, 24, 11)
    both(CHUNK | 0x2000, 24, 12)
    both(CHUNK | 0x4000, 24, 13)
    compare(LIST_MOST)
    both(CHUNK | 0x4100, 24, 255)
    compare('bitmap')
    for (let i = 0; i < 256; i++) both(CHUNK | (i << 8), 24, 1 + (i % 250))
    compare('bitmap')
    both(CHUNK | 0x7700, 24, 256)
    compare('wide')
    both(CHUNK, 32, MAX_NEXT_HOP_ID)
    both(CHUNK | 0xffff, 32, MAX_NEXT_HOP_ID)
    both(CHUNK | 0x1234, 31, 9)
    compare('wide')
    for (const [at, [address, prefix]] of known.entries()) {
      if (known.findIndex(([a, p]) => a === address && p === prefix) !== at) continue
      expect(fib.writer.remove([address], prefix)).toBe(true)
      oracle.writer.remove([address], prefix)
      if (at % 32 === 0) {
        expect(lookUp(fib.reader, NEAR, 1)).toEqual(lookUp(oracle.reader, NEAR, 1))
      }
    }
    compare(0)
    fib.writer.quiesced()
    expect(fib.writer.heapBytes).toEqual({ used: 0, waiting: 0 })
  })

  test('of host routes everywhere: every fourth address', () => {
    const fib = dxr(POSITIONS / 4)
    for (let i = 0; i < POSITIONS; i += 4) fib.writer.insert([CHUNK + i], 32, 1 + (i % 1000))
    const expected = Uint16Array.from(ALL, address => {
      const i = address - CHUNK
      return i >= 0 && i < POSITIONS && i % 4 === 0 ? 1 + (i % 1000) : 0
    })
    expect(lookUp(fib.reader, ALL, 1)).toEqual(expected)
    for (let i = 0; i < POSITIONS; i += 4) fib.writer.remove([CHUNK + i], 32)
    expect(lookUp(fib.reader, ALL, 1).every(nextHop => nextHop === 0)).toBe(true)
  })

  test('loses the edges of routes that went, after a quarter of them', () => {
    const fib = dxr(routes)
    for (let i = 0; i < 256; i++) fib.writer.insert([CHUNK | (i << 8)], 24, 1 + (i % 250))
    fib.writer.quiesced()
    const before = fib.writer.heapBytes.used
    for (let i = 0; i < 254; i++) fib.writer.remove([CHUNK | (i << 8)], 24)
    fib.writer.quiesced()
    expect(fib.writer.heapBytes.used).toBeLessThan(before / 4)
    expect(KINDS(fib.kind())).toBeLessThanOrEqual(LIST_MOST)
  })
})

describe('memory', () => {
  test('bytes of a region', () => {
    const { bytes } = fibByName('dxr', 4)
    for (const routes of [1, 1000, 35_000, 901_899, 1_000_000]) {
      const heap = 2 ** 16 + Math.min(32 * routes, 2 ** 20 + 2.5 * routes)
      expect(bytes({ routes })).toBe(397_376 + 8 * Math.ceil(heap / 8))
    }
    expect(bytes({ routes: 901_899 })).toBeLessThan(4 * 2 ** 20)
  })

  test('a full Internet table takes about 2 bytes a route, from its end to its start', context => {
    const routes = fullTable(4)
    if (routes === undefined) {
      context.skip(noData(fullTablePath))
      return
    }
    const { writer } = dxr(routes.count)
    for (let i = routes.count - 1; i >= 0; i--) {
      writer.insert(prefixOf(routes, i), routes.lengths[i]!, routes.nextHops[i]!)
    }
    expect(writer.size).toBe(routes.count)
    expect(writer.heapBytes.used / routes.count).toBeLessThan(2.2)
  })

  test('ranges that are full before the routes: refused, nothing changed', () => {
    const routes = 200_000
    const fib = dxr(routes)
    const host = (i: number) => ((i << 16) | ((i >>> 16) * 2 + 1)) >>> 0
    let i = 0
    const fill = () => {
      for (; i < routes; i++) fib.writer.insert([host(i)], 32, 300 + (i % 1000))
    }
    expect(fill).toThrow(RangeError)
    expect(fill).toThrow(
      /no room for .*\/32: the 1614112 bytes for ranges are taken, 0 of them wait/,
    )
    expect(i).toBeGreaterThan(2 * POSITIONS)
    expect(fib.writer.size).toBe(i)
    const probes = Uint32Array.from({ length: i + 1 }, (_, k) => host(k))
    const expected = probes.map((_, k) => (k < i ? 300 + (k % 1000) : 0))
    expect(Uint32Array.from(lookUp(fib.reader, probes, 1))).toEqual(expected)
    // Another next hop, a shorter route and what begins and ends where others do need no memory.
    fib.writer.insert([host(0)], 32, 7)
    fib.writer.insert([host(1) & 0xffff_0000], 16, 8)
    fib.writer.insert([0], 0, 9)
    expect([...lookUp(fib.reader, Uint32Array.of(host(0), host(1) + 1, host(i)), 1)]).toEqual([
      7, 8, 9,
    ])
    // Removals never fail, and make room.
    for (let k = 0; k < i; k++) expect(fib.writer.remove([host(k)], 32)).toBe(true)
    fib.writer.quiesced()
    expect(fib.writer.heapBytes).toEqual({ used: 0, waiting: 0 })
    fib.writer.insert([host(i)], 32, 5)
    expect([...lookUp(fib.reader, Uint32Array.of(host(i)), 1)]).toEqual([5])
  })

  test('extents never overlap, and join again', () => {
    const random = seeded(7)
    const count = 5000
    const heap = extents(count)
    const owner = new Int32Array(count)
    const taken: { at: number; granules: number }[] = []
    const release = (i: number) => {
      const { at, granules } = taken[i]!
      owner.fill(0, at, at + granules)
      heap.give(at, granules)
      taken[i] = taken.at(-1)!
      taken.pop()
    }
    let refused = 0
    for (let round = 1; round < 20_000; round++) {
      if (random() % 5 < 2 && taken.length > 0) {
        release(random() % taken.length)
        continue
      }
      const granules = 1 + (random() % (random() % 8 === 0 ? 300 : 40))
      const at = heap.take(granules)
      if (at < 0) {
        refused++
        while (taken.length > 10) release(random() % taken.length)
        continue
      }
      expect(at + granules).toBeLessThanOrEqual(count)
      expect(owner.subarray(at, at + granules).every(each => each === 0)).toBe(true)
      owner.fill(round, at, at + granules)
      taken.push({ at, granules })
      const sum = taken.reduce((all, each) => all + each.granules, 0)
      expect(heap.free).toBe(count - sum)
    }
    expect(refused).toBeGreaterThan(10)
    while (taken.length > 0) release(0)
    expect(heap.take(count)).toBe(0)
    expect(heap.take(1)).toBe(-1)
  })
})

describe('lanes', () => {
  const routes = 1
  const at = Uint32Array.of(CHUNK + 1)
  const MARK = (version: number) => (version << 1) | 1

  test('while a reader stays in a lookup, memory from since it came is kept', () => {
    const fib = dxr(routes)
    const { header, lanes } = openTables(fib.memory, { routes })
    const churn = (times: number) => {
      for (let i = 0; i < times; i++) {
        fib.writer.insert([at[0]!], 32, 1 + (i % 7))
        fib.writer.remove([at[0]!], 32)
      }
    }
    // Nobody reads: as many changes as one likes in 64 KiB, without quiesced.
    churn(20_000)
    // A reader came, and doesn't leave.
    Atomics.store(lanes, laneAt(5), MARK(header[0]!))
    expect(() => churn(20_000)).toThrow(/no room for 10\.1\.0\.1\/32: .* of them wait for quiesced/)
    expect(fib.writer.heapBytes.waiting).toBeGreaterThan(64 * 1024 - 64)
    expect([...lookUp(fib.reader, at, 1)]).toEqual([0])
    // It comes again: what was unlinked before it came is free.
    Atomics.store(lanes, laneAt(5), MARK(header[0]! + 1))
    churn(100)
    // It was stopped there; the caller knows that no reader is left from before.
    expect(() => churn(20_000)).toThrow('wait for quiesced()')
    fib.writer.quiesced()
    expect(Atomics.load(lanes, laneAt(5))).toBe(0)
    churn(20_000)
  })

  test('a reader that finds no lane is counted, and answers', () => {
    const fib = dxr(routes)
    const { header, lanes } = openTables(fib.memory, { routes })
    fib.writer.insert([CHUNK], 24, 3)
    for (let lane = 0; lane < LANES; lane++) Atomics.store(lanes, laneAt(lane), MARK(0))
    expect([...lookUp(fib.reader, at, 1)]).toEqual([3])
    expect([...lookUp(fibByName('dxr_native', 4).reader(fib.memory, { routes }), at, 1)]).toEqual([
      3,
    ])
    expect(Atomics.load(header, CROWD)).toBe(0)
    // In the crowd, nobody knows since when: nothing is free.
    for (let lane = 0; lane < LANES; lane++) Atomics.store(lanes, laneAt(lane), 0)
    Atomics.store(header, CROWD, 1)
    fib.writer.remove([CHUNK], 24)
    for (let i = 0; i < 100; i++) {
      fib.writer.insert([CHUNK], 24, 3)
      fib.writer.remove([CHUNK], 24)
    }
    expect(fib.writer.heapBytes).toEqual({ used: 0, waiting: 101 * 8 })
  })

  test('readers leave their lanes empty', () => {
    const fib = dxr(routes)
    const { lanes } = openTables(fib.memory, { routes })
    for (const name of ['dxr', 'dxr_native']) {
      const reader = fibByName(name, 4).reader(fib.memory, { routes })
      lookUp(reader, NEAR, 1)
    }
    expect(lanes.every(word => word === 0)).toBe(true)
  })
})
