/** TCP headers (RFC 9293 section 3.1; options: section 3.2, RFC 7323, RFC 2018). */
import { checksumOf, sum } from './checksum.ts'
import { MALFORMED, OK, TRUNCATED, whyNot } from './reason.ts'

/** Byte offsets. */
export const TCP = {
  SOURCE_PORT: 0,
  DESTINATION_PORT: 2,
  SEQUENCE: 4,
  ACKNOWLEDGEMENT: 8,
  /** The header's length in words of four bytes, and four reserved bits. */
  DATA_OFFSET: 12,
  FLAGS: 13,
  WINDOW: 14,
  CHECKSUM: 16,
  URGENT: 18,
  /** Bytes of a header without options. */
  BYTES: 20,
} as const

export const TCP_FIN = 0x01
export const TCP_SYN = 0x02
export const TCP_RST = 0x04
export const TCP_PSH = 0x08
export const TCP_ACK = 0x10
export const TCP_URG = 0x20
export const TCP_ECE = 0x40
export const TCP_CWR = 0x80

export const TCP_OPTION_END = 0
export const TCP_OPTION_NOP = 1
export const TCP_OPTION_MSS = 2
export const TCP_OPTION_WINDOW_SCALE = 3
export const TCP_OPTION_SACK_PERMITTED = 4
export const TCP_OPTION_SACK = 5
export const TCP_OPTION_TIMESTAMPS = 8

/** Byte offsets in an option that is more than one byte long. */
export const TCP_OPTION = { KIND: 0, LENGTH: 1, VALUE: 2 } as const

/** OK, TRUNCATED or MALFORMED. Options may be nonsense: `nextOption` stops at it. */
export function check(view: DataView, at: number, length: number): number {
  if (length < TCP.BYTES) return TRUNCATED
  const header = headerLength(view, at)
  if (header < TCP.BYTES) return MALFORMED
  return header > length ? TRUNCATED : OK
}

export function sourcePort(view: DataView, at: number): number {
  return view.getUint16(at + TCP.SOURCE_PORT)
}

export function destinationPort(view: DataView, at: number): number {
  return view.getUint16(at + TCP.DESTINATION_PORT)
}

export function sequence(view: DataView, at: number): number {
  return view.getUint32(at + TCP.SEQUENCE)
}

export function acknowledgement(view: DataView, at: number): number {
  return view.getUint32(at + TCP.ACKNOWLEDGEMENT)
}

/** Bytes, options included; the payload's offset. */
export function headerLength(view: DataView, at: number): number {
  return (view.getUint8(at + TCP.DATA_OFFSET) >> 4) * 4
}

/** TCP_* bits. */
export function flags(view: DataView, at: number): number {
  return view.getUint8(at + TCP.FLAGS)
}

/** As it stands in the header, not scaled. */
export function window(view: DataView, at: number): number {
  return view.getUint16(at + TCP.WINDOW)
}

export function checksum(view: DataView, at: number): number {
  return view.getUint16(at + TCP.CHECKSUM)
}

export function urgent(view: DataView, at: number): number {
  return view.getUint16(at + TCP.URGENT)
}

/**
 * Offset from the header of the option behind the one at `after` (0: of the first), padding left
 * out; 0 when there is none, or when what comes next is malformed. All of that option lies in the
 * header, and it is at least two bytes long.
 */
export function nextOption(view: DataView, at: number, after = 0): number {
  const end = headerLength(view, at)
  let option = after === 0 ? TCP.BYTES : after + view.getUint8(at + after + TCP_OPTION.LENGTH)
  while (option < end && view.getUint8(at + option) === TCP_OPTION_NOP) option++
  if (option + 2 > end || view.getUint8(at + option) === TCP_OPTION_END) return 0
  const bytes = view.getUint8(at + option + TCP_OPTION.LENGTH)
  return bytes < 2 || option + bytes > end ? 0 : option
}

/** Offset from the header of the first option of that kind; 0 when there is none. */
export function findOption(view: DataView, at: number, kind: number): number {
  let option = nextOption(view, at)
  while (option !== 0 && view.getUint8(at + option) !== kind) option = nextOption(view, at, option)
  return option
}

/** The MSS option's value (RFC 9293 section 3.7.1); 0 when there is none. */
export function mss(view: DataView, at: number): number {
  const option = findOption(view, at, TCP_OPTION_MSS)
  if (option === 0 || view.getUint8(at + option + TCP_OPTION.LENGTH) !== 4) return 0
  return view.getUint16(at + option + TCP_OPTION.VALUE)
}

/** Whether the checksum is right; `pseudo`: a `pseudoHeader` with these `length` bytes. */
export function verifyChecksum(
  view: DataView,
  at: number,
  length: number,
  pseudo: number,
): boolean {
  return sum(view, at, length, pseudo) === 0xffff
}

// Setters leave the checksum as it is.

export function setSourcePort(view: DataView, at: number, value: number): void {
  view.setUint16(at + TCP.SOURCE_PORT, value)
}

export function setDestinationPort(view: DataView, at: number, value: number): void {
  view.setUint16(at + TCP.DESTINATION_PORT, value)
}

export function setSequence(view: DataView, at: number, value: number): void {
  view.setUint32(at + TCP.SEQUENCE, value)
}

export function setAcknowledgement(view: DataView, at: number, value: number): void {
  view.setUint32(at + TCP.ACKNOWLEDGEMENT, value)
}

/** Bytes, 20 .. 60, a multiple of 4. Clears the reserved bits. Voids the check. */
export function setHeaderLength(view: DataView, at: number, value: number): void {
  view.setUint8(at + TCP.DATA_OFFSET, (value / 4) << 4)
}

export function setFlags(view: DataView, at: number, value: number): void {
  view.setUint8(at + TCP.FLAGS, value)
}

export function setWindow(view: DataView, at: number, value: number): void {
  view.setUint16(at + TCP.WINDOW, value)
}

export function setChecksum(view: DataView, at: number, value: number): void {
  view.setUint16(at + TCP.CHECKSUM, value)
}

export function setUrgent(view: DataView, at: number, value: number): void {
  view.setUint16(at + TCP.URGENT, value)
}

/** Computes and writes the checksum over `length` bytes of header and data. */
export function fillChecksum(view: DataView, at: number, length: number, pseudo: number): void {
  setChecksum(view, at, 0)
  setChecksum(view, at, checksumOf(sum(view, at, length, pseudo)))
}

export interface TcpFields {
  sourcePort: number
  destinationPort: number
  sequence: number
  acknowledgement?: number
  flags: number
  window: number
  checksum?: number
  urgent?: number
  /** At most 40 bytes, a multiple of 4. */
  options?: Uint8Array
}

/** Writes the header; returns its bytes. Throws RangeError for options that don't fit. */
export function emit(view: DataView, at: number, fields: TcpFields): number {
  const options = fields.options?.length ?? 0
  if (options > 40 || (options & 3) !== 0) throw new RangeError(`TCP options of ${options} bytes`)
  setSourcePort(view, at, fields.sourcePort)
  setDestinationPort(view, at, fields.destinationPort)
  setSequence(view, at, fields.sequence)
  setAcknowledgement(view, at, fields.acknowledgement ?? 0)
  setHeaderLength(view, at, TCP.BYTES + options)
  setFlags(view, at, fields.flags)
  setWindow(view, at, fields.window)
  setChecksum(view, at, fields.checksum ?? 0)
  setUrgent(view, at, fields.urgent ?? 0)
  for (let i = 0; i < options; i++) view.setUint8(at + TCP.BYTES + i, fields.options![i]!)
  return TCP.BYTES + options
}

const FLAG_NAMES = ['FIN', 'SYN', 'RST', 'PSH', 'ACK', 'URG', 'ECE', 'CWR']

/** The header, of bytes that may be anything. */
export function pretty(view: DataView, at: number, length: number): string {
  const reason = check(view, at, length)
  if (reason !== OK) return `TCP ${whyNot(reason)}`
  const names = FLAG_NAMES.filter((_, bit) => (flags(view, at) >> bit) & 1).join(' ') || 'no flags'
  let text = `TCP ${sourcePort(view, at)} > ${destinationPort(view, at)} ${names}`
  text += ` seq ${sequence(view, at)}`
  if ((flags(view, at) & TCP_ACK) !== 0) text += ` ack ${acknowledgement(view, at)}`
  text += ` win ${window(view, at)}`
  if (mss(view, at) !== 0) text += ` mss ${mss(view, at)}`
  return `${text} length ${length - headerLength(view, at)}`
}
