/**
 * parse: the only stage that rejects a packet for its lengths. Behind it `l3`, `len`, `l4`,
 * `proto` and the addresses are true, `len` is exactly what the IP header says, and the transport
 * header (TCP with its options, UDP, ICMP: 8 bytes) lies inside the packet.
 *
 * Plain packets are read by a native twin (native/addon/parse.cc), which leaves all others as they are.
 *
 * IPv4: RFC 791; IPv6: RFC 8200. ARP frames go to `neighbour` with proto PROTO_ARP.
 */

import { native } from '../../native/native.ts'
import {
  DROP_ETHERTYPE,
  DROP_IP_CHECKSUM,
  DROP_IP_HEADER,
  DROP_IP_TRUNCATED,
  DROP_IP_VERSION,
  DROP_L2_FOREIGN,
  DROP_L2_TRUNCATED,
  DROP_L4_TRUNCATED,
  DROP_OFFLOAD,
  DROP_SOURCE_MAC,
} from '../drops.ts'
import type { Engine } from '../engine/engine.ts'
import {
  type Batch,
  F_CSUM_PARTIAL,
  F_FRAGMENT,
  F_IPV6,
  GSO_NONE,
  GSO_TCPV4,
  GSO_TCPV6,
} from '../packet/batch.ts'
import { checksumOffset, transportHeaderLength } from '../packet/transport.ts'
import { isTagged, PORT_ROLE, type Port } from '../ports/port.ts'
import {
  ETHERTYPE_ARP,
  ETHERTYPE_IPV4,
  ETHERTYPE_IPV6,
  PROTO_ICMP,
  PROTO_ICMPV6,
  PROTO_TCP,
  PROTO_UDP,
} from '../wire/numbers.ts'
import { headerLength, TCP } from '../wire/tcp.ts'
import { UDP } from '../wire/udp.ts'

/** Not an IP protocol number that anything uses (reserved): the frame is ARP, `l3` its payload. */
export const PROTO_ARP = 255

/** Extension headers that a packet may carry (RFC 8200 section 4.1 names six kinds). */
const MAX_EXTENSIONS = 8

export function parse(e: Engine, b: Batch): void {
  const port = e.ports[b.inPort]!
  const pod = port.role === PORT_ROLE.POD
  const tagged = isTagged(port)
  const twin = e.twins && !tagged
  if (twin && parsePlain(e, b, port, pod) === 0) return
  for (let i = 0; i < b.n; i++) {
    if (b.drop[i] !== 0 || (twin && b.parsed[i] !== 0)) continue
    if (port.ethernet && !parseEthernet(e, b, i, pod, tagged)) continue
    parseIp(e, b, i, port.hiddenPartial)
  }
}

/** Has the native twin read what it can; returns how many packets it has left. */
function parsePlain(e: Engine, b: Batch, port: Port, pod: boolean): number {
  const { macHigh, macLow, peerMacHigh, peerMacLow } = e.records[b.inPort]!
  const answer = native.parse(
    e.handleOf(b),
    b.n,
    port.ethernet ? 1 : 0,
    pod ? 1 : 0,
    macHigh,
    macLow,
    peerMacHigh,
    peerMacLow,
    port.hiddenPartial ? 1 : 0,
  )
  return taken(b, answer)
}

/** The same of inner packets, which have no Ethernet header that is still to be read. */
function parsePlainInner(e: Engine, b: Batch, hiddenPartial: boolean): number {
  const hidden = hiddenPartial ? 1 : 0
  return taken(b, native.parse(e.handleOf(b), b.n, 0, 0, 0, 0, 0, 0, hidden))
}

function taken(b: Batch, answer: number): number {
  b.n4 += (answer >>> 9) & 0x1ff
  b.n6 += answer >>> 18
  return answer & 0x1ff
}

/** Parses the packets that an outer header was taken off; on failure sets `drop`. */
export function parseInner(e: Engine, b: Batch, hiddenPartial: boolean): void {
  const { twins } = e
  if (twins && parsePlainInner(e, b, hiddenPartial) === 0) return
  for (let i = 0; i < b.n; i++) {
    if (b.drop[i] === 0 && !(twins && b.parsed[i] !== 0)) parseIp(e, b, i, hiddenPartial)
  }
}

/** False when the packet is finished here: dropped, or ARP. `tagged`: whom it is addressed to has been looked at before. */
function parseEthernet(e: Engine, b: Batch, i: number, pod: boolean, tagged: boolean): boolean {
  const { view } = e
  const l3 = b.l3[i]!
  // Ports set `len` to the frame's bytes less 14, as a u32: a shorter frame wraps far above any frame.
  if (b.len[i]! > 0x7fff_ffff) {
    b.drop[i] = DROP_L2_TRUNCATED
    return false
  }
  const record = e.records[b.inPort]!
  if (pod) {
    if (
      view.getUint32(l3 - 8) !== record.peerMacHigh ||
      view.getUint16(l3 - 4) !== record.peerMacLow
    ) {
      b.drop[i] = DROP_SOURCE_MAC
      return false
    }
  }
  // To us, or to a group address (broadcast ARP, solicited-node multicast).
  const foreign =
    view.getUint32(l3 - 14) !== record.macHigh || view.getUint16(l3 - 10) !== record.macLow
  if (!tagged && foreign && (view.getUint8(l3 - 14) & 1) === 0) {
    b.drop[i] = DROP_L2_FOREIGN
    return false
  }
  const type = view.getUint16(l3 - 2)
  if (type === ETHERTYPE_IPV4 || type === ETHERTYPE_IPV6) return true
  if (type === ETHERTYPE_ARP && pod) {
    b.proto[i] = PROTO_ARP
    return false
  }
  b.drop[i] = DROP_ETHERTYPE
  return false
}

/** Parses the IP packet at `l3`; on failure sets `drop`. */
function parseIp(e: Engine, b: Batch, i: number, hiddenPartial: boolean): void {
  const { view } = e
  const l3 = b.l3[i]!
  const len = b.len[i]!
  if (len < 20) {
    b.drop[i] = DROP_IP_TRUNCATED
    return
  }
  const version = view.getUint8(l3) >> 4
  if (version === 4) parseIpv4(e, b, i, l3, len)
  else if (version === 6) parseIpv6(e, b, i, l3, len)
  else b.drop[i] = DROP_IP_VERSION
  if (b.drop[i] !== 0) return
  if (b.csumStart[i] !== 0) settlePartial(e, b, i)
  if (b.drop[i] !== 0) return
  if (b.gsoType[i] !== GSO_NONE) checkSuperframe(e, b, i)
  else if (b.l4[i] !== 0) checkTransport(e, b, i, hiddenPartial)
  else if ((b.flags[i]! & F_CSUM_PARTIAL) !== 0) b.drop[i] = DROP_OFFLOAD
}

/**
 * A partial checksum that the device placed elsewhere than in this packet's own transport header
 * (a tunnel that the pod made itself) is completed here; nothing behind this looks so deep. It may not lie in front
 * of the transport header: a pod can have it written anywhere, and those headers have been read already.
 */
function settlePartial(e: Engine, b: Batch, i: number): void {
  const { view } = e
  const start = b.csumStart[i]!
  const own = b.l4[i] === b.l3[i]! + start
  if (own && b.csumOffset[i] === checksumOffset(b.proto[i]!) && !isFragment(b, i)) return
  const at = b.l3[i]! + start
  const left = b.len[i]! - start
  const ahead = b.l4[i] === 0 || at < b.l4[i]!
  if (b.gsoType[i] !== GSO_NONE || left < b.csumOffset[i]! + 2 || ahead) {
    b.drop[i] = DROP_OFFLOAD
    return
  }
  const sum = ~native.checksum(at, left, 0) & 0xffff
  view.setUint16(at + b.csumOffset[i]!, sum === 0 ? 0xffff : sum)
  b.flags[i]! &= ~F_CSUM_PARTIAL
}

function isFragment(b: Batch, i: number): boolean {
  return (b.flags[i]! & F_FRAGMENT) !== 0
}

/** Both 16-bit halves of a word, summed. */
function halves(word: number): number {
  return (word >>> 16) + (word & 0xffff)
}

function parseIpv4(e: Engine, b: Batch, i: number, l3: number, len: number): void {
  const { view } = e
  const first = view.getUint32(l3)
  const header = ((first >>> 24) & 0xf) * 4
  const total = first & 0xffff
  if (header < 20 || total < header) {
    b.drop[i] = DROP_IP_HEADER
    return
  }
  if (total > len) {
    b.drop[i] = DROP_IP_TRUNCATED
    return
  }
  const src = view.getUint32(l3 + 12)
  const dst = view.getUint32(l3 + 16)
  let sum = halves(first) + halves(src) + halves(dst)
  sum += halves(view.getUint32(l3 + 4)) + halves(view.getUint32(l3 + 8))
  for (let at = 20; at < header; at += 4) sum += halves(view.getUint32(l3 + at))
  sum = (sum >>> 16) + (sum & 0xffff)
  if ((sum >>> 16) + (sum & 0xffff) !== 0xffff) {
    b.drop[i] = DROP_IP_CHECKSUM
    return
  }
  b.len[i] = total
  b.src4[i] = src
  b.dst4[i] = dst
  b.n4++
  b.proto[i] = view.getUint8(l3 + 9)
  const fragment = view.getUint16(l3 + 6)
  if ((fragment & 0x3fff) !== 0) b.flags[i]! |= F_FRAGMENT
  b.l4[i] = (fragment & 0x1fff) === 0 ? l3 + header : 0
}

function parseIpv6(e: Engine, b: Batch, i: number, l3: number, len: number): void {
  const { view } = e
  if (len < 40) {
    b.drop[i] = DROP_IP_TRUNCATED
    return
  }
  const total = 40 + view.getUint16(l3 + 4)
  if (total > len) {
    b.drop[i] = DROP_IP_TRUNCATED
    return
  }
  b.flags[i]! |= F_IPV6
  b.len[i] = total
  for (let w = 0; w < 4; w++) b.dst6[i * 4 + w] = view.getUint32(l3 + 24 + w * 4)
  b.n6++
  const end = l3 + total
  let next = view.getUint8(l3 + 6)
  let at = l3 + 40
  let fragment = false
  for (let count = 0; ; count++) {
    let length: number
    if (next === 0 || next === 43 || next === 60) {
      // Hop-by-hop, routing, destination options: length in units of 8 bytes beyond the first 8.
      if (at + 8 > end) break
      // RFC 5095: routing header type 0 with segments left takes a packet past whoever judged it.
      if (next === 43 && view.getUint8(at + 2) === 0 && view.getUint8(at + 3) !== 0) break
      length = (view.getUint8(at + 1) + 1) * 8
    } else if (next === 51) {
      // Authentication header (RFC 4302): units of 4 bytes, less 2.
      if (at + 8 > end) break
      length = (view.getUint8(at + 1) + 2) * 4
    } else if (next === 44) {
      // A fragment in a fragment: whoever judges the one knows nothing of the other (RFC 8200 section 4.1).
      if (fragment || at + 8 > end) break
      fragment = true
      const place = view.getUint16(at + 2) & 0xfff9
      // One that is the whole packet is none (RFC 6946).
      if (place !== 0) b.flags[i]! |= F_FRAGMENT
      if (place > 1) {
        b.proto[i] = view.getUint8(at)
        b.l4[i] = 0
        return
      }
      length = 8
    } else {
      b.proto[i] = next
      b.l4[i] = at
      return
    }
    if (count === MAX_EXTENSIONS || at + length > end) break
    next = view.getUint8(at)
    at += length
  }
  b.drop[i] = DROP_IP_HEADER
}

/** Proves the transport header and finds a checksum that is still only the pseudo-header sum. */
function checkTransport(e: Engine, b: Batch, i: number, hiddenPartial: boolean): void {
  const { view } = e
  const l4 = b.l4[i]!
  const left = b.l3[i]! + b.len[i]! - l4
  const proto = b.proto[i]!
  let field: number
  if (proto === PROTO_TCP) {
    const header = left < TCP.BYTES ? 0 : headerLength(view, l4)
    if (header < TCP.BYTES || header > left) {
      b.drop[i] = DROP_L4_TRUNCATED
      return
    }
    field = l4 + TCP.CHECKSUM
  } else if (proto === PROTO_UDP) {
    const length = left < UDP.BYTES ? 0 : view.getUint16(l4 + UDP.LENGTH)
    if (length < UDP.BYTES || (length > left && (b.flags[i]! & F_FRAGMENT) === 0)) {
      b.drop[i] = DROP_L4_TRUNCATED
      return
    }
    field = l4 + UDP.CHECKSUM
  } else {
    // ICMP and ICMPv6: type, code, checksum and four bytes more; others are opaque.
    const icmp = (b.flags[i]! & F_IPV6) !== 0 ? PROTO_ICMPV6 : PROTO_ICMP
    if (proto === icmp && left < 8) b.drop[i] = DROP_L4_TRUNCATED
    else if ((b.flags[i]! & F_CSUM_PARTIAL) !== 0 && proto !== PROTO_ICMPV6) {
      b.drop[i] = DROP_OFFLOAD
    }
    return
  }
  if (hiddenPartial && (b.flags[i]! & F_FRAGMENT) === 0) {
    if (view.getUint16(field) === pseudoHeader(e, b, i)) b.flags[i]! |= F_CSUM_PARTIAL
  }
}

/** A superframe's kind must match what it carries, and it must be more than headers. */
function checkSuperframe(e: Engine, b: Batch, i: number): void {
  const type = b.gsoType[i]!
  const ipv6 = (b.flags[i]! & F_IPV6) !== 0
  const tcp = type === GSO_TCPV4 || type === GSO_TCPV6
  const l4 = b.l4[i]!
  const left = b.l3[i]! + b.len[i]! - l4
  const wrong =
    l4 === 0 ||
    (b.flags[i]! & F_FRAGMENT) !== 0 ||
    (b.flags[i]! & F_CSUM_PARTIAL) === 0 ||
    (tcp && (b.proto[i] !== PROTO_TCP || ipv6 !== (type === GSO_TCPV6))) ||
    (!tcp && b.proto[i] !== PROTO_UDP)
  if (wrong) {
    b.drop[i] = DROP_OFFLOAD
    return
  }
  const least = tcp ? TCP.BYTES : UDP.BYTES
  const header = left < least ? 0 : transportHeaderLength(e.view, l4, b.proto[i]!)
  if (header < least || header > left) b.drop[i] = DROP_L4_TRUNCATED
}

/**
 * Folded sum of the pseudo-header (RFC 9293 section 3.1, RFC 8200 section 8.1) of packet `i`, not
 * inverted: what the kernel leaves in the checksum field of a packet that is to be completed.
 */
export function pseudoHeader(e: Engine, b: Batch, i: number): number {
  const { view } = e
  const l3 = b.l3[i]!
  const length = l3 + b.len[i]! - b.l4[i]!
  let sum = b.proto[i]! + length
  if ((b.flags[i]! & F_IPV6) === 0) {
    const src = b.src4[i]!
    const dst = b.dst4[i]!
    sum += halves(src) + halves(dst)
  } else {
    for (let at = l3 + 8; at < l3 + 40; at += 4) sum += halves(view.getUint32(at))
  }
  sum = (sum >>> 16) + (sum & 0xffff)
  return (sum >>> 16) + (sum & 0xffff)
}
