// TCP segments that come together leave as one superframe, and cutting that gives them again.
import fc from 'fast-check'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { BATCH_SIZE } from '../../../dataplane/limits.ts'
import { COUNTER } from '../../../dataplane/memory/arena.ts'
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
import {
  checksumsRight,
  ethernet,
  sum16,
  type TcpFields,
  tcp,
  vxlan,
} from '../../harness/packets.ts'

const DF = 0x4000
const ACK = 0x10
const PSH = 0x08
const GSO = { 4: 1, 6: 4 } as const

const FLOW = {
  4: { src: '10.244.2.9', dst: '10.244.1.2', fragment: DF, ttl: 63 },
  6: { src: 'fd44:0:0:2::9', dst: 'fd44:0:0:1::2', ttl: 63 },
} as const

let world: TestEngine
beforeEach(() => {
  world = testEngine()
})
afterEach(() => {
  expect(world.leaked()).toBe(0)
})

function payload(length: number, from = 0): Uint8Array {
  return Uint8Array.from({ length }, (_, i) => (from + i * 7) & 255)
}

const type = (packet: Uint8Array): number => (packet[0]! >> 4 === 4 ? 0x0800 : 0x86dd)

/** As it comes over the overlay. */
function overlay(inner: Uint8Array): Uint8Array {
  const macs = { innerDst: OWN_VTEP_MAC, innerSrc: PEER_VTEP_MAC }
  const outer = vxlan({ src: PEER, dst: VTEP, ...macs, inner })
  return ethernet(UNDERLAY_MAC, UNDERLAY_PEER_MAC, 0x0800, outer)
}

/** Of `sizes`, one behind the other, each with what `change` says. */
function stream(
  family: 4 | 6,
  sizes: readonly number[],
  change: (k: number) => Partial<TcpFields> = () => ({}),
): Uint8Array[] {
  let seq = 0xffff_f000
  return sizes.map((size, k) => {
    const packet = tcp({ ...FLOW[family], id: 7 + k, seq, ...change(k) }, payload(size, k))
    seq = (seq + size) >>> 0
    return packet
  })
}

function toPod(packets: readonly Uint8Array[]): MemPacket[] {
  return world.send(UNDERLAY, ...packets.map(overlay))[TUN_POD]!
}

/** What a device does with a superframe, written here anew; a packet that is none is completed. */
function cut({ bytes, partial, gsoType, gsoSize }: MemPacket): Uint8Array[] {
  const four = bytes[0]! >> 4 === 4
  const l4 = four ? 20 : 40
  const header = l4 + (bytes[l4 + 12]! >> 4) * 4
  if (partial !== true) return [bytes]
  const size = gsoType ? gsoSize! : bytes.length
  const found: Uint8Array[] = []
  for (let at = header; at < bytes.length; at += size) {
    const data = bytes.subarray(at, at + size)
    const segment = new Uint8Array(header + data.length)
    segment.set(bytes.subarray(0, header))
    segment.set(data, header)
    const view = new DataView(segment.buffer)
    const last = at + size >= bytes.length
    if (!last) segment[l4 + 13]! &= ~(PSH | 1)
    view.setUint32(l4 + 4, view.getUint32(l4 + 4) + (at - header))
    if (four) {
      view.setUint16(2, segment.length)
      view.setUint16(4, view.getUint16(4) + found.length)
      view.setUint16(10, 0)
      view.setUint16(10, ~sum16(segment.subarray(0, 20)))
    } else {
      view.setUint16(4, segment.length - 40)
    }
    view.setUint16(l4 + 16, 0)
    const addresses = four ? segment.subarray(12, 20) : segment.subarray(8, 40)
    const seed = sum16(addresses, 6 + segment.length - l4)
    view.setUint16(l4 + 16, ~sum16(segment.subarray(l4), seed))
    found.push(segment)
  }
  return found
}

/** Without what a superframe can't keep: an IPv4 packet's id, and the sum over it. */
function withoutId(packet: Uint8Array): string {
  const copy = packet.slice()
  if (copy[0]! >> 4 === 4) copy.set([0, 0], 4)
  if (copy[0]! >> 4 === 4) copy.set([0, 0], 10)
  return Buffer.from(copy).toString('hex')
}

/** As the router that it went through has left it. */
function forwarded(packet: Uint8Array): string {
  const copy = packet.slice()
  copy[copy[0]! >> 4 === 4 ? 8 : 7]!--
  return withoutId(copy)
}

describe.each([4, 6] as const)('IPv%i', family => {
  test('a burst becomes one superframe, whose segments are what came', () => {
    const sizes = [1000, 1000, 1000, 1000, 400]
    const sent = stream(family, sizes, k => (k === 4 ? { flags: ACK | PSH } : {}))
    const [whole, ...more] = toPod(sent)
    expect(more).toEqual([])
    expect(whole).toMatchObject({ partial: true, gsoType: GSO[family], gsoSize: 1000 })
    const segments = cut(whole!)
    expect(segments.map(withoutId)).toEqual(sent.map(forwarded))
    expect(segments.every(checksumsRight)).toBe(true)
    // The superframe's own header is right, too.
    if (family === 4) expect(sum16(whole!.bytes.subarray(0, 20))).toBe(0xffff)
    expect(world.counter(COUNTER.COALESCED)).toBe(4)
  })

  test('no packet grows beyond what an IP header can say', () => {
    world = testEngine({ smallFrames: BATCH_SIZE + 64 })
    const sent = stream(family, Array(60).fill(1380))
    const received = toPod(sent)
    expect(received.length).toBe(2)
    expect(Math.max(...received.map(each => each.bytes.length))).toBeLessThanOrEqual(65_535)
    expect(received.flatMap(cut).map(withoutId)).toEqual(sent.map(forwarded))
  })

  test.each<[string, (k: number) => Partial<TcpFields>]>([
    ['another acknowledgement', k => ({ ack: k })],
    ['another window', k => ({ window: 1000 + k })],
    ['other options', k => ({ options: Uint8Array.of(1, 1, 8, k) })],
    ['an ECN mark', k => ({ tos: k === 1 ? 3 : 2 })],
    ['another TTL', k => ({ ttl: 60 + k })],
    ['a hole', k => (k === 1 ? { seq: 77 } : {})],
    ['the same segment again', () => ({ seq: 5 })],
    ['an urgent one', k => (k === 1 ? { flags: ACK | 0x20 } : {})],
    ['CWR', k => (k === 1 ? { flags: ACK | 0x80 } : {})],
    ['the end', k => (k === 1 ? { flags: ACK | 1 } : {})],
    ['a PSH before it', k => (k === 0 ? { flags: ACK | PSH } : {})],
    ['a port of its own', k => ({ sport: 1000 + k })],
  ])('%s keeps two apart, and both as they came', (_, change) => {
    const sent = stream(family, [500, 500], change)
    expect(toPod(sent).map(({ bytes }) => withoutId(bytes))).toEqual(sent.map(forwarded))
    expect(world.counter(COUNTER.COALESCED)).toBe(0)
  })

  test('a larger one begins anew, a shorter one ends it', () => {
    const received = toPod(stream(family, [500, 600, 600, 200, 600, 600]))
    const sizes = received.map(({ gsoSize = 0, bytes }) => [gsoSize, bytes.length])
    const header = family === 4 ? 40 : 60
    expect(sizes).toEqual([
      [0, header + 500],
      [600, header + 1400],
      [600, header + 1200],
    ])
  })

  test.each([0, 1, 2])('a wrong checksum in segment %i goes on alone and stays wrong', at => {
    const sent = stream(family, [500, 500, 500, 500])
    sent[at]![sent[at]!.length - 1]! ^= 1
    const received = toPod(sent)
    expect(received.flatMap(cut).map(withoutId)).toEqual(sent.map(forwarded))
    expect(received.flatMap(cut).map(checksumsRight)).toEqual(sent.map((_, k) => k !== at))
    expect(received.length).toBeLessThan(4)
  })

  test('without a large frame all go on as they came', () => {
    const taken: number[] = []
    const { large } = world.engine.frames
    for (let frame = large.take(); frame !== 0; frame = large.take()) taken.push(frame)
    const sent = stream(family, [500, 500, 500])
    expect(toPod(sent).map(({ bytes }) => withoutId(bytes))).toEqual(sent.map(forwarded))
    for (const frame of taken) large.release(frame)
  })

  test('from a pod of the same node, whose sums are partial', () => {
    const src = family === 4 ? '10.244.1.3' : 'fd44:0:0:1::3'
    const sent = stream(family, [800, 800, 100], () => ({ src, partial: true }))
    const frames = sent.map(packet => ethernet(VETH_MAC, POD_MAC, type(packet), packet))
    const [whole, ...more] = world.send(VETH_POD, ...frames)[TUN_POD]!
    expect(more).toEqual([])
    const segments = cut(whole!)
    expect(segments.every(checksumsRight)).toBe(true)
    expect(segments.map(each => each.length)).toEqual(sent.map(each => each.length))
  })

  test('not for a port that takes no superframes', () => {
    const dst = family === 4 ? '10.244.1.3' : 'fd44:0:0:1::3'
    const sent = stream(family, [800, 800], () => ({ dst }))
    const received = world.send(UNDERLAY, ...sent.map(overlay))[VETH_POD]!
    expect(received.length).toBe(2)
    expect(world.counter(COUNTER.COALESCED)).toBe(0)
  })

  test('and for the node itself', () => {
    const dst = family === 4 ? '10.244.1.1' : 'fd44:0:0:1::1'
    const received = world.send(
      UNDERLAY,
      ...stream(family, [800, 800], () => ({ dst })).map(overlay),
    )
    expect(received[HOST]!.length).toBe(1)
  })
})

test('IPv4 without DF, with options, or in fragments is left alone', () => {
  const sent = stream(4, [500, 500], () => ({ fragment: 0 }))
  expect(toPod(sent).length).toBe(2)
  const fragments = stream(4, [504, 504], k => ({ fragment: k === 0 ? 0x2000 : 63 }))
  expect(toPod(fragments).length).toBe(2)
  expect(world.counter(COUNTER.COALESCED)).toBe(0)
})

describe('flows that are interleaved', () => {
  const SEGMENT = 300

  /** A batch of `flows` flows, each as often as the others, in the order of `pick`. */
  function interleaved(flows: number, pick: (k: number) => number): Uint8Array[] {
    const next = new Array<number>(flows).fill(1)
    return Array.from({ length: BATCH_SIZE }, (_, k) => {
      const flow = pick(k)
      const seq = next[flow]!
      next[flow]! += SEGMENT
      const ends = FLOW[flow % 2 === 0 ? 4 : 6]
      const src = `${ends.src}${flow % 2 === 0 ? '' : (flow >> 5).toString(16)}`
      const from = { ...ends, src, sport: 32_768 + Math.imul(flow, 28) }
      return tcp({ ...from, seq, id: k, dport: 443 }, payload(SEGMENT, flow))
    })
  }

  /** xorshift32 (Marsaglia 2003). */
  function shuffled(flows: number): (k: number) => number {
    const order = Array.from({ length: BATCH_SIZE }, (_, k) => k % flows)
    let state = 0x6861_7773
    for (let k = BATCH_SIZE - 1; k > 0; k--) {
      state ^= state << 13
      state ^= state >>> 17
      state ^= state << 5
      const at = (state >>> 0) % (k + 1)
      ;[order[k], order[at]] = [order[at]!, order[k]!]
    }
    return k => order[k]!
  }

  test.each([1, 4, 16, 32, 64, 128])('%i of them are joined as if each came alone', flows => {
    for (const pick of [(k: number) => k % flows, shuffled(flows)]) {
      world = testEngine({ smallFrames: 1024, largeFrames: 160, burst: BATCH_SIZE })
      const sent = interleaved(flows, pick)
      const received = toPod(sent)
      // Whoever joins everything: one superframe a flow, or two where one would be too long.
      const perfect = BATCH_SIZE - (flows === 1 ? 2 : flows)
      const joined = world.counter(COUNTER.COALESCED)
      expect(joined / perfect).toBeGreaterThanOrEqual(0.95)
      expect(joined + received.length).toBe(BATCH_SIZE)
      expect(received.flatMap(cut)).toHaveLength(BATCH_SIZE)
      expect(world.leaked()).toBe(0)
    }
  })
})

describe('whatever comes', () => {
  /** One step of a flow: mostly the next segment, sometimes something odd. */
  const step = fc.record({
    family: fc.constantFrom<4 | 6>(4, 6),
    sport: fc.integer({ min: 1000, max: 1020 }),
    size: fc.oneof({ weight: 6, arbitrary: fc.constant(300) }, fc.integer({ min: 0, max: 400 })),
    odd: fc.oneof(
      { weight: 12, arbitrary: fc.constant('none' as const) },
      fc.constantFrom('again', 'hole', 'push', 'fin', 'window', 'ttl', 'ecn', 'broken', 'nodf'),
    ),
  })

  test('each flow arrives in order, with nothing lost, added or changed', () => {
    fc.assert(
      fc.property(fc.array(step, { minLength: 2, maxLength: 60 }), steps => {
        world = testEngine()
        const next = new Map<string, number>()
        const sent = steps.map(({ family, sport, size, odd }, k) => {
          const key = `${family} ${sport}`
          const expected = next.get(key) ?? 0xffff_ff00
          const seq =
            (odd === 'again' ? expected - 300 : odd === 'hole' ? expected + 9 : expected) >>> 0
          next.set(key, (seq + size) >>> 0)
          const packet = tcp(
            {
              ...FLOW[family],
              ...{ sport, seq, id: k },
              ...(odd === 'push' ? { flags: ACK | PSH } : odd === 'fin' ? { flags: ACK | 1 } : {}),
              ...(odd === 'window' ? { window: 5 } : {}),
              ...(odd === 'ttl' ? { ttl: 9 } : {}),
              ...(odd === 'ecn' ? { tos: 1 } : {}),
              ...(odd === 'nodf' ? { fragment: 0 } : {}),
            },
            payload(size, k),
          )
          if (odd === 'broken') packet[packet.length - 1]! ^= 0x55
          return packet
        })
        const flowOf = (packet: Uint8Array) => {
          const l4 = packet[0]! >> 4 === 4 ? 20 : 40
          return `${packet[0]! >> 4} ${(packet[l4]! << 8) | packet[l4 + 1]!}`
        }
        const received = toPod(sent).flatMap(cut)
        const by = (packets: readonly Uint8Array[], text: (packet: Uint8Array) => string) => {
          const flows: Record<string, string[]> = {}
          for (const packet of packets) {
            const flow = flowOf(packet)
            flows[flow] ??= []
            flows[flow].push(text(packet))
          }
          return flows
        }
        expect(by(received, withoutId)).toEqual(by(sent, forwarded))
        expect(world.leaked()).toBe(0)
      }),
      { numRuns: 300 },
    )
  })
})
