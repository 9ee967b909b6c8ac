/**
 * icmp-errors: a dropped packet that was marked becomes the ICMP error that its sender gets. The
 * error is built around the offending packet where it lies, so nothing is copied: new headers go in
 * front, the end is cut off. It then takes the next hop of its own destination, in the network of the
 * packet, whose gateway is its source; that must lead back to where the packet came from.
 *
 * Never about an ICMP error, a fragment that is not the first, or a packet whose source is no
 * single host (RFC 1122 section 3.2.2, RFC 4443 section 2.4 (e)); never more than the limiter lets a
 * sender have (engine/error-limiter.ts).
 */
import { native } from '../../native/native.ts'
import type { Engine } from '../engine/engine.ts'
import { COUNTER, NEXT_HOP_BYTES } from '../memory/arena.ts'
import { type Batch, F_FRAGMENT, F_IPV6, GSO_NONE } from '../packet/batch.ts'
import { PORT_ROLE } from '../ports/port.ts'
import { HOP, HOP_KIND, HOP_MTU, HOP_NETWORK, HOP_PORT } from '../tables/next-hops.ts'
import {
  ICMP,
  ICMP_FRAGMENTATION_NEEDED,
  ICMP_HOST_UNREACHABLE,
  ICMP_TIME_EXCEEDED,
  ICMP_UNREACHABLE,
} from '../wire/icmp.ts'
import { ICMPV6, ICMPV6_TIME_EXCEEDED, ICMPV6_TOO_BIG, ICMPV6_UNREACHABLE } from '../wire/icmpv6.ts'
import { isUnicast } from '../wire/ipv4.ts'
import { PROTO_ICMP, PROTO_ICMPV6 } from '../wire/numbers.ts'

/** What a stage writes into the batch's `error` column: a line of ERRORS. */
export const ERROR_TIME_EXCEEDED = 1
export const ERROR_UNREACHABLE = 2
export const ERROR_TOO_BIG = 3

/** Type and code of an error in either family, and whether it says the next hop's MTU. */
const ERRORS = [
  { type4: 0, code4: 0, type6: 0, code6: 0, mtu: false },
  { type4: ICMP_TIME_EXCEEDED, code4: 0, type6: ICMPV6_TIME_EXCEEDED, code6: 0, mtu: false },
  {
    ...{ type4: ICMP_UNREACHABLE, code4: ICMP_HOST_UNREACHABLE },
    ...{ type6: ICMPV6_UNREACHABLE, code6: 0, mtu: false },
  },
  {
    ...{ type4: ICMP_UNREACHABLE, code4: ICMP_FRAGMENTATION_NEEDED },
    ...{ type6: ICMPV6_TOO_BIG, code6: 0, mtu: true },
  },
] as const

/** Bytes of an IPv4 error at the most (RFC 1812 section 4.3.2.3) and of an IPv6 one (RFC 4443 section 2.4 (c)). */
const MAX_ERROR_IPV4 = 576
const MAX_ERROR_IPV6 = 1280
const ERROR_TTL = 64

export function icmpErrors(e: Engine, b: Batch): void {
  const record = e.records[b.inPort]!
  for (let i = 0; i < b.n; i++) {
    if (b.error[i] === 0) continue
    const reason = b.drop[i]!
    const ipv6 = (b.flags[i]! & F_IPV6) !== 0
    const network = record.role === PORT_ROLE.UNDERLAY ? b.network[i]! : record.network
    if (!mayAnswer(e, b, i, ipv6, network)) continue
    if (!mayHaveOneMore(e, b, i, ipv6, record.role)) {
      e.counters[COUNTER.ICMP_LIMITED]!++
      continue
    }
    const hop = b.nextHop[i]!
    const mtu = e.tables.view.getUint32(e.tables.nextHopsAt + hop * NEXT_HOP_BYTES + HOP_MTU, true)
    if (ipv6) build6(e, b, i, mtu, network)
    else build4(e, b, i, mtu, network)
    const back = e.lookupOne(ipv6)
    const at = e.tables.nextHopsAt + back * NEXT_HOP_BYTES
    const kind = e.tables.view.getUint16(at + HOP_KIND, true)
    if (back === 0 || kind === HOP.REJECT) continue
    if (e.tables.view.getUint16(at + HOP_NETWORK, true) !== network) continue
    const out = e.tables.view.getUint32(at + HOP_PORT, true)
    if (!leadsBack(e, b.inPort, out)) continue
    e.countDrop(reason, b.inPort)
    e.counters[COUNTER.ICMP_ERRORS]!++
    b.nextHop[i] = back
    b.outPort[i] = out
    b.flags[i] = ipv6 ? F_IPV6 : 0
    b.gsoType[i] = GSO_NONE
    b.drop[i] = 0
  }
}

/**
 * Whether port `out` leads to where a packet of port `from` can have come from: to the same pod, to other nodes, to the
 * host. What comes in the name of somebody else doesn't make the node speak to him.
 */
function leadsBack(e: Engine, from: number, out: number): boolean {
  const role = e.records[from]!.role
  return role === PORT_ROLE.POD ? out === from : e.records[out]?.role === role
}

/** Asks the limiter. Time is read once an error. */
function mayHaveOneMore(e: Engine, b: Batch, i: number, ipv6: boolean, role: number): boolean {
  const now = e.clock()
  if (role === PORT_ROLE.POD) return e.limiter.takeForPod(b.inPort, now)
  let source = b.src4[i]!
  if (ipv6) {
    source = 0
    for (let at = 8; at < 24; at += 4) source ^= e.view.getUint32(b.l3[i]! + at)
  }
  return e.limiter.takeForSource(b.inPort, source, now)
}

function mayAnswer(e: Engine, b: Batch, i: number, ipv6: boolean, network: number): boolean {
  const { view } = e
  const l3 = b.l3[i]!
  const l4 = b.l4[i]!
  if (l4 === 0) return false
  if (!ipv6) {
    if (e.gateway4[network] === 0 || !isUnicast(b.src4[i]!)) return false
    if (b.proto[i] !== PROTO_ICMP) return true
    if ((b.flags[i]! & F_FRAGMENT) !== 0) return false
    // Queries: echo, timestamp, information, address mask; everything else is an error.
    const type = view.getUint8(l4)
    return type === 0 || type === 8 || (type >= 13 && type <= 18)
  }
  const high = view.getUint32(l3 + 8)
  if (e.gateway6[network * 4] === 0 || high >= 0xff00_0000 || high === 0) return false
  if (b.proto[i] !== PROTO_ICMPV6) return true
  return (b.flags[i]! & F_FRAGMENT) === 0 && view.getUint8(l4) >= 128
}

/** RFC 792; next-hop MTU as in RFC 1191. */
function build4(e: Engine, b: Batch, i: number, mtu: number, network: number): void {
  const { view } = e
  const gateway = e.gateway4[network]!
  const quoted = Math.min(b.len[i]!, MAX_ERROR_IPV4 - 28)
  const src = b.src4[i]!
  const l3 = b.l3[i]! - 28
  const l4 = l3 + 20
  const error = ERRORS[b.error[i]!]!
  view.setUint32(l4, ((error.type4 << 24) | (error.code4 << 16)) >>> 0)
  view.setUint32(l4 + ICMP.REST, error.mtu ? mtu & 0xffff : 0)
  view.setUint16(l4 + ICMP.CHECKSUM, ~native.checksum(l4, 8 + quoted, 0))
  view.setUint32(l3, 0x45c0_0000 | (28 + quoted))
  view.setUint32(l3 + 4, 0)
  view.setUint32(l3 + 8, ((ERROR_TTL << 24) | (PROTO_ICMP << 16)) >>> 0)
  view.setUint32(l3 + 12, gateway)
  view.setUint32(l3 + 16, src)
  view.setUint16(l3 + 10, ~native.checksum(l3, 20, 0))
  b.l3[i] = l3
  b.l4[i] = l4
  b.len[i] = 28 + quoted
  b.proto[i] = PROTO_ICMP
  b.src4[i] = gateway
  b.dst4[i] = src
  e.oneAddress[0] = src
}

/** RFC 4443 sections 3.1 to 3.3. */
function build6(e: Engine, b: Batch, i: number, mtu: number, network: number): void {
  const { view, gateway6 } = e
  const old = b.l3[i]!
  const quoted = Math.min(b.len[i]!, MAX_ERROR_IPV6 - 48)
  const l3 = old - 48
  const l4 = l3 + 40
  const error = ERRORS[b.error[i]!]!
  for (let w = 0; w < 4; w++) {
    const word = view.getUint32(old + 8 + w * 4)
    view.setUint32(l3 + 24 + w * 4, word)
    view.setUint32(l3 + 8 + w * 4, gateway6[network * 4 + w]!)
    b.dst6[i * 4 + w] = word
    e.oneAddress[w] = word
  }
  view.setUint32(l3, 0x6000_0000)
  view.setUint32(l3 + 4, (((8 + quoted) << 16) | (PROTO_ICMPV6 << 8) | ERROR_TTL) >>> 0)
  view.setUint32(l4, ((error.type6 << 24) | (error.code6 << 16)) >>> 0)
  view.setUint32(l4 + ICMPV6.REST, error.mtu ? mtu : 0)
  const seed = native.checksum(l3 + 8, 32, PROTO_ICMPV6 + 8 + quoted)
  view.setUint16(l4 + ICMPV6.CHECKSUM, ~native.checksum(l4, 8 + quoted, seed))
  b.l3[i] = l3
  b.l4[i] = l4
  b.len[i] = 48 + quoted
  b.proto[i] = PROTO_ICMPV6
}
