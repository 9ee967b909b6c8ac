/**
 * ICMPv6 (RFC 4443) with neighbour discovery (RFC 4861 section 4).
 *
 * `check` proves the fixed part of the five discovery messages and all of their options, so that
 * what it accepts is what section 6.1 and 7.1 ask of lengths; hop limit and source are IPv6's.
 */
import { checksumOf, sum } from './checksum.ts'
import { macText } from './ethernet.ts'
import { addressText } from './ipv6.ts'
import { MALFORMED, OK, TRUNCATED, whyNot } from './reason.ts'

/** Byte offsets. */
export const ICMPV6 = {
  TYPE: 0,
  CODE: 1,
  CHECKSUM: 2,
  /** What it means depends on the type. */
  REST: 4,
  /** Echo: identifier and sequence number. */
  ID: 4,
  SEQUENCE: 6,
  /** Packet too big: MTU of the next hop, four bytes. */
  MTU: 4,
  /** Neighbour advertisement: the ND_* flags. */
  FLAGS: 4,
  /** Neighbour solicitation, advertisement, redirect: the target address. */
  TARGET: 8,
  /** Bytes of the header; where an error quotes the packet that it is about. */
  BYTES: 8,
} as const

/** Byte offsets in an option of neighbour discovery (RFC 4861 section 4.6). */
export const ND_OPTION = {
  TYPE: 0,
  /** Units of 8 bytes, the whole option; 0 is forbidden. */
  LENGTH: 1,
  /** Link-layer address options: six bytes of MAC. */
  MAC: 2,
} as const

export const ICMPV6_UNREACHABLE = 1
export const ICMPV6_TOO_BIG = 2
export const ICMPV6_TIME_EXCEEDED = 3
export const ICMPV6_PARAMETER_PROBLEM = 4
export const ICMPV6_ECHO_REQUEST = 128
export const ICMPV6_ECHO_REPLY = 129
export const ND_ROUTER_SOLICITATION = 133
export const ND_ROUTER_ADVERTISEMENT = 134
export const ND_NEIGHBOUR_SOLICITATION = 135
export const ND_NEIGHBOUR_ADVERTISEMENT = 136
export const ND_REDIRECT = 137

/** Flags of an advertisement (RFC 4861 section 4.4). */
export const ND_ROUTER = 0x8000_0000
export const ND_SOLICITED = 0x4000_0000
export const ND_OVERRIDE = 0x2000_0000

export const ND_SOURCE_MAC = 1
export const ND_TARGET_MAC = 2

/** Bytes in front of the options; 0 for messages that have none. */
export function fixedBytes(view: DataView, at: number): number {
  switch (view.getUint8(at + ICMPV6.TYPE)) {
    case ND_ROUTER_SOLICITATION:
      return 8
    case ND_ROUTER_ADVERTISEMENT:
      return 16
    case ND_NEIGHBOUR_SOLICITATION:
    case ND_NEIGHBOUR_ADVERTISEMENT:
      return 24
    case ND_REDIRECT:
      return 40
    default:
      return 0
  }
}

/** OK, TRUNCATED, or MALFORMED for an option of length 0. `length` is the whole message's. */
export function check(view: DataView, at: number, length: number): number {
  if (length < ICMPV6.BYTES) return TRUNCATED
  const fixed = fixedBytes(view, at)
  if (fixed === 0) return OK
  if (length < fixed) return TRUNCATED
  for (let option = fixed; option < length; ) {
    if (option + 2 > length) return TRUNCATED
    const bytes = optionBytes(view, at, option)
    if (bytes === 0) return MALFORMED
    if (option + bytes > length) return TRUNCATED
    option += bytes
  }
  return OK
}

export function type(view: DataView, at: number): number {
  return view.getUint8(at + ICMPV6.TYPE)
}

export function code(view: DataView, at: number): number {
  return view.getUint8(at + ICMPV6.CODE)
}

export function checksum(view: DataView, at: number): number {
  return view.getUint16(at + ICMPV6.CHECKSUM)
}

/** The second word of the header: MTU, flags, or identifier and sequence number. */
export function rest(view: DataView, at: number): number {
  return view.getUint32(at + ICMPV6.REST)
}

export function id(view: DataView, at: number): number {
  return view.getUint16(at + ICMPV6.ID)
}

export function sequence(view: DataView, at: number): number {
  return view.getUint16(at + ICMPV6.SEQUENCE)
}

/** Whether it is about another packet, quoted behind the header (RFC 4443 section 2.1). */
export function isError(view: DataView, at: number): boolean {
  return type(view, at) < 128
}

/** Word 0 .. 3 of the target; only of messages that have one (`hasTarget`). */
export function targetWord(view: DataView, at: number, word: number): number {
  return view.getUint32(at + ICMPV6.TARGET + word * 4)
}

export function hasTarget(view: DataView, at: number): boolean {
  return fixedBytes(view, at) >= 24
}

/**
 * Offset from the message of the option behind the one at `after` (0: of the first); 0 when there
 * is none. All of that option lies in the message.
 */
export function nextOption(view: DataView, at: number, length: number, after = 0): number {
  const fixed = fixedBytes(view, at)
  if (fixed === 0) return 0
  const option = after === 0 ? fixed : after + optionBytes(view, at, after)
  return option < length ? option : 0
}

/** Offset from the message of its first option of that kind (ND_*_MAC); 0 when there is none. */
export function findOption(view: DataView, at: number, length: number, kind: number): number {
  let option = nextOption(view, at, length)
  while (option !== 0 && view.getUint8(at + option + ND_OPTION.TYPE) !== kind) {
    option = nextOption(view, at, length, option)
  }
  return option
}

/** Bytes of the option at that offset. */
export function optionBytes(view: DataView, at: number, option: number): number {
  return view.getUint8(at + option + ND_OPTION.LENGTH) * 8
}

/** Whether the checksum is right; `pseudo`: `ipv6.pseudoHeader` with these `length` bytes. */
export function verifyChecksum(
  view: DataView,
  at: number,
  length: number,
  pseudo: number,
): boolean {
  return sum(view, at, length, pseudo) === 0xffff
}

// Setters leave the checksum as it is.

/** Voids the check. */
export function setType(view: DataView, at: number, value: number): void {
  view.setUint8(at + ICMPV6.TYPE, value)
}

export function setCode(view: DataView, at: number, value: number): void {
  view.setUint8(at + ICMPV6.CODE, value)
}

export function setChecksum(view: DataView, at: number, value: number): void {
  view.setUint16(at + ICMPV6.CHECKSUM, value)
}

export function setRest(view: DataView, at: number, value: number): void {
  view.setUint32(at + ICMPV6.REST, value)
}

export function setTargetWord(view: DataView, at: number, word: number, value: number): void {
  view.setUint32(at + ICMPV6.TARGET + word * 4, value)
}

/** Computes and writes the checksum over `length` bytes. */
export function fillChecksum(view: DataView, at: number, length: number, pseudo: number): void {
  setChecksum(view, at, 0)
  setChecksum(view, at, checksumOf(sum(view, at, length, pseudo)))
}

export interface Icmpv6Fields {
  type: number
  code?: number
  rest?: number
  /** Four words, of a neighbour solicitation or advertisement. */
  target?: ArrayLike<number>
  /** A link-layer address option behind it: kind, first four bytes, last two. */
  option?: { kind: number; macHigh: number; macLow: number }
}

/** Writes the message, its checksum zero until `fillChecksum`; returns its bytes. */
export function emit(view: DataView, at: number, fields: Icmpv6Fields): number {
  const { target, option } = fields
  setType(view, at, fields.type)
  setCode(view, at, fields.code ?? 0)
  setChecksum(view, at, 0)
  setRest(view, at, fields.rest ?? 0)
  let bytes: number = ICMPV6.BYTES
  if (target !== undefined) {
    for (let word = 0; word < 4; word++) setTargetWord(view, at, word, target[word]!)
    bytes += 16
  }
  if (option === undefined) return bytes
  view.setUint8(at + bytes + ND_OPTION.TYPE, option.kind)
  view.setUint8(at + bytes + ND_OPTION.LENGTH, 1)
  view.setUint32(at + bytes + ND_OPTION.MAC, option.macHigh)
  view.setUint16(at + bytes + ND_OPTION.MAC + 4, option.macLow)
  return bytes + 8
}

const TYPES: Readonly<Record<number, string>> = {
  [ICMPV6_UNREACHABLE]: 'unreachable',
  [ICMPV6_TOO_BIG]: 'too big',
  [ICMPV6_TIME_EXCEEDED]: 'time exceeded',
  [ICMPV6_PARAMETER_PROBLEM]: 'parameter problem',
  [ICMPV6_ECHO_REQUEST]: 'echo request',
  [ICMPV6_ECHO_REPLY]: 'echo reply',
  [ND_ROUTER_SOLICITATION]: 'router solicitation',
  [ND_ROUTER_ADVERTISEMENT]: 'router advertisement',
  [ND_NEIGHBOUR_SOLICITATION]: 'neighbour solicitation',
  [ND_NEIGHBOUR_ADVERTISEMENT]: 'neighbour advertisement',
  [ND_REDIRECT]: 'redirect',
}

/** The message, of bytes that may be anything. */
export function pretty(view: DataView, at: number, length: number): string {
  const reason = check(view, at, length)
  if (reason !== OK) return `ICMPv6 ${whyNot(reason)}`
  const kind = type(view, at)
  const text = `ICMPv6 ${TYPES[kind] ?? `type ${kind}`}`
  if (kind === ICMPV6_ECHO_REQUEST || kind === ICMPV6_ECHO_REPLY) {
    return `${text} id ${id(view, at)} seq ${sequence(view, at)}`
  }
  if (kind === ICMPV6_TOO_BIG) return `${text} mtu ${rest(view, at)}`
  if (!hasTarget(view, at)) return isError(view, at) ? `${text} code ${code(view, at)}` : text
  const about = `${text} of ${addressText(view, at + ICMPV6.TARGET)}`
  const option = findOption(view, at, length, ND_TARGET_MAC)
  return option === 0 ? about : `${about} at ${macText(view, at + option + ND_OPTION.MAC)}`
}
