/** Packets that go no further: forged, foreign, malformed. */
import { PEER, PEER_VTEP_MAC, PEER6, POD_MAC, VETH_MAC, VTEP, VTEP6 } from '../../harness/engine.ts'
import { concat, ethernet, icmp, ip, tcp, udp, vxlan } from '../../harness/packets.ts'
import type { PacketCase } from '../case.ts'
import {
  FAMILIES,
  FOUR,
  fromPeer,
  fromVeth,
  GONE,
  onUnderlay,
  patched,
  payload,
  SIX,
  STRANGER_MAC,
  simple,
  toPeer,
  WORLD,
} from './frames.ts'

const data = payload(40)
const own4 = udp({ src: FOUR.tun, dst: FOUR.far }, data)
const own6 = udp({ src: SIX.tun, dst: SIX.far }, data)
const inner4 = udp({ src: FOUR.far, dst: FOUR.tun }, data)
const inner6 = udp({ src: SIX.far, dst: SIX.tun }, data)
const flow4 = { src: FOUR.tun, dst: FOUR.far }
const flow6 = { src: SIX.tun, dst: SIX.far }

/** What a pod sends that would like to be a node: a packet for another pod, in VXLAN. */
function inVxlan(src: string, dst: string): Uint8Array {
  return vxlan({ src, dst, innerDst: PEER_VTEP_MAC, innerSrc: POD_MAC, inner: inner4 })
}

/** Offset of the UDP checksum in a frame of the underlay, over IPv4 and over IPv6. */
const OUTER_SUM4 = 14 + 20 + 6
const OUTER_SUM6 = 14 + 40 + 6

/** Hop-by-hop options, nine times. */
const deepChain = concat(
  ...Array.from({ length: 9 }, (_, k) => Uint8Array.of(k === 8 ? 17 : 0, 0, 1, 4, 0, 0, 0, 0)),
  own6.slice(40),
)

export const refused: Record<string, PacketCase> = {
  'spoofed-source': simple("A pod sends in another's name, or in the node's.", 'tun', [], {
    drops: { 'source-ip': 8 },
  }),
  'spoofed-mac': simple(
    'A veth pod sends from a MAC that is not its own.',
    'veth',
    [
      fromVeth(udp({ src: FOUR.veth, dst: FOUR.tun }, data), STRANGER_MAC),
      fromVeth(udp({ src: SIX.veth, dst: SIX.tun }, data), VETH_MAC),
    ],
    { drops: { 'source-mac': 2 } },
  ),
  'foreign-frames': simple(
    'Frames for another MAC, of another EtherType, and shorter than their header.',
    'veth',
    [
      fromVeth(udp({ src: FOUR.veth, dst: FOUR.tun }, data), POD_MAC, STRANGER_MAC),
      ethernet(VETH_MAC, POD_MAC, 0x88cc, data),
      ethernet(VETH_MAC, POD_MAC, 0x8100, concat(Uint8Array.of(0, 5, 8, 0), own4)),
      fromVeth(own4).slice(0, 13),
      new Uint8Array(0),
    ],
    { drops: { 'l2-foreign': 1, ethertype: 2, 'l2-truncated': 2 } },
  ),
  'foreign-frames-underlay': simple(
    "On the underlay ARP is the kernel's, and so is what is not for us.",
    'underlay',
    [
      ethernet(STRANGER_MAC, POD_MAC, 0x0800, fromPeer(inner4).slice(14)),
      patched(fromPeer(inner4), 12, 0x08, 0x06),
    ],
    { drops: { 'l2-foreign': 1, ethertype: 1 } },
  ),
  'malformed-ipv4': simple(
    'Versions, header lengths, total lengths and header checksums that are wrong.',
    'tun',
    [
      new Uint8Array(0),
      own4.slice(0, 19),
      own4.slice(0, own4.length - 1),
      patched(own4, 0, 0x55),
      patched(own4, 0, 0x05),
      patched(own4, 0, 0x44),
      patched(own4, 0, 0x4f),
      patched(own4, 2, 0, 19),
      patched(own4, 8, 63),
    ],
    { drops: { 'ip-truncated': 3, 'ip-version': 2, 'ip-header': 2, 'ip-checksum': 2 } },
  ),
  'malformed-ipv6': simple(
    'Cut short, jumbograms, and chains of extension headers without end.',
    'tun',
    [
      own6.slice(0, 39),
      own6.slice(0, own6.length - 1),
      patched(own6, 4, 0xff, 0xff),
      ip({ ...flow6, proto: 0, payload: Uint8Array.of(17, 200, 0, 0, 0, 0, 0, 0) }),
      ip({ ...flow6, proto: 43, payload: Uint8Array.of(17, 0) }),
      ip({ ...flow6, proto: 44, payload: Uint8Array.of(17, 0, 0) }),
      ip({ ...flow6, proto: 51, payload: Uint8Array.of(17, 255, 0, 0, 0, 0, 0, 0) }),
      ip({ ...flow6, proto: 0, payload: deepChain }),
    ],
    { drops: { 'ip-truncated': 3, 'ip-header': 5 } },
  ),
  'malformed-transport': simple(
    'TCP, UDP and ICMP headers that do not fit.',
    'tun',
    [
      ip({ ...flow4, proto: 6, payload: new Uint8Array(19) }),
      ip({ ...flow4, proto: 6, payload: patched(tcp(flow4, data).slice(20), 12, 0x40) }),
      ip({
        ...flow4,
        proto: 6,
        payload: patched(tcp(flow4, new Uint8Array(0)).slice(20), 12, 0xf0),
      }),
      ip({ ...flow4, proto: 17, payload: new Uint8Array(7) }),
      ip({ ...flow4, proto: 17, payload: patched(own4.slice(20), 4, 0, 7) }),
      ip({ ...flow4, proto: 17, payload: patched(own4.slice(20), 4, 0, 49) }),
      ip({ ...flow4, proto: 1, payload: new Uint8Array(7) }),
      ip({ ...flow6, proto: 58, payload: new Uint8Array(7) }),
    ],
    { drops: { 'l4-truncated': 8 } },
  ),
  'malformed-offload': {
    ...simple('Offload fields that do not fit their packet.', 'tun', [], { drops: { offload: 5 } }),
    in: [
      // A TCP superframe of UDP; an IPv6 one of IPv4; one without a partial checksum; sums outside.
      { bytes: own4, partial: true, csumStart: 20, csumOffset: 6, gsoType: 1, gsoSize: 8 },
      {
        ...{ bytes: tcp({ ...flow4, partial: true }, data), partial: true },
        ...{ csumStart: 20, csumOffset: 16, gsoType: 4, gsoSize: 8 },
      },
      { bytes: own4, gsoType: 5, gsoSize: 8 },
      { bytes: own4, partial: true, csumStart: 4000, csumOffset: 6 },
      { bytes: own4, partial: true, csumStart: 20, csumOffset: 4000 },
    ].map(packet => ({ port: 'tun', packet })),
  },
  'not-unicast': simple(
    'Multicast, broadcast, unspecified and link-local destinations: the overlay carries none of them.',
    'tun',
    [
      ...['224.0.0.251', '240.0.0.1', '255.255.255.255', '0.0.0.0'].map(dst =>
        udp({ src: FOUR.tun, dst }, data),
      ),
      ...['ff02::fb', 'ff0e::1', '::', '::1', 'fe80::1'].map(dst =>
        udp({ src: SIX.tun, dst }, data),
      ),
    ],
    { drops: { multicast: 9 } },
  ),
  'vxlan-foreign-vni': simple(
    'Another VNI, in both underlay families.',
    'underlay',
    [
      fromPeer(inner4, { vni: 2 }),
      fromPeer(inner4, { vni: 0x10001 }),
      fromPeer(inner6, { vni: 2, underlay: 6 }),
    ],
    { drops: { 'vxlan-vni': 3 } },
  ),
  'vxlan-foreign-vtep': simple(
    'A sender that is no node of the cluster.',
    'underlay',
    [fromPeer(inner4, { src: '192.0.2.3' }), fromPeer(inner6, { src: '2001:db8::3', underlay: 6 })],
    { drops: { 'vxlan-vtep': 2 } },
  ),
  'vxlan-foreign-mac': simple(
    'An inner frame for another node, and one that carries no IP.',
    'underlay',
    [
      fromPeer(inner4, { innerDst: PEER_VTEP_MAC }),
      patched(fromPeer(inner4), 14 + 20 + 8 + 8 + 12, 0x08, 0x06),
    ],
    { drops: { 'vxlan-inner': 2 } },
  ),
  'vxlan-malformed': simple(
    'No VNI flag; no room for an inner frame.',
    'underlay',
    [
      fromPeer(inner4, { flags: 0 }),
      onUnderlay(udp({ src: PEER, dst: VTEP, dport: 4789 }, payload(21))),
    ],
    { drops: { 'vxlan-header': 2 } },
  ),
  'vxlan-checksum': simple(
    'An outer UDP checksum that is there and wrong.',
    'underlay',
    [
      patched(fromPeer(inner4), OUTER_SUM4, 0x12, 0x34),
      patched(fromPeer(inner6, { underlay: 6 }), OUTER_SUM6, 0x12, 0x34),
    ],
    { drops: { 'vxlan-checksum': 2 } },
  ),
  'not-vxlan': simple(
    'Another port, another address, another protocol, a fragment.',
    'underlay',
    [
      fromPeer(inner4, { dport: 4790 }),
      fromPeer(inner4, { dst: '192.0.2.77' }),
      fromPeer(inner6, { dst: '2001:db8::77', underlay: 6 }),
      fromPeer(inner4, { fragment: 0x2000 }),
      onUnderlay(icmp({ src: PEER, dst: VTEP }, 8, 0, data)),
      onUnderlay(tcp({ src: PEER, dst: VTEP, dport: 4789 }, data)),
    ],
    { drops: { 'not-vxlan': 6 } },
  ),
  'malformed-inner': simple(
    'The inner packet is proven like any other.',
    'underlay',
    [
      fromPeer(inner4.slice(0, inner4.length - 1)),
      fromPeer(patched(inner4, 8, 1)),
      patched(fromPeer(inner4), 14 + 50, 0x70),
      fromPeer(udp({ src: FOUR.far, dst: '224.0.0.1' }, data)),
    ],
    {
      drops: { 'ip-truncated': 1, 'ip-checksum': 1, 'ip-version': 1, multicast: 1 },
      counters: { decapsulated: 1 },
    },
  ),
  'overlay-transit': simple(
    'A node is no router between two others.',
    'underlay',
    FAMILIES.map(({ far, farther }) => fromPeer(udp({ src: far, dst: farther }, data))),
    { drops: { 'overlay-transit': 2 }, counters: { decapsulated: 2 } },
  ),
  loop: simple(
    'Out by the port that it came in by.',
    'host',
    [udp({ src: GONE, dst: WORLD }, data)],
    { drops: { loop: 1 } },
  ),
  'loop-to-itself': simple(
    'A pod that sends to its own address.',
    'tun',
    FAMILIES.map(({ tun }) => udp({ src: tun, dst: tun }, data)),
    { drops: { loop: 2 } },
  ),
  'beyond-its-rate': simple(
    'A pod sends one packet and has no bytes left for another; its rate is one byte a second.',
    'tun',
    [own4, own4, own6],
    {
      engine: { rates: { egress: { rate: 1, burst: 1 } } },
      out: { underlay: [toPeer(udp({ ...flow4, ttl: 63 }, data))] },
      drops: { rate: 2 },
      counters: { encapsulated: 1 },
    },
  ),
  'redirects-of-pods': simple(
    'ICMP redirects and router advertisements that pods send each other.',
    'tun',
    [
      icmp({ src: FOUR.tun, dst: FOUR.veth }, 5, 1, payload(32)),
      icmp({ src: FOUR.tun, dst: FOUR.far }, 9, 0, payload(12)),
      ...[133, 134, 135, 136, 137].map(type =>
        icmp({ src: SIX.tun, dst: SIX.veth, ttl: 255 }, type, 0, payload(36)),
      ),
    ],
    { drops: { redirect: 2, 'nd-malformed': 5 } },
  ),
  'pod-to-vtep': simple(
    "Pods that speak VXLAN to this node and to another one; UDP to their other ports is the node's to route.",
    'tun',
    [
      ...[VTEP, PEER].map(dst => inVxlan(FOUR.tun, dst)),
      ...[VTEP6, PEER6].map(dst => inVxlan(SIX.tun, dst)),
      udp({ src: FOUR.tun, dst: WORLD, dport: 4789 }, data),
    ],
    {
      out: { host: [udp({ src: FOUR.tun, dst: WORLD, dport: 4789, ttl: 63 }, data)] },
      drops: { 'to-vtep': 4 },
    },
  ),
  'port-gone': simple(
    'The port of the next hop is not there.',
    'tun',
    [udp({ src: FOUR.tun, dst: GONE }, data)],
    { drops: { 'port-gone': 1 } },
  ),
}

const spoofed = FAMILIES.flatMap(({ tun, veth, far, gateway }) => [
  { port: 'tun' as const, packet: { bytes: udp({ src: veth, dst: far }, data) } },
  { port: 'tun' as const, packet: { bytes: udp({ src: gateway, dst: far }, data) } },
  { port: 'veth' as const, packet: { bytes: fromVeth(udp({ src: tun, dst: far }, data)) } },
  { port: 'veth' as const, packet: { bytes: fromVeth(tcp({ src: far, dst: tun }, data)) } },
])
refused['spoofed-source']!.in = spoofed
