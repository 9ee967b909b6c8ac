/** What is asked about a flow that is not known: the programs of the ends that are pods of this node, and who is at the other end. */
import type { Engine } from '../../engine/engine.ts'
import { NEXT_HOP_BYTES } from '../../memory/arena.ts'
import { type Batch, F_IPV6 } from '../../packet/batch.ts'
import type { Judge } from '../../policy/judge.ts'
import { accountOf } from '../../policy/memory.ts'
import { IPV4_PEER } from '../../policy/tables.ts'
import { IDENTITY } from '../../policy-program.ts'
import { PORT_KIND, PORT_ROLE } from '../../ports/port.ts'
import { HOP_VTEP } from '../../tables/next-hops.ts'
import type { PortRecord } from '../../tables/ports.ts'
import { PROTO_ICMP, PROTO_ICMPV6 } from '../../wire/numbers.ts'
import { NODE, nodeEnd } from './concerns.ts'

/** Asks the programs of the ends that are pods of this node. `turned`: as if the other end had begun it (judge.ts, `resumes`). */
export function ask(
  e: Engine,
  b: Batch,
  judge: Judge,
  row: number,
  i: number,
  turned: boolean,
): void {
  const reversed = turned || judge.reversed(row)
  const egress = turned ? judge.turnedEgress : judge.egress
  const ingress = turned ? judge.turnedIngress : judge.ingress
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
  const node = nodeEnd(e, b, i)
  if (node !== NODE.NO) {
    // What the node has begun is its own affair; what has begun with it, of pods, that of its rules.
    if ((node === NODE.RECEIVES) === reversed) return
    const index = judge.identities.find(family, source, family === 4 ? at : at * 4)
    if (from.role !== PORT_ROLE.POD && index === 0) return
    const who = identityOf(e, b, judge, i, from, from === sender, family, source, at)
    const { nodeProgram } = judge
    ingress[row] = question(judge, nodeProgram, who, family, source, at, b.proto[i]!, port)
    return
  }
  if (from.role === PORT_ROLE.POD && from.egressProgram !== 0) {
    const who = identityOf(e, b, judge, i, to, to === sender, family, destination, at)
    egress[row] = question(
      judge,
      from.egressProgram,
      who,
      family,
      destination,
      at,
      b.proto[i]!,
      port,
    )
    const pod = reversed ? b.outPort[i]! : b.inPort
    judge.name(row, egress[row]!, pod, family, destination, family === 4 ? at : at * 4)
  }
  if (to.role === PORT_ROLE.POD && to.ingressProgram !== 0) {
    const who = identityOf(e, b, judge, i, from, from === sender, family, source, at)
    ingress[row] = question(judge, to.ingressProgram, who, family, source, at, b.proto[i]!, port)
  }
}

/** Whose flow it is that packet `i` begins (policy/memory.ts). The node's own are nobody's whom a limit could stop. */
export function accountFor(e: Engine, b: Batch, i: number): number {
  const here = e.records[b.inPort]!.role === PORT_ROLE.POD || nodeEnd(e, b, i) === NODE.SENDS
  return here ? b.inPort : accountOf(b.outPort[i]!, false)
}

/** Type << 16 | code of the ICMP message that has begun the flow of packet `i`: of an answer, of the request. */
function typeAndCode({ view }: Engine, b: Batch, i: number, reversed: boolean): number {
  const word = view.getUint16(b.l4[i]!)
  if (!reversed) return ((word >>> 8) << 16) | (word & 255)
  return ((b.flags[i]! & F_IPV6) === 0 ? 8 : 128) << 16
}

/** Whether packet `i` answers an echo request: it begins no flow. */
export function isEchoReply({ view }: Engine, b: Batch, i: number): boolean {
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
  return isFromItsNode(e, b, judge, i, record, index) ? identities.identity(index) : IDENTITY.WORLD
}

/** Whether the source of packet `i`, row `row`, which came by the overlay, is no pod's of another node than the one that sent it. */
export function isSendersOwn(e: Engine, b: Batch, judge: Judge, row: number, i: number): boolean {
  const { ipv4, ipv6, identities } = judge
  const four = row < ipv4.n
  const index = four
    ? identities.find(4, ipv4.source, row)
    : identities.find(6, ipv6.source, (row - ipv4.n) * 4)
  return index === 0 || isFromItsNode(e, b, judge, i, e.records[b.inPort]!, index)
}

/** Whether packet `i`, which claims to be of a pod of another node (`index` of the identities), comes by the overlay from that node. */
export function isFromItsNode(
  e: Engine,
  b: Batch,
  judge: Judge,
  i: number,
  record: PortRecord,
  index: number,
): boolean {
  if (record.role !== PORT_ROLE.UNDERLAY) return false
  if (record.kind === PORT_KIND.VXLAN) return isBehind(e, judge, index, b.source[i]!)
  const { identities } = judge
  const { view, vtep4 } = e
  const udp = b.l3[i]! - OUTER_UDP
  return vtep4 !== 0
    ? identities.comesFrom(index, 0, 0, 0xffff, view.getUint32(udp - 8))
    : identities.comesFrom(
        index,
        view.getUint32(udp - 32),
        view.getUint32(udp - 28),
        view.getUint32(udp - 24),
        view.getUint32(udp - 20),
      )
}

/** Whether entry `index` is of a pod of the node that next hop `hop` leads to: the kernel has taken the outer headers off. */
function isBehind({ tables, vtep4 }: Engine, { identities }: Judge, index: number, hop: number) {
  const { view } = tables
  const at = tables.nextHopsAt + hop * NEXT_HOP_BYTES + HOP_VTEP
  if (vtep4 !== 0) return identities.comesFrom(index, 0, 0, 0xffff, view.getUint32(at, true))
  return identities.comesFrom(
    index,
    view.getUint32(at),
    view.getUint32(at + 4),
    view.getUint32(at + 8),
    view.getUint32(at + 12),
  )
}
