/**
 * The outer header template of a remote node, as it lies in its next hop: outer IP, UDP, VXLAN
 * (RFC 7348 section 5), inner Ethernet. Lengths, ECN, the identification, the source port and the inner
 * EtherType are zero; `encap` writes them. An IPv4 header carries the checksum of just these bytes; over
 * IPv6 the UDP checksum is the sum of the pseudo-header but for the length (RFC 8200 section 8.1), not
 * inverted. It may be fragmented on the way, as the kernel's vxlan sends by default (`df unset`).
 */

import { ipBytes, macBytes } from '../addresses.ts'
import { VXLAN_OVERHEAD_IPV4, VXLAN_OVERHEAD_IPV6 } from '../limits.ts'
import { checksumOf, sum } from '../wire/checksum.ts'

const OUTER_TTL = 64
const UDP = 17
const VXLAN_FLAG_VNI = 0x08

export interface OuterHeaderSpec {
  /** VTEP addresses, of one family. */
  source: string
  destination: string
  vxlanPort: number
  vni: number
  /** Inner Ethernet addresses. */
  sourceMac: string
  destinationMac: string
}

/** 50 bytes over IPv4, 70 over IPv6. Throws RangeError for addresses that are none or of two families. */
export function outerHeader(spec: OuterHeaderSpec): Uint8Array {
  const source = ipBytes(spec.source)
  const destination = ipBytes(spec.destination)
  if (source.length !== destination.length) {
    throw new RangeError(`VTEPs ${spec.source} and ${spec.destination} are of two families`)
  }
  const ipv4 = source.length === 4
  const bytes = new Uint8Array(ipv4 ? VXLAN_OVERHEAD_IPV4 : VXLAN_OVERHEAD_IPV6)
  const view = new DataView(bytes.buffer)
  let udp: number
  if (ipv4) {
    view.setUint16(0, 0x4500)
    view.setUint8(8, OUTER_TTL)
    view.setUint8(9, UDP)
    bytes.set(source, 12)
    bytes.set(destination, 16)
    view.setUint16(10, checksumOf(sum(view, 0, 20)))
    udp = 20
  } else {
    view.setUint32(0, 0x6000_0000)
    view.setUint8(6, UDP)
    view.setUint8(7, OUTER_TTL)
    bytes.set(source, 8)
    bytes.set(destination, 24)
    udp = 40
    view.setUint16(udp + 6, sum(view, 8, 32, UDP))
  }
  view.setUint16(udp + 2, spec.vxlanPort)
  view.setUint8(udp + 8, VXLAN_FLAG_VNI)
  view.setUint32(udp + 12, (spec.vni << 8) >>> 0)
  bytes.set(macBytes(spec.destinationMac), udp + 16)
  bytes.set(macBytes(spec.sourceMac), udp + 22)
  return bytes
}
