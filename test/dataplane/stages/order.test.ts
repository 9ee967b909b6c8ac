// A flow leaves in the order in which it came, whatever its packets are turned into on the way.
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { BATCH_SIZE } from '../../../dataplane/limits.ts'
import { COUNTER, PORT_COUNTER, portCounters } from '../../../dataplane/memory/arena.ts'
import type { MemPacket } from '../../../dataplane/ports/mem.ts'
import {
  HOST,
  OWN_VTEP_MAC,
  PEER,
  PEER_VTEP_MAC,
  POD_MAC,
  type TestEngine,
  TUN_POD,
  testEngine,
  UNDERLAY,
  UNDERLAY_MAC,
  UNDERLAY_PEER_MAC,
  VETH_MAC,
  VETH_POD,
  VTEP,
} from '../../harness/engine.ts'
import { checksumsRight, ethernet, tcp, udp, vxlan } from '../../harness/packets.ts'

/** Payload of a segment: with IPv6 headers it is what the MTU lets. */
const SIZE = 1390
/** Headers in front of the inner packet of an IPv4 underlay frame, Ethernet included. */
const OVERLAY = 14 + 50

let world: TestEngine
beforeEach(() => {
  world = testEngine({ smallFrames: 2048, burst: BATCH_SIZE, largeFrames: 32 })
})
afterEach(() => {
  expect(world.leaked()).toBe(0)
})

const FLOWS = {
  4: { src: '10.244.1.2', veth: '10.244.1.3', far: '10.244.2.9', node: '10.244.1.1' },
  6: { src: 'fd44:0:0:1::2', veth: 'fd44:0:0:1::3', far: 'fd44:0:0:2::9', node: 'fd44:0:0:1::1' },
} as const

/** One flow: packets of `sizes` bytes of payload, superframes where they are longer than a segment. */
function stream(family: 4 | 6, dst: string, sizes: readonly number[]): MemPacket[] {
  const l4 = family === 4 ? 20 : 40
  let seq = 1
  return sizes.map(size => {
    const flow = { src: FLOWS[family].src, dst, seq, partial: true }
    seq += size
    const whole = { partial: true, csumStart: l4, csumOffset: 16 }
    const bytes = tcp(flow, new Uint8Array(size).fill(seq & 255))
    if (size <= SIZE) return { bytes, ...whole }
    return { bytes, ...whole, gsoType: family === 4 ? 1 : 4, gsoSize: SIZE }
  })
}

/** Sequence number and payload bytes of TCP packets with `skip` bytes in front of their IP header. */
function ranges(packets: readonly MemPacket[], skip: number): [seq: number, bytes: number][] {
  return packets.map(({ bytes }) => {
    const packet = bytes.subarray(skip)
    const l4 = packet[0]! >> 4 === 4 ? 20 : 40
    const view = new DataView(packet.buffer, packet.byteOffset)
    return [view.getUint32(l4 + 4), packet.length - l4 - 20]
  })
}

/** Throws unless each packet begins where the one before it ended, down to the last byte. */
function expectInOrder(packets: readonly MemPacket[], skip: number, bytes: number): void {
  let next = 1
  for (const [seq, length] of ranges(packets, skip)) {
    expect(seq).toBe(next)
    next += length
  }
  expect(next).toBe(1 + bytes)
}

const MIXED = [100, 4 * SIZE, 100, 3 * SIZE, 100]
const MIXED_BYTES = 7 * SIZE + 300

describe.each([4, 6] as const)('IPv%i: small packets and superframes of one TCP flow', family => {
  const { veth, far, node } = FLOWS[family]

  test('to a veth pod', () => {
    const out = world.send(TUN_POD, ...stream(family, veth, MIXED))[VETH_POD]!
    expect(ranges(out, 14)).toEqual([
      [1, 100],
      ...[101, 1491, 2881, 4271].map(seq => [seq, SIZE]),
      [5661, 100],
      ...[5761, 7151, 8541].map(seq => [seq, SIZE]),
      [9931, 100],
    ])
    expect(out.every(({ bytes }) => checksumsRight(bytes.subarray(14)))).toBe(true)
  })

  test('to the underlay', () => {
    const out = world.send(TUN_POD, ...stream(family, far, MIXED))[UNDERLAY]!
    expectInOrder(out, OVERLAY, MIXED_BYTES)
    expect(out.every(({ bytes }) => checksumsRight(bytes.subarray(OVERLAY)))).toBe(true)
    expect(world.counter(COUNTER.ENCAPSULATED)).toBe(out.length)
  })

  test('to a port that takes them whole', () => {
    const out = world.send(TUN_POD, ...stream(family, node, MIXED))[HOST]!
    expectInOrder(out, 0, MIXED_BYTES)
    expect(out).toHaveLength(5)
    expect(world.counter(COUNTER.SEGMENTED)).toBe(0)
  })

  test('where one batch becomes many', () => {
    // 16 superframes of 46 segments and 240 small packets: 976 packets, four batches.
    const sizes = Array.from({ length: BATCH_SIZE }, (_, k) => (k % 16 === 7 ? 45.5 * SIZE : 40))
    const sent = stream(family, veth, sizes)
    const out = world.send(TUN_POD, ...sent)[VETH_POD]!
    expectInOrder(
      out,
      14,
      sizes.reduce((sum, size) => sum + size, 0),
    )
    expect(world.counter(COUNTER.BATCHES)).toBe(1)
    expect(world.counter(COUNTER.SEGMENTS)).toBe(16 * 46)
    expect(out).toHaveLength(240 + 16 * 46)
  })
})

test('other flows, other ports and packets that are dropped or answered keep their places, too', () => {
  const { veth, src } = FLOWS[4]
  const small = (dst: string, sport: number, ttl = 64) => ({
    bytes: udp({ src, dst, sport, ttl }, new Uint8Array(8)),
  })
  const [first, second] = stream(4, veth, [5 * SIZE, 5 * SIZE])
  const out = world.send(
    TUN_POD,
    small(veth, 1),
    first!,
    small(FLOWS[4].far, 2),
    small(veth, 3, 1),
    small('203.0.113.9', 4),
    small(veth, 5),
    second!,
    small(FLOWS[4].node, 6),
    small(veth, 7),
  )
  const ports = (packets: readonly MemPacket[], skip: number) =>
    packets.map(({ bytes }) => (bytes[skip + 20]! << 8) | bytes[skip + 21]!)
  expect(ports(out[VETH_POD]!, 14)).toEqual([
    1,
    ...Array(5).fill(1000),
    5,
    ...Array(5).fill(1000),
    7,
  ])
  expect(ports(out[UNDERLAY]!, OVERLAY)).toEqual([2])
  expect(ports(out[HOST]!, 0)).toEqual([6])
  // The ICMP error about packet 3.
  expect(out[TUN_POD]!.map(({ bytes }) => bytes[20])).toEqual([11])
  expect(world.drops()).toEqual({ ttl: 1, 'port-gone': 1 })
})

test('an error about a superframe that goes to a port without large frames keeps its place', () => {
  const src = '10.244.1.3'
  const packet = (bytes: Uint8Array, more: Partial<MemPacket> = {}) => ({
    bytes: ethernet(VETH_MAC, POD_MAC, 0x0800, bytes),
    ...more,
  })
  const big = udp({ src, dst: FLOWS[4].far, partial: true, ttl: 1 }, new Uint8Array(4000))
  const offload = { partial: true, csumStart: 20, csumOffset: 6, gsoType: 5, gsoSize: 1000 }
  const out = world.send(
    VETH_POD,
    packet(udp({ src, dst: FLOWS[4].far, ttl: 1, sport: 1 }, new Uint8Array(8))),
    packet(big, offload),
    packet(udp({ src, dst: FLOWS[4].far, ttl: 1, sport: 3 }, new Uint8Array(8))),
  )[VETH_POD]!
  // The source port that each error quotes.
  const quoted = out.map(({ bytes }) => (bytes[14 + 48]! << 8) | bytes[14 + 49]!)
  expect(quoted).toEqual([1, 1000, 3])
})

test('what coalesce joins and segment cuts in one batch stays in order', () => {
  // One flow comes in over the overlay to the TUN pod and to the veth pod, in turns, as segments.
  const to = (dst: string, k: number) =>
    ethernet(
      UNDERLAY_MAC,
      UNDERLAY_PEER_MAC,
      0x0800,
      vxlan({
        src: PEER,
        dst: VTEP,
        ...{ innerDst: OWN_VTEP_MAC, innerSrc: PEER_VTEP_MAC },
        inner: tcp(
          { src: '10.244.2.9', dst, seq: 1 + k * 500, fragment: 0x4000 },
          new Uint8Array(500),
        ),
      }),
    )
  const frames = Array.from({ length: 10 }, (_, k) => [
    to('10.244.1.2', k),
    to('10.244.1.3', k),
  ]).flat()
  const out = world.send(UNDERLAY, ...frames)
  expect(ranges(out[TUN_POD]!, 0)).toEqual([[1, 5000]])
  expectInOrder(out[VETH_POD]!, 14, 5000)
})

test('frames and counters add up when the frames run out in the middle of a superframe', () => {
  world = testEngine({ smallFrames: 7, burst: BATCH_SIZE, largeFrames: 32 })
  const sizes = [100, 5 * SIZE, 100, 5 * SIZE, 100]
  const out = world.send(TUN_POD, ...stream(4, FLOWS[4].veth, sizes))[VETH_POD]!
  // Three frames are the small packets', four the first segments'.
  expect(ranges(out, 14).map(([, bytes]) => bytes)).toEqual([100, SIZE, SIZE, SIZE, SIZE, 100, 100])
  expect(world.counter(COUNTER.SEGMENTED)).toBe(2)
  expect(world.counter(COUNTER.SEGMENTS)).toBe(10)
  expect(world.drops()).toEqual({ 'no-frames': 6 })
  const at = portCounters(TUN_POD)
  expect(world.counter(at + PORT_COUNTER.RX_PACKETS)).toBe(5)
  expect(world.counter(at + PORT_COUNTER.RX_DROPS)).toBe(6)
})

test('bytes that came in are those of the frames, however short', () => {
  world.send(VETH_POD, new Uint8Array(9), new Uint8Array(0), new Uint8Array(60))
  const at = portCounters(VETH_POD)
  expect(world.counter(at + PORT_COUNTER.RX_PACKETS)).toBe(3)
  expect(world.counter(at + PORT_COUNTER.RX_BYTES)).toBe(69)
})
