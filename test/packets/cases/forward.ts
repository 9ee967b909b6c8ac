/** Packets that go where they are meant to go. */
import { PEER6, VTEP6 } from '../../harness/engine.ts'
import { concat, icmp, ip, tcp, udp } from '../../harness/packets.ts'
import type { PacketCase } from '../case.ts'
import {
  FAMILIES,
  type Family,
  FOUR,
  fromPeer,
  fromVeth,
  type Outer,
  payload,
  SIX,
  simple,
  toPeer,
  toVeth,
  WORLD,
} from './frames.ts'

const data = payload(64)

/** One packet of each protocol. */
function each(src: string, dst: string, ttl: number): Uint8Array[] {
  const echo = src.includes(':') ? 128 : 8
  return [
    udp({ src, dst, ttl }, data),
    udp({ src, dst, ttl }, new Uint8Array(0)),
    tcp({ src, dst, ttl, seq: 77, flags: 2 }, new Uint8Array(0)),
    tcp({ src, dst, ttl }, data),
    icmp({ src, dst, ttl }, echo, 0, data),
    ip({ src, dst, ttl, proto: 132, payload: data }),
  ]
}

function podToPod(family: Family): PacketCase {
  const { tun, veth } = family
  return {
    ...simple('Between a TUN pod and a veth pod of one node: the TTL is one less.', 'tun', []),
    in: [
      ...each(tun, veth, 64).map(bytes => ({ port: 'tun' as const, packet: { bytes } })),
      ...each(veth, tun, 64).map(bytes => ({
        port: 'veth' as const,
        packet: { bytes: fromVeth(bytes) },
      })),
    ],
    out: {
      veth: each(tun, veth, 63).map(bytes => ({ bytes: toVeth(bytes) })),
      tun: each(veth, tun, 63).map(bytes => ({ bytes })),
    },
  }
}

function toOverlay(underlay: 4 | 6): PacketCase {
  const all = (ttl: number) => FAMILIES.flatMap(({ tun, far }) => each(tun, far, ttl))
  return simple(`From a pod to a pod of another node, over IPv${underlay}.`, 'tun', all(64), {
    engine: { underlay },
    out: { underlay: all(63).map(packet => toPeer(packet, { underlay })) },
    counters: { encapsulated: 12 },
  })
}

function fromOverlay(underlay: 4 | 6): PacketCase {
  const to = (pod: 'tun' | 'veth', ttl: number) =>
    FAMILIES.flatMap(family => each(family.far, family[pod], ttl))
  const frames = [...to('tun', 64), ...to('veth', 64)]
  return simple(
    `From a pod of another node to pods of both kinds, over IPv${underlay}.`,
    'underlay',
    frames.map(packet => fromPeer(packet, { underlay })),
    {
      engine: { underlay },
      out: { tun: to('tun', 63), veth: to('veth', 63).map(toVeth) },
      counters: { decapsulated: 24 },
    },
  )
}

const toTheNode = (ttl: number) => [
  ...FAMILIES.flatMap(({ tun, gateway }) => each(tun, gateway, ttl)),
  ...each(FOUR.tun, WORLD, ttl),
]
const fromTheNode = (ttl: number) => FAMILIES.flatMap(({ gateway, far }) => each(gateway, far, ttl))

/** RFC 6040 section 4.1: the outer packet says what the inner one says. */
function ecnEncap(underlay: 4 | 6): PacketCase {
  const sent = (ttl: number) =>
    FAMILIES.flatMap(({ tun: src, far: dst }) =>
      [0, 1, 2, 3].map(ecn => ({ ecn, packet: udp({ src, dst, ttl, tos: 0xb8 | ecn }, data) })),
    )
  return simple(
    `ECN goes into the outer header, the rest of the traffic class does not; over IPv${underlay}.`,
    'tun',
    sent(64).map(each => each.packet),
    {
      engine: { underlay },
      out: { underlay: sent(63).map(({ ecn, packet }) => toPeer(packet, { underlay, tos: ecn })) },
      counters: { encapsulated: 8 },
    },
  )
}

/** RFC 6040 section 4.2, figure 4: [outer, inner, what the pod gets]. */
const ECN: readonly [outer: number, inner: number, result: number | 'drop'][] = [
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

function ecnDecap(underlay: 4 | 6): PacketCase {
  const packet = ({ far: src, tun: dst }: Family, tos: number, ttl: number) =>
    udp({ src, dst, ttl, tos }, data)
  return simple(
    `All sixteen combinations of RFC 6040 for both inner families, over IPv${underlay}.`,
    'underlay',
    FAMILIES.flatMap(family =>
      ECN.map(([outer, inner]) =>
        fromPeer(packet(family, 0xb8 | inner, 64), { underlay, tos: outer }),
      ),
    ),
    {
      engine: { underlay },
      out: {
        tun: FAMILIES.flatMap(family =>
          ECN.filter(([, , result]) => result !== 'drop').map(([, , result]) =>
            packet(family, 0xb8 | (result as number), 63),
          ),
        ),
      },
      drops: { 'vxlan-ecn': 2 },
      counters: { decapsulated: 32 },
    },
  )
}

/** A first, a middle and a last fragment. */
function fragments4(ttl: number): Uint8Array[] {
  const { tun: src, far: dst } = FOUR
  const whole = udp({ src, dst }, payload(100)).slice(20)
  return [
    ip({ src, dst, ttl, proto: 17, id: 9, fragment: 0x2000, payload: whole.slice(0, 48) }),
    ip({ src, dst, ttl, proto: 17, id: 9, fragment: 0x2006, payload: whole.slice(48, 96) }),
    ip({ src, dst, ttl, proto: 17, id: 9, fragment: 0x000c, payload: whole.slice(96) }),
  ]
}

/** RFC 8200 section 4.5: next header 17, offset and M flag, identification 9. */
function fragments6(ttl: number): Uint8Array[] {
  const { tun: src, far: dst } = SIX
  const whole = udp({ src, dst }, payload(100)).slice(40)
  const header = (offsetAndMore: number) =>
    Uint8Array.of(17, 0, offsetAndMore >> 8, offsetAndMore & 255, 0, 0, 0, 9)
  const part = (offsetAndMore: number, from: number, to?: number) =>
    ip({ src, dst, ttl, proto: 44, payload: concat(header(offsetAndMore), whole.slice(from, to)) })
  return [part(1, 0, 48), part(48 | 1, 48, 96), part(96, 96)]
}

/** A record-route option of seven bytes and an end of options (RFC 791 section 3.1). */
function withOptions(ttl: number): Uint8Array {
  const { tun: src, far: dst } = FOUR
  const plain = udp({ src, dst, ttl }, data)
  const packet = concat(plain.slice(0, 20), Uint8Array.of(7, 7, 4, 0, 0, 0, 0, 0), plain.slice(20))
  const view = new DataView(packet.buffer)
  packet[0] = 0x47
  view.setUint16(2, packet.length)
  view.setUint16(10, 0)
  let sum = 0
  for (let at = 0; at < 28; at += 2) sum += view.getUint16(at)
  view.setUint16(10, ~((sum >>> 16) + (sum & 0xffff)))
  return packet
}

/** Hop-by-hop options, destination options and a routing header, all of eight bytes, in front of UDP. */
function withExtensions(ttl: number): Uint8Array {
  const { tun: src, far: dst } = SIX
  const pad = [0, 1, 4, 0, 0, 0, 0]
  const chain = Uint8Array.from([60, ...pad, 43, ...pad, 17, 0, 4, 0, 0, 0, 0, 0])
  return ip({ src, dst, ttl, proto: 0, payload: concat(chain, udp({ src, dst }, data).slice(40)) })
}

const odd = (ttl: number) => [
  ...fragments4(ttl),
  ...fragments6(ttl),
  withOptions(ttl),
  withExtensions(ttl),
]

export const forward: Record<string, PacketCase> = {
  'pod-to-pod-ipv4': podToPod(FOUR),
  'pod-to-pod-ipv6': podToPod(SIX),
  'pod-to-node': simple(
    'From a pod to the node and to the world: by the host port.',
    'tun',
    toTheNode(64),
    {
      out: { host: toTheNode(63) },
    },
  ),
  'node-to-pod': simple(
    'From the node to a veth pod.',
    'host',
    FAMILIES.flatMap(({ gateway, veth }) => each(gateway, veth, 64)),
    { out: { veth: FAMILIES.flatMap(({ gateway, veth }) => each(gateway, veth, 63)).map(toVeth) } },
  ),
  'node-to-overlay': simple('From the node to a pod of another node.', 'host', fromTheNode(64), {
    out: { underlay: fromTheNode(63).map(packet => toPeer(packet)) },
    counters: { encapsulated: 12 },
  }),
  'overlay-to-node': simple(
    'From a pod of another node to this node.',
    'underlay',
    FAMILIES.flatMap(({ far, gateway }) => each(far, gateway, 64)).map(packet => fromPeer(packet)),
    {
      out: { host: FAMILIES.flatMap(({ far, gateway }) => each(far, gateway, 63)) },
      counters: { decapsulated: 12 },
    },
  ),
  'overlay-udp-checksum': simple(
    'An outer checksum that is there and right, over IPv4; and one that is absent over IPv6 (RFC 6935).',
    'underlay',
    [checksummed(), unchecked()],
    {
      out: {
        tun: FAMILIES.map(({ far, tun }) => udp({ src: far, dst: tun, ttl: 63 }, data)),
      },
      counters: { decapsulated: 2 },
    },
  ),
  'overlay-partial-checksum': {
    ...simple(
      'A kernel peer on this machine: the inner checksum is still partial, the outer one is written as if it were not.',
      'underlay',
      FAMILIES.flatMap(family => [localOffload(family, 4), localOffload(family, 6)]),
      { counters: { decapsulated: 4 } },
    ),
    out: {
      tun: FAMILIES.flatMap(({ far: src, tun: dst }) =>
        [0, 1].map(() => ({
          bytes: tcp({ src, dst, ttl: 63, partial: true }, data),
          partial: true,
        })),
      ),
    },
  },
  'pod-to-overlay-ipv4': toOverlay(4),
  'pod-to-overlay-ipv6': toOverlay(6),
  'overlay-to-pod-ipv4': fromOverlay(4),
  'overlay-to-pod-ipv6': fromOverlay(6),
  'ecn-encapsulation-ipv4': ecnEncap(4),
  'ecn-encapsulation-ipv6': ecnEncap(6),
  'ecn-decapsulation-ipv4': ecnDecap(4),
  'ecn-decapsulation-ipv6': ecnDecap(6),
  'fragments-and-options': simple(
    'Fragments, IP options and extension headers pass as they are.',
    'tun',
    odd(64),
    { out: { underlay: odd(63).map(packet => toPeer(packet)) }, counters: { encapsulated: 8 } },
  ),
  padding: simple(
    'What lies behind the end of the IP packet (padding of short frames) goes no further.',
    'veth',
    FAMILIES.map(({ veth, tun }) =>
      concat(fromVeth(udp({ src: veth, dst: tun }, data)), new Uint8Array(13).fill(0xee)),
    ),
    {
      out: {
        tun: FAMILIES.map(({ veth, tun }) => udp({ src: veth, dst: tun, ttl: 63 }, data)),
      },
    },
  ),
}

/** An outer IPv4 packet with a UDP checksum. */
function checksummed(): Uint8Array {
  const { far, tun } = FOUR
  const inner = udp({ src: far, dst: tun }, data)
  const frame = fromPeer(inner)
  const rebuilt = udp(
    { src: '192.0.2.2', dst: '192.0.2.1', sport: 50_000, dport: 4789 },
    frame.slice(42),
  )
  return concat(frame.slice(0, 14), rebuilt)
}

/** An outer checksum over the completed inner packet, around the one that is still partial. */
function localOffload({ far: src, tun: dst }: Family, underlay: 4 | 6): Uint8Array {
  const [left, right] = underlay === 4 ? ['192.0.2.2', '192.0.2.1'] : [PEER6, VTEP6]
  const around = (inner: Uint8Array) => {
    const frame = fromPeer(inner, { underlay })
    const at = underlay === 4 ? 34 : 54
    const flow = { src: left!, dst: right!, sport: 50_000, dport: 4789 }
    return concat(frame.slice(0, 14), udp(flow, frame.slice(at + 8)))
  }
  const complete = around(tcp({ src, dst }, data))
  const partial = around(tcp({ src, dst, partial: true }, data))
  const sum = underlay === 4 ? 14 + 26 : 14 + 46
  partial.set(complete.slice(sum, sum + 2), sum)
  return partial
}

/** An outer IPv6 packet without one. */
function unchecked(): Uint8Array {
  const { far, tun } = SIX
  const frame = fromPeer(udp({ src: far, dst: tun }, data), { underlay: 6 } satisfies Outer)
  frame.set([0, 0], 14 + 40 + 6)
  return frame
}
