/** IPv4 headers (RFC 791 section 3.1; DS and ECN: RFC 2474, RFC 3168). Addresses in host order. */
import { wordsToIp } from '../addresses.ts'
import { checksumOf, sum } from './checksum.ts'
import { MALFORMED, OK, TRUNCATED, VERSION, whyNot } from './reason.ts'

/** Byte offsets. */
export const IPV4 = {
  /** Version, and the header's length in words of four bytes. */
  VERSION_IHL: 0,
  /** DSCP and, in the low two bits, ECN. */
  TOS: 1,
  TOTAL_LENGTH: 2,
  ID: 4,
  /** Three flags and the fragment offset in units of eight bytes. */
  FRAGMENT: 6,
  TTL: 8,
  PROTOCOL: 9,
  CHECKSUM: 10,
  SOURCE: 12,
  DESTINATION: 16,
  /** Bytes of a header without options. */
  BYTES: 20,
} as const

/** Bits of the FRAGMENT field. */
export const IPV4_DONT_FRAGMENT = 0x4000
export const IPV4_MORE_FRAGMENTS = 0x2000
export const IPV4_FRAGMENT_OFFSET = 0x1fff

/** Whether an address (host order) may be one host's on a network: not 0.0.0.0/8, 127.0.0.0/8 or 224.0.0.0/3 (RFC 1122 section 3.2.1.3). */
export function isUnicast(address: number): boolean {
  return address >= 0x0100_0000 && address < 0xe000_0000 && address >>> 24 !== 127
}

/** As `check`, of the header alone: the packet may be cut behind it, as in an ICMP error. */
export function checkHeader(view: DataView, at: number, length: number): number {
  if (length < IPV4.BYTES) return TRUNCATED
  if (view.getUint8(at + IPV4.VERSION_IHL) >> 4 !== 4) return VERSION
  const header = headerLength(view, at)
  if (header < IPV4.BYTES || totalLength(view, at) < header) return MALFORMED
  return header > length ? TRUNCATED : OK
}

/** OK, TRUNCATED, VERSION or MALFORMED. `length` may be more than the packet's: Ethernet pads. */
export function check(view: DataView, at: number, length: number): number {
  const reason = checkHeader(view, at, length)
  if (reason !== OK) return reason
  return totalLength(view, at) > length ? TRUNCATED : OK
}

/** Bytes, options included; the payload's offset. */
export function headerLength(view: DataView, at: number): number {
  return (view.getUint8(at + IPV4.VERSION_IHL) & 0xf) * 4
}

export function tos(view: DataView, at: number): number {
  return view.getUint8(at + IPV4.TOS)
}

export function ecn(view: DataView, at: number): number {
  return view.getUint8(at + IPV4.TOS) & 3
}

/** Bytes of header and payload. */
export function totalLength(view: DataView, at: number): number {
  return view.getUint16(at + IPV4.TOTAL_LENGTH)
}

export function id(view: DataView, at: number): number {
  return view.getUint16(at + IPV4.ID)
}

/** Flags (IPV4_*) and offset as they stand in the header. */
export function fragment(view: DataView, at: number): number {
  return view.getUint16(at + IPV4.FRAGMENT)
}

/** Where the payload belongs in the whole datagram, bytes. */
export function fragmentOffset(view: DataView, at: number): number {
  return (fragment(view, at) & IPV4_FRAGMENT_OFFSET) * 8
}

/** Whether it is one of several fragments, the first or the last among them. */
export function isFragment(view: DataView, at: number): boolean {
  return (fragment(view, at) & (IPV4_MORE_FRAGMENTS | IPV4_FRAGMENT_OFFSET)) !== 0
}

export function ttl(view: DataView, at: number): number {
  return view.getUint8(at + IPV4.TTL)
}

/** PROTO_*. */
export function protocol(view: DataView, at: number): number {
  return view.getUint8(at + IPV4.PROTOCOL)
}

export function checksum(view: DataView, at: number): number {
  return view.getUint16(at + IPV4.CHECKSUM)
}

export function source(view: DataView, at: number): number {
  return view.getUint32(at + IPV4.SOURCE)
}

export function destination(view: DataView, at: number): number {
  return view.getUint32(at + IPV4.DESTINATION)
}

/** Whether the header checksum is right. */
export function verifyChecksum(view: DataView, at: number): boolean {
  return sum(view, at, headerLength(view, at)) === 0xffff
}

/**
 * Sum of the pseudo-header (RFC 9293 section 3.1, RFC 768): addresses, `protocol`, and `length` bytes
 * of transport header and data. A checksum that is still to be completed holds just this.
 */
export function pseudoHeader(view: DataView, at: number, protocol: number, length: number): number {
  return sum(view, at + IPV4.SOURCE, 8, protocol + length)
}

// Setters leave the checksum as it is: `fillChecksum` afterwards, or checksum.ts `update`.

export function setTos(view: DataView, at: number, value: number): void {
  view.setUint8(at + IPV4.TOS, value)
}

export function setEcn(view: DataView, at: number, value: number): void {
  view.setUint8(at + IPV4.TOS, (view.getUint8(at + IPV4.TOS) & ~3) | value)
}

/** Voids the check. */
export function setTotalLength(view: DataView, at: number, value: number): void {
  view.setUint16(at + IPV4.TOTAL_LENGTH, value)
}

export function setId(view: DataView, at: number, value: number): void {
  view.setUint16(at + IPV4.ID, value)
}

export function setFragment(view: DataView, at: number, value: number): void {
  view.setUint16(at + IPV4.FRAGMENT, value)
}

export function setTtl(view: DataView, at: number, value: number): void {
  view.setUint8(at + IPV4.TTL, value)
}

/** Voids the check of what follows. */
export function setProtocol(view: DataView, at: number, value: number): void {
  view.setUint8(at + IPV4.PROTOCOL, value)
}

export function setChecksum(view: DataView, at: number, value: number): void {
  view.setUint16(at + IPV4.CHECKSUM, value)
}

export function setSource(view: DataView, at: number, value: number): void {
  view.setUint32(at + IPV4.SOURCE, value)
}

export function setDestination(view: DataView, at: number, value: number): void {
  view.setUint32(at + IPV4.DESTINATION, value)
}

/** Computes and writes the header checksum. */
export function fillChecksum(view: DataView, at: number): void {
  setChecksum(view, at, 0)
  setChecksum(view, at, checksumOf(sum(view, at, headerLength(view, at))))
}

export interface Ipv4Fields {
  tos?: number
  /** Bytes of header and payload. */
  totalLength: number
  id?: number
  /** Flags and offset as in the header. */
  fragment?: number
  ttl: number
  protocol: number
  source: number
  destination: number
  /** At most 40 bytes, a multiple of 4. */
  options?: Uint8Array
}

/** Writes the header with its checksum; returns its bytes. Throws RangeError for options that don't fit. */
export function emit(view: DataView, at: number, fields: Ipv4Fields): number {
  const options = fields.options?.length ?? 0
  if (options > 40 || (options & 3) !== 0) throw new RangeError(`IPv4 options of ${options} bytes`)
  const header = IPV4.BYTES + options
  view.setUint8(at + IPV4.VERSION_IHL, 0x40 | (header / 4))
  setTos(view, at, fields.tos ?? 0)
  setTotalLength(view, at, fields.totalLength)
  setId(view, at, fields.id ?? 0)
  setFragment(view, at, fields.fragment ?? 0)
  setTtl(view, at, fields.ttl)
  setProtocol(view, at, fields.protocol)
  setSource(view, at, fields.source)
  setDestination(view, at, fields.destination)
  for (let i = 0; i < options; i++) view.setUint8(at + IPV4.BYTES + i, fields.options![i]!)
  fillChecksum(view, at)
  return header
}

/** The header, of bytes that may be anything. */
export function pretty(view: DataView, at: number, length: number): string {
  const reason = checkHeader(view, at, length)
  if (reason !== OK) return `IPv4 ${whyNot(reason)}`
  let text = `${wordsToIp([source(view, at)])} > ${wordsToIp([destination(view, at)])}`
  text += ` ttl ${ttl(view, at)}`
  if (tos(view, at) !== 0) text += ` tos 0x${tos(view, at).toString(16)}`
  if (isFragment(view, at)) {
    const more = (fragment(view, at) & IPV4_MORE_FRAGMENTS) !== 0 ? '+' : ''
    text += ` fragment ${id(view, at)}@${fragmentOffset(view, at)}${more}`
  }
  if (headerLength(view, at) > IPV4.BYTES) {
    text += ` options ${headerLength(view, at) - IPV4.BYTES}`
  }
  if (!verifyChecksum(view, at)) text += ' (bad checksum)'
  return text
}
