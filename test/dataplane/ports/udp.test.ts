/**
 * The UDP underlay against sockets of the kernel, on the loopback device of a namespace:
 *
 *   peer :40001 ──► VTEP :4789  receives
 *   peer :4789  ◄── VTEP :50000 … :50007  send
 */
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { ipBytes, ipWords } from '../../../dataplane/addresses.ts'
import { DROP_TX_ERROR } from '../../../dataplane/drops.ts'
import { FRAME_HEADROOM, UDP_ENTROPY_SOCKETS } from '../../../dataplane/limits.ts'
import { PORT_ROLE } from '../../../dataplane/ports/port.ts'
import { UdpPort } from '../../../dataplane/ports/udp.ts'
import { ipv4, ipv6, OK, PROTO_UDP, udp } from '../../../dataplane/wire/index.ts'
import { native } from '../../../native/native.ts'
import { udp as udpPacket } from '../../harness/packets.ts'
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

function open(address: string, port: number): number {
  return track(native.udpOpen(namespace.path, address, port, false, true, 1 << 20))
}

function underlay({ vtep }: Family): UdpPort {
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
  const senders = Array.from({ length: UDP_ENTROPY_SOCKETS }, (_, i) => open(vtep, FIRST + i))
  const fd = open(vtep, VXLAN_PORT)
  const record = { ...NOTHING, role: PORT_ROLE.UNDERLAY, fds: [fd], moreFds: senders }
  const { arena, frames, scratch, counters } = place
  return new UdpPort(1, record, fd, node, arena, frames, scratch, counters)
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
    expect(place.portCounters(1)).toMatchObject({ TX_PACKETS: 4, TX_BYTES: 12, TX_DROPS: 0 })
    expect(place.frames.leaked()).toBe(0)
  })
})

describe('limits', () => {
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
