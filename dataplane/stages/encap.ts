/**
 * encap: puts the outer headers of the next hop in front of the inner packet (RFC 7348): outer IP,
 * UDP, VXLAN, inner Ethernet. The next hop holds them as a template; what differs from packet to
 * packet is written here: lengths, the identification (a router on the way may fragment: RFC 6864
 * section 4.2), the source port (entropy of the inner flow, 49152-65535), ECN
 * (RFC 6040 section 4.1, normal mode), the flow label (RFC 6438), the checksums.
 *
 * Over IPv4 the UDP checksum is zero (RFC 7348 section 4.1.1) and the header checksum is the
 * template's plus what was added (RFC 1624). Over IPv6 the UDP checksum covers the inner packet; what
 * leaves by UDP sockets gets it there. Its payload is summed only when nobody has: a segment whose
 * checksum is partial, or was written by `segment`, has a sum that is known without its bytes.
 */
import { native } from '../../native/native.ts'
import type { Engine } from '../engine/engine.ts'
import { MAX_WORKERS } from '../limits.ts'
import { COUNTER, NEXT_HOP_BYTES } from '../memory/arena.ts'
import {
  type Batch,
  F_CSUM_PARTIAL,
  F_FRAGMENT,
  F_IPV6,
  F_L4_SUM,
  F_OUTER,
} from '../packet/batch.ts'
import { PORT_KIND } from '../ports/port.ts'
import { HOP_HEADER, HOP_HEADER_BYTES } from '../tables/next-hops.ts'
import { ETHERTYPE_IPV4, ETHERTYPE_IPV6, PROTO_TCP, PROTO_UDP } from '../wire/numbers.ts'
import { UDP } from '../wire/udp.ts'
import { completeChecksum, sumOnceCompleted } from './checksums.ts'

const IPV4_OUTER = 50
const UDP_AND_BEYOND = 30
/** First of the dynamic ports (RFC 6335 section 6). */
const FIRST_DYNAMIC_PORT = 0xc000

export function encap(e: Engine, b: Batch): void {
  if (!e.twins) {
    encapHere(e, b)
    return
  }
  completeForIpv4(e, b)
  const answer = native.encapIpv4(e.handleOf(b), b.n, e.identification, MAX_WORKERS)
  const done = answer & 0xffff
  e.identification = (e.identification + done * MAX_WORKERS) & 0xffff
  e.counters[COUNTER.ENCAPSULATED]! += done
  if (answer > 0xffff) encapHere(e, b)
}

/** What the native twin expects: checksums that the port can't complete are complete. */
function completeForIpv4(e: Engine, b: Batch): void {
  for (let i = 0; i < b.n; i++) {
    if ((b.flags[i]! & F_CSUM_PARTIAL) === 0 || b.drop[i] !== 0) continue
    const hop = e.tables.nextHopsAt + b.nextHop[i]! * NEXT_HOP_BYTES
    if (e.tables.view.getUint32(hop + HOP_HEADER_BYTES, true) !== IPV4_OUTER) continue
    if (!e.ports[b.outPort[i]!]?.partialChecksums) completeChecksum(e, b, i)
  }
}

/** The same in TypeScript: what is written, in words that can be read. */
function encapHere(e: Engine, b: Batch): void {
  const { nextHopsAt } = e.tables
  const hops = e.tables.view
  for (let i = 0; i < b.n; i++) {
    if (b.drop[i] !== 0 || (b.flags[i]! & F_OUTER) !== 0) continue
    const hop = nextHopsAt + b.nextHop[i]! * NEXT_HOP_BYTES
    const header = hops.getUint32(hop + HOP_HEADER_BYTES, true)
    if (header === 0) continue
    if (header === IPV4_OUTER) encapIpv4(e, b, i, hop + HOP_HEADER)
    else encapIpv6(e, b, i, hop + HOP_HEADER, header)
    e.counters[COUNTER.ENCAPSULATED]!++
  }
}

function encapIpv4(e: Engine, b: Batch, i: number, template: number): void {
  const { view } = e
  const hops = e.tables.view
  if ((b.flags[i]! & F_CSUM_PARTIAL) !== 0 && !e.ports[b.outPort[i]!]?.partialChecksums) {
    completeChecksum(e, b, i)
  }
  const ipv6 = (b.flags[i]! & F_IPV6) !== 0
  const inner = b.l3[i]!
  const outer = inner - IPV4_OUTER
  const total = b.len[i]! + IPV4_OUTER
  const hash = flowHash(e, b, i)
  const first = view.getUint32(inner)
  const ecn = ipv6 ? (first >>> 20) & 3 : (first >>> 16) & 3
  view.setUint32(outer, (0x4500_0000 | (ecn << 16) | total) >>> 0)
  const id = e.nextIdentification()
  view.setUint32(outer + 4, (id << 16) >>> 0)
  let sum = (~hops.getUint16(template + 10) & 0xffff) + ecn + total + id
  sum = (sum >>> 16) + (sum & 0xffff)
  view.setUint32(outer + 8, ((hops.getUint16(template + 8) << 16) | (~sum & 0xffff)) >>> 0)
  // Whole words of the template are copied as they lie: little-endian both ways swaps no bytes.
  view.setUint32(outer + 12, hops.getUint32(template + 12, true), true)
  view.setUint32(outer + 16, hops.getUint32(template + 16, true), true)
  view.setUint32(
    outer + 20,
    (((FIRST_DYNAMIC_PORT | (hash & 0x3fff)) << 16) | hops.getUint16(template + 22)) >>> 0,
  )
  view.setUint32(outer + 24, ((total - 20) << 16) >>> 0)
  for (let at = 28; at < 48; at += 4) {
    view.setUint32(outer + at, hops.getUint32(template + at, true), true)
  }
  view.setUint16(outer + 48, ipv6 ? ETHERTYPE_IPV6 : ETHERTYPE_IPV4)
  b.l3[i] = outer
  b.len[i] = total
  b.flags[i] = F_OUTER | (b.flags[i]! & F_CSUM_PARTIAL)
}

function encapIpv6(e: Engine, b: Batch, i: number, template: number, header: number): void {
  const { view } = e
  const hops = e.tables.view
  const port = e.ports[b.outPort[i]!]
  /** Sum of the inner transport segment; below 0: only its bytes tell. */
  let segment = -1
  if ((b.flags[i]! & F_CSUM_PARTIAL) !== 0) {
    segment = sumOnceCompleted(e, b, i)
    if (port?.partialChecksums !== true) completeChecksum(e, b, i)
  } else if ((b.flags[i]! & F_L4_SUM) !== 0) segment = b.l4Sum[i]!
  const ipv6 = (b.flags[i]! & F_IPV6) !== 0
  const inner = b.l3[i]!
  const outer = inner - header
  const udp = inner - UDP_AND_BEYOND
  const udpLength = b.len[i]! + UDP_AND_BEYOND
  const hash = flowHash(e, b, i)
  const first = view.getUint32(inner)
  const ecn = ipv6 ? (first >>> 20) & 3 : (first >>> 16) & 3
  for (let at = 0; at < header - 2; at += 4) {
    view.setUint32(outer + at, hops.getUint32(template + at, true), true)
  }
  view.setUint32(outer, (0x6000_0000 | (ecn << 20) | (hash & 0xf_ffff)) >>> 0)
  view.setUint16(outer + 4, udpLength)
  view.setUint16(udp, FIRST_DYNAMIC_PORT | (hash & 0x3fff))
  view.setUint16(udp + 4, udpLength)
  view.setUint16(inner - 2, ipv6 ? ETHERTYPE_IPV6 : ETHERTYPE_IPV4)
  // A socket's kernel, or its device, writes it.
  if (port?.kind !== PORT_KIND.UDP) {
    // The template's field holds the sum of the pseudo-header but for the length.
    const bytes = segment < 0 ? udpLength : b.l4[i]! - udp
    const sum = ~native.checksum(udp, bytes, udpLength + Math.max(0, segment)) & 0xffff
    view.setUint16(udp + UDP.CHECKSUM, sum === 0 ? 0xffff : sum)
  }
  b.l3[i] = outer
  b.len[i] = b.len[i]! + header
  b.flags[i] = F_OUTER | F_IPV6 | (b.flags[i]! & F_CSUM_PARTIAL)
}

/** 32 bits that are the same for every packet of a flow, fragments without ports apart. */
function flowHash(e: Engine, b: Batch, i: number): number {
  const { view } = e
  const l3 = b.l3[i]!
  const proto = b.proto[i]!
  let h: number
  if ((b.flags[i]! & F_IPV6) !== 0) {
    h = view.getUint32(l3 + 8)
    for (let at = 12; at < 40; at += 4) h = Math.imul(h ^ view.getUint32(l3 + at), 0x9e37_79b1)
  } else {
    h = Math.imul(b.src4[i]! ^ Math.imul(b.dst4[i]!, 0x85eb_ca6b), 0x9e37_79b1)
  }
  h ^= proto
  if ((proto === PROTO_TCP || proto === PROTO_UDP) && (b.flags[i]! & F_FRAGMENT) === 0) {
    h ^= view.getUint32(b.l4[i]!)
  }
  h = Math.imul(h ^ (h >>> 15), 0xc2b2_ae35)
  return (h ^ (h >>> 13)) >>> 0
}
