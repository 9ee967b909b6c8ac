/** ICMP for IPv4 (RFC 792; next-hop MTU: RFC 1191 section 4). */
import { checksumOf, sum } from './checksum.ts'
import { OK, TRUNCATED, whyNot } from './reason.ts'

/** Byte offsets. */
export const ICMP = {
  TYPE: 0,
  CODE: 1,
  CHECKSUM: 2,
  /** What it means depends on the type. */
  REST: 4,
  /** Echo: identifier and sequence number. */
  ID: 4,
  SEQUENCE: 6,
  /** Fragmentation needed: MTU of the next hop. */
  MTU: 6,
  /** Bytes of the header; where an error quotes the packet that it is about. */
  BYTES: 8,
} as const

export const ICMP_ECHO_REPLY = 0
export const ICMP_UNREACHABLE = 3
export const ICMP_REDIRECT = 5
export const ICMP_ECHO_REQUEST = 8
export const ICMP_TIME_EXCEEDED = 11
export const ICMP_PARAMETER_PROBLEM = 12
/** Codes of ICMP_UNREACHABLE. */
export const ICMP_HOST_UNREACHABLE = 1
export const ICMP_FRAGMENTATION_NEEDED = 4

/** OK or TRUNCATED. */
export function check(_view: DataView, _at: number, length: number): number {
  return length < ICMP.BYTES ? TRUNCATED : OK
}

export function type(view: DataView, at: number): number {
  return view.getUint8(at + ICMP.TYPE)
}

export function code(view: DataView, at: number): number {
  return view.getUint8(at + ICMP.CODE)
}

export function checksum(view: DataView, at: number): number {
  return view.getUint16(at + ICMP.CHECKSUM)
}

/** The second word of the header. */
export function rest(view: DataView, at: number): number {
  return view.getUint32(at + ICMP.REST)
}

export function id(view: DataView, at: number): number {
  return view.getUint16(at + ICMP.ID)
}

export function sequence(view: DataView, at: number): number {
  return view.getUint16(at + ICMP.SEQUENCE)
}

export function mtu(view: DataView, at: number): number {
  return view.getUint16(at + ICMP.MTU)
}

/** Whether it is about another packet, quoted behind the header: no error may answer it (RFC 1122 section 3.2.2). */
export function isError(view: DataView, at: number): boolean {
  const kind = type(view, at)
  // 4 is source quench, deprecated (RFC 6633).
  return (
    (kind >= ICMP_UNREACHABLE && kind <= ICMP_REDIRECT) ||
    kind === ICMP_TIME_EXCEEDED ||
    kind === ICMP_PARAMETER_PROBLEM
  )
}

/** Whether the checksum over the whole message of `length` bytes is right. */
export function verifyChecksum(view: DataView, at: number, length: number): boolean {
  return sum(view, at, length) === 0xffff
}

// Setters leave the checksum as it is. None voids the check; `setType` changes what the rest means.

export function setType(view: DataView, at: number, value: number): void {
  view.setUint8(at + ICMP.TYPE, value)
}

export function setCode(view: DataView, at: number, value: number): void {
  view.setUint8(at + ICMP.CODE, value)
}

export function setChecksum(view: DataView, at: number, value: number): void {
  view.setUint16(at + ICMP.CHECKSUM, value)
}

export function setRest(view: DataView, at: number, value: number): void {
  view.setUint32(at + ICMP.REST, value)
}

/** Computes and writes the checksum over `length` bytes. */
export function fillChecksum(view: DataView, at: number, length: number): void {
  setChecksum(view, at, 0)
  setChecksum(view, at, checksumOf(sum(view, at, length)))
}

export interface IcmpFields {
  type: number
  code?: number
  /** The second word: `(id << 16 | sequence) >>> 0` of an echo. */
  rest?: number
}

/** Writes the header, its checksum zero until `fillChecksum`; returns its bytes. */
export function emit(view: DataView, at: number, fields: IcmpFields): number {
  setType(view, at, fields.type)
  setCode(view, at, fields.code ?? 0)
  setChecksum(view, at, 0)
  setRest(view, at, fields.rest ?? 0)
  return ICMP.BYTES
}

const TYPES: Readonly<Record<number, string>> = {
  [ICMP_ECHO_REPLY]: 'echo reply',
  [ICMP_UNREACHABLE]: 'unreachable',
  [ICMP_REDIRECT]: 'redirect',
  [ICMP_ECHO_REQUEST]: 'echo request',
  [ICMP_TIME_EXCEEDED]: 'time exceeded',
  [ICMP_PARAMETER_PROBLEM]: 'parameter problem',
}

/** The header, of bytes that may be anything. */
export function pretty(view: DataView, at: number, length: number): string {
  const reason = check(view, at, length)
  if (reason !== OK) return `ICMP ${whyNot(reason)}`
  const kind = type(view, at)
  const name = TYPES[kind] ?? `type ${kind}`
  if (kind === ICMP_ECHO_REQUEST || kind === ICMP_ECHO_REPLY) {
    return `ICMP ${name} id ${id(view, at)} seq ${sequence(view, at)}`
  }
  const needed = kind === ICMP_UNREACHABLE && code(view, at) === ICMP_FRAGMENTATION_NEEDED
  return `ICMP ${name} code ${code(view, at)}${needed ? ` mtu ${mtu(view, at)}` : ''}`
}
