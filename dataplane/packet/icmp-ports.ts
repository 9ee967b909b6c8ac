/**
 * What stands in the place of ports in the flow key of an ICMP message, source << 16 | destination. An echo request has
 * its identifier and the number behind it, the reply the same turned round: so the one is answered by the other, and by
 * nothing else. Any other message, an echo with a code too, has its type and code, and the number two behind them: nothing
 * answers that. No two of these are the same, nor is one another turned round.
 */

/** Of the message at `l4`, 8 bytes of which are there. `request` and `reply`: the family's types of echo. */
export function icmpPorts(view: DataView, l4: number, request: number, reply: number): number {
  const kind = view.getUint16(l4)
  const isRequest = kind === request << 8
  if (!isRequest && kind !== reply << 8) return ((kind << 16) | ((kind + 2) & 0xffff)) >>> 0
  const id = view.getUint16(l4 + 4)
  const next = (id + 1) & 0xffff
  return (isRequest ? (id << 16) | next : (next << 16) | id) >>> 0
}

/** The identifier, or type << 8 | code, that both ends of such a pair stand for. */
export function icmpNumber(source: number, destination: number): number {
  const behind = (destination - source) & 0xffff
  return behind === 1 || behind === 2 ? source : destination
}

/** RFC 792: unreachable, source quench, redirect, time exceeded, parameter problem. RFC 4443: below 128. */
export function isIcmpError(type: number, ipv6: boolean): boolean {
  if (ipv6) return type < 128
  return type === 3 || type === 4 || type === 5 || type === 11 || type === 12
}
