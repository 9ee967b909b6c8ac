/**
 * The next hop table. A FIB answers with an id; the entry under that id says what to do.
 *
 * Entry, NEXT_HOP_BYTES bytes; words little-endian, header bytes as they go on the wire:
 *
 *   0 kind (HOP) and 2 network (networks.ts), 16 bits each   4 port   8 MTU of the inner IP packet
 *   12 bytes of `header` (50 or 70; 0)
 *   16 outer header template: outer IP, UDP, VXLAN, inner Ethernet, lengths and source port zero,
 *      an IPv4 header checksum over just that
 *   96 MAC of the underlay neighbour, bytes 0-3   100 bytes 4-5   104 1 if that MAC is known
 *   108 incarnation, 16 bits: flows that were decided by an earlier one are routed again (policy/action.ts)
 *   110 stamp, 16 bits: of which use of the id this is (tc/tag.ts)
 *   112 VTEP behind it, where the kernel encapsulates: as in its tunnel (tc/tunnel.ts)
 */
import { type Arena, NEXT_HOP_BYTES } from '../memory/arena.ts'
import { TUNNEL } from '../tc/tunnel.ts'
import { markMoved } from './blocks.ts'

export const HOP = {
  NONE: 0,
  /** Send by `port`: a pod of this node, or the node itself. */
  PORT: 1,
  /** Encapsulate and send by `port`. */
  VXLAN: 2,
  /** Answer "unreachable": an address of this node's pod CIDRs without a pod. */
  REJECT: 3,
} as const

/** Byte offsets in an entry. */
export const HOP_KIND = 0
export const HOP_NETWORK = 2
export const HOP_PORT = 4
export const HOP_MTU = 8
export const HOP_HEADER_BYTES = 12
export const HOP_HEADER = 16
export const HOP_MAC_HIGH = 96
export const HOP_MAC_LOW = 100
export const HOP_MAC_KNOWN = 104
export const HOP_INCARNATION = 108
export const HOP_STAMP = 110
export const HOP_VTEP = 112
const VTEP_BYTES = 16

export interface NextHop {
  kind: number
  /** Only packets of this network go there. */
  network: number
  port: number
  mtu: number
  /** Empty unless VXLAN, and we write it. */
  header: Uint8Array
  /** VXLAN, and the kernel encapsulates: what it is told (tc/tunnel.ts). */
  tunnel?: Uint8Array
  macHigh: number
  macLow: number
  macKnown: boolean
}

export function writeNextHop(
  arena: Arena,
  id: number,
  hop: NextHop,
  incarnation = 0,
  stamp = 0,
): void {
  const { view, bytes } = arena
  const at = arena.layout.nextHops.offset + id * NEXT_HOP_BYTES
  bytes.fill(0, at, at + NEXT_HOP_BYTES)
  view.setUint16(at + HOP_KIND, hop.kind, true)
  view.setUint16(at + HOP_NETWORK, hop.network, true)
  view.setUint32(at + HOP_PORT, hop.port, true)
  view.setUint32(at + HOP_MTU, hop.mtu, true)
  view.setUint32(at + HOP_HEADER_BYTES, hop.header.length, true)
  bytes.set(hop.header, at + HOP_HEADER)
  view.setUint32(at + HOP_MAC_HIGH, hop.macHigh, true)
  view.setUint32(at + HOP_MAC_LOW, hop.macLow, true)
  view.setUint32(at + HOP_MAC_KNOWN, hop.macKnown ? 1 : 0, true)
  view.setUint16(at + HOP_INCARNATION, incarnation, true)
  view.setUint16(at + HOP_STAMP, stamp, true)
  if (hop.tunnel !== undefined) {
    bytes.set(hop.tunnel.subarray(TUNNEL.REMOTE, TUNNEL.REMOTE + VTEP_BYTES), at + HOP_VTEP)
  }
  markMoved(arena, 'nextHops', id * NEXT_HOP_BYTES, NEXT_HOP_BYTES)
}
