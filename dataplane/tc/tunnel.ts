/**
 * A tunnel: what the kernel's vxlan device is told of a next hop (value of the map of next hops). Words are
 * in host order, little endian, but for IPv6 addresses:
 *
 *    0  struct bpf_tunnel_key (linux/bpf.h): VNI u32, remote address 4 or 16 bytes, TOS u8, TTL u8,
 *       u16, flow label u32, local address 4 or 16 bytes (kernel 6.0)
 *   44  flags of bpf_skb_set_tunnel_key   48  1: it is there
 *   52  inner Ethernet addresses, destination and source
 *
 * TOS 0 leaves the outer ECN field to the kernel (RFC 6040); the source port is a hash of the inner flow.
 * Its first 20 bytes are also what the kernel tells of a packet from there: the key of the map of peers.
 */
import { ipBytes, macBytes } from '../addresses.ts'

export const TUNNEL_BYTES = 64
export const TUNNEL_KEY_BYTES = 44
export const TUNNEL = {
  VNI: 0,
  REMOTE: 4,
  TTL: 21,
  LOCAL: 28,
  FLAGS: 44,
  KNOWN: 48,
  MACS: 52,
} as const
/** Bytes of VNI and remote address. */
export const PEER_KEY_BYTES = 20

/** Flags of the helpers (linux/bpf.h). */
export const BPF_F_TUNINFO_IPV6 = 1
const BPF_F_ZERO_CSUM_TX = 2

/** As in the headers that we write ourselves (manage/outer-header.ts). */
const OUTER_TTL = 64

export interface TunnelSpec {
  /** VTEP addresses, of one family. */
  local: string
  remote: string
  vni: number
  /** Inner Ethernet addresses. */
  sourceMac: string
  destinationMac: string
}

/** Over IPv4 without an outer UDP checksum (RFC 7348 section 4.1.1). Throws RangeError for addresses that are none or of two families. */
export function tunnelValue(spec: TunnelSpec): Uint8Array {
  const local = ipBytes(spec.local)
  const remote = ipBytes(spec.remote)
  if (local.length !== remote.length) {
    throw new RangeError(`VTEPs ${spec.local} and ${spec.remote} are of two families`)
  }
  const bytes = new Uint8Array(TUNNEL_BYTES)
  const view = new DataView(bytes.buffer)
  view.setUint32(TUNNEL.VNI, spec.vni, true)
  bytes.set(inKernelOrder(remote), TUNNEL.REMOTE)
  bytes.set(inKernelOrder(local), TUNNEL.LOCAL)
  view.setUint8(TUNNEL.TTL, OUTER_TTL)
  view.setUint32(TUNNEL.FLAGS, local.length === 4 ? BPF_F_ZERO_CSUM_TX : BPF_F_TUNINFO_IPV6, true)
  view.setUint32(TUNNEL.KNOWN, 1, true)
  bytes.set(macBytes(spec.destinationMac), TUNNEL.MACS)
  bytes.set(macBytes(spec.sourceMac), TUNNEL.MACS + 6)
  return bytes
}

/** Who a packet of this tunnel's other end comes from, as the map of peers has it. */
export function peerKey(tunnel: Uint8Array): Uint8Array {
  return tunnel.slice(0, PEER_KEY_BYTES)
}

/** An address as struct bpf_tunnel_key has it: IPv4 in host order, IPv6 as on the wire. */
export function inKernelOrder(address: Uint8Array): Uint8Array {
  return address.length === 4 ? address.toReversed() : address
}
