/** What stages and ports ask of any transport header: how long it is, and where its checksum lies. */
import { ICMP } from '../wire/icmp.ts'
import { PROTO_TCP, PROTO_UDP } from '../wire/numbers.ts'
import { headerLength, TCP } from '../wire/tcp.ts'
import { UDP } from '../wire/udp.ts'

/** Bytes of the header at `at` of a TCP segment or UDP datagram, options included. */
export function transportHeaderLength(view: DataView, at: number, proto: number): number {
  return proto === PROTO_TCP ? headerLength(view, at) : UDP.BYTES
}

/** Where the checksum lies in the header of TCP, UDP, ICMP or ICMPv6. */
export function checksumOffset(proto: number): number {
  return proto === PROTO_TCP ? TCP.CHECKSUM : proto === PROTO_UDP ? UDP.CHECKSUM : ICMP.CHECKSUM
}
