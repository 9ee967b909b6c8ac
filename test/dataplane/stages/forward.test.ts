// What comes out for what goes in: routing, encapsulation, decapsulation, offloads, ICMP errors.
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { ICMP_ERRORS_OF_SENDER } from '../../../dataplane/limits.ts'
import { COUNTER } from '../../../dataplane/memory/arena.ts'
import { PORT_KIND } from '../../../dataplane/ports/port.ts'
import {
  HOST,
  OWN_VTEP_MAC,
  PEER,
  PEER_VTEP_MAC,
  PEER6,
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
  VTEP6,
} from '../../harness/engine.ts'
import {
  bytesOf,
  checksumsRight,
  concat,
  ethernet,
  icmp,
  ip6Bytes,
  tcp,
  udp,
  vxlan,
} from '../../harness/packets.ts'

const data = Uint8Array.from({ length: 333 }, (_, i) => i & 255)
const macs = { innerDst: OWN_VTEP_MAC, innerSrc: PEER_VTEP_MAC }

let world: TestEngine
beforeEach(() => {
  world = testEngine()
})
afterEach(() => {
  expect(world.leaked()).toBe(0)
})

function ttlLess(packet: Uint8Array): Uint8Array {
  const copy = packet.slice()
  if (copy[0]! >> 4 === 6) copy[7]!--
  else {
    copy[8]!--
    const view = new DataView(copy.buffer)
    const sum = view.getUint16(10) + 0x100
    view.setUint16(10, sum + (sum >>> 16))
  }
  return copy
}

describe('one node', () => {
  test('pod to pod, both families: TTL one less, everything else untouched', () => {
    for (const [src, dst] of [
      ['10.244.1.2', '10.244.1.3'],
      ['fd44:0:0:1::2', 'fd44:0:0:1::3'],
    ] as const) {
      const packet = udp({ src, dst }, data)
      const out = world.send(TUN_POD, packet)
      const type = src.includes(':') ? 0x86dd : 0x0800
      expect(out[VETH_POD]!.map(each => each.bytes)).toEqual([
        ethernet(POD_MAC, VETH_MAC, type, ttlLess(packet)),
      ])
    }
    expect(world.drops()).toEqual({})
  })

  test('pod to the node and to the world leaves by the host port', () => {
    const toNode = udp({ src: '10.244.1.2', dst: '10.244.1.1' }, data)
    const toWorld = udp({ src: '10.244.1.2', dst: '198.51.100.9' }, data)
    expect(world.send(TUN_POD, toNode, toWorld)[HOST]!.map(each => each.bytes)).toEqual([
      ttlLess(toNode),
      ttlLess(toWorld),
    ])
  })

  test('a veth packet with only the pseudo-header sum is handed on as partial, or completed', () => {
    const flow = { src: '10.244.1.3', dst: '10.244.1.2', partial: true }
    for (const packet of [udp(flow, data), tcp(flow, data)]) {
      const out = world.send(VETH_POD, ethernet(VETH_MAC, POD_MAC, 0x0800, packet))[TUN_POD]!
      expect(out).toHaveLength(1)
      expect(out[0]!.partial).toBe(true)
    }
    const remote = udp({ src: '10.244.1.3', dst: '10.244.2.9', partial: true }, data)
    const sent = world.send(VETH_POD, ethernet(VETH_MAC, POD_MAC, 0x0800, remote))[UNDERLAY]!
    expect(checksumsRight(sent[0]!.bytes.slice(14 + 50))).toBe(true)
    expect(world.counter(COUNTER.CHECKSUMS)).toBe(1)
  })

  test("a partial checksum of a pod's own tunnel is completed where the device said", () => {
    const inner = udp({ src: '10.9.0.1', dst: '10.9.0.2', partial: true }, data)
    const packet = udp({ src: '10.244.1.2', dst: '10.244.1.3' }, inner)
    packet.set([0, 0], 26)
    const out = world.send(TUN_POD, {
      bytes: packet,
      partial: true,
      csumStart: 20 + 8 + 20,
      csumOffset: 6,
    })
    const got = out[VETH_POD]![0]!.bytes.slice(14)
    expect(checksumsRight(got.slice(28))).toBe(true)
  })
})

describe('VXLAN', () => {
  test('encapsulation over IPv4: headers, checksum, entropy port, ECN', () => {
    const packet = udp({ src: '10.244.1.2', dst: '10.244.2.9', tos: 2 }, data)
    const [sent] = world.send(TUN_POD, packet)[UNDERLAY]!
    const frame = sent!.bytes
    expect(frame.slice(0, 14)).toEqual(
      ethernet(UNDERLAY_PEER_MAC, UNDERLAY_MAC, 0x0800, new Uint8Array(0)),
    )
    const outer = frame.slice(14)
    const port = (outer[20]! << 8) | outer[21]!
    expect(port).toBeGreaterThanOrEqual(49_152)
    const expected = vxlan({
      src: VTEP,
      dst: PEER,
      ...{ innerDst: PEER_VTEP_MAC, innerSrc: OWN_VTEP_MAC },
      inner: ttlLess(packet),
      tos: 2,
    })
    expected.set([outer[20]!, outer[21]!], 20)
    // A router may fragment it: it has an identification, and the checksum covers that.
    expect(outer[6]! & 0xe0).toBe(0)
    expect((outer[4]! << 8) | outer[5]!).not.toBe(0)
    expected.set(outer.subarray(4, 6), 4)
    expected.set(outer.subarray(10, 12), 10)
    expect(Buffer.from(outer).toString('hex')).toBe(Buffer.from(expected).toString('hex'))
    expect(checksumsRight(outer)).toBe(true)
  })

  test('encapsulation over IPv6 has a full UDP checksum', () => {
    world = testEngine({ underlay: 6 })
    for (const [src, dst] of [
      ['10.244.1.2', '10.244.2.9'],
      ['fd44:0:0:1::2', 'fd44:0:0:2::9'],
    ] as const) {
      const packet = udp({ src, dst }, data)
      const outer = world.send(TUN_POD, packet)[UNDERLAY]![0]!.bytes.slice(14)
      expect(outer.slice(8, 24)).toEqual(ip6Bytes(VTEP6))
      expect(outer.slice(24, 40)).toEqual(ip6Bytes(PEER6))
      expect(checksumsRight(outer)).toBe(true)
      expect(outer.slice(70)).toEqual(ttlLess(packet))
    }
  })

  test('one flow has one source port; many flows have many', () => {
    const ports = new Set<number>()
    for (let sport = 1; sport <= 64; sport++) {
      const packets = [0, 1].map(() => udp({ src: '10.244.1.2', dst: '10.244.2.9', sport }, data))
      const seen = world
        .send(TUN_POD, ...packets)
        [UNDERLAY]!.map(({ bytes }) => (bytes[34]! << 8) | bytes[35]!)
      expect(seen[0]).toBe(seen[1])
      ports.add(seen[0]!)
    }
    expect(ports.size).toBeGreaterThan(55)
  })

  test('decapsulation, over either family, to pods of both kinds', () => {
    for (const [outerSrc, outerDst, type] of [
      [PEER, VTEP, 0x0800],
      [PEER6, VTEP6, 0x86dd],
    ] as const) {
      const inner = tcp({ src: '10.244.2.9', dst: '10.244.1.2' }, data)
      const inner6 = tcp({ src: 'fd44:0:0:2::9', dst: 'fd44:0:0:1::3' }, data)
      const frames = [inner, inner6].map(each =>
        ethernet(
          UNDERLAY_MAC,
          UNDERLAY_PEER_MAC,
          type,
          vxlan({ src: outerSrc, dst: outerDst, ...macs, inner: each }),
        ),
      )
      const out = world.send(UNDERLAY, ...frames)
      expect(out[TUN_POD]!.map(each => each.bytes)).toEqual([ttlLess(inner)])
      expect(out[VETH_POD]!.map(each => each.bytes)).toEqual([
        ethernet(POD_MAC, VETH_MAC, 0x86dd, ttlLess(inner6)),
      ])
    }
    expect(world.drops()).toEqual({})
  })

  test('RFC 6040: congestion that the outer packet met reaches the inner one', () => {
    const expected: [outer: number, inner: number, out: number | 'drop'][] = [
      [0, 0, 0],
      [0, 1, 1],
      [0, 2, 2],
      [0, 3, 3],
      [1, 0, 0],
      [1, 1, 1],
      [1, 2, 1],
      [1, 3, 3],
      [2, 0, 0],
      [2, 1, 1],
      [2, 2, 2],
      [2, 3, 3],
      [3, 0, 'drop'],
      [3, 1, 3],
      [3, 2, 3],
      [3, 3, 3],
    ]
    for (const [src, dst] of [
      ['10.244.2.9', '10.244.1.2'],
      ['fd44:0:0:2::9', 'fd44:0:0:1::2'],
    ] as const) {
      for (const [outer, tos, result] of expected) {
        const inner = udp({ src, dst, tos }, data)
        const frame = ethernet(
          UNDERLAY_MAC,
          UNDERLAY_PEER_MAC,
          0x0800,
          vxlan({ src: PEER, dst: VTEP, ...macs, inner, tos: outer }),
        )
        const out = world.send(UNDERLAY, frame)[TUN_POD]!
        if (result === 'drop') expect(out).toHaveLength(0)
        else {
          const got = out[0]!.bytes
          const ecn = got[0]! >> 4 === 4 ? got[1]! & 3 : (got[1]! >> 4) & 3
          expect([outer, tos, ecn]).toEqual([outer, tos, result])
          expect(checksumsRight(got)).toBe(true)
        }
      }
    }
  })
})

describe('superframes', () => {
  const payload = Uint8Array.from({ length: 5000 }, (_, i) => (i * 7) & 255)

  test('a TCP superframe passes whole to TUN and is cut for the underlay', () => {
    for (const [src, local, remote, gsoType, l4] of [
      ['10.244.1.2', '10.244.1.1', '10.244.2.9', 1, 20],
      ['fd44:0:0:1::2', 'fd44:0:0:1::1', 'fd44:0:0:2::9', 4, 40],
    ] as const) {
      const offload = { partial: true, gsoType, gsoSize: 1300, csumStart: l4, csumOffset: 16 }
      const flow = { src, partial: true, seq: 0xffff_ff00, flags: 0x19 }
      const whole = world.send(TUN_POD, {
        bytes: tcp({ ...flow, dst: local }, payload),
        ...offload,
      })[HOST]!
      expect(whole).toHaveLength(1)
      expect(whole[0]).toMatchObject({ gsoType, gsoSize: 1300, partial: true })
      const cut = world.send(TUN_POD, {
        bytes: tcp({ ...flow, dst: remote }, payload),
        ...offload,
      })[UNDERLAY]!
      const inner = cut.map(each => each.bytes.slice(14 + 50))
      expect(inner.map(each => each.length - l4 - 20)).toEqual([1300, 1300, 1300, 1100])
      expect(inner.every(checksumsRight)).toBe(true)
      expect(concat(...inner.map(each => each.slice(l4 + 20)))).toEqual(payload)
      const seqs = inner.map(each => new DataView(each.buffer).getUint32(l4 + 4))
      expect(seqs).toEqual([0, 1300, 2600, 3900].map(n => (0xffff_ff00 + n) >>> 0))
      expect(inner.map(each => each[l4 + 13])).toEqual([0x10, 0x10, 0x10, 0x19])
    }
  })

  test('a UDP superframe is cut into datagrams', () => {
    const packet = udp({ src: '10.244.1.2', dst: '10.244.2.9', partial: true }, payload)
    const cut = world.send(TUN_POD, {
      bytes: packet,
      partial: true,
      gsoType: 5,
      gsoSize: 999,
      csumStart: 20,
      csumOffset: 6,
    })[UNDERLAY]!
    const inner = cut.map(each => each.bytes.slice(14 + 50))
    expect(inner.map(each => each.length - 28)).toEqual([999, 999, 999, 999, 999, 5])
    expect(inner.every(checksumsRight)).toBe(true)
    expect(concat(...inner.map(each => each.slice(28)))).toEqual(payload)
  })

  test('the superframe of a kernel peer, whole behind one outer header, fits its next hop', () => {
    Object.assign(world.ports[UNDERLAY]!, { kind: PORT_KIND.UDP })
    const overlay = (inner: Uint8Array) =>
      ethernet(
        UNDERLAY_MAC,
        UNDERLAY_PEER_MAC,
        0x0800,
        vxlan({ src: PEER, dst: VTEP, ...macs, inner }),
      )
    for (const [src, dst, gsoType, l4] of [
      ['10.244.2.9', '10.244.1.2', 1, 20],
      ['fd44:0:0:2::9', 'fd44:0:0:1::2', 4, 40],
    ] as const) {
      const flow = { src, dst, ttl: 63, flags: 0x18 }
      const sent = overlay(tcp({ ...flow, partial: true }, payload))
      const [whole] = world.send(UNDERLAY, sent)[TUN_POD]!
      expect(whole).toMatchObject({ gsoType, gsoSize: 1450 - l4 - 20, partial: true })
      expect(whole!.bytes.slice(l4 + 20)).toEqual(payload)
      // A small one, and a datagram, go by as they are; a large segment with a checksum of its own is too big.
      const small = world.send(UNDERLAY, overlay(tcp({ ...flow, partial: true }, data)))[TUN_POD]!
      expect(small[0]).toMatchObject({ gsoType: 0, partial: true })
      expect(world.send(UNDERLAY, overlay(tcp(flow, payload)))[TUN_POD]).toEqual([])
      const datagrams = { bytes: overlay(udp({ ...flow, partial: true }, payload)), gsoSize: 900 }
      const [cut] = world.send(UNDERLAY, datagrams)[TUN_POD]!
      expect(cut).toMatchObject({ gsoType: 5, gsoSize: 900, partial: true })
    }
    // A size for what is no datagram to be cut.
    const tcpWithSize = {
      bytes: overlay(tcp({ src: '10.244.2.9', dst: '10.244.1.2', partial: true }, payload)),
      gsoSize: 900,
    }
    expect(world.send(UNDERLAY, tcpWithSize)[TUN_POD]).toEqual([])
    expect(world.drops().offload).toBe(1)
  })

  test('more segments than a batch holds', () => {
    const packet = udp({ src: '10.244.1.2', dst: '10.244.2.9', partial: true }, payload)
    const cut = world.send(TUN_POD, {
      bytes: packet,
      partial: true,
      gsoType: 5,
      gsoSize: 10,
      csumStart: 20,
      csumOffset: 6,
    })[UNDERLAY]!
    expect(cut).toHaveLength(500)
    expect(cut.every(each => checksumsRight(each.bytes.slice(14 + 50)))).toBe(true)
  })
})

describe('ICMP errors', () => {
  test('time exceeded quotes the packet and comes from the gateway', () => {
    const packet = udp({ src: '10.244.1.2', dst: '10.244.2.9', ttl: 1 }, data)
    const [error] = world.send(TUN_POD, packet)[TUN_POD]!
    expect(error!.bytes.slice(12, 16)).toEqual(Uint8Array.of(10, 244, 1, 1))
    expect([error!.bytes[20], error!.bytes[21]]).toEqual([11, 0])
    expect(error!.bytes.slice(28)).toEqual(packet)
    expect(checksumsRight(error!.bytes)).toBe(true)
  })

  test('packet too big and fragmentation needed carry the MTU of the next hop', () => {
    const [four] = world.send(
      TUN_POD,
      udp({ src: '10.244.1.2', dst: '10.244.2.9' }, new Uint8Array(1500)),
    )[TUN_POD]!
    expect([
      four!.bytes[20],
      four!.bytes[21],
      new DataView(four!.bytes.buffer).getUint16(26),
    ]).toEqual([3, 4, 1450])
    expect(four!.bytes.length).toBe(576)
    expect(checksumsRight(four!.bytes)).toBe(true)
    const [six] = world.send(
      TUN_POD,
      udp({ src: 'fd44:0:0:1::2', dst: 'fd44:0:0:2::9' }, new Uint8Array(1500)),
    )[TUN_POD]!
    expect([six!.bytes[40], six!.bytes[41], new DataView(six!.bytes.buffer).getUint32(44)]).toEqual(
      [2, 0, 1450],
    )
    expect(six!.bytes.length).toBe(1280)
    expect(checksumsRight(six!.bytes)).toBe(true)
  })

  test('unreachable for an address of this node without a pod, back through the tunnel', () => {
    const inner = udp({ src: '10.244.2.9', dst: '10.244.1.77' }, data)
    const frame = ethernet(
      UNDERLAY_MAC,
      UNDERLAY_PEER_MAC,
      0x0800,
      vxlan({ src: PEER, dst: VTEP, ...macs, inner }),
    )
    const [error] = world.send(UNDERLAY, frame)[UNDERLAY]!
    const back = error!.bytes.slice(14 + 50)
    expect([back[20], back[21]]).toEqual([3, 1])
    expect(back.slice(16, 20)).toEqual(Uint8Array.of(10, 244, 2, 9))
    expect(checksumsRight(back)).toBe(true)
  })

  test('never about an ICMP error, a multicast source or a later fragment', () => {
    const quiet = [
      icmp({ src: '10.244.1.2', dst: '10.244.2.9', ttl: 1 }, 3, 1, new Uint8Array(32)),
      icmp({ src: 'fd44:0:0:1::2', dst: 'fd44:0:0:2::9', ttl: 1 }, 1, 0, new Uint8Array(52)),
    ]
    expect(world.send(TUN_POD, ...quiet)[TUN_POD]).toHaveLength(0)
    expect(world.drops()).toEqual({ ttl: 2 })
  })

  describe('are limited', () => {
    const second = 1e9
    const { burst, perSecond } = ICMP_ERRORS_OF_SENDER
    const expired = (src: string, dst = '10.244.2.9') => udp({ src, dst, ttl: 1 }, data)
    let now = 0
    beforeEach(() => {
      now = 0
      world = testEngine({ clock: () => now })
    })

    test('a pod gets a burst of them, then as many as its rate gives', () => {
      const flood = () => {
        const packets = Array.from({ length: 500 }, () => expired('10.244.1.2'))
        return world.send(TUN_POD, ...packets)[TUN_POD]!.length
      }
      expect([flood(), flood()]).toEqual([burst, 0])
      now = second / 10
      expect(flood()).toBe(perSecond / 10)
      now = 100 * second
      expect(flood()).toBe(burst)
      const sent = 2 * burst + perSecond / 10
      expect(world.counter(COUNTER.ICMP_ERRORS)).toBe(sent)
      expect(world.counter(COUNTER.ICMP_LIMITED)).toBe(4 * 500 - sent)
      // Those without an answer count as dropped, too.
      expect(world.drops()).toEqual({ ttl: 2000 })
    })

    test('a pod that floods silences nobody else', () => {
      const flood = Array.from({ length: 5000 }, () => expired('10.244.1.2'))
      expect(world.send(TUN_POD, ...flood)[TUN_POD]).toHaveLength(burst)
      const tooBig = udp({ src: '10.244.1.3', dst: '10.244.2.9' }, new Uint8Array(1500))
      const frame = ethernet(VETH_MAC, POD_MAC, 0x0800, tooBig)
      expect(world.send(VETH_POD, frame)[VETH_POD]).toHaveLength(1)
      expect(world.send(HOST, expired('198.51.100.1'))[HOST]).toHaveLength(1)
    })

    test.each([
      ['10.244.2.9', '10.244.2.8', '10.244.1.3'],
      ['fd44:0:0:2::9', 'fd44:0:0:2::8', 'fd44:0:0:1::3'],
    ])('nor does a pod of another node: %s', (loud, quiet, dst) => {
      const overlay = (src: string) => {
        const inner = expired(src, dst)
        return ethernet(
          UNDERLAY_MAC,
          UNDERLAY_PEER_MAC,
          0x0800,
          vxlan({ src: PEER, dst: VTEP, ...macs, inner }),
        )
      }
      const flood = Array.from({ length: 1000 }, () => overlay(loud))
      expect(world.send(UNDERLAY, ...flood)[UNDERLAY]).toHaveLength(burst)
      expect(world.send(UNDERLAY, overlay(quiet))[UNDERLAY]).toHaveLength(1)
    })
  })

  test('about a superframe, towards a port without large frames', () => {
    const packet = udp(
      { src: '10.244.1.2', dst: '10.244.2.9', partial: true, ttl: 1 },
      new Uint8Array(4000),
    )
    const out = world.send(TUN_POD, {
      bytes: packet,
      partial: true,
      gsoType: 5,
      gsoSize: 1000,
      csumStart: 20,
      csumOffset: 6,
    })
    expect(out[TUN_POD]).toHaveLength(1)
    expect(out[TUN_POD]![0]!.bytes.length).toBe(576)
  })
})

describe('neighbours of veth pods', () => {
  test('discovery that came over the overlay has been through a router, and says so', () => {
    // RFC 4861 sections 6.1 and 7.1: a host believes a hop limit of 255 only.
    const inner = [134, 135, 136, 137].map(type =>
      icmp(
        { src: 'fd44:0:0:2::9', dst: 'fd44:0:0:1::3', ttl: 255 },
        type,
        0,
        concat(new Uint8Array(4), ip6Bytes('fd44:0:0:1::3'), new Uint8Array(16)),
      ),
    )
    const frames = inner.map(packet =>
      ethernet(
        UNDERLAY_MAC,
        UNDERLAY_PEER_MAC,
        0x0800,
        vxlan({ src: PEER, dst: VTEP, ...macs, inner: packet }),
      ),
    )
    const out = world.send(UNDERLAY, ...frames)
    expect(out[VETH_POD]!.map(({ bytes }) => bytes[14 + 7])).toEqual([254, 254, 254, 254])
    expect(out[UNDERLAY]).toEqual([])
  })

  test('ARP is answered with the own MAC', () => {
    const request = concat(
      bytesOf('0001080006040001'),
      bytesOf(POD_MAC),
      Uint8Array.of(10, 244, 1, 3),
      new Uint8Array(6),
      Uint8Array.of(169, 254, 1, 1),
    )
    const [answer] = world.send(VETH_POD, ethernet('ff:ff:ff:ff:ff:ff', POD_MAC, 0x0806, request))[
      VETH_POD
    ]!
    const expected = concat(
      bytesOf('0001080006040002'),
      bytesOf(VETH_MAC),
      Uint8Array.of(169, 254, 1, 1),
      bytesOf(POD_MAC),
      Uint8Array.of(10, 244, 1, 3),
    )
    expect(answer!.bytes).toEqual(ethernet(POD_MAC, VETH_MAC, 0x0806, expected))
  })

  test('a neighbour solicitation is answered with a valid advertisement', () => {
    const body = concat(
      new Uint8Array(4),
      ip6Bytes('fe80::1'),
      Uint8Array.of(1, 1),
      bytesOf(POD_MAC),
    )
    const ask = icmp({ src: 'fd44:0:0:1::3', dst: 'ff02::1:ff00:1', ttl: 255 }, 135, 0, body)
    const [answer] = world.send(VETH_POD, ethernet('33:33:ff:00:00:01', POD_MAC, 0x86dd, ask))[
      VETH_POD
    ]!
    const packet = answer!.bytes.slice(14)
    expect(answer!.bytes.slice(0, 6)).toEqual(bytesOf(POD_MAC))
    expect([packet[40], packet[7]]).toEqual([136, 255])
    expect(packet.slice(8, 24)).toEqual(ip6Bytes('fe80::1'))
    expect(packet.slice(24, 40)).toEqual(ip6Bytes('fd44:0:0:1::3'))
    expect(packet.slice(48, 64)).toEqual(ip6Bytes('fe80::1'))
    expect(packet.slice(66, 72)).toEqual(bytesOf(VETH_MAC))
    expect(checksumsRight(packet)).toBe(true)
  })
})
