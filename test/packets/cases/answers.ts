/** Packets that the node answers itself: ICMP errors, ARP, neighbour discovery. */
import { POD_MAC, VETH_MAC } from '../../harness/engine.ts'
import { bytesOf, concat, ethernet, icmp, ip4Bytes, ip6Bytes, udp } from '../../harness/packets.ts'
import type { PacketCase } from '../case.ts'
import {
  BROADCAST,
  FAMILIES,
  type Family,
  FOUR,
  fromPeer,
  fromVeth,
  GONE,
  payload,
  SIX,
  STRANGER_MAC,
  simple,
  toPeer,
  toVeth,
  WORLD,
} from './frames.ts'

const data = payload(40)

export interface Kind {
  type4: number
  code4: number
  type6: number
  mtu?: number
}
export const TIME_EXCEEDED: Kind = { type4: 11, code4: 0, type6: 3 }
export const UNREACHABLE: Kind = { type4: 3, code4: 1, type6: 1 }
const TOO_BIG: Kind = { type4: 3, code4: 4, type6: 2, mtu: 1450 }

/**
 * The ICMP error about `quoted`: from the node's gateway address to the sender; with the class of
 * network control over IPv4 (RFC 1812 section 4.3.2.5), cut to 576 bytes (section 4.3.2.3), over IPv6 to
 * 1280 (RFC 4443 section 2.4).
 */
export function error(
  kind: Kind,
  family: Family,
  to: string,
  quoted: Uint8Array,
  ttl = 64,
): Uint8Array {
  const mtu = kind.mtu ?? 0
  const rest = Uint8Array.of(0, 0, mtu >> 8, mtu & 255)
  const body = (most: number) => concat(rest, quoted.slice(0, most))
  if (!family.gateway.includes(':')) {
    const flow = { src: family.gateway, dst: to, ttl, tos: 0xc0 }
    return icmp(flow, kind.type4, kind.code4, body(576 - 28))
  }
  return icmp({ src: family.gateway, dst: to, ttl }, kind.type6, 0, body(1280 - 48))
}

function timeExceeded(): PacketCase {
  const packets = FAMILIES.map(({ tun: src, far: dst }) => udp({ src, dst, ttl: 1 }, data))
  const frames = FAMILIES.map(({ veth: src, far: dst }) => udp({ src, dst, ttl: 1 }, data))
  const out = (pod: 'tun' | 'veth', quoted: Uint8Array[]) =>
    FAMILIES.map((family, k) => error(TIME_EXCEEDED, family, family[pod], quoted[k]!))
  return {
    ...simple('The TTL runs out: both kinds of pod are told, in both families.', 'tun', [], {
      drops: { ttl: 4 },
      counters: { icmpErrors: 4 },
    }),
    in: [
      ...packets.map(bytes => ({ port: 'tun' as const, packet: { bytes } })),
      ...frames.map(bytes => ({ port: 'veth' as const, packet: { bytes: fromVeth(bytes) } })),
    ],
    out: {
      tun: out('tun', packets).map(bytes => ({ bytes })),
      veth: out('veth', frames).map(bytes => ({ bytes: toVeth(bytes) })),
    },
  }
}

/** As `packet`, 1,500 bytes, with the TTL that it has when its size is looked at. */
function large({ tun: src, far: dst }: Family, ttl: number): Uint8Array {
  return udp({ src, dst, ttl, fragment: 0x4000 }, payload(src.includes(':') ? 1452 : 1472))
}

/** Exactly the MTU. */
function fitting({ tun: src, far: dst }: Family, ttl: number): Uint8Array {
  return udp({ src, dst, ttl }, payload(src.includes(':') ? 1402 : 1422))
}

/** A superframe whose segments are larger than the next hop's MTU: 1,500 bytes of payload each. */
function largeSegments(ttl: number): Uint8Array {
  const { tun: src, far: dst } = FOUR
  return udp({ src, dst, ttl, partial: true }, payload(3000))
}

const nobody = (family: Family) => udp({ src: family.far, dst: family.nobody }, data)
const routeless = udp({ src: FOUR.far, dst: '192.88.99.1' }, data)

/** RFC 1122 section 3.2.2, RFC 4443 section 2.4 (e): what no error is ever sent about. */
const silent: Uint8Array[] = [
  icmp({ src: FOUR.tun, dst: FOUR.far, ttl: 1 }, 3, 1, new Uint8Array(32)),
  icmp({ src: FOUR.tun, dst: FOUR.far, ttl: 1 }, 11, 0, new Uint8Array(32)),
  icmp({ src: SIX.tun, dst: SIX.far, ttl: 1 }, 1, 0, new Uint8Array(52)),
  // A later fragment.
  udp({ src: FOUR.tun, dst: FOUR.far, ttl: 1, fragment: 0x2002 }, data),
]

export function arp(
  change: Partial<{ op: number; mac: string; sender: string; target: string; head: string }> = {},
): Uint8Array {
  const { op = 1, mac = POD_MAC, sender = FOUR.veth, target = '169.254.1.1' } = change
  return concat(
    bytesOf(change.head ?? '000108000604'),
    Uint8Array.of(0, op),
    bytesOf(mac),
    ip4Bytes(sender),
    op === 1 ? new Uint8Array(6) : bytesOf(POD_MAC),
    ip4Bytes(target),
  )
}

function arpFrame(packet: Uint8Array, dst = BROADCAST): Uint8Array {
  return ethernet(dst, POD_MAC, 0x0806, packet)
}

function arpAnswer(target: string): Uint8Array {
  const answer = arp({ op: 2, mac: VETH_MAC, sender: target, target: FOUR.veth })
  return ethernet(POD_MAC, VETH_MAC, 0x0806, answer)
}

export function solicitation(
  src: string,
  target: string,
  change: { ttl?: number; code?: number; type?: number; optionLength?: number } = {},
): Uint8Array {
  const option = src === '::' ? [] : [Uint8Array.of(1, change.optionLength ?? 1), bytesOf(POD_MAC)]
  const { ttl = 255, code = 0, type = 135 } = change
  const body = concat(new Uint8Array(4), ip6Bytes(target), ...option)
  return icmp({ src, dst: 'ff02::1:ff00:1', ttl }, type, code, body)
}

export function solicited(packet: Uint8Array): Uint8Array {
  return fromVeth(packet, POD_MAC, '33:33:ff:00:00:01')
}

/** Router, solicited, override; the target's address is our MAC (RFC 4861 section 4.4). */
function advertisement(target: string, to: string): Uint8Array {
  const body = concat(
    Uint8Array.of(0xe0, 0, 0, 0),
    ip6Bytes(target),
    Uint8Array.of(2, 1),
    bytesOf(VETH_MAC),
  )
  return toVeth(icmp({ src: target, dst: to, ttl: 255 }, 136, 0, body))
}

export const answers: Record<string, PacketCase> = {
  'time-exceeded': timeExceeded(),
  'fragmentation-needed': simple(
    'Too large for the next hop (IPv4): code 4 with its MTU, and 576 bytes at the most. What just fits passes.',
    'tun',
    [large(FOUR, 64), fitting(FOUR, 64)],
    {
      out: {
        tun: [error(TOO_BIG, FOUR, FOUR.tun, large(FOUR, 63))],
        underlay: [toPeer(fitting(FOUR, 63))],
      },
      drops: { mtu: 1 },
      counters: { icmpErrors: 1, encapsulated: 1 },
    },
  ),
  'packet-too-big': simple(
    'The same over IPv6 (RFC 8201), 1280 bytes at the most.',
    'tun',
    [large(SIX, 64), fitting(SIX, 64)],
    {
      out: {
        tun: [error(TOO_BIG, SIX, SIX.tun, large(SIX, 63))],
        underlay: [toPeer(fitting(SIX, 63))],
      },
      drops: { mtu: 1 },
      counters: { icmpErrors: 1, encapsulated: 1 },
    },
  ),
  'superframe-too-big': {
    ...simple("A superframe's segments must fit the next hop, not the superframe.", 'tun', [], {
      drops: { mtu: 1 },
      counters: { icmpErrors: 1 },
    }),
    in: [
      {
        port: 'tun',
        packet: {
          bytes: largeSegments(64),
          partial: true,
          csumStart: 20,
          csumOffset: 6,
          gsoType: 5,
          gsoSize: 1500,
        },
      },
    ],
    out: { tun: [{ bytes: error(TOO_BIG, FOUR, FOUR.tun, largeSegments(63)) }] },
  },
  unreachable: simple(
    'An address of this node that no pod has: a pod of this node is told.',
    'tun',
    FAMILIES.map(family => udp({ src: family.tun, dst: family.nobody }, data)),
    {
      out: {
        tun: FAMILIES.map(family =>
          error(
            UNREACHABLE,
            family,
            family.tun,
            udp({ src: family.tun, dst: family.nobody }, data),
          ),
        ),
      },
      drops: { unreachable: 2 },
      counters: { icmpErrors: 2 },
    },
  ),
  'unreachable-through-the-overlay': simple(
    'And a pod of another node, back through VXLAN.',
    'underlay',
    FAMILIES.map(family => fromPeer(nobody(family))),
    {
      out: {
        underlay: FAMILIES.map(family =>
          toPeer(error(UNREACHABLE, family, family.far, nobody(family))),
        ),
      },
      drops: { unreachable: 2 },
      counters: { icmpErrors: 2, encapsulated: 2, decapsulated: 2 },
    },
  ),
  'no-route': simple('No route at all.', 'underlay', [fromPeer(routeless)], {
    out: { underlay: [toPeer(error(UNREACHABLE, FOUR, FOUR.far, routeless))] },
    drops: { 'no-route': 1 },
    counters: { icmpErrors: 1, encapsulated: 1, decapsulated: 1 },
  }),
  'error-that-cannot-return': simple(
    'There is no way back to the sender of the packet, or none that leads to the host.',
    'host',
    [
      udp({ src: GONE, dst: FOUR.nobody }, data),
      udp({ src: '192.88.99.1', dst: FOUR.nobody }, data),
      udp({ src: FOUR.far, dst: FOUR.nobody }, data),
    ],
    { drops: { unreachable: 3 } },
  ),
  'error-that-would-reach-another': simple(
    "Another node sends in the name of this node's pods, and of the node: no error leads them to it.",
    'underlay',
    FAMILIES.flatMap(family =>
      [family.tun, family.veth, family.gateway].map(src =>
        fromPeer(udp({ src, dst: family.nobody }, data)),
      ),
    ),
    { drops: { unreachable: 6 }, counters: { decapsulated: 6 } },
  ),
  'no-error-about': simple('ICMP errors and later fragments get no answer.', 'tun', silent, {
    drops: { ttl: 4 },
  }),
  'arp-answered': simple(
    'Whatever a veth pod asks for, the node answers with its own MAC.',
    'veth',
    ['169.254.1.1', FOUR.tun, WORLD].map(target => arpFrame(arp({ target }))),
    { out: { veth: ['169.254.1.1', FOUR.tun, WORLD].map(arpAnswer) } },
  ),
  'arp-quiet': simple(
    "A probe, and an announcement of the pod's own address, stay unanswered: nobody else has it.",
    'veth',
    [arpFrame(arp({ sender: '0.0.0.0', target: FOUR.veth })), arpFrame(arp({ target: FOUR.veth }))],
    { drops: { handled: 2 } },
  ),
  'arp-refused': simple(
    'Replies, other kinds of ARP, short ones, targets that no host can have; senders that are not the pod.',
    'veth',
    [
      arpFrame(arp({ op: 2 })),
      arpFrame(arp({ head: '000608000604' })),
      arpFrame(arp({ head: '000186dd0610' })),
      arpFrame(arp().slice(0, 27)),
      arpFrame(arp({ target: '224.0.0.251' })),
      arpFrame(arp({ target: '127.0.0.1' })),
      arpFrame(arp({ sender: FOUR.tun })),
      arpFrame(arp({ mac: STRANGER_MAC })),
    ],
    { drops: { 'arp-malformed': 6, 'arp-spoof': 2 } },
  ),
  'nd-answered': simple(
    'Neighbour solicitations, from the address of the pod and from its link-local one.',
    'veth',
    [solicited(solicitation(SIX.veth, 'fe80::1')), solicited(solicitation('fe80::42', SIX.tun))],
    { out: { veth: [advertisement('fe80::1', SIX.veth), advertisement(SIX.tun, 'fe80::42')] } },
  ),
  'nd-quiet': simple(
    "Duplicate address detection, a question for the pod's own address, router solicitations and advertisements of neighbours stay unanswered.",
    'veth',
    [
      solicited(solicitation('::', SIX.veth)),
      solicited(solicitation('fe80::42', SIX.veth)),
      solicited(icmp({ src: 'fe80::42', dst: 'ff02::2', ttl: 255 }, 133, 0, new Uint8Array(4))),
      solicited(solicitation('fe80::42', SIX.veth, { type: 136 })),
    ],
    { drops: { handled: 4 } },
  ),
  'nd-refused': simple(
    'From behind a router, with a code, a wrong checksum, an option of no length, a multicast target; a router advertisement, a redirect; and in the name of another.',
    'veth',
    [
      solicited(solicitation(SIX.veth, 'fe80::1', { ttl: 254 })),
      solicited(solicitation(SIX.veth, 'fe80::1', { code: 1 })),
      solicited(solicitation(SIX.veth, 'fe80::1').with(-1, 0x55)),
      solicited(solicitation('::', SIX.veth).with(42, 0).with(43, 0)),
      solicited(solicitation(SIX.veth, 'fe80::1', { optionLength: 0 })),
      solicited(solicitation(SIX.veth, 'fe80::1', { optionLength: 2 })),
      solicited(solicitation(SIX.veth, 'ff02::1')),
      solicited(icmp({ src: 'fe80::42', dst: 'ff02::1', ttl: 255 }, 134, 0, new Uint8Array(12))),
      solicited(icmp({ src: 'fe80::42', dst: SIX.veth, ttl: 255 }, 137, 0, new Uint8Array(36))),
      solicited(solicitation(SIX.tun, 'fe80::1')),
    ],
    { drops: { 'nd-malformed': 9, 'nd-spoof': 1 } },
  ),
}
