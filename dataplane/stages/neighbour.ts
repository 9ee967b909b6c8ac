/**
 * neighbour: answers ARP (RFC 826) and neighbour solicitations (RFC 4861) of veth pods. A pod's
 * routes all point at this node, so every address is answered with the port's own MAC, but for the
 * pod's own address: that would look like a duplicate (RFC 5227, RFC 4862 section 5.4).
 *
 * Answers are built in the frame that asked and leave by the same port. Nothing else of neighbour
 * discovery is accepted from a pod: router advertisements and redirects are drops. A message is believed
 * only if it is valid: RFC 4861 section 7.1.1, its checksum included.
 */
import { native } from '../../native/native.ts'
import {
  DELIVER_AS_IS,
  DROP_ARP_MALFORMED,
  DROP_ARP_SPOOF,
  DROP_HANDLED,
  DROP_ND_MALFORMED,
  DROP_ND_SPOOF,
} from '../drops.ts'
import type { Engine } from '../engine/engine.ts'
import { type Batch, F_IPV6, F_L2_READY } from '../packet/batch.ts'
import type { PortRecord } from '../tables/ports.ts'
import { PORT_FLAG } from '../tables/ports.ts'
import {
  check,
  code,
  hasTarget,
  ND_NEIGHBOUR_SOLICITATION,
  ND_REDIRECT,
  ND_ROUTER_ADVERTISEMENT,
  ND_ROUTER_SOLICITATION,
  targetWord,
} from '../wire/icmpv6.ts'
import { isUnicast } from '../wire/ipv4.ts'
import { PROTO_ICMPV6 } from '../wire/numbers.ts'
import { OK } from '../wire/reason.ts'
import { PROTO_ARP, pseudoHeader } from './parse.ts'

const ARP_BYTES = 28
/** Router, solicited, override (RFC 4861 section 4.4). */
const NA_FLAGS = 0xe000_0000
/** IPv6 header, neighbour advertisement, target link-layer address option. */
const NA_BYTES = 40 + 24 + 8

export function neighbour(e: Engine, b: Batch): void {
  const port = e.ports[b.inPort]!
  if (!port.ethernet) return
  const record = e.records[b.inPort]!
  for (let i = 0; i < b.n; i++) {
    if (b.drop[i] !== 0) continue
    const proto = b.proto[i]
    if (proto === PROTO_ARP) answerArp(e, b, i, record)
    else if (proto === PROTO_ICMPV6 && (b.flags[i]! & F_IPV6) !== 0 && b.l4[i] !== 0) {
      const type = e.view.getUint8(b.l4[i]!)
      if (type >= ND_ROUTER_SOLICITATION && type <= ND_REDIRECT) discovery(e, b, i, record, type)
    }
  }
}

function answerArp(e: Engine, b: Batch, i: number, record: PortRecord): void {
  const { view } = e
  const at = b.l3[i]!
  // Ethernet (1), IPv4, 6 and 4 bytes, request (1).
  const wrong =
    b.len[i]! < ARP_BYTES ||
    view.getUint32(at) !== 0x0001_0800 ||
    view.getUint32(at + 4) !== 0x0604_0001
  if (wrong) {
    b.drop[i] = DROP_ARP_MALFORMED
    return
  }
  const sender = view.getUint32(at + 14)
  const target = view.getUint32(at + 24)
  if (!isUnicast(target)) {
    b.drop[i] = DROP_ARP_MALFORMED
    return
  }
  const ownMac =
    view.getUint32(at + 8) === record.peerMacHigh && view.getUint16(at + 12) === record.peerMacLow
  if (!ownMac || (sender !== record.ip4 && sender !== 0)) {
    b.drop[i] = DROP_ARP_SPOOF
    return
  }
  if (target === record.ip4 || sender === 0) {
    // A probe or an announcement: silence says that nobody else has the address.
    b.drop[i] = DROP_HANDLED
    return
  }
  view.setUint16(at + 6, 2)
  view.setUint32(at + 8, record.macHigh)
  view.setUint16(at + 12, record.macLow)
  view.setUint32(at + 14, target)
  view.setUint32(at + 18, record.peerMacHigh)
  view.setUint16(at + 22, record.peerMacLow)
  view.setUint32(at + 24, sender)
  b.len[i] = ARP_BYTES
  reply(e, b, i, record)
}

function discovery(e: Engine, b: Batch, i: number, record: PortRecord, type: number): void {
  const { view } = e
  const l3 = b.l3[i]!
  const l4 = b.l4[i]!
  if (type === ND_ROUTER_ADVERTISEMENT || type === ND_REDIRECT || !isValid(e, b, i)) {
    b.drop[i] = DROP_ND_MALFORMED
    return
  }
  if (type !== ND_NEIGHBOUR_SOLICITATION) {
    // A pod has its routes already, and what it advertises is not believed.
    b.drop[i] = DROP_HANDLED
    return
  }
  const unspecified =
    view.getUint32(l3 + 8) === 0 &&
    view.getUint32(l3 + 12) === 0 &&
    view.getUint32(l3 + 16) === 0 &&
    view.getUint32(l3 + 20) === 0
  // Duplicate address detection asks from `::`; nobody answers, so the address is the pod's.
  if (unspecified || isOwn(e, l4 + 8, record)) {
    b.drop[i] = DROP_HANDLED
    return
  }
  const linkLocal = view.getUint16(l3 + 8) >>> 6 === 0xfe80 >>> 6
  if (!linkLocal && !isOwn(e, l3 + 8, record)) {
    b.drop[i] = DROP_ND_SPOOF
    return
  }
  advertise(e, b, i, record)
}

/** RFC 4861 sections 6.1.1, 7.1.1, 7.1.2: hop limit 255, code 0, lengths, no multicast target, checksum. No extension headers here. */
function isValid(e: Engine, b: Batch, i: number): boolean {
  const { view } = e
  const l3 = b.l3[i]!
  const l4 = b.l4[i]!
  const length = l3 + b.len[i]! - l4
  if (l4 !== l3 + 40 || view.getUint8(l3 + 7) !== 255) return false
  if (check(view, l4, length) !== OK || code(view, l4) !== 0) return false
  if (hasTarget(view, l4) && targetWord(view, l4, 0) >= 0xff00_0000) return false
  return native.checksum(l4, length, pseudoHeader(e, b, i)) === 0xffff
}

/** Whether the IPv6 address at `at` is the pod's. */
function isOwn(e: Engine, at: number, record: PortRecord): boolean {
  const { view } = e
  const { ip6 } = record
  return (
    (record.flags & PORT_FLAG.HAS_IPV6) !== 0 &&
    view.getUint32(at) === ip6[0] &&
    view.getUint32(at + 4) === ip6[1] &&
    view.getUint32(at + 8) === ip6[2] &&
    view.getUint32(at + 12) === ip6[3]
  )
}

/** Turns the solicitation into the advertisement of its target: the source becomes the target address. */
function advertise(e: Engine, b: Batch, i: number, record: PortRecord): void {
  const { view } = e
  const l3 = b.l3[i]!
  const l4 = l3 + 40
  for (let w = 0; w < 16; w += 4) {
    view.setUint32(l3 + 24 + w, view.getUint32(l3 + 8 + w))
    view.setUint32(l3 + 8 + w, view.getUint32(l4 + 8 + w))
  }
  view.setUint16(l3 + 4, NA_BYTES - 40)
  view.setUint32(l4, 0x8800_0000)
  view.setUint32(l4 + 4, NA_FLAGS)
  view.setUint16(l4 + 24, 0x0201)
  view.setUint32(l4 + 26, record.macHigh)
  view.setUint16(l4 + 30, record.macLow)
  b.len[i] = NA_BYTES
  let sum = pseudoHeader(e, b, i)
  for (let at = l4; at < l4 + 32; at += 2) sum += view.getUint16(at)
  sum = (sum >>> 16) + (sum & 0xffff)
  view.setUint16(l4 + 2, ~((sum >>> 16) + (sum & 0xffff)))
  reply(e, b, i, record)
}

/** Turns the Ethernet header round; the frame goes back out of the port that it came in by. */
function reply(e: Engine, b: Batch, i: number, record: PortRecord): void {
  const { view } = e
  const l2 = b.l3[i]! - 14
  view.setUint32(l2, record.peerMacHigh)
  view.setUint16(l2 + 4, record.peerMacLow)
  view.setUint32(l2 + 6, record.macHigh)
  view.setUint16(l2 + 10, record.macLow)
  b.flags[i]! |= F_L2_READY
  b.outPort[i] = b.inPort
  b.drop[i] = DELIVER_AS_IS
}
