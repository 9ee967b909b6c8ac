/**
 * Rows of the flow table for the packets of a batch whose flows are not known: addresses, ports and protocol as flow keys have them. ICMP errors have
 * those of the packet that they quote (RFC 5927 section 4). What the slow path looks at is in the key: ICMP types, too.
 */
import { DROP_L4_TRUNCATED, DROP_POLICY_ICMP } from '../../drops.ts'
import type { Engine } from '../../engine/engine.ts'
import { kindOf } from '../../hash/flow-key.ts'
import { BATCH_SIZE } from '../../limits.ts'
import { type Batch, F_IPV6 } from '../../packet/batch.ts'
import { icmpPorts, isIcmpError } from '../../packet/icmp-ports.ts'
import type { Judge } from '../../policy/judge.ts'
import { PROTO_ICMP, PROTO_ICMPV6, PROTO_SCTP, PROTO_TCP, PROTO_UDP } from '../../wire/numbers.ts'
import { concerns, networkOf } from './concerns.ts'

const TCP_FLAGS = 13
export const FIN = 1
export const SYN = 2
export const RST = 4
export const ACK = 16

/** Of a row: an ordinary packet, or an ICMP error that quotes one of the flow. */
export const ORDINARY = 0
export const QUOTES = 1

/** By packet: ORDINARY or QUOTES. */
export const kinds = new Uint8Array(BATCH_SIZE)
/** By packet: the TCP flags that change what is known of a flow; 0: none. */
export const marks = new Uint8Array(BATCH_SIZE)

/** Rows of the IPv4 packets but those fragments that follow another one. */
export function gather4(e: Engine, b: Batch, judge: Judge): void {
  const { view } = e
  const { ipv4 } = judge
  for (let i = 0; i < b.n; i++) {
    if (b.drop[i] !== 0 || b.known[i] !== 0 || (b.flags[i]! & F_IPV6) !== 0) continue
    if (!concerns(e, b, i)) continue
    const l4 = b.l4[i]!
    if (l4 === 0) continue
    const row = ipv4.n
    const proto = b.proto[i]!
    const error = proto === PROTO_ICMP && isIcmpError(view.getUint8(l4), false)
    if (error) {
      if (!quote4(e, b, i, judge, row)) continue
    } else {
      const ports = portsOf(e, b, i, l4)
      if (ports < 0) continue
      ipv4.source[row] = b.src4[i]!
      ipv4.destination[row] = b.dst4[i]!
      ipv4.ports[row] = ports
      ipv4.kinds[row] = kindOf(4, proto, networkOf(e, b, i))
    }
    ipv4.packets[row] = i
    kinds[i] = error ? QUOTES : ORDINARY
    ipv4.n++
  }
}

/** The same of IPv6. */
export function gather6(e: Engine, b: Batch, judge: Judge): void {
  const { view } = e
  const { ipv6 } = judge
  for (let i = 0; i < b.n; i++) {
    if (b.drop[i] !== 0 || b.known[i] !== 0 || (b.flags[i]! & F_IPV6) === 0) continue
    if (!concerns(e, b, i)) continue
    const l4 = b.l4[i]!
    if (l4 === 0) continue
    const row = ipv6.n
    const proto = b.proto[i]!
    const error = proto === PROTO_ICMPV6 && isIcmpError(view.getUint8(l4), true)
    if (error) {
      if (!quote6(e, b, i, judge, row)) continue
    } else {
      const ports = portsOf(e, b, i, l4)
      if (ports < 0) continue
      const l3 = b.l3[i]!
      for (let w = 0; w < 4; w++) {
        ipv6.source[row * 4 + w] = view.getUint32(l3 + 8 + w * 4)
        ipv6.destination[row * 4 + w] = b.dst6[i * 4 + w]!
      }
      ipv6.ports[row] = ports
      ipv6.kinds[row] = kindOf(6, proto, networkOf(e, b, i))
    }
    ipv6.packets[row] = i
    kinds[i] = error ? QUOTES : ORDINARY
    ipv6.n++
  }
}

/** Both ports of packet `i` as flow keys have them; below 0, and dropped, when they are not there. */
function portsOf(e: Engine, b: Batch, i: number, l4: number): number {
  const { view } = e
  const proto = b.proto[i]!
  marks[i] = 0
  if (proto === PROTO_TCP) {
    marks[i] = view.getUint8(l4 + TCP_FLAGS) & (SYN | FIN | RST | ACK)
    return view.getUint32(l4)
  }
  if (proto === PROTO_UDP) return view.getUint32(l4)
  if (proto === PROTO_SCTP) {
    // Of a fragment nothing behind the network header is proven but for TCP, UDP and ICMP.
    if (b.l3[i]! + b.len[i]! - l4 < 4) {
      b.drop[i] = DROP_L4_TRUNCATED
      return -1
    }
    return view.getUint32(l4)
  }
  // `parse` has proven eight bytes of the family's own ICMP.
  const ipv6 = (b.flags[i]! & F_IPV6) !== 0
  if (proto !== (ipv6 ? PROTO_ICMPV6 : PROTO_ICMP)) return 0
  return icmpPorts(view, l4, ipv6 ? 128 : 8, ipv6 ? 129 : 0)
}

/** The row of an ICMP error is the flow that it quotes. False, and dropped, when it quotes none that it could be about. */
function quote4(e: Engine, b: Batch, i: number, judge: Judge, row: number): boolean {
  const { view } = e
  const { ipv4 } = judge
  const at = b.l4[i]! + 8
  const end = b.l3[i]! + b.len[i]!
  b.drop[i] = DROP_POLICY_ICMP
  if (at + 20 > end || view.getUint8(at) >> 4 !== 4) return false
  const header = (view.getUint8(at) & 15) * 4
  const proto = view.getUint8(at + 9)
  const l4 = at + header
  // What comes back is about what its receiver has sent.
  if (header < 20 || l4 + 8 > end || view.getUint32(at + 12) !== b.dst4[i]) return false
  if ((view.getUint16(at + 6) & 0x1fff) !== 0) return false
  ipv4.source[row] = view.getUint32(at + 12)
  ipv4.destination[row] = view.getUint32(at + 16)
  ipv4.ports[row] = quotedPorts(e, proto, l4)
  ipv4.kinds[row] = kindOf(4, proto, networkOf(e, b, i))
  b.drop[i] = 0
  return true
}

function quote6(e: Engine, b: Batch, i: number, judge: Judge, row: number): boolean {
  const { view } = e
  const { ipv6 } = judge
  const at = b.l4[i]! + 8
  const end = b.l3[i]! + b.len[i]!
  b.drop[i] = DROP_POLICY_ICMP
  // Behind extension headers no ports are looked for: such an error is not told.
  if (at + 48 > end || view.getUint8(at) >> 4 !== 6) return false
  const proto = view.getUint8(at + 6)
  for (let w = 0; w < 4; w++) {
    const source = view.getUint32(at + 8 + w * 4)
    if (source !== b.dst6[i * 4 + w]) return false
    ipv6.source[row * 4 + w] = source
    ipv6.destination[row * 4 + w] = view.getUint32(at + 24 + w * 4)
  }
  ipv6.ports[row] = quotedPorts(e, proto, at + 40)
  ipv6.kinds[row] = kindOf(6, proto, networkOf(e, b, i))
  b.drop[i] = 0
  return true
}

function quotedPorts({ view }: Engine, proto: number, l4: number): number {
  if (proto === PROTO_TCP || proto === PROTO_UDP || proto === PROTO_SCTP) return view.getUint32(l4)
  if (proto === PROTO_ICMP) return icmpPorts(view, l4, 8, 0)
  return proto === PROTO_ICMPV6 ? icmpPorts(view, l4, 128, 129) : 0
}
