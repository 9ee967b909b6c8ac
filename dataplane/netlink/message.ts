/**
 * Netlink messages (RFC 3549 section 2, include/uapi/linux/netlink.h).
 *
 *     datagram  = message+
 *     message   = nlmsghdr { length u32, type u16, flags u16, sequence u32, port u32 },
 *                 a header of the type's own, attribute*
 *     attribute = nlattr { length u16, type u16 }, payload, padding to 4 bytes
 *
 * Numbers are in host order, little endian on every machine that we run on. Lengths count their
 * own header and not the padding. Reading checks each length before it is used and moves on by at
 * least a header every time, so that no input makes it loop or read outside of its bytes.
 */
import { malformed } from './error.ts'

export const NLMSG_NOOP = 1
export const NLMSG_ERROR = 2
export const NLMSG_DONE = 3
export const NLMSG_OVERRUN = 4

export const NLM_F_REQUEST = 0x1
export const NLM_F_MULTI = 0x2
export const NLM_F_ACK = 0x4
export const NLM_F_DUMP_INTR = 0x10
export const NLM_F_DUMP = 0x300
export const NLM_F_REPLACE = 0x100
export const NLM_F_EXCL = 0x200
export const NLM_F_CREATE = 0x400
export const NLM_F_APPEND = 0x800
export const NLM_F_CAPPED = 0x100
export const NLM_F_ACK_TLVS = 0x200

const NLA_F_NESTED = 0x8000
/** Without NLA_F_NESTED and NLA_F_NET_BYTEORDER. */
const NLA_TYPE_MASK = 0x3fff
export const NLMSG_HDRLEN = 16
const NLA_HDRLEN = 4
const U16_MAX = 0xffff

const encoder = new TextEncoder()
const decoder = new TextDecoder()

export interface Message {
  type: number
  flags: number
  sequence: number
  /** What follows nlmsghdr; shares the memory of the datagram. */
  payload: Uint8Array
}

/** Splits a datagram. Throws NetlinkError (EBADMSG) when a length is wrong. */
export function parseMessages(datagram: Uint8Array): Message[] {
  const messages: Message[] = []
  const view = viewOf(datagram)
  for (let at = 0; at < datagram.length; ) {
    const left = datagram.length - at
    const length = left < NLMSG_HDRLEN ? left : view.getUint32(at, true)
    if (length < NLMSG_HDRLEN || length > left) {
      throw malformed('netlink message', `length ${length} with ${left} bytes left`)
    }
    messages.push({
      type: view.getUint16(at + 4, true),
      flags: view.getUint16(at + 6, true),
      sequence: view.getUint32(at + 8, true),
      payload: datagram.subarray(at + NLMSG_HDRLEN, at + length),
    })
    at += align(length)
  }
  return messages
}

/** The fixed header of a message's payload, `bytes` long. Throws NetlinkError (EBADMSG) if it is cut. */
export function header(payload: Uint8Array, bytes: number, name: string): DataView {
  if (payload.length < bytes) throw malformed(name, `${payload.length} bytes of ${bytes}`)
  return new DataView(payload.buffer, payload.byteOffset, bytes)
}

/** Attributes by type. Of several with one type the last counts, as in the kernel's nla_parse. */
export class Attributes {
  private readonly found = new Map<number, Uint8Array>()

  /** Reads the attributes from byte `offset` on. Throws NetlinkError (EBADMSG) when a length is wrong. */
  constructor(bytes: Uint8Array, offset = 0) {
    const view = viewOf(bytes)
    for (let at = offset; at < bytes.length; ) {
      const left = bytes.length - at
      const length = left < NLA_HDRLEN ? left : view.getUint16(at, true)
      if (length < NLA_HDRLEN || length > left) {
        throw malformed('netlink attribute', `length ${length} with ${left} bytes left`)
      }
      const type = view.getUint16(at + 2, true) & NLA_TYPE_MASK
      this.found.set(type, bytes.subarray(at + NLA_HDRLEN, at + length))
      at += align(length)
    }
  }

  bytes(type: number): Uint8Array | undefined {
    return this.found.get(type)
  }

  /** The getters of numbers throw NetlinkError (EBADMSG) when the attribute is shorter. */
  u8(type: number): number | undefined {
    return this.number(type, 1)?.getUint8(0)
  }

  u16(type: number): number | undefined {
    return this.number(type, 2)?.getUint16(0, true)
  }

  u32(type: number): number | undefined {
    return this.number(type, 4)?.getUint32(0, true)
  }

  s32(type: number): number | undefined {
    return this.number(type, 4)?.getInt32(0, true)
  }

  /** Text up to the first NUL. */
  string(type: number): string | undefined {
    const bytes = this.found.get(type)
    if (bytes === undefined) return undefined
    const end = bytes.indexOf(0)
    return decoder.decode(end < 0 ? bytes : bytes.subarray(0, end))
  }

  nested(type: number): Attributes | undefined {
    const bytes = this.found.get(type)
    return bytes === undefined ? undefined : new Attributes(bytes)
  }

  private number(type: number, size: number): DataView | undefined {
    const bytes = this.found.get(type)
    return bytes === undefined ? undefined : header(bytes, size, `netlink attribute ${type}`)
  }
}

/**
 * Builds one message: first the type's own header field by field, then attributes. Every method
 * throws RangeError for a value that its field can't hold.
 */
export class MessageBuilder {
  private buffer = new Uint8Array(256)
  private view = viewOf(this.buffer)
  private used = NLMSG_HDRLEN

  /** `type`: RTM_*; `flags`: NLM_F_* beyond those that the socket adds. */
  constructor(type: number, flags = 0) {
    this.view.setUint16(4, checked(type, U16_MAX), true)
    this.view.setUint16(6, checked(flags, U16_MAX), true)
  }

  u8(value: number): this {
    const at = this.grow(1)
    this.view.setUint8(at, checked(value, 0xff))
    return this
  }

  u16(value: number): this {
    const at = this.grow(2)
    this.view.setUint16(at, checked(value, U16_MAX), true)
    return this
  }

  u32(value: number): this {
    const at = this.grow(4)
    this.view.setUint32(at, checked(value, 0xffffffff), true)
    return this
  }

  attribute(type: number, payload: Uint8Array): this {
    const length = NLA_HDRLEN + payload.length
    if (length > U16_MAX) throw new RangeError(`netlink attribute ${type}: ${length} bytes`)
    const at = this.grow(align(length))
    this.view.setUint16(at, length, true)
    this.view.setUint16(at + 2, checked(type, NLA_TYPE_MASK), true)
    this.buffer.set(payload, at + NLA_HDRLEN)
    return this
  }

  attributeU8(type: number, value: number): this {
    return this.attribute(type, Uint8Array.of(checked(value, 0xff)))
  }

  /** Network order: UDP ports. */
  attributeU16be(type: number, value: number): this {
    checked(value, U16_MAX)
    return this.attribute(type, Uint8Array.of(value >> 8, value & 0xff))
  }

  attributeU32(type: number, value: number): this {
    const bytes = new Uint8Array(4)
    viewOf(bytes).setUint32(0, checked(value, 0xffffffff), true)
    return this.attribute(type, bytes)
  }

  /** With the NUL at its end. Text with a NUL inside is refused. */
  attributeString(type: number, text: string): this {
    if (text.includes('\0')) throw new RangeError(`netlink attribute ${type}: NUL in text`)
    return this.attribute(type, encoder.encode(`${text}\0`))
  }

  /** An attribute that holds what `fill` adds. */
  nest(type: number, fill: (message: MessageBuilder) => void): this {
    const at = this.grow(NLA_HDRLEN)
    this.view.setUint16(at + 2, checked(type, NLA_TYPE_MASK) | NLA_F_NESTED, true)
    fill(this)
    const length = this.used - at
    if (length > U16_MAX) throw new RangeError(`netlink attribute ${type}: ${length} bytes`)
    this.view.setUint16(at, length, true)
    this.grow(align(length) - length)
    return this
  }

  /** The message, with NLM_F_REQUEST and `flags` added. The bytes are good until the next call. */
  finish(sequence: number, flags = 0): Uint8Array {
    this.view.setUint32(0, this.used, true)
    const own = this.view.getUint16(6, true)
    this.view.setUint16(6, own | flags | NLM_F_REQUEST, true)
    this.view.setUint32(8, checked(sequence, 0xffffffff), true)
    return this.buffer.subarray(0, this.used)
  }

  /** Makes room for `bytes` zeros; returns where. */
  private grow(bytes: number): number {
    const at = this.used
    this.used += bytes
    if (this.used > this.buffer.length) {
      const larger = new Uint8Array(Math.max(this.used, this.buffer.length * 2))
      larger.set(this.buffer)
      this.buffer = larger
      this.view = viewOf(larger)
    }
    return at
  }
}

function checked(value: number, max: number): number {
  if (!Number.isInteger(value) || value < 0 || value > max) {
    throw new RangeError(`${value} is no integer from 0 to ${max}`)
  }
  return value
}

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.length)
}

function align(length: number): number {
  return Math.ceil(length / 4) * 4
}
