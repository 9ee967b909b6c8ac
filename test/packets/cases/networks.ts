/** A network beside the cluster's own: its VNI both ways, and no way out of it. */
import { BLUE_VNI } from '../../harness/engine.ts'
import { icmp, tcp, udp } from '../../harness/packets.ts'
import type { PacketCase } from '../case.ts'
import { error, TIME_EXCEEDED, UNREACHABLE } from './answers.ts'
import {
  BLUE_FAMILIES,
  BLUE4,
  BLUE6,
  FAMILIES,
  type Family,
  FOUR,
  fromPeer,
  fromVeth,
  payload,
  SIX,
  simple,
  toPeer,
  toVeth,
  WORLD,
} from './frames.ts'

const data = payload(48)
const vni = BLUE_VNI

/** One packet of each protocol. */
function each(src: string, dst: string, ttl: number): Uint8Array[] {
  const echo = src.includes(':') ? 128 : 8
  return [
    udp({ src, dst, ttl }, data),
    tcp({ src, dst, ttl }, data),
    icmp({ src, dst, ttl }, echo, 0, data),
  ]
}

/** The veth pod is in the network, the TUN pod is not: each by its own VNI. */
function toOverlay(underlay: 4 | 6): PacketCase {
  const blue = (ttl: number) => BLUE_FAMILIES.flatMap(({ veth, far }) => each(veth, far, ttl))
  const own = (ttl: number) => FAMILIES.flatMap(({ tun, far }) => each(tun, far, ttl))
  return {
    ...simple(
      `To the other node by the VNI of each pod's network, over IPv${underlay}.`,
      'tun',
      [],
      {
        engine: { underlay, blue: 'veth' },
        counters: { encapsulated: 12 },
      },
    ),
    in: [
      ...blue(64).map(bytes => ({ port: 'veth' as const, packet: { bytes: fromVeth(bytes) } })),
      ...own(64).map(bytes => ({ port: 'tun' as const, packet: { bytes } })),
    ],
    out: {
      underlay: [
        ...blue(63).map(packet => ({ bytes: toPeer(packet, { underlay, vni }) })),
        ...own(63).map(packet => ({ bytes: toPeer(packet, { underlay }) })),
      ],
    },
  }
}

function fromOverlay(underlay: 4 | 6): PacketCase {
  const to = (families: readonly Family[], pod: 'tun' | 'veth', ttl: number) =>
    families.flatMap(family => each(family.far, family[pod], ttl))
  return simple(
    `From the other node, both VNIs in one batch, over IPv${underlay}.`,
    'underlay',
    [
      ...to(FAMILIES, 'tun', 64).map(packet => fromPeer(packet, { underlay })),
      ...to(BLUE_FAMILIES, 'veth', 64).map(packet => fromPeer(packet, { underlay, vni })),
    ],
    {
      engine: { underlay, blue: 'veth' },
      out: { tun: to(FAMILIES, 'tun', 63), veth: to(BLUE_FAMILIES, 'veth', 63).map(toVeth) },
      counters: { decapsulated: 12 },
    },
  )
}

/** What a pod sends into networks that it is not in, the node's own address and the world among them. */
function strays(pod: 'tun' | 'veth', own: readonly Family[], others: readonly Family[]) {
  return own.flatMap((family, k) => {
    const { [pod]: there, far, nobody, gateway } = others[k]!
    const world = k === 0 && own === BLUE_FAMILIES ? [WORLD] : []
    const other = pod === 'tun' ? others[k]!.veth : others[k]!.tun
    // The address that this pod would have in the other network, nobody's there, is one of them.
    return [other, there, far, nobody, gateway, ...world].map(dst => ({
      family,
      packet: udp({ src: family[pod], dst }, data),
    }))
  })
}

function crossing(): PacketCase {
  const tun = strays('tun', FAMILIES, BLUE_FAMILIES)
  const veth = strays('veth', BLUE_FAMILIES, FAMILIES)
  return {
    ...simple(
      "From network to network: the sender is told by its own network's gateway.",
      'tun',
      [],
      {
        engine: { blue: 'veth' },
        drops: { 'other-network': tun.length + veth.length },
        counters: { icmpErrors: tun.length + veth.length },
      },
    ),
    in: [
      ...tun.map(({ packet: bytes }) => ({ port: 'tun' as const, packet: { bytes } })),
      ...veth.map(({ packet }) => ({
        port: 'veth' as const,
        packet: { bytes: fromVeth(packet) },
      })),
    ],
    out: {
      tun: tun.map(({ family, packet }) => ({
        bytes: error(UNREACHABLE, family, family.tun, packet),
      })),
      veth: veth.map(({ family, packet }) => ({
        bytes: toVeth(error(UNREACHABLE, family, family.veth, packet)),
      })),
    },
  }
}

const late = BLUE_FAMILIES.map(family => ({
  family,
  packet: udp({ src: family.far, dst: family.veth, ttl: 1 }, data),
}))

export const networks: Record<string, PacketCase> = {
  'network-to-overlay-ipv4': toOverlay(4),
  'network-to-overlay-ipv6': toOverlay(6),
  'network-from-overlay-ipv4': fromOverlay(4),
  'network-from-overlay-ipv6': fromOverlay(6),
  'network-within-a-node': {
    ...simple('Two pods of the network on one node, and an address that no pod has.', 'tun', [], {
      engine: { blue: 'both' },
      drops: { unreachable: 2 },
      counters: { icmpErrors: 2 },
    }),
    in: BLUE_FAMILIES.flatMap(({ tun: src, veth, nobody }) => [
      { port: 'tun' as const, packet: { bytes: udp({ src, dst: veth }, data) } },
      { port: 'tun' as const, packet: { bytes: udp({ src, dst: nobody }, data) } },
    ]),
    out: {
      veth: BLUE_FAMILIES.map(({ tun: src, veth: dst }) => ({
        bytes: toVeth(udp({ src, dst, ttl: 63 }, data)),
      })),
      tun: BLUE_FAMILIES.map(family => {
        const packet = udp({ src: family.tun, dst: family.nobody }, data)
        return { bytes: error(UNREACHABLE, family, family.tun, packet) }
      }),
    },
  },
  'network-foreign-vni': simple(
    'A node of two networks takes no third VNI, nor one of either with other bits set.',
    'underlay',
    [0, 2, BLUE_VNI + 1, BLUE_VNI | 0x10_0000, BLUE_VNI << 8].flatMap(other => [
      fromPeer(udp({ src: BLUE4.far, dst: BLUE4.veth }, data), { vni: other }),
      fromPeer(udp({ src: BLUE6.far, dst: BLUE6.veth }, data), { vni: other, underlay: 6 }),
    ]),
    { engine: { blue: 'veth' }, drops: { 'vxlan-vni': 10 } },
  ),
  'network-that-the-node-is-not-in': simple(
    'A VNI of the cluster is a foreign one for a node that is not in its network.',
    'underlay',
    [fromPeer(udp({ src: FOUR.far, dst: FOUR.veth }, data), { vni })],
    { drops: { 'vxlan-vni': 1 } },
  ),
  'network-crossing': crossing(),
  'network-crossing-from-overlay': simple(
    "A peer's packet by the VNI of another network than its destination's: nobody is told.",
    'underlay',
    [
      ...[FOUR, SIX].flatMap(({ far: src, tun, gateway, farther }) =>
        [tun, gateway, farther].map(dst => fromPeer(udp({ src, dst }, data), { vni })),
      ),
      fromPeer(udp({ src: FOUR.far, dst: WORLD }, data), { vni }),
      ...BLUE_FAMILIES.map(({ far: src, veth: dst }) => fromPeer(udp({ src, dst }, data))),
    ],
    {
      engine: { blue: 'veth' },
      drops: { 'other-network': 9 },
      counters: { decapsulated: 9 },
    },
  ),
  'network-error-through-the-overlay': simple(
    "An ICMP error to a sender on another node has its network's gateway and VNI.",
    'underlay',
    late.map(({ packet }) => fromPeer(packet, { vni })),
    {
      engine: { blue: 'veth' },
      out: {
        underlay: late.map(({ family, packet }) =>
          toPeer(error(TIME_EXCEEDED, family, family.far, packet), { vni }),
        ),
      },
      drops: { ttl: 2 },
      counters: { decapsulated: 2, encapsulated: 2, icmpErrors: 2 },
    },
  ),
  'network-error-that-would-cross': simple(
    'An ICMP error whose receiver is in another network than the packet it is about is not sent.',
    'underlay',
    [fromPeer(udp({ src: FOUR.far, dst: BLUE4.veth, ttl: 1 }, data), { vni })],
    { engine: { blue: 'veth' }, drops: { ttl: 1 }, counters: { decapsulated: 1 } },
  ),
}
