/**
 * IPv6 headers (RFC 8200 section 3) and the way through extension headers (section 4).
 *
 * Addresses are four words in host order, the most significant first, read and written by index.
 */
import { wordsToIp } from '../addresses.ts'
import { sum } from './checksum.ts'
import {
  PROTO_AH,
  PROTO_DESTINATION_OPTIONS,
  PROTO_FRAGMENT,
  PROTO_HOP_BY_HOP,
  PROTO_ROUTING,
} from './numbers.ts'
import { MALFORMED, OK, TRUNCATED, VERSION, whyNot } from './reason.ts'

/** Byte offsets. */
export const IPV6 = {
  /** Version, traffic class (DSCP and ECN) and flow label in one word. */
  VERSION_CLASS_FLOW: 0,
  /** Bytes behind the header, extension headers included. */
  PAYLOAD_LENGTH: 4,
  NEXT_HEADER: 6,
  HOP_LIMIT: 7,
  SOURCE: 8,
  DESTINATION: 24,
  BYTES: 40,
} as const

/** Byte offsets in extension headers. */
export const IPV6_EXTENSION = {
  NEXT_HEADER: 0,
  /** Units of 8 bytes beyond the first 8; of an authentication header, of 4 beyond 8 (RFC 4302). */
  LENGTH: 1,
  /** Of a fragment header (section 4.5): offset in units of 8 bytes << 3, reserved, "more". */
  FRAGMENT: 2,
  /** Smallest; a fragment header's. */
  BYTES: 8,
} as const

/** Extension headers that `walk` follows; section 4.1 names six kinds. */
export const MAX_EXTENSIONS = 8

/** As `check`, of the header alone: the packet may be cut behind it, as in an ICMPv6 error. */
export function checkHeader(view: DataView, at: number, length: number): number {
  if (length < IPV6.BYTES) return TRUNCATED
  return view.getUint8(at) >> 4 === 6 ? OK : VERSION
}

/** OK, TRUNCATED or VERSION. `length` may be more than the packet's: Ethernet pads. */
export function check(view: DataView, at: number, length: number): number {
  const reason = checkHeader(view, at, length)
  if (reason !== OK) return reason
  return IPV6.BYTES + payloadLength(view, at) > length ? TRUNCATED : OK
}

export function trafficClass(view: DataView, at: number): number {
  return (view.getUint16(at) >>> 4) & 0xff
}

export function ecn(view: DataView, at: number): number {
  return (view.getUint16(at) >>> 4) & 3
}

export function flowLabel(view: DataView, at: number): number {
  return view.getUint32(at) & 0xf_ffff
}

export function payloadLength(view: DataView, at: number): number {
  return view.getUint16(at + IPV6.PAYLOAD_LENGTH)
}

/** PROTO_* of the first header behind this one, an extension header's perhaps. */
export function nextHeader(view: DataView, at: number): number {
  return view.getUint8(at + IPV6.NEXT_HEADER)
}

export function hopLimit(view: DataView, at: number): number {
  return view.getUint8(at + IPV6.HOP_LIMIT)
}

/** Word 0 .. 3 of the source. */
export function sourceWord(view: DataView, at: number, word: number): number {
  return view.getUint32(at + IPV6.SOURCE + word * 4)
}

/** Word 0 .. 3 of the destination. */
export function destinationWord(view: DataView, at: number, word: number): number {
  return view.getUint32(at + IPV6.DESTINATION + word * 4)
}

/**
 * Sum of the pseudo-header (RFC 8200 section 8.1): addresses, `length` bytes of transport header and
 * data, `protocol`. With a routing header the last destination counts, which is not the one here.
 */
export function pseudoHeader(view: DataView, at: number, protocol: number, length: number): number {
  return sum(view, at + IPV6.SOURCE, 32, protocol + length)
}

export function setTrafficClass(view: DataView, at: number, value: number): void {
  view.setUint16(at, (view.getUint16(at) & ~0xff0) | (value << 4))
}

export function setEcn(view: DataView, at: number, value: number): void {
  view.setUint16(at, (view.getUint16(at) & ~0x30) | (value << 4))
}

export function setFlowLabel(view: DataView, at: number, value: number): void {
  view.setUint32(at, ((view.getUint32(at) & ~0xf_ffff) | value) >>> 0)
}

/** Voids the check. */
export function setPayloadLength(view: DataView, at: number, value: number): void {
  view.setUint16(at + IPV6.PAYLOAD_LENGTH, value)
}

/** Voids the check of what follows. */
export function setNextHeader(view: DataView, at: number, value: number): void {
  view.setUint8(at + IPV6.NEXT_HEADER, value)
}

export function setHopLimit(view: DataView, at: number, value: number): void {
  view.setUint8(at + IPV6.HOP_LIMIT, value)
}

export function setSourceWord(view: DataView, at: number, word: number, value: number): void {
  view.setUint32(at + IPV6.SOURCE + word * 4, value)
}

export function setDestinationWord(view: DataView, at: number, word: number, value: number): void {
  view.setUint32(at + IPV6.DESTINATION + word * 4, value)
}

/** What `walk` finds; the caller's object, used again and again. */
export interface Ipv6Walk {
  /** PROTO_* of the header that is no extension header. */
  protocol: number
  /** Its offset from the IPv6 header; 0 when it is not in this packet (a later fragment). */
  offset: number
  /** Whether there was a fragment header (section 4.5; also an atomic one, RFC 6946). */
  fragment: boolean
}

/**
 * Goes through the extension headers of a packet that `check` has accepted, at most MAX_EXTENSIONS
 * of them. OK; TRUNCATED when one reaches beyond the packet; MALFORMED when there are more. What is
 * encrypted, unknown or "no next header" ends the walk as a transport header does. The bytes from
 * `offset` on are in the packet if there are any.
 */
export function walk(view: DataView, at: number, into: Ipv6Walk): number {
  const end = at + IPV6.BYTES + payloadLength(view, at)
  let here = at + IPV6.BYTES
  let next = nextHeader(view, at)
  into.fragment = false
  for (let count = 0; ; count++) {
    into.protocol = next
    into.offset = here - at
    if (!isExtension(next)) return OK
    if (here + IPV6_EXTENSION.BYTES > end) return TRUNCATED
    if (count === MAX_EXTENSIONS) return MALFORMED
    const bytes = extensionBytes(view, here, next)
    if (here + bytes > end) return TRUNCATED
    const later =
      next === PROTO_FRAGMENT && (view.getUint16(here + IPV6_EXTENSION.FRAGMENT) & 0xfff8) !== 0
    if (next === PROTO_FRAGMENT) into.fragment = true
    next = view.getUint8(here + IPV6_EXTENSION.NEXT_HEADER)
    if (later) {
      into.protocol = next
      into.offset = 0
      return OK
    }
    here += bytes
  }
}

/** Whether `walk` looks behind a header of that number. */
export function isExtension(protocol: number): boolean {
  return (
    protocol === PROTO_HOP_BY_HOP ||
    protocol === PROTO_ROUTING ||
    protocol === PROTO_FRAGMENT ||
    protocol === PROTO_AH ||
    protocol === PROTO_DESTINATION_OPTIONS
  )
}

/** Bytes of the extension header at `at`, at least 8; its own first two bytes must be readable. */
function extensionBytes(view: DataView, at: number, protocol: number): number {
  if (protocol === PROTO_FRAGMENT) return IPV6_EXTENSION.BYTES
  const units = view.getUint8(at + IPV6_EXTENSION.LENGTH)
  return protocol === PROTO_AH ? (units + 2) * 4 : (units + 1) * 8
}

export interface Ipv6Fields {
  trafficClass?: number
  flowLabel?: number
  /** Bytes behind the header. */
  payloadLength: number
  nextHeader: number
  hopLimit: number
  /** Four words each. */
  source: ArrayLike<number>
  destination: ArrayLike<number>
}

/** Writes the header; returns its bytes. */
export function emit(view: DataView, at: number, fields: Ipv6Fields): number {
  view.setUint32(at, 0x6000_0000)
  setTrafficClass(view, at, fields.trafficClass ?? 0)
  setFlowLabel(view, at, fields.flowLabel ?? 0)
  setPayloadLength(view, at, fields.payloadLength)
  setNextHeader(view, at, fields.nextHeader)
  setHopLimit(view, at, fields.hopLimit)
  for (let word = 0; word < 4; word++) {
    setSourceWord(view, at, word, fields.source[word]!)
    setDestinationWord(view, at, word, fields.destination[word]!)
  }
  return IPV6.BYTES
}

/** The 16 bytes at `at` as text (RFC 5952). */
export function addressText(view: DataView, at: number): string {
  return wordsToIp([0, 4, 8, 12].map(offset => view.getUint32(at + offset)))
}

/** The header, of bytes that may be anything. */
export function pretty(view: DataView, at: number, length: number): string {
  const reason = checkHeader(view, at, length)
  if (reason !== OK) return `IPv6 ${whyNot(reason)}`
  let text = `${addressText(view, at + IPV6.SOURCE)} > ${addressText(view, at + IPV6.DESTINATION)}`
  text += ` hops ${hopLimit(view, at)}`
  if (trafficClass(view, at) !== 0) text += ` class 0x${trafficClass(view, at).toString(16)}`
  if (flowLabel(view, at) !== 0) text += ` flow 0x${flowLabel(view, at).toString(16)}`
  return text
}
