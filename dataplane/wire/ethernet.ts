/**
 * Ethernet II frames (IEEE 802.3 clause 3; RFC 894, RFC 2464). No VLAN tags: a tagged frame has the
 * ethertype ETHERTYPE_VLAN.
 *
 * A MAC address is two numbers, as in the port table: its first four bytes and its last two.
 */
import { ETHERTYPE_ARP, ETHERTYPE_IPV4, ETHERTYPE_IPV6, ETHERTYPE_VLAN } from './numbers.ts'
import { OK, TRUNCATED, whyNot } from './reason.ts'

/** Byte offsets. */
export const ETHERNET = {
  DESTINATION: 0,
  SOURCE: 6,
  TYPE: 12,
  /** Bytes of the header; the payload's offset. */
  BYTES: 14,
} as const

/** OK or TRUNCATED. */
export function check(_view: DataView, _at: number, length: number): number {
  return length < ETHERNET.BYTES ? TRUNCATED : OK
}

export function destinationHigh(view: DataView, at: number): number {
  return view.getUint32(at + ETHERNET.DESTINATION)
}

export function destinationLow(view: DataView, at: number): number {
  return view.getUint16(at + ETHERNET.DESTINATION + 4)
}

export function sourceHigh(view: DataView, at: number): number {
  return view.getUint32(at + ETHERNET.SOURCE)
}

export function sourceLow(view: DataView, at: number): number {
  return view.getUint16(at + ETHERNET.SOURCE + 4)
}

/** ETHERTYPE_*; below 1,536 an 802.3 length. */
export function type(view: DataView, at: number): number {
  return view.getUint16(at + ETHERNET.TYPE)
}

/** Broadcast or multicast: the group bit of the destination. */
export function isGroup(view: DataView, at: number): boolean {
  return (view.getUint8(at + ETHERNET.DESTINATION) & 1) !== 0
}

export function setDestination(view: DataView, at: number, high: number, low: number): void {
  view.setUint32(at + ETHERNET.DESTINATION, high)
  view.setUint16(at + ETHERNET.DESTINATION + 4, low)
}

export function setSource(view: DataView, at: number, high: number, low: number): void {
  view.setUint32(at + ETHERNET.SOURCE, high)
  view.setUint16(at + ETHERNET.SOURCE + 4, low)
}

export function setType(view: DataView, at: number, value: number): void {
  view.setUint16(at + ETHERNET.TYPE, value)
}

export interface EthernetFields {
  destinationHigh: number
  destinationLow: number
  sourceHigh: number
  sourceLow: number
  type: number
}

/** Writes the header; returns its bytes. */
export function emit(view: DataView, at: number, fields: EthernetFields): number {
  setDestination(view, at, fields.destinationHigh, fields.destinationLow)
  setSource(view, at, fields.sourceHigh, fields.sourceLow)
  setType(view, at, fields.type)
  return ETHERNET.BYTES
}

const TYPES: Readonly<Record<number, string>> = {
  [ETHERTYPE_IPV4]: 'IPv4',
  [ETHERTYPE_IPV6]: 'IPv6',
  [ETHERTYPE_ARP]: 'ARP',
  [ETHERTYPE_VLAN]: 'VLAN',
}

/** The six bytes at `at` as `02:68:…`. */
export function macText(view: DataView, at: number): string {
  let text = ''
  for (let i = 0; i < 6; i++) {
    text +=
      (i === 0 ? '' : ':') +
      view
        .getUint8(at + i)
        .toString(16)
        .padStart(2, '0')
  }
  return text
}

/** The header, of bytes that may be anything. */
export function pretty(view: DataView, at: number, length: number): string {
  const reason = check(view, at, length)
  if (reason !== OK) return `Ethernet ${whyNot(reason)}`
  const kind = type(view, at)
  const name = TYPES[kind] ?? `type 0x${kind.toString(16).padStart(4, '0')}`
  return `${macText(view, at + ETHERNET.SOURCE)} > ${macText(view, at)} ${name}`
}
