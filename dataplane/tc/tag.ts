/**
 * Tags: what stands in the destination MAC of a frame on the node's TAP, in either direction. A tc program
 * writes it over whatever a pod or a peer had there, so nothing that those write means anything.
 *
 *   0  kind           2  number of a port or next hop, big endian
 *   1  skb->pkt_type  4  stamp, big endian; 0 on the way down
 *
 * On the way up (kernel to worker) the number says where the frame came from, on the way down where it
 * goes. A frame that waits in the TAP's queue may be older than what its number means by now: the stamp
 * says of which use of the number it is.
 */

/** A pod: the number is its port's. Both kinds are unicast addresses of nobody (locally administered). */
export const TAG_POD = 0x02
/** A peer in a network: the number is that of the next hop that leads to it. */
export const TAG_PEER = 0x06
/** The tag of a frame that a pod sent to a MAC that is not its gateway's (PACKET_OTHERHOST, linux/if_packet.h). */
export const PACKET_OTHERHOST = 3

/** Bytes of a tag; a map's value has two more. */
export const TAG_BYTES = 6
export const TAG_VALUE_BYTES = 8

/** Byte offsets. */
export const TAG = { KIND: 0, PACKET_TYPE: 1, NUMBER: 2, STAMP: 4 } as const

/** What of an interface's index or a use of a next hop a stamp has. */
export function stampOf(use: number): number {
  return use & 0xffff
}

/** A tag as the value of a map. */
export function tagValue(kind: number, number: number, stamp: number): Uint8Array {
  const bytes = new Uint8Array(TAG_VALUE_BYTES)
  const view = new DataView(bytes.buffer)
  view.setUint8(TAG.KIND, kind)
  view.setUint16(TAG.NUMBER, number)
  view.setUint16(TAG.STAMP, stampOf(stamp))
  return bytes
}
