/** What the packet cases are made of: the addresses of the test engine, and frames as they arrive and as they must leave. */
import {
  OWN_VTEP_MAC,
  PEER,
  PEER_VTEP_MAC,
  PEER6,
  POD_MAC,
  UNDERLAY_MAC,
  UNDERLAY_PEER_MAC,
  VETH_MAC,
  VTEP,
  VTEP6,
} from '../../harness/engine.ts'
import { ethernet, vxlan } from '../../harness/packets.ts'
import type { PacketCase, PortName } from '../case.ts'

export interface Family {
  tun: string
  veth: string
  /** A pod of another node, and another one. */
  far: string
  farther: string
  /** The node's own address among its pods. */
  gateway: string
  /** An address of the node's pod CIDR that no pod has. */
  nobody: string
}
export const FOUR: Family = {
  tun: '10.244.1.2',
  veth: '10.244.1.3',
  far: '10.244.2.9',
  farther: '10.244.2.10',
  gateway: '10.244.1.1',
  nobody: '10.244.1.77',
}
export const SIX: Family = {
  tun: 'fd44:0:0:1::2',
  veth: 'fd44:0:0:1::3',
  far: 'fd44:0:0:2::9',
  farther: 'fd44:0:0:2::a',
  gateway: 'fd44:0:0:1::1',
  nobody: 'fd44:0:0:1::77',
}
export const FAMILIES = [FOUR, SIX] as const
/** In the network `blue`, of the same shape. */
export const BLUE4: Family = {
  tun: '10.60.1.2',
  veth: '10.60.1.3',
  far: '10.60.2.9',
  farther: '10.60.2.10',
  gateway: '10.60.1.1',
  nobody: '10.60.1.77',
}
export const BLUE6: Family = {
  tun: 'fd60:0:0:1::2',
  veth: 'fd60:0:0:1::3',
  far: 'fd60:0:0:2::9',
  farther: 'fd60:0:0:2::a',
  gateway: 'fd60:0:0:1::1',
  nobody: 'fd60:0:0:1::77',
}
export const BLUE_FAMILIES = [BLUE4, BLUE6] as const
/** IPv4 addresses that are not of the cluster: behind the node, and behind a port that is gone. */
export const WORLD = '198.51.100.7'
export const GONE = '203.0.113.5'
export const STRANGER_MAC = '02:00:00:00:00:99'
export const BROADCAST = 'ff:ff:ff:ff:ff:ff'

/** `n` bytes, none like its neighbours. */
export function payload(n: number): Uint8Array {
  return Uint8Array.from({ length: n }, (_, i) => (i * 7 + 3) & 255)
}

function etherType(packet: Uint8Array): number {
  return packet[0]! >> 4 === 6 ? 0x86dd : 0x0800
}

/** A frame that the veth pod sends. */
export function fromVeth(packet: Uint8Array, src = POD_MAC, dst = VETH_MAC): Uint8Array {
  return ethernet(dst, src, etherType(packet), packet)
}

/** A frame that the veth pod gets. */
export function toVeth(packet: Uint8Array): Uint8Array {
  return ethernet(POD_MAC, VETH_MAC, etherType(packet), packet)
}

/** A frame of the underlay with any IP packet in it. */
export function onUnderlay(packet: Uint8Array): Uint8Array {
  return ethernet(UNDERLAY_MAC, UNDERLAY_PEER_MAC, etherType(packet), packet)
}

export type Outer = Partial<Parameters<typeof vxlan>[0]> & { underlay?: 4 | 6 }

/** A frame that the other node sends: `inner` in VXLAN. */
export function fromPeer(inner: Uint8Array, { underlay = 4, ...change }: Outer = {}): Uint8Array {
  const outer = underlay === 4 ? { src: PEER, dst: VTEP } : { src: PEER6, dst: VTEP6 }
  return onUnderlay(
    vxlan({ ...outer, innerDst: OWN_VTEP_MAC, innerSrc: PEER_VTEP_MAC, inner, ...change }),
  )
}

/** A frame that the other node gets. */
export function toPeer(inner: Uint8Array, { underlay = 4, ...change }: Outer = {}): Uint8Array {
  const outer = underlay === 4 ? { src: VTEP, dst: PEER } : { src: VTEP6, dst: PEER6 }
  const macs = { innerDst: PEER_VTEP_MAC, innerSrc: OWN_VTEP_MAC }
  const packet = vxlan({ ...outer, ...macs, sport: 0xc000, inner, ...change })
  return ethernet(UNDERLAY_PEER_MAC, UNDERLAY_MAC, etherType(packet), packet)
}

/** `packet` with some of its bytes changed. */
export function patched(packet: Uint8Array, at: number, ...bytes: number[]): Uint8Array {
  const copy = packet.slice()
  copy.set(bytes, at)
  return copy
}

/** A case of packets without offloads, in by one port. */
export function simple(
  about: string,
  port: PortName,
  packets: readonly Uint8Array[],
  rest: Partial<Omit<PacketCase, 'about' | 'in' | 'out'>> & {
    out?: Partial<Record<PortName, Uint8Array[]>>
  } = {},
): PacketCase {
  const out: PacketCase['out'] = {}
  for (const [name, frames] of Object.entries(rest.out ?? {})) {
    out[name as PortName] = frames.map(bytes => ({ bytes }))
  }
  return {
    about,
    engine: rest.engine ?? {},
    in: packets.map(bytes => ({ port, packet: { bytes } })),
    out,
    drops: rest.drops ?? {},
    counters: rest.counters ?? {},
  }
}
