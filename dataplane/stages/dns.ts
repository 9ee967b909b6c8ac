/**
 * dns: reads what pods ask resolvers for, and what these answer, on its way (dns/watch.ts says what becomes of it). Only the
 * resolvers that the configuration names count, only port 53, and only pods that policy has a word for. A packet goes on
 * as it came, whatever is in it; but one that could not be written down in time is dropped, since the pod would go where
 * it may not go yet. It is sent again.
 *
 * Behind `policy`: what that drops was neither asked nor answered. What is not followed (fragments, several datagrams in one)
 * is not learned.
 */
import { DNS_PORT, type DnsWatch } from '../dns/watch.ts'
import { DROP_DNS_BUSY } from '../drops.ts'
import type { Engine } from '../engine/engine.ts'
import { type Batch, F_FRAGMENT, F_IPV6, GSO_NONE } from '../packet/batch.ts'
import type { Judge } from '../policy/judge.ts'
import { PORT_ROLE } from '../ports/port.ts'
import { PORT_FLAG, type PortRecord } from '../tables/ports.ts'
import { PROTO_TCP, PROTO_UDP } from '../wire/numbers.ts'
import { headerLength, TCP } from '../wire/tcp.ts'
import { UDP } from '../wire/udp.ts'
import { isFromItsNode } from './policy/ask.ts'

export function dns(e: Engine, b: Batch): void {
  const { judge, view } = e
  if (judge?.names === undefined || !e.policed) return
  for (let i = 0; i < b.n; i++) {
    const proto = b.proto[i]!
    if (b.drop[i] !== 0 || b.l4[i] === 0 || (proto !== PROTO_UDP && proto !== PROTO_TCP)) continue
    const ports = view.getUint32(b.l4[i]!)
    const asks = (ports & 0xffff) === DNS_PORT
    if (!asks && ports >>> 16 !== DNS_PORT) continue
    if ((b.flags[i]! & F_FRAGMENT) === 0) look(e, b, judge, judge.names, i, ports, asks)
  }
}

/** Whether what the port's pod sends is judged, in the cluster's own network. */
function isPoliced(record: PortRecord | undefined): boolean {
  if (record === undefined || record.role !== PORT_ROLE.POD || record.network !== 0) return false
  return (record.flags & PORT_FLAG.POLICED) !== 0
}

/** Reads packet `i`, whose ports are `ports`: a pod's to a resolver (`asks`), or one to a pod. */
function look(
  e: Engine,
  b: Batch,
  judge: Judge,
  names: DnsWatch,
  i: number,
  ports: number,
  asks: boolean,
): void {
  const port = asks ? b.inPort : b.outPort[i]!
  if (!isPoliced(e.records[port])) return
  const ipv6 = (b.flags[i]! & F_IPV6) !== 0
  const { way } = names
  way.ports = asks ? ports : ((ports << 16) | (ports >>> 16)) >>> 0
  way.kind = b.proto[i]! | ((ipv6 ? 6 : 4) << 8)
  setResolver(e, b, names, i, asks, ipv6)
  if (!names.isResolver(ipv6 ? 6 : 4)) return
  if (!asks && !isItself(e, b, judge, names, i, ipv6)) return
  const passes =
    b.proto[i] === PROTO_UDP
      ? datagram(e, b, judge, names, i, port, asks)
      : segment(e, b, judge, names, i, port, asks)
  if (!passes) b.drop[i] = DROP_DNS_BUSY
}

/** The end that is no pod of ours in this matter. */
function setResolver(
  { view }: Engine,
  b: Batch,
  { way }: DnsWatch,
  i: number,
  asks: boolean,
  ipv6: boolean,
): void {
  const { address } = way
  const at = b.l3[i]! + (asks ? 24 : 8)
  for (let w = 0; w < 4; w++) {
    address[w] = ipv6 ? view.getUint32(at + w * 4) : w < 3 ? 0 : asks ? b.dst4[i]! : b.src4[i]!
  }
}

/** Whether an answer comes from where its sender is: a pod's from its port, or by the overlay from its node. */
function isItself(
  e: Engine,
  b: Batch,
  judge: Judge,
  { way }: DnsWatch,
  i: number,
  ipv6: boolean,
): boolean {
  const record = e.records[b.inPort]!
  if (record.role === PORT_ROLE.POD) return true
  const index = judge.identities.find(ipv6 ? 6 : 4, way.address, ipv6 ? 0 : 3)
  return index === 0 || isFromItsNode(e, b, judge, i, record, index)
}

function datagram(
  { view, bytes }: Engine,
  b: Batch,
  judge: Judge,
  names: DnsWatch,
  i: number,
  port: number,
  asks: boolean,
): boolean {
  if (b.gsoType[i] !== GSO_NONE) return true
  const at = b.l4[i]! + UDP.BYTES
  const length = view.getUint16(b.l4[i]! + UDP.LENGTH) - UDP.BYTES
  return names.datagram(port, asks, view, bytes, at, length, judge.second)
}

function segment(
  { view, bytes }: Engine,
  b: Batch,
  judge: Judge,
  names: DnsWatch,
  i: number,
  port: number,
  asks: boolean,
): boolean {
  const l4 = b.l4[i]!
  const at = l4 + headerLength(view, l4)
  const length = b.l3[i]! + b.len[i]! - at
  const flags = view.getUint8(l4 + TCP.FLAGS)
  const sequence = view.getUint32(l4 + TCP.SEQUENCE)
  return names.segment(port, asks, flags, sequence, view, bytes, at, length, judge.second)
}
