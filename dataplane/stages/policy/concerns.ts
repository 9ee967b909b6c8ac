/**
 * Which packets policy has to do with, and which not: those of the node itself (stage.ts, rule `node`). Where the node has
 * rules for what it receives from pods, its flows are kept, so that what it has begun is answered; nothing
 * else is asked about them.
 */
import type { Engine } from '../../engine/engine.ts'
import { type Batch, F_IPV6 } from '../../packet/batch.ts'
import { isIcmpError } from '../../packet/icmp-ports.ts'
import { PORT_ROLE } from '../../ports/port.ts'
import { PORT_FLAG } from '../../tables/ports.ts'
import { PROTO_ICMP, PROTO_ICMPV6 } from '../../wire/numbers.ts'

/** Whether the node itself is an end of a packet: by the host port, and one of its own addresses. */
export const NODE = { NO: 0, SENDS: 1, RECEIVES: 2 } as const

export function nodeEnd(e: Engine, b: Batch, i: number): number {
  const from = e.records[b.inPort]!
  const to = e.records[b.outPort[i]!]!
  if (from.role === PORT_ROLE.HOST) return isOwn(e, b, i, true, to.network) ? NODE.SENDS : NODE.NO
  if (to.role !== PORT_ROLE.HOST) return NODE.NO
  return isOwn(e, b, i, false, networkOf(e, b, i)) ? NODE.RECEIVES : NODE.NO
}

/** Whether policy is asked about packet `i`, or keeps its flow. */
export function concerns(e: Engine, b: Batch, i: number): boolean {
  const from = e.records[b.inPort]!
  const to = e.records[b.outPort[i]!]
  if (to === undefined) return false
  const policed = ((from.flags | to.flags) & PORT_FLAG.POLICED) !== 0
  const rules = e.judge!.nodeProgram !== 0
  if (!policed && !rules) return false
  const node = nodeEnd(e, b, i)
  if (node === NODE.NO) return policed
  // Of the cluster's own network alone. What the node sends is let through whatever it is.
  if (!rules || (from.role === PORT_ROLE.HOST ? to.network : networkOf(e, b, i)) !== 0) return false
  return node === NODE.RECEIVES || (b.l4[i] !== 0 && !isError(e, b, i))
}

/** Whether packet `i`, whose transport header is there, is an ICMP error. */
function isError({ view }: Engine, b: Batch, i: number): boolean {
  const ipv6 = (b.flags[i]! & F_IPV6) !== 0
  if (b.proto[i] !== (ipv6 ? PROTO_ICMPV6 : PROTO_ICMP)) return false
  return isIcmpError(view.getUint8(b.l4[i]!), ipv6)
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

export function networkOf(e: Engine, b: Batch, i: number): number {
  const { role, network } = e.records[b.inPort]!
  return role === PORT_ROLE.UNDERLAY ? b.network[i]! : network
}
