// Over an IPv6 underlay the outer UDP checksum is what summing every byte gives, however it was found.
import { afterEach, describe, expect, test, vi } from 'vitest'
import { BATCH_SIZE } from '../../../dataplane/limits.ts'
import type { MemPacket } from '../../../dataplane/ports/mem.ts'
import { native } from '../../../native/native.ts'
import {
  POD_MAC,
  type TestEngine,
  TUN_POD,
  testEngine,
  UNDERLAY,
  VETH_MAC,
  VETH_POD,
} from '../../harness/engine.ts'
import {
  checksumsRight,
  completed,
  concat,
  ethernet,
  icmp,
  ip,
  tcp,
  udp,
} from '../../harness/packets.ts'

const FAMILIES = [
  { tun: '10.244.1.2', veth: '10.244.1.3', far: '10.244.2.9', l4: 20 },
  { tun: 'fd44:0:0:1::2', veth: 'fd44:0:0:1::3', far: 'fd44:0:0:2::9', l4: 40 },
] as const
/** Outer headers of a frame of the underlay: Ethernet, IPv6, UDP, VXLAN, Ethernet. */
const HEADERS = 14 + 70

let world: TestEngine
afterEach(() => {
  vi.restoreAllMocks()
  expect(world.leaked()).toBe(0)
  expect(world.drops()).toEqual({})
})

function makeWorld(partialChecksums: boolean): void {
  world = testEngine({
    ...{ underlay: 6, partialChecksums, smallFrames: 1024, largeFrames: 32 },
    burst: BATCH_SIZE,
  })
}

/** xorshift32 (Marsaglia 2003). */
function generator(seed: number): (below: number) => number {
  let state = seed
  return below => {
    state ^= state << 13
    state ^= state >>> 17
    state ^= state << 5
    return (state >>> 0) % below
  }
}

function patched(packet: Uint8Array, at: number, value: number): Uint8Array {
  const copy = packet.slice()
  copy.set([value >> 8, value & 255], at)
  return copy
}

interface Sent {
  port: number
  packet: MemPacket
  kind: string
}

/** One packet of a random kind, with data of a random length, odd ones too. */
function randomPacket(random: (below: number) => number): Sent {
  const { tun, veth, far, l4 } = FAMILIES[random(2)]!
  const fromTun = random(2) === 0
  const src = fromTun ? tun : veth
  const flow = {
    src,
    dst: far,
    sport: random(0x1_0000),
    dport: 1 + random(4000),
    id: random(0x1_0000),
  }
  const data = Uint8Array.from({ length: random(1300) }, () => random(256))
  // All zeros and all ones are where one's complement has two zeros.
  if (random(8) === 0) data.fill(random(2) * 255)
  const port = fromTun ? TUN_POD : VETH_POD
  const sent = (kind: string, bytes: Uint8Array, offload: Partial<MemPacket> = {}): Sent => {
    const type = l4 === 20 ? 0x0800 : 0x86dd
    const frame = fromTun ? bytes : ethernet(VETH_MAC, POD_MAC, type, bytes)
    return { port, kind, packet: { bytes: frame, ...offload } }
  }
  const field = { tcp: l4 + 16, udp: l4 + 6 }
  const marked = (csumOffset: number) =>
    fromTun ? { partial: true, csumStart: l4, csumOffset } : {}
  switch (random(9)) {
    case 0:
      return sent('TCP', tcp(flow, data))
    case 1:
      return sent('UDP', udp(flow, data))
    case 2:
      return sent('TCP partial', tcp({ ...flow, partial: true }, data), marked(16))
    case 3:
      return sent('UDP partial', udp({ ...flow, partial: true }, data), marked(6))
    case 4:
      // A checksum that is wrong is the receiver's business; the outer one covers it as it is.
      return sent('TCP wrong', patched(tcp(flow, data), field.tcp, random(0x1_0000)))
    case 5:
      return sent('ICMP', icmp(flow, l4 === 20 ? 8 : 128, 0, concat(new Uint8Array(4), data)))
    case 6: {
      // A pod can write any field into a packet that it asks its device to complete.
      if (!fromTun) return sent('UDP without', patched(udp(flow, data), field.udp, 0))
      return sent(
        'TCP partial, odd field',
        patched(tcp(flow, data), field.tcp, random(0x1_0000)),
        marked(16),
      )
    }
    case 7: {
      const first = udp({ ...flow, fragment: 0x2000 }, data.subarray(0, data.length & ~7))
      if (l4 === 20) return sent('fragment', first)
      const header = Uint8Array.of(17, 0, 0, 1, 0, 0, 0, 7)
      const payload = concat(header, udp(flow, data).subarray(l4))
      return sent('fragment', ip({ src, dst: far, proto: 44, payload }))
    }
    default: {
      const big = Uint8Array.from({ length: 2000 + random(9000) }, () => random(256))
      if (!fromTun) return sent('other', ip({ src, dst: far, proto: 132, payload: data }))
      const gso = { gsoType: l4 === 20 ? 1 : 4, gsoSize: 500 + random(800) }
      if (random(2) === 0) {
        return sent('TCP superframe', tcp({ ...flow, partial: true }, big), {
          ...marked(16),
          ...gso,
        })
      }
      const bytes = udp({ ...flow, partial: true }, big)
      return sent('UDP superframe', bytes, { ...marked(6), ...gso, gsoType: 5 })
    }
  }
}

describe.each([
  ['the port completes partial checksums', true],
  ['the port takes complete ones only', false],
])('%s', (_, partialChecksums) => {
  test('many packets of all kinds, against the sum of all bytes', () => {
    makeWorld(partialChecksums)
    const random = generator(0x6861_7773)
    const kinds: Record<string, number> = {}
    let left = 0
    for (let round = 0; round < 1500; round++) {
      const { port, packet, kind } = randomPacket(random)
      const out = world.send(port, packet)[UNDERLAY]!
      expect(out.length, kind).toBeGreaterThan(0)
      for (const { bytes, partial } of out) {
        const inner = bytes.subarray(HEADERS)
        if (partial) inner.set(completed(inner))
        const outer = bytes.subarray(14)
        expect(outer[46]! | outer[47]!, kind).not.toBe(0)
        expect(checksumsRight(outer), `${kind}, round ${round}`).toBe(true)
        if (partial) left++
      }
      kinds[kind] = (kinds[kind] ?? 0) + 1
    }
    expect(Object.keys(kinds)).toHaveLength(12)
    expect(Math.min(...Object.values(kinds))).toBeGreaterThan(20)
    expect(left > 0).toBe(partialChecksums)
  })

  test('no byte of a payload is summed twice', () => {
    makeWorld(partialChecksums)
    const summed = vi.spyOn(native, 'checksum')
    const copied = vi.spyOn(native, 'copyChecksum')
    /** Bytes that were summed where they are, and while they were copied, to send this. */
    const bytesFor = (port: number, packet: MemPacket): [number, number] => {
      summed.mockClear()
      copied.mockClear()
      expect(world.send(port, packet)[UNDERLAY]!.length).toBeGreaterThan(0)
      const inPlace = summed.mock.calls.reduce((sum, [, length]) => sum + length, 0)
      return [inPlace, copied.mock.calls.reduce((sum, [, , length]) => sum + length, 0)]
    }
    const { veth, tun, far: dst, l4 } = FAMILIES[0]
    const data = new Uint8Array(1200)
    // Outer UDP, VXLAN and Ethernet headers and the inner IP header.
    const headers = 30 + l4
    const partial = tcp({ src: veth, dst, partial: true }, data)
    const fromVeth = { bytes: ethernet(VETH_MAC, POD_MAC, 0x0800, partial) }
    const once = partialChecksums ? 0 : 20 + data.length
    expect(bytesFor(VETH_POD, fromVeth)).toEqual([headers + once, 0])
    const whole = {
      bytes: tcp({ src: tun, dst, partial: true }, new Uint8Array(6000)),
      ...{ partial: true, csumStart: l4, csumOffset: 16, gsoType: 1, gsoSize: 1000 },
    }
    expect(bytesFor(TUN_POD, whole)).toEqual([6 * (headers + 20), 6000])
    // What came complete is summed for the outer checksum alone.
    const complete = tcp({ src: tun, dst }, data)
    expect(bytesFor(TUN_POD, { bytes: complete })).toEqual([headers + 20 + data.length, 0])
  })
})
