/**
 * Echo messages of ICMP (RFC 792) and ICMPv6 (RFC 4443, section 4) as raw sockets have them: with the
 * IPv4 header in front when received, and without the IPv6 one. Whatever reaches the host is received,
 * so a reply is one only when all of it is what was asked for.
 */
import { icmp, icmpv6, ipv4, OK, PROTO_ICMP } from '../../dataplane/wire/index.ts'

/** What tells the messages of one run from those of others. */
export interface Run {
  family: 4 | 6
  /** 16 bits. */
  id: number
  /** Random bytes that come back behind the header. */
  cookie: Uint8Array
}

/** An echo request; the kernel adds the checksum of ICMPv6, which is over its pseudo-header too. */
export function echoRequest({ family, id, cookie }: Run, sequence: number): Buffer {
  const bytes = Buffer.alloc(icmp.ICMP.BYTES + cookie.length)
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length)
  const rest = ((id << 16) | sequence) >>> 0
  bytes.set(cookie, icmp.ICMP.BYTES)
  if (family === 6) icmpv6.emit(view, 0, { type: icmpv6.ICMPV6_ECHO_REQUEST, rest })
  else {
    icmp.emit(view, 0, { type: icmp.ICMP_ECHO_REQUEST, rest })
    icmp.fillChecksum(view, 0, bytes.length)
  }
  return bytes
}

/** The sequence number of what answers a request of this run; undefined for all else. */
export function echoReply({ family, id, cookie }: Run, received: Uint8Array): number | undefined {
  const view = new DataView(received.buffer, received.byteOffset, received.length)
  let at = 0
  let end = received.length
  if (family === 4) {
    if (ipv4.check(view, 0, end) !== OK || ipv4.protocol(view, 0) !== PROTO_ICMP) return undefined
    at = ipv4.headerLength(view, 0)
    end = ipv4.totalLength(view, 0)
  }
  if (end - at !== icmp.ICMP.BYTES + cookie.length) return undefined
  const reply = family === 4 ? icmp.ICMP_ECHO_REPLY : icmpv6.ICMPV6_ECHO_REPLY
  if (icmp.type(view, at) !== reply || icmp.code(view, at) !== 0) return undefined
  // The kernel has looked at the checksum of ICMPv6.
  if (family === 4 && !icmp.verifyChecksum(view, at, end - at)) return undefined
  if (icmp.id(view, at) !== id) return undefined
  const data = received.subarray(at + icmp.ICMP.BYTES, end)
  return cookie.every((byte, k) => data[k] === byte) ? icmp.sequence(view, at) : undefined
}
