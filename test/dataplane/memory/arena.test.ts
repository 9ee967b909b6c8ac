import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { DROP_SLOTS, DROPS } from '../../../dataplane/drops.ts'
import {
  FRAME_BYTES,
  LARGE_FRAME_BYTES,
  MAX_PORTS,
  MAX_WORKERS,
} from '../../../dataplane/limits.ts'
import {
  Arena,
  type ArenaLayout,
  COUNTER,
  HEADER,
  PAGE,
  PORT_COUNTER,
  planArena,
  portCounters,
  type Region,
  WORKER,
  WORKER_COUNTERS,
} from '../../../dataplane/memory/arena.ts'
import { native } from '../../../native/native.ts'
import { SMALL_PLAN, smallArena } from './plan.ts'

function regions(layout: ArenaLayout): [string, Region][] {
  return Object.entries(layout).filter(
    (entry): entry is [string, Region] => typeof entry[1] === 'object' && 'offset' in entry[1],
  )
}

describe('planArena', () => {
  test('regions lie on pages, apart from each other, inside', () => {
    const plan = fc.record({
      workers: fc.integer({ min: 1, max: MAX_WORKERS }),
      smallFrames: fc.nat(5000),
      largeFrames: fc.nat(200),
      xdpSockets: fc.nat(20),
      xdpSocketBytes: fc.nat(30).map(pages => pages * PAGE),
      fib4Bytes: fc.nat(100_000),
      fib6Bytes: fc.nat(100_000),
    })
    fc.assert(
      fc.property(plan, given => {
        const layout = planArena(given)
        const sorted = regions(layout).sort(([, a], [, b]) => a.offset - b.offset)
        expect(sorted.length).toBe(14)
        let end = 0
        for (const [name, { offset, bytes }] of sorted) {
          expect(offset % PAGE, name).toBe(0)
          expect(bytes % PAGE, name).toBe(0)
          expect(offset, name).toBeGreaterThanOrEqual(end)
          end = offset + bytes
        }
        expect(layout.total).toBeGreaterThanOrEqual(end + 8)
        expect(layout.total % PAGE).toBe(0)
        const { workers, smallFrames, largeFrames, xdpSockets, xdpSocketBytes } = given
        expect(layout.small.bytes).toBeGreaterThanOrEqual(workers * smallFrames * FRAME_BYTES)
        expect(layout.large.bytes).toBeGreaterThanOrEqual(workers * largeFrames * LARGE_FRAME_BYTES)
        expect(layout.rings.bytes).toBe(xdpSockets * xdpSocketBytes)
        expect(layout.fib4.bytes).toBeGreaterThanOrEqual(given.fib4Bytes)
        expect(layout.fib6.bytes).toBeGreaterThanOrEqual(given.fib6Bytes)
        expect(layout.counters.bytes).toBeGreaterThanOrEqual(workers * WORKER_COUNTERS * 8)
      }),
    )
  })

  test('frame offsets are never 0: that means "none"', () => {
    expect(planArena({ ...SMALL_PLAN, smallFrames: 0 }).large.offset).toBeGreaterThan(0)
    expect(planArena(SMALL_PLAN).small.offset).toBeGreaterThan(0)
  })

  test('a plan that is out of range is refused by name', () => {
    for (const workers of [0, -1, 1.5, MAX_WORKERS + 1, Number.NaN]) {
      expect(() => planArena({ ...SMALL_PLAN, workers }), `${workers}`).toThrow(
        `workers: ${workers} is not in 1..${MAX_WORKERS}`,
      )
    }
    for (const name of ['smallFrames', 'largeFrames', 'xdpSockets', 'fib4Bytes'] as const) {
      for (const value of [-1, 0.5, Number.NaN]) {
        expect(() => planArena({ ...SMALL_PLAN, [name]: value }), name).toThrow(
          `${name}: ${value} is no count`,
        )
      }
    }
  })

  test('a plan that offsets of 32 bits do not reach is refused', () => {
    // Both are what a configuration may ask for.
    for (const plan of [{ workers: 4, smallFrames: 1_048_576 }, { largeFrames: 65_536 }]) {
      expect(() => planArena({ ...SMALL_PLAN, ...plan })).toThrow(
        /arena of \d+ bytes: more than 2\^32 \(fewer frames or workers\)/,
      )
    }
    expect(planArena({ ...SMALL_PLAN, smallFrames: 1_048_576 }).total).toBeLessThan(2 ** 32)
  })
})

describe('Arena', () => {
  test('offset 0 is on a page of the address space, and all is zero', () => {
    for (let i = 0; i < 5; i++) {
      const arena = smallArena()
      expect(native.addressOf(arena.bytes) % BigInt(PAGE)).toBe(0n)
      expect(arena.base).toBeLessThan(PAGE)
      expect(arena.bytes.length).toBe(arena.layout.total)
      expect(arena.bytes.every(byte => byte === 0)).toBe(true)
    }
  })

  test('views of every kind show the same bytes', () => {
    const arena = smallArena()
    arena.bytes.set([1, 2, 3, 4], arena.layout.ports.offset)
    expect(arena.view.getUint32(arena.layout.ports.offset)).toBe(0x01020304)
    expect(arena.words[arena.layout.ports.offset / 4]).toBe(0x04030201)
    expect([...arena.slice(arena.layout.ports).subarray(0, 4)]).toEqual([1, 2, 3, 4])
    arena.header()[HEADER.VNI] = 77
    expect(arena.view.getUint32(arena.layout.header.offset + HEADER.VNI * 4, true)).toBe(77)
  })

  test('a handle opens the same memory', () => {
    const arena = smallArena()
    const other = Arena.open(structuredClone(arena.handle()))
    other.header()[HEADER.GENERATION] = 5
    expect(arena.header()[HEADER.GENERATION]).toBe(5)
    expect(other.base).toBe(arena.base)
  })

  test('control blocks and counters of workers lie apart, inside their regions', () => {
    const arena = smallArena({ workers: MAX_WORKERS })
    for (let w = 0; w < MAX_WORKERS; w++) {
      expect(arena.control(w).length).toBe(WORKER.WORDS)
      expect(arena.counters(w).length).toBe(WORKER_COUNTERS)
      arena.control(w).fill(w + 1)
      arena.counters(w).fill(w + 1)
    }
    for (let w = 0; w < MAX_WORKERS; w++) {
      expect(arena.control(w).every(word => word === w + 1)).toBe(true)
      expect(arena.counters(w).every(count => count === w + 1)).toBe(true)
    }
    expect(arena.header().every(word => word === 0)).toBe(true)
    expect(arena.slice(arena.layout.ports).every(byte => byte === 0)).toBe(true)
    expect(arena.slice(arena.layout.scratch).every(byte => byte === 0)).toBe(true)
  })

  test('counters have room for every drop reason and every port', () => {
    expect(DROPS.length).toBeLessThanOrEqual(DROP_SLOTS)
    expect(portCounters(0)).toBe(COUNTER.DROPS + DROP_SLOTS)
    expect(portCounters(MAX_PORTS - 1) + PORT_COUNTER.COUNT).toBe(WORKER_COUNTERS)
  })

  test('words of one table have one name each', () => {
    for (const table of [HEADER, WORKER, COUNTER, PORT_COUNTER]) {
      const places = Object.values(table)
      expect(new Set(places).size).toBe(places.length)
    }
    // Fields of several words reach to the next one and no further.
    expect(HEADER.GATEWAY4 - HEADER.VTEP6).toBe(4)
    expect(HEADER.VTEP_MAC_HIGH - HEADER.GATEWAY6).toBe(4)
    expect(HEADER.VTEP_COUNT - HEADER.XSK_OFFSETS).toBe(16)
    expect(HEADER.VTEP_COUNT).toBeLessThan(HEADER.WORDS)
  })
})
