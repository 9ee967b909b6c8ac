/**
 * The UDP underlay against sockets of the kernel, on the loopback device of a namespace:
 *
 *   peer :40001 ──► VTEP :4789  receives
 *   peer :4789  ◄── VTEP :50000 … :50007  send
 */
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { ipBytes, ipWords } from '../../../dataplane/addresses.ts'
import { DROP_NO_FRAMES, DROP_PORT_DOWN, DROP_TX_ERROR } from '../../../dataplane/drops.ts'
import { ERRNO } from '../../../dataplane/errno.ts'
import {
  FRAME_HEADROOM,
  PORT_RETRY_MS,
  UDP_ENTROPY_SOCKETS,
  UDP_REFUSALS,
  UDP_RETRY_MS,
  UDP_SEGMENTS,
} from '../../../dataplane/limits.ts'
import { DEVICE } from '../../../dataplane/ports/device-state.ts'
import { PORT_ROLE } from '../../../dataplane/ports/port.ts'
import { DESCRIPTOR_BYTES, DESCRIPTOR_LENGTH } from '../../../dataplane/ports/scratch.ts'
import { UdpPort } from '../../../dataplane/ports/udp.ts'
import { META } from '../../../dataplane/ports/udp-meta.ts'
import { ipv4, ipv6, OK, PROTO_UDP, udp } from '../../../dataplane/wire/index.ts'
import { native } from '../../../native/native.ts'
import { tcp as tcpPacket, udp as udpPacket, vxlan } from '../../harness/packets.ts'
import { addNamespace, type Namespace, removeNamespaces, track } from '../../native/namespace.ts'
import { NOTHING, Place } from './place.ts'

const VXLAN_PORT = 4789
const FIRST = 50_000

let namespace: Namespace
let place: Place
beforeEach(() => {
  namespace = addNamespace()
  place = new Place()
})
afterEach(removeNamespaces)

interface Family {
  vtep: string
  peer: string
}
const FOUR = { vtep: '127.0.0.1', peer: '127.0.0.2' }
const SIX = { vtep: 'fd00::1', peer: 'fd00::2' }

/** Bytes of the outer IP and UDP headers, which every packet is counted with, in and out. */
const outerBytes = ({ vtep }: Family): number => (vtep.includes(':') ? 40 : 20) + 8

function open(address: string, port: number, noChecksum = false): number {
  return track(native.udpOpen(namespace.path, address, port, false, noChecksum, 1 << 20))
}

/** With `noChecksum` the kernel refuses segments. */
function underlay({ vtep }: Family, noChecksum = false): UdpPort {
  if (vtep.includes(':')) {
    native.sysctlWrite(namespace.path, 'ipv6/conf/lo/disable_ipv6', '0')
    for (const address of [SIX.vtep, SIX.peer]) {
      namespace.ip('address', 'replace', `${address}/128`, 'dev', 'lo', 'nodad')
    }
  }
  const node = {
    vxlanPort: VXLAN_PORT,
    vtep4: vtep.includes(':') ? 0 : ipWords(vtep)[0]!,
    vtep6: (vtep.includes(':') ? [...ipWords(vtep)] : [0, 0, 0, 0]) as [
      number,
      number,
      number,
      number,
    ],
  }
  const senders = Array.from({ length: UDP_ENTROPY_SOCKETS }, (_, i) =>
    open(vtep, FIRST + i, noChecksum),
  )
  const fd = open(vtep, VXLAN_PORT)
  expect(native.udpSegments(fd)).toBe(true)
  const record = { ...NOTHING, role: PORT_ROLE.UNDERLAY, fds: [fd], moreFds: senders }
  return new UdpPort({ ...place.context(1, record, fd), node })
}

describe.each([
  ['IPv4', FOUR],
  ['IPv6', SIX],
])('%s', (_, family) => {
  test('a received payload has the outer headers that it had on the wire', () => {
    const port = underlay(family)
    const peer = open(family.peer, 40_001)
    const data = [
      Uint8Array.of(8, 0, 0, 0, 1, 2, 3),
      new Uint8Array(0),
      new Uint8Array(1700).fill(9),
    ]
    for (const each of data) {
      place.sendDatagram(peer, each, ipBytes(family.vtep), VXLAN_PORT, 0xb9)
    }
    expect(place.receive(port)).toBe(3)
    const { view } = place.arena
    for (const [i, payload] of data.entries()) {
      const at = place.batch.l3[i]!
      const length = place.batch.len[i]!
      expect(at).toBeGreaterThanOrEqual(place.batch.frame[i]! + FRAME_HEADROOM)
      let l4: number
      if (family === FOUR) {
        expect(ipv4.check(view, at, length)).toBe(OK)
        expect(ipv4.totalLength(view, at)).toBe(length)
        // `parse` drops a header whose checksum is wrong.
        expect(ipv4.verifyChecksum(view, at)).toBe(true)
        expect(ipv4.protocol(view, at)).toBe(PROTO_UDP)
        expect([ipv4.tos(view, at), ipv4.ttl(view, at)]).toEqual([0xb9, 64])
        expect(ipv4.source(view, at)).toBe(ipWords(family.peer)[0])
        expect(ipv4.destination(view, at)).toBe(ipWords(family.vtep)[0])
        l4 = at + 20
      } else {
        expect(ipv6.check(view, at, length)).toBe(OK)
        expect(40 + ipv6.payloadLength(view, at)).toBe(length)
        expect(ipv6.nextHeader(view, at)).toBe(PROTO_UDP)
        expect([ipv6.trafficClass(view, at), ipv6.hopLimit(view, at)]).toEqual([0xb9, 64])
        expect(ipv6.addressText(view, at + 8)).toBe(family.peer)
        expect(ipv6.addressText(view, at + 24)).toBe(family.vtep)
        l4 = at + 40
      }
      expect(udp.check(view, l4, at + length - l4)).toBe(OK)
      expect([udp.sourcePort(view, l4), udp.destinationPort(view, l4)]).toEqual([
        40_001,
        VXLAN_PORT,
      ])
      expect(udp.checksum(view, l4)).toBe(0)
      expect(place.packet(i).slice(l4 + 8 - at)).toEqual(payload)
    }
    expect(place.frames.leaked()).toBe(3)
    place.releaseAll()
    expect(place.frames.leaked()).toBe(0)
  })

  test('a packet is sent by its outer header: destination, TOS, a socket by its source port', () => {
    const port = underlay(family)
    const peer = open(family.peer, VXLAN_PORT)
    const lanes = [0, 3, 7, 3]
    for (const [i, lane] of lanes.entries()) {
      const flow = { src: family.vtep, dst: family.peer, sport: 0xc000 + lane, dport: VXLAN_PORT }
      place.put(udpPacket({ ...flow, tos: 0x2 }, Uint8Array.of(1, 2, i)))
    }
    expect(place.sendAll(port)).toEqual([0, 0, 0, 0])
    const got = lanes.map(() => place.datagram(peer))
    expect(got.map(each => each.port)).toEqual([FIRST, FIRST + 3, FIRST + 3, FIRST + 7])
    expect(got.map(each => [...each.data])).toEqual([
      [1, 2, 0],
      [1, 2, 1],
      [1, 2, 3],
      [1, 2, 2],
    ])
    expect(got.every(each => each.tos === 0x2)).toBe(true)
    expect(place.portCounters(1)).toMatchObject({
      TX_PACKETS: 4,
      TX_BYTES: 4 * (outerBytes(family) + 3),
      TX_DROPS: 0,
    })
    expect(place.frames.leaked()).toBe(0)
  })
})

describe.each([
  ['IPv4', FOUR],
  ['IPv6', SIX],
])('segments, %s', (_, family) => {
  /** Sends `packets`, one behind the other in a large frame, to the VTEP; at most `segments` in a datagram. */
  function sendSegments(fd: number, packets: Uint8Array[], tos = 0, segments = UDP_SEGMENTS): void {
    const { view, bytes } = place.arena
    const [descriptors, metas] = [place.scratch.lane(0), place.scratch.laneMeta(0)]
    const frame = place.frames.large.take()
    let at = frame
    for (const [k, packet] of packets.entries()) {
      bytes.set(packet, at)
      view.setUint32(descriptors + k * 8, at, true)
      view.setUint32(descriptors + k * 8 + 4, packet.length, true)
      const meta = metas + k * 32
      bytes.fill(0, meta, meta + 32)
      view.setUint8(meta, family === FOUR ? 4 : 6)
      view.setUint8(meta + 1, tos)
      view.setUint16(meta + 4, VXLAN_PORT, true)
      bytes.set(ipBytes(family.vtep), meta + 8)
      at += packet.length
    }
    expect(native.udpSend(fd, descriptors, metas, packets.length, segments)).toBe(packets.length)
    place.frames.release(frame)
  }
  const payload = (length: number, seed: number) =>
    Uint8Array.from({ length }, (__, i) => (i * 7 + seed) & 255)

  test('a datagram of segments is packets, in order, each with an outer header', () => {
    const port = underlay(family)
    const peer = open(family.peer, 40_001)
    const sent = [...Array(40).keys()].map(k => payload(k === 39 ? 77 : 1400, k))
    sendSegments(peer, sent, 0x2)
    // And what is small comes in a small frame.
    const acks = [...Array(10).keys()].map(k => payload(74, k))
    sendSegments(peer, acks)
    expect(place.receive(port)).toBe(50)
    const { view } = place.arena
    const header = family === FOUR ? 28 : 48
    for (const [i, each] of [...sent, ...acks].entries()) {
      const at = place.batch.l3[i]!
      expect(place.packet(i).slice(header)).toEqual(each)
      expect(place.frames.isLarge(at)).toBe(false)
      expect(place.batch.gsoSize[i]).toBe(0)
      const total = each.length + header
      if (family === FOUR) {
        expect(ipv4.totalLength(view, at)).toBe(total)
        expect(ipv4.verifyChecksum(view, at)).toBe(true)
        expect(ipv4.source(view, at)).toBe(ipWords(family.peer)[0])
        expect(ipv4.tos(view, at)).toBe(i < 40 ? 2 : 0)
      } else {
        expect(40 + ipv6.payloadLength(view, at)).toBe(total)
        expect(ipv6.addressText(view, at + 8)).toBe(family.peer)
        expect(ipv6.trafficClass(view, at)).toBe(i < 40 ? 2 : 0)
      }
      expect(udp.udpLength(view, at + header - 8)).toBe(each.length + 8)
    }
    expect(place.frames.leaked()).toBe(50)
    place.releaseAll()
    expect(place.frames.leaked()).toBe(0)
  })

  test('neighbours in a lane leave as one datagram', () => {
    const port = underlay(family)
    const peer = open(family.peer, VXLAN_PORT)
    native.udpSegments(peer)
    const flow = { src: family.vtep, dst: family.peer, sport: 0xc003 }
    for (let k = 0; k < 20; k++) place.put(udpPacket(flow, payload(k === 19 ? 5 : 1000, k)))
    expect(place.sendAll(port).every(reason => reason === 0)).toBe(true)
    place.await(peer)
    const { view, bytes } = place.arena
    const { small, large, received, receivedMeta } = place.scratch
    const frames = [place.frames.small.take(), place.frames.large.take()]
    view.setUint32(small, frames[0]!, true)
    view.setUint32(large, frames[1]!, true)
    expect(native.udpReceive(peer, 1, small, 2048, large, 65_507, received, receivedMeta)).toBe(1)
    expect(view.getUint32(received + 4, true)).toBe(19_005)
    expect(view.getUint16(receivedMeta + 6, true)).toBe(1000)
    expect(bytes.slice(frames[1]! + 3000, frames[1]! + 4000)).toEqual(payload(1000, 3))
    for (const frame of frames) place.frames.release(frame)
    expect(place.portCounters(1)).toMatchObject({
      TX_PACKETS: 20,
      TX_BYTES: 19_005 + 20 * outerBytes(family),
      TX_DROPS: 0,
    })
    expect(place.frames.leaked()).toBe(0)
  })

  test('the superframe of a kernel peer stays one packet', () => {
    const port = underlay(family)
    const peer = open(family.peer, 40_001)
    const macs = { innerDst: '02:00:00:00:00:01', innerSrc: '02:00:00:00:00:02' }
    const outer = { src: family.peer, dst: family.vtep, ...macs }
    const header = family === FOUR ? 28 : 48
    const inner4 = { src: '10.244.2.9', dst: '10.244.1.2', partial: true }
    const inner6 = { src: 'fd44:0:0:2::9', dst: 'fd44:0:0:1::2', partial: true }
    for (const inner of [
      tcpPacket(inner4, payload(60_000, 1)),
      tcpPacket(inner6, payload(60_000, 2)),
    ]) {
      const datagram = vxlan({ ...outer, inner }).slice(header)
      sendSegments(peer, [datagram])
      expect(place.receive(port)).toBe(1)
      expect(place.frames.isLarge(place.batch.frame[0]!)).toBe(true)
      expect(place.batch.gsoSize[0]).toBe(0)
      expect(place.packet(0).slice(header)).toEqual(datagram)
      place.releaseAll()
    }
    // A UDP one comes with the size of its own segments, long or short.
    for (const length of [9000, 900]) {
      for (const flow of [inner4, inner6]) {
        const datagram = vxlan({ ...outer, inner: udpPacket(flow, payload(length, 3)) }).slice(
          header,
        )
        const size = length / 3
        sendSegments(
          peer,
          [...Array(Math.ceil(datagram.length / size)).keys()].map(k =>
            datagram.slice(k * size, (k + 1) * size),
          ),
        )
        expect(place.receive(port)).toBe(1)
        expect(place.batch.gsoSize[0]).toBe(size)
        expect(place.packet(0).slice(header)).toEqual(datagram)
        place.releaseAll()
      }
    }
    expect(place.frames.leaked()).toBe(0)
  })

  test('hostile segments: tiny ones are bounded, large ones dropped, none lost uncounted', () => {
    const port = underlay(family)
    const peer = open(family.peer, 40_001)
    // Tiny: a datagram of one-byte packets.
    const tiny = [...Array(UDP_SEGMENTS).keys()].map(k => payload(1, k))
    sendSegments(peer, tiny)
    expect(place.receive(port)).toBe(UDP_SEGMENTS)
    expect(place.packet(63).at(-1)).toBe(tiny[63]![0])
    place.releaseAll()
    // Longer than a small frame: the loopback device carries them.
    sendSegments(peer, [payload(1900, 1), payload(1900, 2), payload(10, 3)])
    expect(place.receive(port)).toBe(0)
    expect(place.drops(DROP_NO_FRAMES)).toBe(3)
    // Who receives counts what a batch has; these came in, too, and are in none.
    expect(place.portCounters(1)).toMatchObject({ RX_PACKETS: 3, RX_BYTES: 3810, RX_DROPS: 3 })
    expect(place.frames.leaked()).toBe(0)
  })

  test('too few frames: what has one is there, what has none is counted', () => {
    const port = underlay(family)
    const peer = open(family.peer, 40_001)
    sendSegments(
      peer,
      [...Array(10).keys()].map(k => payload(1000, k)),
    )
    const taken: number[] = []
    while (place.frames.small.free > 5) taken.push(place.frames.small.take())
    expect(place.receive(port)).toBe(5)
    expect(place.drops(DROP_NO_FRAMES)).toBe(5)
    expect(place.portCounters(1)).toMatchObject({ RX_PACKETS: 5, RX_BYTES: 5000, RX_DROPS: 5 })
    place.releaseAll()
    for (const frame of taken.splice(0)) place.frames.release(frame)
    // Without large frames a long datagram is cut off and dropped.
    sendSegments(peer, [payload(1000, 1), payload(1000, 2)])
    while (place.frames.large.free > 0) taken.push(place.frames.large.take())
    expect(place.receive(port)).toBe(1)
    expect(place.batch.drop[0]).toBe(DROP_NO_FRAMES)
    place.releaseAll()
    for (const frame of taken) place.frames.release(frame)
    expect(place.frames.leaked()).toBe(0)
  })
})

describe('a device that fails', () => {
  test.each([
    ['ENETDOWN', ERRNO.ENETDOWN],
    ['ENODEV', ERRNO.ENODEV],
    ['EADDRNOTAVAIL', ERRNO.EADDRNOTAVAIL],
  ])(
    '%s: it is asked now and then, the rest is dropped by its reason, and then it works',
    (_, error) => {
      const port = underlay(FOUR)
      const peer = open(FOUR.peer, VXLAN_PORT)
      const flow = { src: FOUR.vtep, dst: FOUR.peer, sport: 0xc003 }
      const fails = (...[, descriptors, metas, count]: Parameters<typeof native.udpSend>) => {
        for (let k = 0; k < count; k++) {
          place.arena.view.setUint32(
            descriptors + k * DESCRIPTOR_BYTES + DESCRIPTOR_LENGTH,
            error,
            true,
          )
        }
        place.arena.view.setUint8(metas + META.FLAGS, 0)
        return 0
      }
      const send = vi.spyOn(native, 'udpSend').mockImplementation(fails)
      const started = performance.now()
      const reasons = new Set<number>()
      try {
        for (let burst = 0; burst < 20; burst++) {
          for (let k = 0; k < 8; k++) place.put(udpPacket(flow, Uint8Array.of(k)))
          for (const reason of place.sendAll(port)) reasons.add(reason)
        }
        expect([...reasons]).toEqual([0, DROP_PORT_DOWN])
        const tries = 1 + (performance.now() - started) / PORT_RETRY_MS
        expect(send.mock.calls.length).toBeLessThanOrEqual(tries)
      } finally {
        send.mockRestore()
      }
      expect(place.portCounters(1)).toMatchObject({ DEVICE: DEVICE.DOWN, TX_PACKETS: 0 })
      for (let sent = false; !sent; ) {
        place.put(udpPacket(flow, Uint8Array.of(7)))
        sent = place.sendAll(port)[0] === 0
      }
      expect([...place.datagram(peer).data]).toEqual([7])
      expect(place.portCounters(1).DEVICE).toBe(DEVICE.UP)
      expect(place.frames.leaked()).toBe(0)
    },
  )

  test('a peer without a route is no matter of the device', () => {
    const port = underlay(FOUR)
    const peer = open(FOUR.peer, VXLAN_PORT)
    for (let k = 0; k < 20; k++) {
      const dst = k % 2 === 0 ? '203.0.113.1' : FOUR.peer
      place.put(udpPacket({ src: FOUR.vtep, dst, sport: 0xc000 }, Uint8Array.of(k)))
    }
    expect(place.sendAll(port)).toEqual(Array(20).fill(0))
    for (let k = 1; k < 20; k += 2) expect([...place.datagram(peer).data]).toEqual([k])
    expect(place.portCounters(1)).toMatchObject({ DEVICE: DEVICE.UP, TX_PACKETS: 10, TX_DROPS: 10 })
  })
})

describe('segments that the kernel will not have', () => {
  const flow = { src: FOUR.vtep, dst: FOUR.peer, sport: 0xc003 }

  /** Bursts of segments by the port; how many packets a message each was allowed. */
  function bursts(port: UdpPort, count: number, dst = FOUR.peer, bytes = 100): number[] {
    const send = vi.spyOn(native, 'udpSend')
    try {
      for (let burst = 0; burst < count; burst++) {
        for (let k = 0; k < 4; k++) place.put(udpPacket({ ...flow, dst }, new Uint8Array(bytes)))
        place.sendAll(port)
      }
      return send.mock.calls.map(call => call[4])
    } finally {
      send.mockRestore()
    }
  }

  test('packets too long for the way to one peer turn them off for nobody', () => {
    const port = underlay(FOUR)
    namespace.ip('route', 'add', 'local', '127.0.0.3', 'dev', 'lo', 'mtu', 'lock', '600')
    open('127.0.0.3', VXLAN_PORT)
    const most = UDP_REFUSALS * 3
    expect(bursts(port, most, '127.0.0.3', 1000)).toEqual(Array(most).fill(UDP_SEGMENTS))
    expect(bursts(port, 1)).toEqual([UDP_SEGMENTS])
    expect(place.portCounters(1)).toMatchObject({ TX_PACKETS: (most + 1) * 4, TX_DROPS: 0 })
  })

  test('no route for any packet of a message neither', () => {
    const port = underlay(FOUR)
    const most = UDP_REFUSALS * 2
    expect(bursts(port, most, '203.0.113.1')).toEqual(Array(most).fill(UDP_SEGMENTS))
    expect(place.portCounters(1)).toMatchObject({ TX_PACKETS: 0, TX_DROPS: most * 4 })
  })

  test('where it has none they are tried again after a while', () => {
    // Without checksums it refuses them.
    const port = underlay(FOUR, true)
    open(FOUR.peer, VXLAN_PORT)
    bursts(port, UDP_REFUSALS)
    expect(bursts(port, 2)).toEqual([1, 1])
    const now = native.monotonic()
    const clock = vi.spyOn(native, 'monotonic').mockReturnValue(now + UDP_RETRY_MS * 1e6)
    try {
      // One refusal is enough then.
      expect(bursts(port, 3)).toEqual([UDP_SEGMENTS, 1, 1])
    } finally {
      clock.mockRestore()
    }
  })
})

describe('limits', () => {
  test('where segments are refused all packets go one by one, after a while at once', () => {
    const port = underlay(FOUR, true)
    const peer = open(FOUR.peer, VXLAN_PORT)
    const flow = { src: FOUR.vtep, dst: FOUR.peer, sport: 0xc003 }
    const send = vi.spyOn(native, 'udpSend')
    try {
      for (let burst = 0; burst < UDP_REFUSALS + 2; burst++) {
        for (let k = 0; k < 4; k++) place.put(udpPacket(flow, Uint8Array.of(k, 2, 3)))
        place.sendAll(port)
        for (let k = 0; k < 4; k++)
          expect(place.datagram(peer).data).toEqual(Uint8Array.of(k, 2, 3))
      }
      expect(send.mock.calls.map(call => call[4])).toEqual([
        ...Array(UDP_REFUSALS).fill(UDP_SEGMENTS),
        1,
        1,
      ])
    } finally {
      send.mockRestore()
    }
    const sent = (UDP_REFUSALS + 2) * 4
    expect(place.portCounters(1)).toMatchObject({ TX_PACKETS: sent, TX_DROPS: 0 })
    expect(place.frames.leaked()).toBe(0)
  })

  test('more packets than a lane gathers are sent in between', () => {
    const port = underlay(FOUR)
    const peer = open(FOUR.peer, VXLAN_PORT)
    for (let i = 0; i < 200; i++) {
      place.put(udpPacket({ src: FOUR.vtep, dst: FOUR.peer, sport: 0xc005 }, Uint8Array.of(i)))
    }
    expect(place.sendAll(port).every(reason => reason === 0)).toBe(true)
    for (let i = 0; i < 200; i++) expect(place.datagram(peer).data[0]).toBe(i)
    expect(place.portCounters(1).TX_PACKETS).toBe(200)
    expect(place.frames.leaked()).toBe(0)
  })

  test('without free frames nothing is taken; it waits in the socket', () => {
    const port = underlay(FOUR)
    const peer = open(FOUR.peer, 40_001)
    place.sendDatagram(peer, Uint8Array.of(1), ipBytes(FOUR.vtep), VXLAN_PORT)
    const taken: number[] = []
    for (let f = place.frames.small.take(); f !== 0; f = place.frames.small.take()) taken.push(f)
    expect(place.receive(port)).toBe(0)
    for (const frame of taken) place.frames.release(frame)
    expect(place.receive(port)).toBe(1)
    place.releaseAll()
    expect(port.receive(place.batch, 64)).toBe(0)
    expect(place.frames.leaked()).toBe(0)
  })

  test('what the kernel refuses is counted, and its frame is free', () => {
    const port = underlay(FOUR)
    // No route; a family that the socket doesn't have.
    place.put(udpPacket({ src: FOUR.vtep, dst: '203.0.113.1', sport: 0xc000 }, Uint8Array.of(1)))
    place.put(udpPacket({ src: SIX.vtep, dst: SIX.peer, sport: 0xc001 }, Uint8Array.of(1)))
    expect(place.sendAll(port)).toEqual([0, 0])
    expect(place.portCounters(1)).toMatchObject({ TX_PACKETS: 0, TX_DROPS: 2 })
    expect(place.drops(DROP_TX_ERROR)).toBe(2)
    expect(place.frames.leaked()).toBe(0)
  })
})
