import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { MAX_BURST_BYTES, MAX_PORTS, MAX_WORKERS } from '../../../dataplane/limits.ts'
import { PORT_RECORD_BYTES } from '../../../dataplane/memory/arena.ts'
import {
  BUCKETS,
  FIELDS,
  macWords,
  type PortRecord,
  readPort,
  writePort,
} from '../../../dataplane/tables/ports.ts'
import { smallArena } from '../memory/plan.ts'

const u16 = fc.integer({ min: 0, max: 0xffff })
const u32 = fc.integer({ min: 0, max: 0xffff_ffff })
const fd = fc.integer({ min: -1, max: 0x7fff_ffff })
const list = (each: fc.Arbitrary<number>) =>
  fc.array(each, { minLength: MAX_WORKERS, maxLength: MAX_WORKERS })

const rate = fc.record({ rate: u32, burst: fc.nat(MAX_BURST_BYTES) })

const record: fc.Arbitrary<PortRecord> = fc.record({
  state: fc.nat(3),
  kind: fc.nat(4),
  role: fc.nat(4),
  flags: fc.nat(7),
  ifindex: fc.nat(),
  mtu: u16,
  macHigh: u32,
  macLow: u16,
  peerMacHigh: u32,
  peerMacLow: u16,
  ip4: u32,
  fillFrames: u16,
  ip6: fc.tuple(u32, u32, u32, u32),
  fds: list(fd),
  rings: list(fc.nat()),
  moreFds: list(fd),
  ingress: rate,
  egress: rate,
  network: fc.nat(255),
  identity: fc.nat(),
  ingressProgram: fc.nat(),
  egressProgram: fc.nat(),
})

describe('port records', () => {
  test('fields lie apart from each other and from the buckets, inside', () => {
    const end = PORT_RECORD_BYTES / 4
    const fields = [...Object.values(FIELDS), { at: BUCKETS, words: 2 }]
    const taken = fields.flatMap(({ at, words }) => Array.from({ length: words }, (_, i) => at + i))
    expect(new Set(taken).size).toBe(taken.length)
    expect(Math.max(...taken)).toBeLessThan(end)
    // Buckets are written by workers: in no cache line that has anything else.
    const line = 64 / 4
    const others = Object.values(FIELDS).map(({ at, words }) => at + words)
    expect(BUCKETS % line).toBe(0)
    expect(Math.max(...others)).toBeLessThanOrEqual(BUCKETS)
  })

  test('what is written is read, beside any other record', () => {
    const arena = smallArena()
    const at = arena.layout.ports.offset
    fc.assert(
      fc.property(record, record, fc.nat(MAX_PORTS - 2), (one, other, port) => {
        writePort(arena, port, one)
        writePort(arena, port + 1, other)
        expect(readPort(arena.words, at, port)).toEqual(one)
        expect(readPort(arena.words, at, port + 1)).toEqual(other)
        writePort(arena, port, other)
        expect(readPort(arena.words, at, port)).toEqual(other)
      }),
    )
    expect(arena.layout.ports.bytes).toBeGreaterThanOrEqual(MAX_PORTS * PORT_RECORD_BYTES)
  })

  test('queues that a port lacks have no descriptor', () => {
    const arena = smallArena()
    const [full] = fc.sample(record, 1) as [PortRecord]
    writePort(arena, 4, full)
    writePort(arena, 4, { ...full, fds: [12], rings: [8192], moreFds: [] })
    const read = readPort(arena.words, arena.layout.ports.offset, 4)
    expect(read.fds).toEqual([12, -1, -1, -1, -1, -1, -1, -1])
    expect(read.rings).toEqual([8192, 0, 0, 0, 0, 0, 0, 0])
    expect(read.moreFds).toEqual(new Array(MAX_WORKERS).fill(-1))
  })

  test('a free place is all zeros, descriptors apart', () => {
    const { words, layout } = smallArena()
    expect(readPort(words, layout.ports.offset, 9)).toMatchObject({ state: 0, kind: 0, ip4: 0 })
  })
})

describe('macWords', () => {
  test('six bytes as two numbers', () => {
    expect(macWords('fe:dc:ba:98:76:54')).toEqual({ high: 0xfedcba98, low: 0x7654 })
    expect(macWords('02:00:00:00:00:0F')).toEqual({ high: 0x02000000, low: 0x0f })
  })

  test('everything else is refused', () => {
    for (const text of [
      '',
      '02:00:00:00:00',
      '02:00:00:00:00:00:00',
      '02:00:00:00:00:100',
      '02:00:00:00:00:1z',
      '02:00:00:00:00: 1',
      '02:00:00:00:00:0x1',
      '02-00-00-00-00-00',
    ]) {
      expect(() => macWords(text), text).toThrow(RangeError)
    }
  })
})
