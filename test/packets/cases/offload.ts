/** Partial checksums and superframes: what the devices leave to us, and what we leave to them. */
import type { MemPacket } from '../../../dataplane/ports/mem.ts'
import { concat, icmp, tcp, udp } from '../../harness/packets.ts'
import type { PacketCase } from '../case.ts'
import {
  FAMILIES,
  type Family,
  FOUR,
  fromVeth,
  payload,
  SIX,
  simple,
  toPeer,
  toVeth,
} from './frames.ts'

const data = payload(61)
const TCPV4 = 1
const TCPV6 = 4
const UDP_L4 = 5

const headerBytes = (family: Family) => (family === FOUR ? 20 : 40)

/** As a TUN device hands over a packet that is still to be summed. */
function partial(bytes: Uint8Array, family: Family, csumOffset: number): MemPacket {
  return { bytes, partial: true, csumStart: headerBytes(family), csumOffset }
}

function both(flow: { src: string; dst: string; ttl: number; partial: boolean }): Uint8Array[] {
  return [udp(flow, data), tcp(flow, data)]
}

/** A TCP superframe in by the TUN pod, and the segments that it stands for. */
function tcpCut(family: Family): { sent: MemPacket; segments: (dst: string) => Uint8Array[] } {
  const size = 1000
  const whole = payload(3500)
  const PSH_ACK_CWR = 0x98
  const flow = { src: family.tun, seq: 0xffff_fe00 }
  return {
    sent: {
      ...partial(
        tcp({ ...flow, dst: family.far, flags: PSH_ACK_CWR, partial: true, id: 0xfffe }, whole),
        family,
        16,
      ),
      gsoType: family === FOUR ? TCPV4 : TCPV6,
      gsoSize: size,
    },
    segments: dst =>
      [0, 1, 2, 3].map(k =>
        tcp(
          {
            ...flow,
            dst,
            ttl: 63,
            seq: (flow.seq + k * size) >>> 0,
            // CWR only in the first, PSH only in the last.
            flags: 0x10 | (k === 0 ? 0x80 : 0) | (k === 3 ? 0x08 : 0),
            id: (0xfffe + k) & 0xffff,
          },
          whole.slice(k * size, (k + 1) * size),
        ),
      ),
  }
}

function udpCut(family: Family): { sent: MemPacket; segments: Uint8Array[] } {
  const size = 700
  const whole = payload(2000)
  const flow = { src: family.tun, dst: family.far }
  return {
    sent: {
      ...partial(udp({ ...flow, partial: true, id: 5 }, whole), family, 6),
      gsoType: UDP_L4,
      gsoSize: size,
    },
    segments: [0, 1, 2].map(k =>
      udp({ ...flow, ttl: 63, id: 5 + k }, whole.slice(k * size, (k + 1) * size)),
    ),
  }
}

function cut(about: string, sent: MemPacket, segments: readonly Uint8Array[]): PacketCase {
  return {
    ...simple(about, 'tun', [], {
      counters: { segmented: 1, segments: segments.length, encapsulated: segments.length },
    }),
    in: [{ port: 'tun', packet: sent }],
    out: { underlay: segments.map(packet => ({ bytes: toPeer(packet) })) },
  }
}

function whole(family: Family, ttl: number): MemPacket {
  const { tun: src, gateway: dst } = family
  return {
    ...partial(tcp({ src, dst, ttl, partial: true }, payload(3000)), family, 16),
    gsoType: family === FOUR ? TCPV4 : TCPV6,
    // An IPv6 segment of exactly the MTU.
    gsoSize: 1390,
  }
}

/** An ICMPv6 echo whose checksum the pod's kernel has left to the device. */
function partialEcho(ttl: number): Uint8Array {
  const { tun: src, veth: dst } = SIX
  return icmp({ src, dst, ttl }, 128, 0, data)
}

/** A datagram in a tunnel that the pod made itself: the device's sum begins at the inner UDP header. */
function tunnel(ttl: number, finished: boolean): Uint8Array {
  const { tun: src, veth: dst } = FOUR
  const inner = udp({ src: '10.9.0.1', dst: '10.9.0.2', partial: !finished }, data)
  // The outer checksum of such a packet is absent.
  const outer = udp({ src, dst, ttl, dport: 9000 }, inner)
  outer.set([0, 0], 26)
  return outer
}

const superframes = FAMILIES.map(family => tcpCut(family))
const cutForVeth = tcpCut(FOUR)

export const offload: Record<string, PacketCase> = {
  'checksum-partial-kept': {
    ...simple(
      'A veth packet that carries only the pseudo-header sum goes to TUN as it is, and is marked.',
      'veth',
      [],
    ),
    in: FAMILIES.flatMap(({ veth: src, tun: dst }) =>
      both({ src, dst, ttl: 64, partial: true }).map(bytes => ({
        port: 'veth' as const,
        packet: { bytes: fromVeth(bytes) },
      })),
    ),
    out: {
      tun: FAMILIES.flatMap(({ veth: src, tun: dst }) =>
        both({ src, dst, ttl: 63, partial: true }).map(bytes => ({ bytes, partial: true })),
      ),
    },
  },
  'checksum-completed': {
    ...simple(
      'For ports that take no partial checksums (veth without metadata, the underlay) it is completed.',
      'tun',
      [],
    ),
    in: FAMILIES.flatMap(family =>
      [family.veth, family.far].flatMap(dst =>
        both({ src: family.tun, dst, ttl: 64, partial: true }).map((bytes, k) => ({
          port: 'tun' as const,
          packet: partial(bytes, family, k === 0 ? 6 : 16),
        })),
      ),
    ),
    out: {
      veth: FAMILIES.flatMap(({ tun: src, veth: dst }) =>
        both({ src, dst, ttl: 63, partial: false }).map(bytes => ({ bytes: toVeth(bytes) })),
      ),
      underlay: FAMILIES.flatMap(({ tun: src, far: dst }) =>
        both({ src, dst, ttl: 63, partial: false }).map(bytes => ({ bytes: toPeer(bytes) })),
      ),
    },
    counters: { encapsulated: 4, checksums: 8 },
  },
  'checksum-metadata': {
    ...simple('Ports with TX checksum metadata get it partial, inside VXLAN too.', 'veth', [], {
      engine: { partialChecksums: true },
    }),
    in: FAMILIES.flatMap(({ veth: src, far: dst }) =>
      both({ src, dst, ttl: 64, partial: true }).map(bytes => ({
        port: 'veth' as const,
        packet: { bytes: fromVeth(bytes) },
      })),
    ),
    out: {
      underlay: FAMILIES.flatMap(({ veth: src, far: dst }) =>
        both({ src, dst, ttl: 63, partial: true }).map(bytes => ({
          bytes: toPeer(bytes),
          partial: true,
        })),
      ),
    },
    counters: { encapsulated: 4 },
  },
  'checksum-before-ipv6-underlay': {
    ...simple(
      'Over IPv6 the outer checksum covers the inner packet: that one is completed first, where the port does not.',
      'veth',
      [],
      { engine: { underlay: 6 } },
    ),
    in: both({ src: FOUR.veth, dst: FOUR.far, ttl: 64, partial: true }).map(bytes => ({
      port: 'veth' as const,
      packet: { bytes: fromVeth(bytes) },
    })),
    out: {
      underlay: both({ src: FOUR.veth, dst: FOUR.far, ttl: 63, partial: false }).map(bytes => ({
        bytes: toPeer(bytes, { underlay: 6 }),
      })),
    },
    counters: { encapsulated: 2, checksums: 2 },
  },
  'checksum-metadata-ipv6-underlay': {
    ...simple(
      'Where the port completes it, the outer checksum is that of the completed packet.',
      'veth',
      [],
      { engine: { underlay: 6, partialChecksums: true } },
    ),
    in: FAMILIES.flatMap(({ veth: src, far: dst }) =>
      both({ src, dst, ttl: 64, partial: true }).map(bytes => ({
        port: 'veth' as const,
        packet: { bytes: fromVeth(bytes) },
      })),
    ),
    out: {
      underlay: FAMILIES.flatMap(({ veth: src, far: dst }) => {
        const later = both({ src, dst, ttl: 63, partial: true })
        return both({ src, dst, ttl: 63, partial: false }).map((finished, k) => {
          const bytes = toPeer(finished, { underlay: 6 })
          bytes.set(later[k]!, bytes.length - finished.length)
          return { bytes, partial: true }
        })
      }),
    },
    counters: { encapsulated: 4 },
  },
  'checksum-of-a-tunnel': {
    ...simple(
      "A sum that the device placed inside a pod's own tunnel is completed there.",
      'tun',
      [],
    ),
    in: [
      {
        port: 'tun',
        packet: { bytes: tunnel(64, false), partial: true, csumStart: 48, csumOffset: 6 },
      },
    ],
    out: { veth: [{ bytes: toVeth(tunnel(63, true)) }] },
  },
  'checksum-icmpv6': {
    ...simple('ICMPv6 is summed over a pseudo-header too, and may come partial.', 'tun', []),
    in: [
      {
        port: 'tun',
        packet: partial(withPseudoOnly(partialEcho(64)), SIX, 2),
      },
    ],
    out: { veth: [{ bytes: toVeth(partialEcho(63)) }] },
    counters: { checksums: 1 },
  },
  'segments-tcp-ipv4': cut(
    'A TCP superframe is cut for the underlay: sequence numbers, flags, IPv4 ids, checksums.',
    superframes[0]!.sent,
    superframes[0]!.segments(FOUR.far),
  ),
  'segments-tcp-ipv6': cut(
    'The same over IPv6.',
    superframes[1]!.sent,
    superframes[1]!.segments(SIX.far),
  ),
  'segments-udp-ipv4': cut(
    'A UDP superframe becomes datagrams.',
    udpCut(FOUR).sent,
    udpCut(FOUR).segments,
  ),
  'segments-udp-ipv6': cut('The same over IPv6.', udpCut(SIX).sent, udpCut(SIX).segments),
  'segments-for-veth': {
    ...simple('A veth pod gets segments too.', 'tun', [], {
      counters: { segmented: 1, segments: 4 },
    }),
    in: [{ port: 'tun', packet: readdressed(cutForVeth.sent) }],
    out: { veth: cutForVeth.segments(FOUR.veth).map(bytes => ({ bytes: toVeth(bytes) })) },
  },
  'superframe-whole': {
    ...simple('Between TUN ports a superframe stays whole.', 'tun', []),
    in: FAMILIES.map(family => ({ port: 'tun' as const, packet: whole(family, 64) })),
    out: { host: FAMILIES.map(family => whole(family, 63)) },
  },
  'no-frames': {
    ...simple(
      'Without small frames the rest of a superframe that must be cut is lost, and counted by its segments.',
      'tun',
      [],
      {
        engine: { smallFrames: 1 },
        drops: { 'no-frames': 2 },
        counters: { segmented: 1, segments: 3, encapsulated: 1 },
      },
    ),
    in: [{ port: 'tun', packet: udpCut(FOUR).sent }],
    out: { underlay: [{ bytes: toPeer(udpCut(FOUR).segments[0]!) }] },
  },
}

/** The superframe of `tcpCut(FOUR)`, to the veth pod. */
function readdressed(sent: MemPacket): MemPacket {
  const { tun: src, veth: dst } = FOUR
  const data = sent.bytes.slice(40)
  const bytes = tcp({ src, dst, seq: 0xffff_fe00, flags: 0x98, partial: true, id: 0xfffe }, data)
  return { ...sent, bytes }
}

/** An ICMPv6 packet with only the folded pseudo-header sum in its checksum field. */
function withPseudoOnly(packet: Uint8Array): Uint8Array {
  const length = packet.length - 40
  let sum = 58 + length
  for (let at = 8; at < 40; at += 2) sum += (packet[at]! << 8) | packet[at + 1]!
  while (sum > 0xffff) sum = (sum >>> 16) + (sum & 0xffff)
  return concat(packet.slice(0, 42), Uint8Array.of(sum >> 8, sum & 255), packet.slice(44))
}
