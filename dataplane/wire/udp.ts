/** UDP headers (RFC 768). */
import { sum, udpChecksumOf } from './checksum.ts'
import { MALFORMED, OK, TRUNCATED, whyNot } from './reason.ts'

/** Byte offsets. */
export const UDP = {
  SOURCE_PORT: 0,
  DESTINATION_PORT: 2,
  /** Bytes of header and data. */
  LENGTH: 4,
  CHECKSUM: 6,
  BYTES: 8,
} as const

/** As `check`, of the header alone: the datagram may go on in other fragments or be cut. */
export function checkHeader(view: DataView, at: number, length: number): number {
  if (length < UDP.BYTES) return TRUNCATED
  return udpLength(view, at) < UDP.BYTES ? MALFORMED : OK
}

/** OK, TRUNCATED or MALFORMED. */
export function check(view: DataView, at: number, length: number): number {
  const reason = checkHeader(view, at, length)
  if (reason !== OK) return reason
  return udpLength(view, at) > length ? TRUNCATED : OK
}

export function sourcePort(view: DataView, at: number): number {
  return view.getUint16(at + UDP.SOURCE_PORT)
}

export function destinationPort(view: DataView, at: number): number {
  return view.getUint16(at + UDP.DESTINATION_PORT)
}

/** Bytes of header and data. */
export function udpLength(view: DataView, at: number): number {
  return view.getUint16(at + UDP.LENGTH)
}

/** 0: the sender made none. */
export function checksum(view: DataView, at: number): number {
  return view.getUint16(at + UDP.CHECKSUM)
}

/** Whether the checksum is right or absent; `pseudo`: a `pseudoHeader` with the UDP length. */
export function verifyChecksum(view: DataView, at: number, pseudo: number): boolean {
  return checksum(view, at) === 0 || sum(view, at, udpLength(view, at), pseudo) === 0xffff
}

// Setters leave the checksum as it is.

export function setSourcePort(view: DataView, at: number, value: number): void {
  view.setUint16(at + UDP.SOURCE_PORT, value)
}

export function setDestinationPort(view: DataView, at: number, value: number): void {
  view.setUint16(at + UDP.DESTINATION_PORT, value)
}

/** Voids the check. */
export function setLength(view: DataView, at: number, value: number): void {
  view.setUint16(at + UDP.LENGTH, value)
}

export function setChecksum(view: DataView, at: number, value: number): void {
  view.setUint16(at + UDP.CHECKSUM, value)
}

/** Computes and writes the checksum over header and data. */
export function fillChecksum(view: DataView, at: number, pseudo: number): void {
  setChecksum(view, at, 0)
  setChecksum(view, at, udpChecksumOf(sum(view, at, udpLength(view, at), pseudo)))
}

export interface UdpFields {
  sourcePort: number
  destinationPort: number
  /** Bytes of header and data. */
  length: number
  checksum?: number
}

/** Writes the header; returns its bytes. */
export function emit(view: DataView, at: number, fields: UdpFields): number {
  setSourcePort(view, at, fields.sourcePort)
  setDestinationPort(view, at, fields.destinationPort)
  setLength(view, at, fields.length)
  setChecksum(view, at, fields.checksum ?? 0)
  return UDP.BYTES
}

/** The header, of bytes that may be anything. */
export function pretty(view: DataView, at: number, length: number): string {
  const reason = checkHeader(view, at, length)
  if (reason !== OK) return `UDP ${whyNot(reason)}`
  const data = udpLength(view, at) - UDP.BYTES
  return `UDP ${sourcePort(view, at)} > ${destinationPort(view, at)} length ${data}`
}
