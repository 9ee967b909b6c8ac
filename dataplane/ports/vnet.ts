/**
 * The virtio_net_hdr in front of each packet of a TUN or TAP queue (linux/virtio_net.h, legacy layout, 10
 * bytes, little endian): what the device has left to do for the packet, and what it shall do.
 *
 *   flags u8, gso_type u8, hdr_len u16, gso_size u16, csum_start u16, csum_offset u16
 *
 * `link`: bytes of the link layer's header between it and the IP packet, 0 or 14; the kernel's offsets count them.
 */
import { DROP_OFFLOAD } from '../drops.ts'
import { FRAME_HEADROOM } from '../limits.ts'
import {
  type Batch,
  F_CSUM_PARTIAL,
  GSO_NONE,
  GSO_TCPV4,
  GSO_TCPV6,
  GSO_UDP_L4,
} from '../packet/batch.ts'
import { checksumOffset, transportHeaderLength } from '../packet/transport.ts'

/** Its bytes. */
export const VNET_HEADER = 10
/** Where a packet is read to, from the beginning of its frame: its virtio_net_hdr. */
export const READ_AT = FRAME_HEADROOM - VNET_HEADER

const VNET_NEEDS_CSUM = 1
const VNET_GSO_ECN = 0x80

/** Reads the header at `at` into packet `i`. `parse` proves later that it fits the packet. */
export function readVnet(view: DataView, at: number, link: number, batch: Batch, i: number): void {
  const gsoType = view.getUint8(at + 1) & ~VNET_GSO_ECN
  if ((view.getUint8(at) & VNET_NEEDS_CSUM) !== 0) {
    batch.flags[i] = F_CSUM_PARTIAL
    batch.csumStart[i] = view.getUint16(at + 6, true) - link
    batch.csumOffset[i] = view.getUint16(at + 8, true)
  }
  if (gsoType === GSO_NONE) return
  if (gsoType !== GSO_TCPV4 && gsoType !== GSO_TCPV6 && gsoType !== GSO_UDP_L4) {
    batch.drop[i] = DROP_OFFLOAD
    return
  }
  batch.gsoType[i] = gsoType
  batch.gsoSize[i] = view.getUint16(at + 4, true)
  if (batch.gsoSize[i] === 0) batch.drop[i] = DROP_OFFLOAD
}

/** Writes the header of packet `i` at `at`. */
export function writeVnet(view: DataView, at: number, link: number, batch: Batch, i: number): void {
  const partial = (batch.flags[i]! & F_CSUM_PARTIAL) !== 0
  const gsoType = batch.gsoType[i]!
  let csumStart = 0
  let csumOffset = 0
  let headers = 0
  if (partial || gsoType !== GSO_NONE) {
    const l4 = batch.l4[i]!
    const proto = batch.proto[i]!
    csumStart = link + l4 - batch.l3[i]!
    csumOffset = checksumOffset(proto)
    headers = csumStart + transportHeaderLength(view, l4, proto)
  }
  view.setUint8(at, partial ? VNET_NEEDS_CSUM : 0)
  view.setUint8(at + 1, gsoType)
  view.setUint16(at + 2, gsoType === GSO_NONE ? 0 : headers, true)
  view.setUint16(at + 4, gsoType === GSO_NONE ? 0 : batch.gsoSize[i]!, true)
  view.setUint16(at + 6, csumStart, true)
  view.setUint16(at + 8, csumOffset, true)
}
