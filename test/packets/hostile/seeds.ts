/**
 * Good packets of every kind, and kinds of bad ones, between the ends of the test engine (harness/engine.ts): what
 * a pod with a raw socket, another node and the world may send.
 */
import type { MemPacket } from '../../../dataplane/ports/mem.ts'
import {
  HOST,
  OWN_VTEP_MAC,
  PEER,
  PEER_VTEP_MAC,
  POD_MAC,
  TUN_POD,
  UNDERLAY,
  UNDERLAY_MAC,
  UNDERLAY_PEER_MAC,
  VETH_MAC,
  VETH_POD,
  VTEP,
} from '../../harness/engine.ts'
import {
  bytesOf,
  concat,
  ethernet,
  icmp,
  ip,
  ip4Bytes,
  ip6Bytes,
  tcp,
  udp,
  vxlan,
} from '../../harness/packets.ts'

type Random = (below: number) => number

export interface Sent {
  port: number
  packet: MemPacket
}

/** Ends by family: both pods, one of another node, the world, the node's gateway. */
export const ENDS = {
  4: {
    tun: '10.244.1.2',
    veth: '10.244.1.3',
    far: '10.244.2.9',
    world: '198.51.100.7',
    node: '10.244.1.1',
  },
  6: {
    tun: 'fd44:0:0:1::2',
    veth: 'fd44:0:0:1::3',
    far: 'fd44:0:0:2::9',
    world: '2001:db8:9::7',
    node: 'fd44:0:0:1::1',
  },
} as const
type End = keyof (typeof ENDS)[4]
const NAMES = ['tun', 'veth', 'far', 'world', 'node'] as const
const BY_PORT: Record<End, number> = {
  ...{ tun: TUN_POD, veth: VETH_POD, far: UNDERLAY, world: HOST, node: HOST },
}

const PORTS = [80, 80, 80, 81, 53, 4789, 0, 0xffff]
const DEEPEST = 10
const MOST_TUNNELS = 4

const pick = <T>(random: Random, of: readonly T[]): T => of[random(of.length)]!
const bytes = (random: Random, n: number): Uint8Array =>
  Uint8Array.from({ length: n }, () => random(256))

export type Ends = Readonly<Record<4 | 6, Readonly<Record<End, string>>>>

/** An IP packet from one of `ends`, in its own name or another's. */
export interface Hostile {
  from: End
  src: string
  dst: string
  bytes: Uint8Array
}

/** One of them, at random. */
export function hostilePacket(random: Random, ends: Ends): Hostile {
  const family = random(2) === 0 ? 4 : 6
  // Many between those ends that a test is likely to let speak.
  const likely = random(2) === 0
  const from = likely ? pick(random, ['veth', 'far', 'tun'] as const) : pick(random, NAMES)
  const to = likely && from !== 'tun' ? 'tun' : pick(random, NAMES)
  const named = random(8) === 0 ? pick(random, NAMES) : from
  const [src, dst] = [ends[family][named], ends[family][to]]
  return { from, src, dst, bytes: packetOf(random, family, src, dst) }
}

/** One for a port of the test engine. */
export function hostile(random: Random): Sent {
  const one = hostilePacket(random, ENDS)
  const port = BY_PORT[one.from]
  if (port === UNDERLAY) {
    const macs = { innerDst: OWN_VTEP_MAC, innerSrc: PEER_VTEP_MAC }
    const outer = vxlan({ src: PEER, dst: VTEP, ...macs, inner: one.bytes })
    return { port, packet: { bytes: ethernet(UNDERLAY_MAC, UNDERLAY_PEER_MAC, 0x0800, outer) } }
  }
  if (port === VETH_POD) {
    return { port, packet: { bytes: hostileFrame(random, one, VETH_MAC, POD_MAC) } }
  }
  if (random(4) !== 0) return { port, packet: { bytes: one.bytes } }
  // As whoever has a packet socket may say it: a checksum to be put anywhere.
  const csumStart = 4 * random(30)
  const csumOffset = pick(random, [0, 2, 6, 16])
  return { port, packet: { bytes: one.bytes, partial: true, csumStart, csumOffset } }
}

/** A pod's frame with the packet: mostly plain; VLAN tags, SNAP, LLC; ARP and neighbour discovery. */
export function hostileFrame(
  random: Random,
  { src, dst, bytes: inner }: Hostile,
  node: string,
  pod: string,
): Uint8Array {
  const type = inner[0]! >> 4 === 4 ? 0x0800 : 0x86dd
  const tag = (kind: number) => Uint8Array.of(kind >> 8, kind & 255, 0, random(256))
  const typed = concat(Uint8Array.of(type >> 8, type & 255), inner)
  const macs = concat(bytesOf(node), bytesOf(pod))
  switch (random(24)) {
    case 0:
      return concat(macs, tag(0x8100), typed)
    case 1:
      return concat(macs, tag(0x88a8), tag(0x8100), typed)
    case 2:
      return concat(macs, Uint8Array.of(0, 8 + inner.length, 0xaa, 0xaa, 3, 0, 0, 0), typed)
    case 3:
      return concat(macs, Uint8Array.of(0, 3 + inner.length, 6, 6, 3), inner)
    case 4:
      return arp(random, src, dst, pod)
    case 5:
      return solicitation(random, src, dst, node, pod)
    default:
      return concat(macs, typed)
  }
}

function arp(random: Random, src: string, dst: string, pod: string): Uint8Array {
  const [four, other] = [src, dst].map(each => (each.includes(':') ? ENDS[4].veth : each))
  const head = Uint8Array.of(0, 1, 8, 0, 6, 4, 0, 1 + random(2))
  const body = concat(head, bytesOf(pod), ip4Bytes(four!), new Uint8Array(6), ip4Bytes(other!))
  return ethernet('ff:ff:ff:ff:ff:ff', pod, 0x0806, body)
}

function solicitation(
  random: Random,
  src: string,
  dst: string,
  node: string,
  pod: string,
): Uint8Array {
  const [from, target] = [src, dst].map(each => (each.includes(':') ? each : ENDS[6].veth))
  const body = concat(new Uint8Array(4), ip6Bytes(target!), Uint8Array.of(1, 1), bytesOf(pod))
  const packet = icmp({ src: from!, dst: target!, ttl: 255 }, 133 + random(5), 0, body)
  return ethernet(node, pod, 0x86dd, packet)
}

function packetOf(random: Random, family: 4 | 6, src: string, dst: string): Uint8Array {
  const [proto, segment] = segmentOf(random, src, dst)
  const ttl = pick(random, [64, 64, 64, 2, 1])
  if (random(3) !== 0) {
    return family === 4
      ? ip({ src, dst, proto, ttl, payload: segment })
      : chained(random, src, dst, proto, segment, ttl)
  }
  return fragmentOf(random, family, src, dst, proto, segment)
}

/** The protocol of what lies behind the network header, and its bytes. */
function segmentOf(random: Random, src: string, dst: string): [number, Uint8Array] {
  const six = src.includes(':')
  const header = six ? 40 : 20
  const data = bytes(random, 8 * random(8))
  const flow = { src, dst, sport: pick(random, [4000, 4000, 80, 53]), dport: pick(random, PORTS) }
  const body = (packet: Uint8Array) => packet.subarray(header)
  switch (random(12)) {
    case 0:
      return [
        6,
        body(
          tcp(
            {
              ...flow,
              flags: pick(random, [2, 16, 18, 4, 1, 0, 63]),
              options: bytes(random, 4 * random(10)),
            },
            data,
          ),
        ),
      ]
    case 7:
      return tunnel(random, src, dst, 1 + random(MOST_TUNNELS))
    case 3:
      return [
        132,
        concat(
          Uint8Array.of(flow.sport >> 8, flow.sport & 255, flow.dport >> 8, flow.dport & 255),
          bytes(random, 20),
        ),
      ]
    case 4: {
      const type = six
        ? pick(random, [128, 129, 133, 139, 255])
        : pick(random, [8, 0, 13, 14, 17, 255])
      return [
        six ? 58 : 1,
        body(
          icmp(
            { src, dst },
            type,
            random(4) === 0 ? random(256) : 0,
            concat(Uint8Array.of(255, 255, 0, 1), data),
          ),
        ),
      ]
    }
    case 5: {
      const type = six ? pick(random, [1, 2, 3, 4, 100]) : pick(random, [3, 4, 5, 11, 12])
      // About what the receiver has sent, or somebody else.
      const back = random(4) === 0 ? { src, dst } : { src: dst, dst: src }
      const [proto, about] =
        random(2) === 0
          ? [17, body(udp({ ...back, sport: flow.dport, dport: flow.sport }, data))]
          : segmentOf(random, back.src, back.dst)
      const quoted = ip({ ...back, proto: proto as number, payload: about as Uint8Array })
      return [
        six ? 58 : 1,
        body(
          icmp(
            { src, dst },
            type,
            random(4),
            concat(new Uint8Array(4), quoted.subarray(0, 28 + random(64))),
          ),
        ),
      ]
    }
    case 6:
      return [random(256), bytes(random, random(64))]
    default:
      return [17, body(udp(flow, data))]
  }
}

/** Packets in packets: IP in IP, GRE, VXLAN to a pod. */
function tunnel(random: Random, src: string, dst: string, depth: number): [number, Uint8Array] {
  let inner = udp({ src, dst, sport: 4000, dport: 80 }, bytes(random, 8))
  const six = src.includes(':')
  let proto = six ? 41 : 4
  for (let k = 0; k < depth; k++) {
    const way = random(3)
    if (way === 0) inner = ip({ src, dst, proto, payload: inner })
    else if (way === 1) {
      inner = ip({
        src,
        dst,
        proto: 47,
        payload: concat(Uint8Array.of(0, 0, six ? 0x86 : 8, six ? 0xdd : 0), inner),
      })
    } else {
      const macs = { innerDst: OWN_VTEP_MAC, innerSrc: PEER_VTEP_MAC }
      inner = vxlan({ src, dst, ...macs, inner })
    }
    proto = six ? 41 : 4
  }
  return [proto, inner]
}

/** Extension headers in any order, up to DEEPEST of them, in front of `payload`. */
function chain(random: Random, proto: number, payload: Uint8Array): [number, Uint8Array] {
  let [next, rest] = [proto, payload]
  for (let k = random(3) === 0 ? random(DEEPEST + 1) : random(3); k > 0; k--) {
    const kind = pick(random, [0, 60, 60, 43, 51, 44])
    const units = random(3)
    const header = new Uint8Array(kind === 51 ? 16 : kind === 44 ? 8 : 8 * (units + 1))
    header[0] = next
    if (kind === 51) header[1] = 2
    else if (kind === 44) header[7] = random(4)
    else header[1] = units
    if (kind === 43) header.set([pick(random, [0, 2, 3, 4]), random(2)], 2)
    next = kind
    rest = concat(header, rest)
  }
  return [next, rest]
}

function chained(
  random: Random,
  src: string,
  dst: string,
  proto: number,
  payload: Uint8Array,
  ttl: number,
) {
  const [next, rest] = chain(random, proto, payload)
  return ip({ src, dst, proto: next, ttl, payload: rest })
}

/** A piece of it: first, later, tiny, overlapping; few identifications, so that pieces meet. */
function fragmentOf(
  random: Random,
  family: 4 | 6,
  src: string,
  dst: string,
  proto: number,
  segment: Uint8Array,
): Uint8Array {
  const id = random(4)
  const [next, whole] =
    family === 4
      ? [proto, segment]
      : random(2) === 0
        ? chain(random, proto, segment)
        : [proto, segment]
  const first = random(2) === 0
  const offset = first ? 0 : 8 * random(8)
  const end = offset + 8 * (1 + random(8))
  // What lies behind may be anything.
  const payload =
    first || random(2) === 0 ? whole.subarray(offset, end) : bytes(random, end - offset)
  const more = random(4) !== 0
  if (family === 4) {
    return ip({ src, dst, proto, id, fragment: (offset / 8) | (more ? 0x2000 : 0), payload })
  }
  const header = Uint8Array.of(next, 0, offset >> 8, offset | (more ? 1 : 0), 0, 0, 0, id)
  const part = concat(header, payload)
  return random(4) === 0
    ? chained(random, src, dst, 44, part, 64)
    : ip({ src, dst, proto: 44, payload: part })
}
