/**
 * One line of text for a whole packet, from the outside in, for tools and error messages:
 *
 *     02:… > 02:… IPv4 | 192.0.2.1 > 192.0.2.2 ttl 64 | UDP 51123 > 4789 length 106 | VXLAN vni 1 | …
 *
 * Bytes may be anything: every layer is checked before it is read, a layer that fails its check
 * says why and ends the line, and nesting has a limit.
 */
import * as arp from './arp.ts'
import * as ethernet from './ethernet.ts'
import * as icmp from './icmp.ts'
import * as icmpv6 from './icmpv6.ts'
import * as ipv4 from './ipv4.ts'
import * as ipv6 from './ipv6.ts'
import {
  ETHERTYPE_ARP,
  ETHERTYPE_IPV4,
  ETHERTYPE_IPV6,
  PORT_VXLAN,
  PORT_VXLAN_LINUX,
  PROTO_ICMP,
  PROTO_ICMPV6,
  PROTO_NO_NEXT_HEADER,
  PROTO_TCP,
  PROTO_UDP,
} from './numbers.ts'
import { OK, TRUNCATED, whyNot } from './reason.ts'
import * as tcp from './tcp.ts'
import * as udp from './udp.ts'
import * as vxlan from './vxlan.ts'

/** Packets inside packets (tunnels, quotes of ICMP errors) that are followed. */
const MAX_DEPTH = 4
const BETWEEN = ' | '

/** The Ethernet frame of `length` bytes at `at`. */
export function prettyFrame(view: DataView, at: number, length: number): string {
  return frame(view, at, length, 0)
}

/** The IPv4 or IPv6 packet at `at`; bytes behind its end are ignored. */
export function prettyPacket(view: DataView, at: number, length: number): string {
  return packet(view, at, length, 0)
}

function frame(view: DataView, at: number, length: number, depth: number): string {
  const text = ethernet.pretty(view, at, length)
  if (ethernet.check(view, at, length) !== OK) return text
  const from = at + ethernet.ETHERNET.BYTES
  const left = length - ethernet.ETHERNET.BYTES
  const type = ethernet.type(view, at)
  if (type === ETHERTYPE_ARP) return text + BETWEEN + arp.pretty(view, from, left)
  if (type === ETHERTYPE_IPV4 || type === ETHERTYPE_IPV6) {
    return text + BETWEEN + packet(view, from, left, depth)
  }
  return `${text} length ${left}`
}

function packet(view: DataView, at: number, length: number, depth: number): string {
  if (depth === MAX_DEPTH) return '…'
  const version = length === 0 ? 0 : view.getUint8(at) >> 4
  if (version === 4) return packet4(view, at, length, depth)
  if (version === 6) return packet6(view, at, length, depth)
  return `IP ${whyNot(length === 0 ? TRUNCATED : ipv4.check(view, at, Math.max(length, 0)))}`
}

function packet4(view: DataView, at: number, length: number, depth: number): string {
  const text = ipv4.pretty(view, at, length)
  if (ipv4.checkHeader(view, at, length) !== OK) return text
  const total = ipv4.totalLength(view, at)
  const cut = total > length ? ` (${length} of ${total} bytes)` : ''
  const header = ipv4.headerLength(view, at)
  const left = Math.min(total, length) - header
  const protocol = ipv4.protocol(view, at)
  if (ipv4.fragmentOffset(view, at) !== 0) return `${text}${cut} protocol ${protocol}`
  return text + cut + BETWEEN + transport(view, at + header, left, protocol, depth)
}

function packet6(view: DataView, at: number, length: number, depth: number): string {
  let text = ipv6.pretty(view, at, length)
  if (ipv6.checkHeader(view, at, length) !== OK) return text
  const total = ipv6.IPV6.BYTES + ipv6.payloadLength(view, at)
  // The walk needs a packet that is all there.
  if (total > length) return `${text} (${length} of ${total} bytes)`
  const found = { protocol: 0, offset: 0, fragment: false }
  const reason = ipv6.walk(view, at, found)
  if (reason !== OK) return `${text} extension headers ${whyNot(reason)}`
  if (found.fragment) text += ' fragment'
  if (found.offset === 0) return `${text} protocol ${found.protocol}`
  const from = at + found.offset
  return text + BETWEEN + transport(view, from, at + total - from, found.protocol, depth)
}

function transport(
  view: DataView,
  at: number,
  length: number,
  protocol: number,
  depth: number,
): string {
  switch (protocol) {
    case PROTO_TCP:
      return tcp.pretty(view, at, length)
    case PROTO_UDP:
      return datagram(view, at, length, depth)
    case PROTO_ICMP: {
      const quotes = icmp.check(view, at, length) === OK && icmp.isError(view, at)
      return icmp.pretty(view, at, length) + (quotes ? quote(view, at, length, depth) : '')
    }
    case PROTO_ICMPV6: {
      const quotes = icmpv6.check(view, at, length) === OK && icmpv6.isError(view, at)
      return icmpv6.pretty(view, at, length) + (quotes ? quote(view, at, length, depth) : '')
    }
    case PROTO_NO_NEXT_HEADER:
      return 'no next header'
    default:
      return `protocol ${protocol} length ${length}`
  }
}

/** The packet that an ICMP error of either version is about. */
function quote(view: DataView, at: number, length: number, depth: number): string {
  const from = at + icmp.ICMP.BYTES
  const left = length - icmp.ICMP.BYTES
  return left === 0 ? '' : ` about [${packet(view, from, left, depth + 1)}]`
}

function datagram(view: DataView, at: number, length: number, depth: number): string {
  const text = udp.pretty(view, at, length)
  if (udp.check(view, at, length) !== OK) return text
  const port = udp.destinationPort(view, at)
  if (port !== PORT_VXLAN && port !== PORT_VXLAN_LINUX) return text
  const from = at + udp.UDP.BYTES
  const left = udp.udpLength(view, at) - udp.UDP.BYTES
  const outer = text + BETWEEN + vxlan.pretty(view, from, left)
  if (vxlan.check(view, from, left) !== OK) return outer
  const header = vxlan.VXLAN.BYTES
  return outer + BETWEEN + frame(view, from + header, left - header, depth + 1)
}
