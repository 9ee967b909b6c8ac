/**
 * route: the FIB names a next hop (of a flow that is known, its action does), the next hop table says what it is. Then what a router does to
 * a packet that goes on: TTL or hop limit, and the MTU of the next hop. A packet that can't go on
 * is marked with the ICMP error that its sender shall get (RFC 1812 section 4.3, RFC 4443 section 3). A
 * packet to another node that is too large, and may be fragmented, leaves in outer fragments (encap.ts).
 * One FIB a family serves all networks, whose addresses differ: a packet takes only next hops of its own.
 */
import {
  DROP_LOOP,
  DROP_MTU,
  DROP_NO_ROUTE,
  DROP_OTHER_NETWORK,
  DROP_OVERLAY_TRANSIT,
  DROP_TTL,
  DROP_UNREACHABLE,
} from '../drops.ts'
import type { Engine } from '../engine/engine.ts'
import { BATCH_SIZE, MAX_SMALL_PACKET } from '../limits.ts'
import { NEXT_HOP_BYTES } from '../memory/arena.ts'
import {
  type Batch,
  F_CSUM_PARTIAL,
  F_FRAGMENT,
  F_IPV6,
  GSO_NONE,
  GSO_TCPV4,
  GSO_TCPV6,
} from '../packet/batch.ts'
import { transportHeaderLength } from '../packet/transport.ts'
import { hopOf } from '../policy/action.ts'
import { PORT_KIND, PORT_ROLE } from '../ports/port.ts'
import { HOP, HOP_KIND, HOP_MTU, HOP_NETWORK, HOP_PORT } from '../tables/next-hops.ts'
import { PROTO_TCP } from '../wire/numbers.ts'
import { headerLength } from '../wire/tcp.ts'
import { ERROR_TIME_EXCEEDED, ERROR_TOO_BIG, ERROR_UNREACHABLE } from './icmp-errors.ts'

export function route(e: Engine, b: Batch): void {
  const { found4, found6 } = e
  if (b.unknown < b.n) lookUpUnknown(e, b)
  else {
    if (b.n4 > 0) e.fib4.lookup(b.dst4, b.n, found4)
    if (b.n6 > 0) e.fib6.lookup(b.dst6, b.n, found6)
  }
  const { role, network } = e.records[b.inPort]!
  for (let i = 0; i < b.n; i++) {
    if (b.drop[i] !== 0) continue
    const known = b.known[i]!
    const hop = known !== 0 ? hopOf(known) : (b.flags[i]! & F_IPV6) === 0 ? found4[i]! : found6[i]!
    b.nextHop[i] = hop
    if (hop === 0) {
      b.drop[i] = DROP_NO_ROUTE
      b.error[i] = ERROR_UNREACHABLE
    } else {
      forward(e, b, i, hop, role, role === PORT_ROLE.UNDERLAY ? b.network[i]! : network)
    }
  }
}

/** Destinations of one family whose flows are not known, and whose they are. */
const destinations = new Uint32Array(BATCH_SIZE * 4)
const packets = new Uint16Array(BATCH_SIZE)
const answers = new Uint16Array(BATCH_SIZE)

/** Looks up what is not known, and writes it where `route` looks. */
function lookUpUnknown(e: Engine, b: Batch): void {
  if (b.unknown === 0) return
  if (b.n4 > 0) {
    let n = 0
    for (let i = 0; i < b.n; i++) {
      if (b.drop[i] !== 0 || b.known[i] !== 0 || (b.flags[i]! & F_IPV6) !== 0) continue
      packets[n] = i
      destinations[n++] = b.dst4[i]!
    }
    e.fib4.lookup(destinations, n, answers)
    for (let k = 0; k < n; k++) e.found4[packets[k]!] = answers[k]!
  }
  if (b.n6 > 0) {
    let n = 0
    for (let i = 0; i < b.n; i++) {
      if (b.drop[i] !== 0 || b.known[i] !== 0 || (b.flags[i]! & F_IPV6) === 0) continue
      packets[n] = i
      for (let w = 0; w < 4; w++) destinations[n * 4 + w] = b.dst6[i * 4 + w]!
      n++
    }
    e.fib6.lookup(destinations, n, answers)
    for (let k = 0; k < n; k++) e.found6[packets[k]!] = answers[k]!
  }
}

function forward(e: Engine, b: Batch, i: number, hop: number, role: number, network: number): void {
  const { view } = e.tables
  const at = e.tables.nextHopsAt + hop * NEXT_HOP_BYTES
  const kind = view.getUint16(at + HOP_KIND, true)
  if (view.getUint16(at + HOP_NETWORK, true) !== network) {
    b.drop[i] = DROP_OTHER_NETWORK
    if (role !== PORT_ROLE.UNDERLAY) b.error[i] = ERROR_UNREACHABLE
    return
  }
  if (kind === HOP.REJECT) {
    b.drop[i] = DROP_UNREACHABLE
    b.error[i] = ERROR_UNREACHABLE
    return
  }
  const out = view.getUint32(at + HOP_PORT, true)
  if (kind === HOP.VXLAN && role === PORT_ROLE.UNDERLAY) {
    b.drop[i] = DROP_OVERLAY_TRANSIT
    return
  }
  if (out === b.inPort && kind === HOP.PORT) {
    b.drop[i] = DROP_LOOP
    return
  }
  b.outPort[i] = out
  if (!decrementTtl(e, b, i)) {
    b.drop[i] = DROP_TTL
    b.error[i] = ERROR_TIME_EXCEEDED
    return
  }
  const mtu = view.getUint32(at + HOP_MTU, true)
  if (packetBytes(e, b, i) > mtu && !cutToFit(e, b, i, mtu)) {
    if (kind === HOP.VXLAN && mayFragment(e, b, i)) {
      b.outPort[i] = e.kernelPort
      return
    }
    b.drop[i] = DROP_MTU
    b.error[i] = ERROR_TOO_BIG
  }
}

/** False when it ran out; the packet is then unchanged. */
function decrementTtl(e: Engine, b: Batch, i: number): boolean {
  const { view } = e
  const l3 = b.l3[i]!
  if ((b.flags[i]! & F_IPV6) !== 0) {
    const limit = view.getUint8(l3 + 7)
    if (limit <= 1) return false
    view.setUint8(l3 + 7, limit - 1)
    return true
  }
  const ttl = view.getUint8(l3 + 8)
  if (ttl <= 1) return false
  view.setUint8(l3 + 8, ttl - 1)
  // RFC 1141: one less in the high byte is 0x0100 more in the checksum, end-around.
  const sum = view.getUint16(l3 + 10) + 0x0100
  view.setUint16(l3 + 10, sum + (sum >>> 16))
  return true
}

/** Whether the kernel may send the packet in outer fragments: its sender doesn't ask to be told (RFC 1191). */
function mayFragment(e: Engine, b: Batch, i: number): boolean {
  if (e.kernelPort < 0 || (b.flags[i]! & F_IPV6) !== 0 || b.gsoType[i] !== GSO_NONE) return false
  return (e.view.getUint16(b.l3[i]! + 6) & 0x4000) === 0 && fits(e, b, i)
}

/** Whether the kernel's port takes a packet of that length. */
function fits(e: Engine, b: Batch, i: number): boolean {
  return b.len[i]! <= MAX_SMALL_PACKET || e.ports[e.kernelPort]?.superframes === true
}

/**
 * Makes a superframe for `mtu` of a TCP packet that a kernel peer on this machine has sent whole, with
 * its checksum partial and no word of the segment size (ports/udp.ts). False for any other packet.
 */
function cutToFit(e: Engine, b: Batch, i: number, mtu: number): boolean {
  const flags = b.flags[i]!
  if (e.ports[b.inPort]!.kind !== PORT_KIND.UDP || b.gsoType[i] !== GSO_NONE) return false
  if (b.proto[i] !== PROTO_TCP || (flags & (F_CSUM_PARTIAL | F_FRAGMENT)) !== F_CSUM_PARTIAL) {
    return false
  }
  const l4 = b.l4[i]!
  const size = mtu - (l4 - b.l3[i]!) - headerLength(e.view, l4)
  if (size <= 0) return false
  b.gsoType[i] = (flags & F_IPV6) === 0 ? GSO_TCPV4 : GSO_TCPV6
  b.gsoSize[i] = size
  return true
}

/** Bytes of the packet; of a superframe, of its largest segment. */
function packetBytes(e: Engine, b: Batch, i: number): number {
  if (b.gsoType[i] === GSO_NONE) return b.len[i]!
  const l4 = b.l4[i]!
  return l4 - b.l3[i]! + transportHeaderLength(e.view, l4, b.proto[i]!) + b.gsoSize[i]!
}
