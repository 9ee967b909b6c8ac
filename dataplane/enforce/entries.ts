/** Entries of the flow table for people. */

import { native } from '../../native/native.ts'
import { wordsToIp } from '../addresses.ts'
import type { Denial, FlowEntry } from '../control.ts'
import { ACCOUNT, ENTRY, ENTRY_WORDS } from '../flow/flow.ts'
import { classOf } from '../flow/region.ts'
import { KEY } from '../hash/flow-key.ts'
import { FLOW_TICK_MS } from '../limits.ts'
import { icmpNumber } from '../packet/icmp-ports.ts'
import { ACTION } from '../policy/action.ts'
import type { RawDenial } from '../policy/denials.ts'
import { NO_ORIGIN } from '../policy/judge.ts'
import { PROTO_ICMP, PROTO_ICMPV6 } from '../wire/numbers.ts'

/** By class of timeout (policy/judge.ts, FLOW_CLASS). */
const STATES = [
  ...(['opening', 'established', 'closing', 'datagram', 'icmp', 'answered', 'refused'] as const),
] as const

function shownPorts(protocol: number, source: number, destination: number) {
  if (protocol !== PROTO_ICMP && protocol !== PROTO_ICMPV6) {
    return { sourcePort: source, destinationPort: destination }
  }
  const number = icmpNumber(source, destination)
  return { sourcePort: number, destinationPort: number }
}

/** A copy of an entry and its account (flow/flow.ts), its first packet's direction first. */
export function flowEntry(
  entry: Uint32Array,
  networkName: (index: number) => string | undefined,
): FlowEntry {
  const key = ENTRY.KEY
  const kind = entry[key + KEY.KIND]!
  const ipv6 = ((kind >>> 8) & 255) === 6
  const address = (at: number): string =>
    wordsToIp(ipv6 ? entry.subarray(key + at, key + at + 4) : [entry[key + at + 3]!])
  const pair = entry[key + KEY.PORTS]!
  const a = { address: address(KEY.A), port: pair >>> 16 }
  const b = { address: address(KEY.B), port: pair & 0xffff }
  // The direction from A to B has the first action.
  const begunByA = (entry[ENTRY.ACTION]! & ACTION.REPLY) === 0
  const [from, to] = begunByA ? [a, b] : [b, a]
  const ports = shownPorts(kind & 255, from.port, to.port)
  const tail = entry[ENTRY.TAIL]!
  const ticks = Math.floor(native.monotonic() / (FLOW_TICK_MS * 1e6))
  const account = entry.subarray(ENTRY_WORDS)
  const [egress, ingress] = account.subarray(ACCOUNT.LABELS)
  const begun = account[ACCOUNT.BEGUN]!
  const network = networkName(kind >>> 16)
  return {
    source: from.address,
    destination: to.address,
    ...ports,
    protocol: kind & 255,
    ...(network === undefined ? {} : { network }),
    idle: (((ticks - (tail & 0xffff)) & 0xffff) * FLOW_TICK_MS) / 1000,
    state: STATES[classOf(tail)] ?? 'datagram',
    age: (((ticks - (begun >>> 8)) & 0xff_ffff) * FLOW_TICK_MS) / 1000,
    packets: (begun & 255) * 2 ** 32 + account[ACCOUNT.PACKETS]!,
    bytes: account[ACCOUNT.BYTES + 1]! * 2 ** 32 + account[ACCOUNT.BYTES]!,
    ...(egress === NO_ORIGIN ? {} : { egress: egress! }),
    ...(ingress === NO_ORIGIN ? {} : { ingress: ingress! }),
  }
}

/** By TOLD (policy/denials.ts). */
const VERDICTS = ['denied', 'allowed', 'staged'] as const

/** Whose rules they are, when they are no pod's but the node's. */
export const NODE_END = Symbol('node')

/** A denial for people; `pod` is whose policy says no. */
export function denialOf(
  { direction, told, protocol, source, destination, ports, origin, time }: RawDenial,
  pod: string | typeof NODE_END | undefined,
): Denial {
  return {
    time: new Date(time).toISOString(),
    ...(pod === NODE_END ? { node: true } : pod === undefined ? {} : { pod }),
    direction,
    verdict: VERDICTS[told] ?? 'denied',
    source: wordsToIp(source),
    destination: wordsToIp(destination),
    ...shownPorts(protocol, ports >>> 16, ports & 0xffff),
    protocol,
    origin,
  }
}
