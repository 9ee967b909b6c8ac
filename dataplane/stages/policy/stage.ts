/**
 * policy: a packet of a pod passes when its flow is known and allowed (most are, by `flow`), or the programs of
 * both ends on this node let it begin. The end that is no pod of this node is known by its address and the node
 * that its packets come from.
 *
 * **The node itself reaches its pods, and they reach it**: kubelet's probes must ("Network Policies" of Kubernetes'
 * documentation: traffic to and from the node where a pod runs is always allowed). That is the rule `node`: what
 * the host port brings from, or takes to, the VTEP or a gateway address of the node's. No flow is kept of it, unless an
 * administrator has rules for what the node receives from pods: those are asked about what pods begin, and about nothing else.
 *
 * **A start loses no connection**: no flow is known then, and the first segment may be the server's. For RESUME_SECONDS one in the
 * middle of a connection that may not begin it passes when the other end might have begun it. So nothing passes that is
 * denied both ways, and no SYN does.
 *
 * ICMP errors belong to the flow that they quote (RFC 5927 section 4); fragments to their first one (fragments.ts).
 */
import {
  DROP_HALF_OPEN,
  DROP_POLICY_EGRESS,
  DROP_POLICY_ICMP,
  DROP_POLICY_INGRESS,
} from '../../drops.ts'
import type { Engine } from '../../engine/engine.ts'
import { isPending } from '../../flow/region.ts'
import { BATCH_SIZE } from '../../limits.ts'
import { NEXT_HOP_BYTES } from '../../memory/arena.ts'
import { type Batch, F_IPV6 } from '../../packet/batch.ts'
import { ACTION, routeBits } from '../../policy/action.ts'
import { TOLD } from '../../policy/denials.ts'
import { DENIED, FLOW_CLASS, type Judge, NO_FLOW } from '../../policy/judge.ts'
import { PORT_ROLE } from '../../ports/port.ts'
import { HOP_INCARNATION, HOP_NETWORK } from '../../tables/next-hops.ts'
import { PROTO_ICMP, PROTO_ICMPV6, PROTO_TCP } from '../../wire/numbers.ts'
import { accountFor, ask, isEchoReply, isSendersOwn } from './ask.ts'
import { follow } from './later-fragments.ts'
import { ACK, FIN, gather4, gather6, kinds, marks, QUOTES, RST, SYN } from './rows.ts'

/** By row: the class of timeout of a flow that begins. */
const classes = new Uint8Array(BATCH_SIZE)

export function policy(e: Engine, b: Batch): void {
  const { judge } = e
  if (judge === undefined || !e.policed) return
  if (b.unknown === 0) return
  if (b.n4 > 0) gather4(e, b, judge)
  if (b.n6 > 0) gather6(e, b, judge)
  const n = judge.probe()
  if (n > 0) settle(e, b, judge, n)
  follow(e, b, judge)
}

/** Lets known flows pass, and decides the others. */
function settle(e: Engine, b: Batch, judge: Judge, n: number): void {
  const overlay = e.records[b.inPort]!.role === PORT_ROLE.UNDERLAY
  for (let row = 0; row < n; row++) {
    const i = judge.packet(row)
    judge.bytes[row] = b.len[i]!
    judge.routes[row] = kinds[i] === QUOTES ? 0 : routeOf(e, b.nextHop[i]!)
    // Of a flow that is known: in the name of another node's pod only that node sends.
    const own = !overlay || kinds[i] === QUOTES || isSendersOwn(e, b, judge, row, i)
    if (judge.allowed(row) && own) {
      judge.follow(row)
      if (marks[i] !== 0 && b.proto[i] === PROTO_TCP) mark(judge, row, marks[i]!)
    } else if (kinds[i] === QUOTES) b.drop[i] = DROP_POLICY_ICMP
    else {
      judge.openRow(row, accountFor(e, b, i))
      judge.backRoutes[row] = overlay ? backRoute(e, b, i) : 0
      classes[row] = isEchoReply(e, b, i) && !judge.reversed(row) ? NO_FLOW : classOf(b, i)
      ask(e, b, judge, row, i, false)
      if (b.proto[i] === PROTO_TCP && isInMiddle(marks[i]!) && judge.mayResume(row)) {
        judge.resumes[row] = 1
        ask(e, b, judge, row, i, true)
      }
    }
  }
  judge.touch(n)
  judge.writeDown()
  if (judge.openCount > 0) {
    judge.decide(classes)
    for (let k = 0; k < judge.openCount; k++) {
      const row = judge.open[k]!
      const denied = judge.denied[row]!
      if (denied === DENIED.NOBODY) {
        tellOfAllowed(b, judge, row)
        continue
      }
      if (denied === DENIED.HALF_OPEN) {
        b.drop[judge.packet(row)] = DROP_HALF_OPEN
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

/** The part of an action that names where answers to packet `i`, which came from another node, go. */
function backRoute(e: Engine, b: Batch, i: number): number {
  const ipv6 = (b.flags[i]! & F_IPV6) !== 0
  const { oneAddress, view } = e
  if (!ipv6) oneAddress[0] = b.src4[i]!
  else for (let w = 0; w < 4; w++) oneAddress[w] = view.getUint32(b.l3[i]! + 8 + w * 4)
  const hop = e.lookupOne(ipv6)
  const at = e.tables.nextHopsAt + hop * NEXT_HOP_BYTES
  return e.tables.view.getUint16(at + HOP_NETWORK, true) === b.network[i] ? routeOf(e, hop) : 0
}

/** The part of an action that names this next hop. */
function routeOf({ tables }: Engine, hop: number): number {
  const at = tables.nextHopsAt + hop * NEXT_HOP_BYTES
  return routeBits(hop, tables.view.getUint16(at + HOP_INCARNATION, true))
}

/**
 * What a TCP segment's flags say of a flow that is known (RFC 9293, lightly). It is established once both ends have
 * spoken and the first has heard the second: by the third segment of a handshake, or, of a connection that was met in the
 * middle, by an ACK that comes back. Until then it is half open, and the fast lane leaves it to this.
 */
function mark(judge: Judge, row: number, flags: number): void {
  const { table, answers } = judge
  const slot = answers.slots[row]!
  const now = table.classAt(slot)
  const reply = (answers.actions[row]! & ACTION.REPLY) !== 0
  let next: number = now
  if ((flags & (FIN | RST)) !== 0) next = isPending(now) ? FLOW_CLASS.REFUSED : FLOW_CLASS.CLOSING
  else if ((flags & SYN) !== 0) {
    if ((flags & ACK) !== 0) {
      if (reply && now === FLOW_CLASS.OPENING) next = FLOW_CLASS.ANSWERED
    } else if (now === FLOW_CLASS.CLOSING || now === FLOW_CLASS.REFUSED) next = FLOW_CLASS.OPENING
  } else if (now === (reply ? FLOW_CLASS.OPENING : FLOW_CLASS.ANSWERED)) {
    next = FLOW_CLASS.ESTABLISHED
  }
  if (next !== now) table.classify(slot, next)
}

/** Whether a segment with these flags belongs to a connection that is there: it begins none, nor ends one at once. */
function isInMiddle(flags: number): boolean {
  return (flags & (SYN | RST | ACK)) === ACK
}

/** How long a flow that begins with packet `i` is kept without another one. */
function classOf(b: Batch, i: number): number {
  const proto = b.proto[i]!
  if (proto === PROTO_ICMP || proto === PROTO_ICMPV6) return FLOW_CLASS.ICMP
  if (proto !== PROTO_TCP) return FLOW_CLASS.DATAGRAM
  const flags = marks[i]!
  // Without SYN it is in the middle of a connection that this node has forgotten, as after a start, or of none.
  return (flags & (FIN | RST)) !== 0 ? FLOW_CLASS.REFUSED : FLOW_CLASS.OPENING
}
