/**
 * coalesce: joins TCP segments of one flow that follow each other in a batch into a superframe, for
 * ports that take one: the reverse of `segment`, and what a network card with LRO, or the kernel's
 * GRO, would do (net/ipv4/tcp_offload.c). A pod's stack then works once for some forty segments, and
 * answers with one ACK.
 *
 * Nothing is held back for later: only what came together is joined. What is joined is what cutting
 * gives again: same addresses, ports, acknowledgement, window and options, contiguous sequence
 * numbers, equal sizes but for the last, no flag but ACK and a PSH that ends it, same TTL and ECN
 * mark, IPv4 with DF and without options, IPv6 without extension headers. A complete checksum is
 * proven while the payload is copied; a segment whose sum is wrong goes on alone, as it came.
 */

import { native } from '../../native/native.ts'
import { CONSUMED } from '../drops.ts'
import type { Engine } from '../engine/engine.ts'
import { NONE } from '../engine/open-flows.ts'
import { FRAME_HEADROOM } from '../limits.ts'
import { COUNTER } from '../memory/arena.ts'
import {
  type Batch,
  F_CSUM_PARTIAL,
  F_FRAGMENT,
  F_IPV6,
  GSO_NONE,
  GSO_TCPV4,
  GSO_TCPV6,
} from '../packet/batch.ts'
import { PROTO_TCP } from '../wire/numbers.ts'
import { headerLength, TCP, TCP_ACK, TCP_PSH } from '../wire/tcp.ts'
import { pseudoHeader } from './parse.ts'

/** Largest IP packet: its length is 16 bits. */
const MAX_PACKET = 65_535
const IPV4_BYTES = 20
const IPV6_BYTES = 40
/** Second half of an IPv4 header's second word: DF, MF and the offset. */
const DF_ONLY = 0x4000

export function coalesce(e: Engine, b: Batch): void {
  if (b.n < 2) return
  const { flows } = e
  flows.begin()
  for (let i = 0; i < b.n; i++) {
    if (b.drop[i] !== 0 || b.proto[i] !== PROTO_TCP || b.l4[i] === 0) continue
    if (e.ports[b.outPort[i]!]?.superframes !== true) continue
    const place = flows.place(flowHash(e, b, i))
    if (place === NONE) continue
    if (flows.count[place] !== 0) {
      if (append(e, b, place, i)) continue
      close(e, b, place)
    }
    lead(e, b, place, i)
  }
  for (let k = 0; k < flows.taken; k++) close(e, b, flows.places[k]!)
}

/** 32 bits, the same for all packets of a flow. */
function flowHash(e: Engine, b: Batch, i: number): number {
  const { view } = e
  let h: number
  if ((b.flags[i]! & F_IPV6) === 0) h = b.src4[i]! ^ Math.imul(b.dst4[i]!, 0x85eb_ca6b)
  else {
    h = 0
    const end = b.l3[i]! + IPV6_BYTES
    for (let at = b.l3[i]! + 8; at < end; at += 4)
      h = Math.imul(h ^ view.getUint32(at), 0x85eb_ca6b)
  }
  h = Math.imul(h ^ view.getUint32(b.l4[i]!), 0x9e37_79b1)
  return h ^ (h >>> 15)
}

/** Opens `place` with segment `i` if others may follow it. */
function lead(e: Engine, b: Batch, place: number, i: number): void {
  const { flows, view } = e
  const l4 = b.l4[i]!
  const payload = b.l3[i]! + b.len[i]! - l4 - headerLength(view, l4)
  if (payload <= 0 || !isPlain(e, b, i) || view.getUint8(l4 + TCP.FLAGS) !== TCP_ACK) return
  flows.first[place] = i
  flows.size[place] = payload
  flows.next[place] = view.getUint32(l4 + TCP.SEQUENCE) + payload
  flows.count[place] = 1
  flows.ended[place] = 0
}

/** One packet with an IP header that cutting would give again. */
function isPlain(e: Engine, b: Batch, i: number): boolean {
  const flags = b.flags[i]!
  const l3 = b.l3[i]!
  const header = b.l4[i]! - l3
  if (b.gsoType[i] !== GSO_NONE || (flags & F_FRAGMENT) !== 0) return false
  if ((flags & F_IPV6) !== 0) return header === IPV6_BYTES
  return header === IPV4_BYTES && e.view.getUint16(l3 + 6) === DF_ONLY
}

/** Joins segment `i` to the one that `place` began with; false when it doesn't belong there. */
function append(e: Engine, b: Batch, place: number, i: number): boolean {
  const { flows, view } = e
  const first = flows.first[place]!
  const l4 = b.l4[i]!
  const header = headerLength(view, l4)
  const payload = b.l3[i]! + b.len[i]! - l4 - header
  const flags = view.getUint8(l4 + TCP.FLAGS)
  if (
    flows.ended[place] !== 0 ||
    payload <= 0 ||
    payload > flows.size[place]! ||
    (flags & ~TCP_PSH) !== TCP_ACK ||
    view.getUint32(l4 + TCP.SEQUENCE) !== flows.next[place] ||
    !isPlain(e, b, i) ||
    !continues(e, b, first, i, header)
  ) {
    return false
  }
  if (b.len[first]! + payload > MAX_PACKET) return false
  if (flows.count[place] === 1 && !enlarge(e, b, first)) return false
  // Behind the payload until now: the large frame has room for any packet and another one.
  const to = b.l3[first]! + b.len[first]!
  const from = l4 + header
  const seed = native.checksum(l4, header, pseudoHeader(e, b, i))
  const sum = native.copyChecksum(to, from, payload, seed)
  if ((b.flags[i]! & F_CSUM_PARTIAL) === 0 && sum !== 0xffff) return false
  b.len[first]! += payload
  flows.next[place]! += payload
  flows.count[place]!++
  // A shorter one is the last, and so is one that is to be pushed.
  flows.ended[place] = payload < flows.size[place]! || (flags & TCP_PSH) !== 0 ? 1 : 0
  if ((flags & TCP_PSH) !== 0) view.setUint8(b.l4[first]! + TCP.FLAGS, TCP_ACK | TCP_PSH)
  e.frames.release(b.frame[i]!)
  b.drop[i] = CONSUMED
  e.counters[COUNTER.COALESCED]!++
  return true
}

/** Whether both are of one flow and differ only in what every segment has of its own. */
function continues(e: Engine, b: Batch, first: number, i: number, header: number): boolean {
  const { view } = e
  const a3 = b.l3[first]!
  const b3 = b.l3[i]!
  const a4 = b.l4[first]!
  const b4 = b.l4[i]!
  const ipv6 = b.flags[i]! & F_IPV6
  if (b.nextHop[first] !== b.nextHop[i] || (b.flags[first]! & F_IPV6) !== ipv6) return false
  if (ipv6 !== 0) {
    // Version, traffic class and flow label; next header and hop limit; addresses.
    if (view.getUint32(a3) !== view.getUint32(b3)) return false
    if (view.getUint16(a3 + 6) !== view.getUint16(b3 + 6)) return false
    for (let at = 8; at < IPV6_BYTES; at += 4) {
      if (view.getUint32(a3 + at) !== view.getUint32(b3 + at)) return false
    }
  } else {
    if (b.src4[first] !== b.src4[i] || b.dst4[first] !== b.dst4[i]) return false
    // TOS with ECN; TTL and protocol.
    if (view.getUint8(a3 + 1) !== view.getUint8(b3 + 1)) return false
    if (view.getUint16(a3 + 8) !== view.getUint16(b3 + 8)) return false
  }
  // Ports; acknowledgement; header length with the reserved bits; window; options.
  if (view.getUint32(a4) !== view.getUint32(b4)) return false
  if (view.getUint32(a4 + 8) !== view.getUint32(b4 + 8)) return false
  if (view.getUint8(a4 + 12) !== view.getUint8(b4 + 12)) return false
  if (view.getUint16(a4 + 14) !== view.getUint16(b4 + 14)) return false
  for (let at = 20; at < header; at += 4) {
    if (view.getUint32(a4 + at) !== view.getUint32(b4 + at)) return false
  }
  return true
}

/** Moves segment `i` into a large frame, where others can follow it; false when its checksum is wrong or no frame is free. */
function enlarge(e: Engine, b: Batch, i: number): boolean {
  const { frames, view } = e
  const l3 = b.l3[i]!
  const l4 = b.l4[i]!
  const header = l4 - l3
  const frame = frames.large.take()
  if (frame === 0) return false
  const at = frame + FRAME_HEADROOM
  const seed = pseudoHeader(e, b, i)
  const sum = native.copyChecksum(at + header, l4, b.len[i]! - header, seed)
  if ((b.flags[i]! & F_CSUM_PARTIAL) === 0 && sum !== 0xffff) {
    frames.release(frame)
    return false
  }
  for (let k = 0; k < header; k += 4) view.setUint32(at + k, view.getUint32(l3 + k))
  frames.release(b.frame[i]!)
  b.frame[i] = frame
  b.l3[i] = at
  b.l4[i] = at + header
  return true
}

/** What `place` has joined becomes a superframe; a segment that stayed alone is as it came. */
function close(e: Engine, b: Batch, place: number): void {
  const { flows, view } = e
  const count = flows.count[place]!
  flows.count[place] = 0
  if (count < 2) return
  const i = flows.first[place]!
  const l3 = b.l3[i]!
  const ipv6 = (b.flags[i]! & F_IPV6) !== 0
  if (ipv6) {
    view.setUint16(l3 + 4, b.len[i]! - IPV6_BYTES)
  } else {
    view.setUint16(l3 + 2, b.len[i]!)
    view.setUint16(l3 + 10, 0)
    view.setUint16(l3 + 10, ~native.checksum(l3, IPV4_BYTES, 0) & 0xffff)
  }
  view.setUint16(b.l4[i]! + TCP.CHECKSUM, pseudoHeader(e, b, i))
  b.flags[i]! |= F_CSUM_PARTIAL
  b.gsoType[i] = ipv6 ? GSO_TCPV6 : GSO_TCPV4
  b.gsoSize[i] = flows.size[place]!
}
