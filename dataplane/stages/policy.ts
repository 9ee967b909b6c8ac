/**
 * policy: a packet of a pod passes when its flow is known and allowed, or the programs of
 * both ends on this node let it begin. The end that is no pod of this node is known by its address and the node
 * that its packets come from.
 *
 * **The node itself reaches its pods, and they reach it**: kubelet's probes must ("Network Policies" of Kubernetes'
 * documentation: traffic to and from the node where a pod runs is always allowed). That is the rule `node`: what
 * the host port brings from, or takes to, the VTEP or a gateway address of the node's. No flow is kept of it.
 *
 * ICMP errors belong to the flow that they quote (RFC 5927 section 4); fragments to their first one (fragments.ts).
 */
import {
  DROP_L4_TRUNCATED,
  DROP_POLICY_EGRESS,
  DROP_POLICY_FRAGMENT,
  DROP_POLICY_ICMP,
  DROP_POLICY_INGRESS,
} from '../drops.ts'
import type { Engine } from '../engine/engine.ts'
import { kindOf } from '../hash/flow-key.ts'
import { BATCH_SIZE } from '../limits.ts'
import { type Batch, F_FRAGMENT, F_IPV6 } from '../packet/batch.ts'
import { TOLD } from '../policy/denials.ts'
import { FRAGMENT } from '../policy/fragments.ts'
import { ACTION, DENIED, FLOW_CLASS, type Judge, NO_FLOW } from '../policy/judge.ts'
import { IPV4_PEER } from '../policy/tables.ts'
import { IDENTITY } from '../policy-program.ts'
import { PORT_ROLE } from '../ports/port.ts'
import { PORT_FLAG, type PortRecord } from '../tables/ports.ts'
import { PROTO_ICMP, PROTO_ICMPV6, PROTO_SCTP, PROTO_TCP, PROTO_UDP } from '../wire/numbers.ts'

const TCP_FLAGS = 13
const FIN = 1
const SYN = 2
const RST = 4
const ACK = 16

/** Of a row: an ordinary packet, or an ICMP error that quotes one of the flow. */
const ORDINARY = 0
const QUOTES = 1

const kinds = new Uint8Array(BATCH_SIZE)
const classes = new Uint8Array(BATCH_SIZE)
/** By packet: the TCP flags that change what is known of a flow; 0: none. */
const marks = new Uint8Array(BATCH_SIZE)

export function policy(e: Engine, b: Batch): void {
  const { judge } = e
  if (judge === undefined || !e.policed) return
  judge.begin(e.clock())
  const fragments = b.n4 > 0 && gather4(e, b, judge)
  const fragments6 = b.n6 > 0 && gather6(e, b, judge)
  const n = judge.probe()
  if (n > 0) settle(e, b, judge, n)
  if (fragments || fragments6) follow(e, b, judge)
}

/** Whether either end of packet `i` is a pod whose flows are kept, and neither is the node itself. */
function concerns(e: Engine, b: Batch, i: number): boolean {
  const from = e.records[b.inPort]!
  const to = e.records[b.outPort[i]!]
  if (to === undefined || ((from.flags | to.flags) & PORT_FLAG.POLICED) === 0) return false
  if (from.role === PORT_ROLE.HOST) return !isOwn(e, b, i, true, to.network)
  return to.role !== PORT_ROLE.HOST || !isOwn(e, b, i, false, from.network)
}

/** Whether the source, or the destination, is an address of the node itself. */
function isOwn(e: Engine, b: Batch, i: number, source: boolean, network: number): boolean {
  if ((b.flags[i]! & F_IPV6) === 0) {
    const address = source ? b.src4[i]! : b.dst4[i]!
    return address === e.gateway4[network] || address === e.vtep4
  }
  const { view, gateway6, vtep6 } = e
  const at = b.l3[i]! + (source ? 8 : 24)
  let gateway = true
  let vtep = true
  for (let w = 0; w < 4; w++) {
    const word = view.getUint32(at + w * 4)
    gateway &&= word === gateway6[network * 4 + w]
    vtep &&= word === vtep6[w]
  }
  return gateway || vtep
}

function networkOf(e: Engine, b: Batch, i: number): number {
  const { role, network } = e.records[b.inPort]!
  return role === PORT_ROLE.UNDERLAY ? b.network[i]! : network
}

/** Rows of the IPv4 packets; whether some are fragments that follow another one. */
function gather4(e: Engine, b: Batch, judge: Judge): boolean {
  const { view } = e
  const { ipv4 } = judge
  let later = false
  for (let i = 0; i < b.n; i++) {
    if (b.drop[i] !== 0 || (b.flags[i]! & F_IPV6) !== 0 || !concerns(e, b, i)) continue
    const l4 = b.l4[i]!
    if (l4 === 0) {
      later = true
      continue
    }
    const row = ipv4.n
    const proto = b.proto[i]!
    const error = proto === PROTO_ICMP && isError4(view.getUint8(l4))
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
  return later
}

function gather6(e: Engine, b: Batch, judge: Judge): boolean {
  const { view } = e
  const { ipv6 } = judge
  let later = false
  for (let i = 0; i < b.n; i++) {
    if (b.drop[i] !== 0 || (b.flags[i]! & F_IPV6) === 0 || !concerns(e, b, i)) continue
    const l4 = b.l4[i]!
    if (l4 === 0) {
      later = true
      continue
    }
    const row = ipv6.n
    const proto = b.proto[i]!
    const error = proto === PROTO_ICMPV6 && view.getUint8(l4) < 128
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
  return later
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
  const type = view.getUint8(l4)
  // What is no echo has its type and code for ports, which are no identifier that both ends have.
  if (ipv6 ? type !== 128 && type !== 129 : type !== 0 && type !== 8) {
    return ((0xffff << 16) | view.getUint16(l4)) >>> 0
  }
  const id = view.getUint16(l4 + 4)
  return ((id << 16) | id) >>> 0
}

/** RFC 792: unreachable, source quench, redirect, time exceeded, parameter problem. */
function isError4(type: number): boolean {
  return type === 3 || type === 4 || type === 5 || type === 11 || type === 12
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
  if (proto !== PROTO_ICMP && proto !== PROTO_ICMPV6) return 0
  const id = view.getUint16(l4 + 4)
  return ((id << 16) | id) >>> 0
}

/** Lets known flows pass, and decides the others. */
function settle(e: Engine, b: Batch, judge: Judge, n: number): void {
  for (let row = 0; row < n; row++) {
    const i = judge.packet(row)
    if (judge.allowed(row)) {
      if (marks[i] !== 0 && b.proto[i] === PROTO_TCP) mark(judge, row, marks[i]!)
    } else if (kinds[i] === QUOTES) b.drop[i] = DROP_POLICY_ICMP
    else {
      judge.openRow(row)
      classes[row] = isEchoReply(e, b, i) && !judge.reversed(row) ? NO_FLOW : classOf(b, i)
      ask(e, b, judge, row, i)
    }
  }
  judge.touch(n)
  if (judge.openCount > 0) {
    judge.decide(b.inPort, classes)
    for (let k = 0; k < judge.openCount; k++) {
      const row = judge.open[k]!
      const denied = judge.denied[row]!
      if (denied === DENIED.NOBODY) {
        tellOfAllowed(b, judge, row)
        continue
      }
      // Whose policy it is: the flow's first end's for egress, the other one's for ingress.
      const egress = denied === DENIED.EGRESS
      const port = egress !== judge.reversed(row) ? b.inPort : b.outPort[judge.packet(row)]!
      const q = egress ? judge.egress[row]! : judge.ingress[row]!
      judge.tell(row, port, q, egress, TOLD.DENIED, Date.now())
      b.drop[judge.packet(row)] =
        denied === DENIED.EGRESS ? DROP_POLICY_EGRESS : DROP_POLICY_INGRESS
    }
  }
  for (let row = 0; row < n; row++) {
    const i = judge.packet(row)
    if ((b.flags[i]! & F_FRAGMENT) === 0) continue
    fragmentKey(e, b, i, judge)
    judge.fragments.remember(b.drop[i] === 0, judge.tick)
  }
}

/** A flow that is allowed is told of where a rule asks for it, and where policies that are only tried would deny it. */
function tellOfAllowed(b: Batch, judge: Judge, row: number): void {
  const { questions } = judge
  const i = judge.packet(row)
  const reversed = judge.reversed(row)
  for (let k = 0; k < 2; k++) {
    const q = k === 0 ? judge.egress[row]! : judge.ingress[row]!
    if (q < 0) continue
    const staged = questions.stagedVerdicts[q] !== questions.verdicts[q]
    if (!staged && questions.logs[q] === 0) continue
    const port = (k === 0) !== reversed ? b.inPort : b.outPort[i]!
    judge.tell(row, port, q, k === 0, staged ? TOLD.STAGED : TOLD.ALLOWED, Date.now())
  }
}

/** What a TCP segment's flags say of a flow that is known. */
function mark(judge: Judge, row: number, flags: number): void {
  const slot = judge.answers.slots[row]!
  if ((flags & (FIN | RST)) !== 0) judge.table.classify(slot, FLOW_CLASS.CLOSING)
  else if ((flags & SYN) === 0) return
  else if ((flags & ACK) === 0) judge.table.classify(slot, FLOW_CLASS.OPENING)
  else if ((judge.answers.actions[row]! & ACTION.REPLY) !== 0) {
    judge.table.classify(slot, FLOW_CLASS.ESTABLISHED)
  }
}

/** How long a flow that begins with packet `i` is kept without another one. */
function classOf(b: Batch, i: number): number {
  const proto = b.proto[i]!
  if (proto === PROTO_ICMP || proto === PROTO_ICMPV6) return FLOW_CLASS.ICMP
  if (proto !== PROTO_TCP) return FLOW_CLASS.DATAGRAM
  const flags = marks[i]!
  if ((flags & (FIN | RST)) !== 0) return FLOW_CLASS.CLOSING
  // In the middle of a connection: this node has forgotten it, as after a start.
  return (flags & SYN) !== 0 ? FLOW_CLASS.OPENING : FLOW_CLASS.ESTABLISHED
}

/** Asks the programs of the ends that are pods of this node. */
function ask(e: Engine, b: Batch, judge: Judge, row: number, i: number): void {
  const reversed = judge.reversed(row)
  const sender = e.records[b.inPort]!
  const receiver = e.records[b.outPort[i]!]!
  const from = reversed ? receiver : sender
  const to = reversed ? sender : receiver
  const family = row < judge.ipv4.n ? 4 : 6
  const at = family === 4 ? row : row - judge.ipv4.n
  const columns = family === 4 ? judge.ipv4 : judge.ipv6
  const source = reversed ? columns.destination : columns.source
  const destination = reversed ? columns.source : columns.destination
  const pair = columns.ports[at]!
  const port =
    b.proto[i] === (family === 4 ? PROTO_ICMP : PROTO_ICMPV6)
      ? typeAndCode(e, b, i, reversed)
      : reversed
        ? pair >>> 16
        : pair & 0xffff
  if (from.role === PORT_ROLE.POD && from.egressProgram !== 0) {
    const who = identityOf(e, b, judge, i, to, to === sender, family, destination, at)
    judge.egress[row] = question(
      judge,
      from.egressProgram,
      who,
      family,
      destination,
      at,
      b.proto[i]!,
      port,
    )
  }
  if (to.role === PORT_ROLE.POD && to.ingressProgram !== 0) {
    const who = identityOf(e, b, judge, i, from, from === sender, family, source, at)
    judge.ingress[row] = question(
      judge,
      to.ingressProgram,
      who,
      family,
      source,
      at,
      b.proto[i]!,
      port,
    )
  }
}

/** Type << 16 | code of the ICMP message that has begun the flow of packet `i`: of an answer, of the request. */
function typeAndCode({ view }: Engine, b: Batch, i: number, reversed: boolean): number {
  const word = view.getUint16(b.l4[i]!)
  if (!reversed) return ((word >>> 8) << 16) | (word & 255)
  return ((b.flags[i]! & F_IPV6) === 0 ? 8 : 128) << 16
}

/** Whether packet `i` answers an echo request: it begins no flow. */
function isEchoReply({ view }: Engine, b: Batch, i: number): boolean {
  const ipv6 = (b.flags[i]! & F_IPV6) !== 0
  if (b.proto[i] !== (ipv6 ? PROTO_ICMPV6 : PROTO_ICMP)) return false
  return view.getUint8(b.l4[i]!) === (ipv6 ? 129 : 0)
}

function question(
  judge: Judge,
  program: number,
  identity: number,
  family: 4 | 6,
  peer: Uint32Array,
  row: number,
  protocol: number,
  port: number,
): number {
  const { questions } = judge
  const q = judge.ask()
  questions.programs[q] = program
  questions.identities[q] = identity
  questions.protocols[q] = protocol
  questions.ports[q] = port
  const at = q * 4
  if (family === 4) {
    questions.addresses[at] = IPV4_PEER
    questions.addresses[at + 1] = 0
    questions.addresses[at + 2] = 0
    questions.addresses[at + 3] = peer[row]!
  } else {
    for (let w = 0; w < 4; w++) questions.addresses[at + w] = peer[row * 4 + w]!
  }
  return q
}

/** Bytes from the outer UDP header, which lies in front of a packet that came by the overlay, to the inner packet. */
const OUTER_UDP = 30

/** Who is at the end that `record` is the port of. `sends`: this packet comes from there. */
function identityOf(
  e: Engine,
  b: Batch,
  judge: Judge,
  i: number,
  record: PortRecord,
  sends: boolean,
  family: 4 | 6,
  addresses: Uint32Array,
  row: number,
): number {
  if (record.role === PORT_ROLE.POD) return record.identity
  const { identities } = judge
  const index = identities.find(family, addresses, family === 4 ? row : row * 4)
  if (index === 0) return IDENTITY.WORLD
  if (!sends) return identities.identity(index)
  // A pod's packets come by the overlay, from its own node.
  if (record.role !== PORT_ROLE.UNDERLAY) return IDENTITY.WORLD
  const { view } = e
  const udp = b.l3[i]! - OUTER_UDP
  const known =
    e.vtep4 !== 0
      ? identities.comesFrom(index, 0, 0, 0xffff, view.getUint32(udp - 8))
      : identities.comesFrom(
          index,
          view.getUint32(udp - 32),
          view.getUint32(udp - 28),
          view.getUint32(udp - 24),
          view.getUint32(udp - 20),
        )
  return known ? identities.identity(index) : IDENTITY.WORLD
}

/** Fragments behind a first one have its verdict. */
function follow(e: Engine, b: Batch, judge: Judge): void {
  for (let i = 0; i < b.n; i++) {
    if (b.drop[i] !== 0 || b.l4[i] !== 0 || !concerns(e, b, i)) continue
    if (overlapsHeader(e, b, i)) {
      b.drop[i] = DROP_POLICY_FRAGMENT
      continue
    }
    fragmentKey(e, b, i, judge)
    if (judge.fragments.verdict(judge.tick) !== FRAGMENT.ALLOWED) b.drop[i] = DROP_POLICY_FRAGMENT
  }
}

/** RFC 3128: a second fragment that begins inside of the TCP header would rewrite the flags that were judged. */
function overlapsHeader(e: Engine, b: Batch, i: number): boolean {
  if ((b.flags[i]! & F_IPV6) !== 0 || b.proto[i] !== PROTO_TCP) return false
  return (e.view.getUint16(b.l3[i]! + 6) & 0x1fff) < 8
}

function fragmentKey(e: Engine, b: Batch, i: number, judge: Judge): void {
  const { view } = e
  const { key } = judge.fragments
  const l3 = b.l3[i]!
  const ipv6 = (b.flags[i]! & F_IPV6) !== 0
  key.fill(0)
  if (ipv6) {
    for (let w = 0; w < 8; w++) key[w] = view.getUint32(l3 + 8 + w * 4)
    key[8] = identification6(e, b, i)
  } else {
    key[3] = b.src4[i]!
    key[7] = b.dst4[i]!
    key[8] = view.getUint16(l3 + 4)
  }
  // The protocol of a later IPv6 fragment is what its fragment header says; of the first, what is behind that.
  key[9] = ((ipv6 ? 0 : b.proto[i]!) | (networkOf(e, b, i) << 8) | ((ipv6 ? 6 : 4) << 16)) >>> 0
}

/** Identification of the fragment header, which `parse` has found (RFC 8200 section 4.5). */
function identification6({ view }: Engine, b: Batch, i: number): number {
  const l3 = b.l3[i]!
  let next = view.getUint8(l3 + 6)
  let at = l3 + 40
  const end = l3 + b.len[i]!
  while (next !== 44 && at + 8 <= end) {
    const unit = next === 51 ? (view.getUint8(at + 1) + 2) * 4 : (view.getUint8(at + 1) + 1) * 8
    next = view.getUint8(at)
    at += unit
  }
  return at + 8 <= end ? view.getUint32(at + 4) : 0
}
