/**
 * decap: an outer packet becomes the inner one (RFC 7348). Accepted is what comes from a known
 * VTEP, to our VTEP address and port, with the VNI of a network that this node is in, and whose inner
 * frame is addressed to this node's inner MAC and carries IPv4 or IPv6. ECN by RFC 6040 section 4.2.
 *
 * A non-zero outer UDP checksum is verified (RFC 7348 section 4.1), unless it is only the
 * pseudo-header sum of a packet that never left this machine. Over IPv6 a zero checksum is accepted
 * as RFC 6935 allows for tunnels. A kernel peer on this machine may have written the outer checksum
 * for an inner packet whose own one is still partial (checksum-offloads.rst, "LCO"): see `verify`.
 */
import { native } from '../../native/native.ts'
import {
  DROP_NOT_VXLAN,
  DROP_OFFLOAD,
  DROP_VXLAN_CHECKSUM,
  DROP_VXLAN_ECN,
  DROP_VXLAN_HEADER,
  DROP_VXLAN_INNER,
  DROP_VXLAN_VNI,
  DROP_VXLAN_VTEP,
} from '../drops.ts'
import type { Engine } from '../engine/engine.ts'
import { BATCH_SIZE } from '../limits.ts'
import { COUNTER } from '../memory/arena.ts'
import { type Batch, F_CSUM_PARTIAL, F_FRAGMENT, F_IPV6, GSO_UDP_L4 } from '../packet/batch.ts'
import { PORT_KIND } from '../ports/port.ts'
import { networkOf } from '../tables/networks.ts'
import { knowsVtep } from '../tables/vteps.ts'
import { ETHERTYPE_IPV4, ETHERTYPE_IPV6, PROTO_UDP } from '../wire/numbers.ts'
import { sumOnceCompleted } from './checksums.ts'
import { parseInner, pseudoHeader } from './parse.ts'

/** UDP header, VXLAN header, inner Ethernet header. */
const OUTER_BYTES = 8 + 8 + 14
const VXLAN_FLAG_VNI = 0x08
const CE = 3

/** Packets whose outer header is off; and by packet what is needed of that: ECN, its UDP header, `checksumSeed`. */
const opened = new Uint16Array(BATCH_SIZE)
const ecns = new Uint8Array(BATCH_SIZE)
const udps = new Uint32Array(BATCH_SIZE)
const seeds = new Int32Array(BATCH_SIZE)

export function decap(e: Engine, b: Batch): void {
  const port = e.ports[b.inPort]!
  if (port.kind === PORT_KIND.VXLAN) {
    countOpened(e, b)
    return
  }
  let n = 0
  for (let i = 0; i < b.n; i++) {
    if (b.drop[i] !== 0) continue
    const reason = check(e, b, i)
    if (reason !== 0) {
      b.drop[i] = reason
      continue
    }
    opened[n++] = i
    ecns[i] = ecn(e, b, i)
    udps[i] = b.l4[i]!
    seeds[i] = checksumSeed(e, b, i)
    open(b, i)
  }
  if (n > 0) parseInner(e, b, port.hiddenPartial)
  for (let k = 0; k < n; k++) {
    const i = opened[k]!
    if (seeds[i]! >= 0 && !verify(e, b, i, udps[i]!, seeds[i]!)) b.drop[i] = DROP_VXLAN_CHECKSUM
    if (b.drop[i] === 0) {
      combineEcn(e, b, i, ecns[i]!)
      if (port.kind === PORT_KIND.UDP && b.gsoSize[i] !== 0) markSuperframe(b, i)
      e.counters[COUNTER.DECAPSULATED]!++
    }
  }
}

/** The kernel has taken the outer headers off, and its program (tc/programs.ts) has checked who sent it. */
function countOpened(e: Engine, b: Batch): void {
  for (let i = 0; i < b.n; i++) if (b.drop[i] === 0) e.counters[COUNTER.DECAPSULATED]!++
}

/** 0 if packet `i` is VXLAN for us, and its network is written down; else the reason. */
function check(e: Engine, b: Batch, i: number): number {
  const { view } = e
  const l3 = b.l3[i]!
  const l4 = b.l4[i]!
  const ipv6 = (b.flags[i]! & F_IPV6) !== 0
  if (b.proto[i] !== PROTO_UDP || (b.flags[i]! & F_FRAGMENT) !== 0) return DROP_NOT_VXLAN
  if (view.getUint16(l4 + 2) !== e.vxlanPort || !toOurVtep(e, b, i, ipv6)) return DROP_NOT_VXLAN
  const { words, vtepsAt } = e.tables
  const known = ipv6
    ? knowsVtep(
        words,
        vtepsAt / 4,
        6,
        view.getUint32(l3 + 8),
        view.getUint32(l3 + 12),
        view.getUint32(l3 + 16),
        view.getUint32(l3 + 20),
      )
    : knowsVtep(words, vtepsAt / 4, 4, b.src4[i]!, 0, 0, 0)
  if (!known) return DROP_VXLAN_VTEP
  const length = view.getUint16(l4 + 4)
  if (length < OUTER_BYTES) return DROP_VXLAN_HEADER
  if ((view.getUint8(l4 + 8) & VXLAN_FLAG_VNI) === 0) return DROP_VXLAN_HEADER
  const vni = view.getUint32(l4 + 12) >>> 8
  const network = vni === e.vni ? 0 : networkOf(words, e.tables.networksAt / 4, vni)
  if (network < 0) return DROP_VXLAN_VNI
  b.network[i] = network
  if (
    view.getUint32(l4 + 16) !== e.vtepMacHigh ||
    view.getUint16(l4 + 20) !== e.vtepMacLow ||
    (view.getUint16(l4 + 28) !== ETHERTYPE_IPV4 && view.getUint16(l4 + 28) !== ETHERTYPE_IPV6)
  ) {
    return DROP_VXLAN_INNER
  }
  return 0
}

/** Pseudo-header sum of the outer packet; -1 when its checksum has nothing to prove. */
function checksumSeed(e: Engine, b: Batch, i: number): number {
  if ((b.flags[i]! & F_CSUM_PARTIAL) !== 0) return -1
  return e.view.getUint16(b.l4[i]! + 6) === 0 ? -1 : pseudoHeader(e, b, i)
}

/**
 * Whether the outer checksum is right; `udp` and `seed` are the outer packet's, the inner one is
 * parsed. The outer checksum counts a segment as it is once completed, also when it is still partial.
 */
function verify(e: Engine, b: Batch, i: number, udp: number, seed: number): boolean {
  const end = udp + e.view.getUint16(udp + 4)
  const partial = b.drop[i] === 0 && (b.flags[i]! & F_CSUM_PARTIAL) !== 0
  if (!partial || b.l3[i]! + b.len[i]! !== end) {
    return native.checksum(udp, end - udp, seed) === 0xffff
  }
  const sum = native.checksum(udp, b.l4[i]! - udp, seed) + sumOnceCompleted(e, b, i)
  return (sum >>> 16) + (sum & 0xffff) === 0xffff
}

/** Whether packet `i`, of the family `ipv6`, goes to this node's VTEP address. */
export function toOurVtep(e: Engine, b: Batch, i: number, ipv6: boolean): boolean {
  if (!ipv6) return b.dst4[i] === e.vtep4
  const at = i * 4
  return (
    b.dst6[at] === e.vtep6[0] &&
    b.dst6[at + 1] === e.vtep6[1] &&
    b.dst6[at + 2] === e.vtep6[2] &&
    b.dst6[at + 3] === e.vtep6[3]
  )
}

function ecn(e: Engine, b: Batch, i: number): number {
  const first = e.view.getUint32(b.l3[i]!)
  return (b.flags[i]! & F_IPV6) === 0 ? (first >>> 16) & 3 : (first >>> 20) & 3
}

/** A UDP superframe of a kernel peer on this machine, whose segment size its port was told (ports/udp.ts). */
function markSuperframe(b: Batch, i: number): void {
  const flags = b.flags[i]!
  const partial = (flags & F_CSUM_PARTIAL) !== 0 && (flags & F_FRAGMENT) === 0
  if (partial && b.proto[i] === PROTO_UDP) b.gsoType[i] = GSO_UDP_L4
  else b.drop[i] = DROP_OFFLOAD
}

/** The inner packet takes the outer one's place in the batch. */
function open(b: Batch, i: number): void {
  const l4 = b.l4[i]!
  const end = b.l3[i]! + b.len[i]!
  if ((b.flags[i]! & F_IPV6) !== 0) b.n6--
  else b.n4--
  b.l3[i] = l4 + OUTER_BYTES
  b.len[i] = end - (l4 + OUTER_BYTES)
  b.l4[i] = 0
  b.flags[i] = 0
}

/** RFC 6040 figure 4: congestion that the outer packet met goes into the inner one. */
function combineEcn(e: Engine, b: Batch, i: number, outer: number): void {
  if (outer === 0) return
  const inner = ecn(e, b, i)
  if (inner === CE || (outer !== CE && !(outer === 1 && inner === 2))) return
  if (inner === 0) {
    b.drop[i] = DROP_VXLAN_ECN
    return
  }
  setEcn(e, b, i, outer)
}

/** Writes the ECN field, with the IPv4 header checksum updated (RFC 1624 eqn 3). */
function setEcn(e: Engine, b: Batch, i: number, value: number): void {
  const { view } = e
  const l3 = b.l3[i]!
  if ((b.flags[i]! & F_IPV6) !== 0) {
    view.setUint32(l3, ((view.getUint32(l3) & ~(3 << 20)) | (value << 20)) >>> 0)
    return
  }
  const before = view.getUint16(l3)
  const after = (before & ~3) | value
  view.setUint16(l3, after)
  let sum = (~view.getUint16(l3 + 10) & 0xffff) + (~before & 0xffff) + after
  sum = (sum >>> 16) + (sum & 0xffff)
  view.setUint16(l3 + 10, ~((sum >>> 16) + (sum & 0xffff)))
}
