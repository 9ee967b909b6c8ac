/** Netlink sockets: requests with an answer, and events. */
import { native } from '../../native/native.ts'
import { EBADF, EINTR, EMSGSIZE, ENODEV, ETIMEDOUT, malformed, NetlinkError } from './error.ts'
import {
  Attributes,
  header,
  type Message,
  type MessageBuilder,
  NLM_F_ACK,
  NLM_F_ACK_TLVS,
  NLM_F_CAPPED,
  NLM_F_DUMP,
  NLM_F_DUMP_INTR,
  NLMSG_DONE,
  NLMSG_ERROR,
  NLMSG_HDRLEN,
  NLMSG_NOOP,
  NLMSG_OVERRUN,
  parseMessages,
} from './message.ts'

export { NetlinkError } from './error.ts'

export const NETLINK_ROUTE = 0
export const NETLINK_NETFILTER = 12
/** The kernel answers while we send; only something very wrong takes longer. */
const ANSWER_MS = 5000
/** How often a dump is repeated that a change to the table has cut in two. */
const DUMP_TRIES = 20
/** Datagrams that one `drain` takes; the rest stays for the next. */
const DRAIN_DATAGRAMS = 256
const NLMSGERR_ATTR_MSG = 1
const NLMSGERR_ATTR_OFFS = 2
const ENOBUFS = 105

/** rtnetlink.h: RTMGRP_*, for `NetlinkEvents`. */
export const RTMGRP_LINK = 0x1
export const RTMGRP_NEIGH = 0x4
export const RTMGRP_IPV4_IFADDR = 0x10
export const RTMGRP_IPV4_ROUTE = 0x40
export const RTMGRP_IPV4_RULE = 0x80
export const RTMGRP_IPV6_IFADDR = 0x100
export const RTMGRP_IPV6_ROUTE = 0x400
/** The group RTNLGRP_IPV6_RULE (19), which has no RTMGRP_* of its own. */
export const RTMGRP_IPV6_RULE = 0x4_0000
/** RTNLGRP_IPV4_NETCONF (24) and RTNLGRP_IPV6_NETCONF (25): forwarding, rp_filter and the like of devices. */
export const RTMGRP_IPV4_NETCONF = 0x80_0000
export const RTMGRP_IPV6_NETCONF = 0x100_0000

/** Larger than any datagram of a dump, which the kernel limits to 32 KiB. */
const scratch = new Uint8Array(128 * 1024)

/** A netlink socket in one namespace, rtnetlink's if not said otherwise; synchronous. One request at a time. */
export class Netlink {
  readonly netns: string
  private fd: number
  private sequence = 0

  /** `netns`: path of a network namespace, '' for the process's own. */
  constructor(netns: string, protocol = NETLINK_ROUTE) {
    this.netns = netns
    this.fd = native.netlinkOpen(netns, protocol, 0)
  }

  /**
   * Has the kernel carry out `message`. Throws NetlinkError if it refuses. `what` names the action
   * and its object, and is called only for an error.
   */
  request(message: MessageBuilder, what: () => string): void {
    this.query(message, what)
  }

  /** As `request`, without holding up the calling thread. One request at a time, of either kind. */
  async requestInBackground(message: MessageBuilder, what: () => string): Promise<void> {
    if (this.fd < 0) throw this.error(what, EBADF, 'the netlink socket is closed')
    const sequence = this.count()
    try {
      await native.sendInBackground(this.fd, message.finish(sequence, NLM_F_ACK))
    } catch (error) {
      throw this.explain(error, what)
    }
    this.answersTo(sequence, what)
  }

  /** Index of the interface `name` in the socket's namespace; 0 if there is none. */
  interfaceIndex(name: string): number {
    return native.socketInterface(this.fd, name)
  }

  /** Receive queues in use of the interface `name`; 0 where its driver doesn't tell. */
  receiveQueues(name: string): number {
    return native.receiveQueues(this.fd, name)
  }

  /** As `request`; returns what the kernel answers besides the acknowledgement. */
  query(message: MessageBuilder, what: () => string): Message[] {
    return this.answersTo(this.send(message, NLM_F_ACK, what), what)
  }

  /** What the kernel has answered to a request, until its acknowledgement. */
  private answersTo(sequence: number, what: () => string): Message[] {
    const answers: Message[] = []
    for (;;) {
      for (const answer of this.receive(what)) {
        if (answer.sequence !== sequence || answer.type === NLMSG_NOOP) continue
        if (answer.type !== NLMSG_ERROR) {
          answers.push(answer)
          continue
        }
        this.check(answer, what)
        return answers
      }
    }
  }

  /**
   * The whole table that `message` asks for. A table that changes while it is read is read again;
   * one that never stands still ends in NetlinkError EINTR.
   */
  dump(message: MessageBuilder, what: () => string): Message[] {
    for (let tries = 0; tries < DUMP_TRIES; tries++) {
      const messages = this.dumpOnce(message, what)
      if (messages !== undefined) return messages
    }
    throw this.error(what, EINTR, `the table changed during each of ${DUMP_TRIES} readings`)
  }

  /** Idempotent. */
  close(): void {
    if (this.fd >= 0) native.close(this.fd)
    this.fd = -1
  }

  [Symbol.dispose](): void {
    this.close()
  }

  /** Undefined if the dump was interrupted. */
  private dumpOnce(message: MessageBuilder, what: () => string): Message[] | undefined {
    const messages: Message[] = []
    const sequence = this.send(message, NLM_F_DUMP, what)
    let whole = true
    for (;;) {
      for (const answer of this.receive(what)) {
        if (answer.sequence !== sequence || answer.type === NLMSG_NOOP) continue
        if ((answer.flags & NLM_F_DUMP_INTR) !== 0) whole = false
        if (answer.type === NLMSG_ERROR || answer.type === NLMSG_DONE) {
          this.check(answer, what)
          return whole ? messages : undefined
        }
        messages.push(answer)
      }
    }
  }

  private send(message: MessageBuilder, flags: number, what: () => string): number {
    if (this.fd < 0) throw this.error(what, EBADF, 'the netlink socket is closed')
    const sequence = this.count()
    try {
      native.send(this.fd, message.finish(sequence, flags))
    } catch (error) {
      throw this.explain(error, what)
    }
    return sequence
  }

  private count(): number {
    this.sequence = (this.sequence % 0xffffffff) + 1
    return this.sequence
  }

  private receive(what: () => string): Message[] {
    try {
      const datagram = receiveDatagram(this.fd, ANSWER_MS)
      if (datagram === undefined) {
        throw this.error(what, ETIMEDOUT, `no answer within ${ANSWER_MS} ms`)
      }
      return parseMessages(datagram)
    } catch (error) {
      throw this.explain(error, what)
    }
  }

  /** Throws if an NLMSG_ERROR or NLMSG_DONE carries an error. */
  private check(answer: Message, what: () => string): void {
    const { errno, extendedAck } = parseResult(answer)
    if (errno !== 0) throw this.error(what, errno, extendedAck)
  }

  private error(what: () => string, errno: number, detail: string): NetlinkError {
    return new NetlinkError(what() + where(this.netns), errno, detail)
  }

  private explain(error: unknown, what: () => string): unknown {
    if (error instanceof NetlinkError && error.code !== 'EBADMSG') return error
    const { errno, message } = error as { errno?: number; message: string }
    return errno === undefined ? error : this.error(what, errno, message)
  }
}

/**
 * Notifications of one namespace's kernel. Put `fd` in an epoll set and call `drain` when it is
 * readable. What drain returns is for parseLink, parseAddress, parseRoute and parseNeighbour.
 */
export class NetlinkEvents {
  readonly netns: string
  /** -1 once closed. */
  fd: number

  /** `groups`: RTMGRP_* bits, or those of another `protocol`. `everywhere`: as in native.ts. */
  constructor(netns: string, groups: number, protocol = NETLINK_ROUTE, everywhere = false) {
    this.netns = netns
    this.fd = native.netlinkOpen(netns, protocol, groups, everywhere)
  }

  /**
   * The events that have come, after waiting up to `timeoutMs` for the first; at most 256
   * datagrams of them. Throws NetlinkError ENOBUFS when the kernel had to drop some: read the
   * state anew, then go on draining.
   */
  drain(timeoutMs = 0): Message[] {
    const what = () => `netlink events${where(this.netns)}`
    if (this.fd < 0) throw new NetlinkError(what(), EBADF, 'the netlink socket is closed')
    const events: Message[] = []
    try {
      for (let taken = 0; taken < DRAIN_DATAGRAMS; taken++) {
        const datagram = receiveDatagram(this.fd, taken === 0 ? timeoutMs : 0)
        if (datagram === undefined) break
        for (const message of parseMessages(datagram)) {
          if (message.type === NLMSG_OVERRUN) throw new NetlinkError(what(), ENOBUFS)
          if (message.type > NLMSG_OVERRUN) events.push(message)
        }
      }
    } catch (error) {
      const { errno } = error as { errno?: number }
      if (error instanceof NetlinkError || errno === undefined) throw error
      throw new NetlinkError(what(), errno)
    }
    return events
  }

  /** Idempotent. */
  close(): void {
    if (this.fd >= 0) native.close(this.fd)
    this.fd = -1
  }

  [Symbol.dispose](): void {
    this.close()
  }
}

/**
 * The result in NLMSG_ERROR { error s32, the request's nlmsghdr and, unless capped, its payload,
 * extended ack attributes } or NLMSG_DONE { error s32, extended ack attributes }. `errno` is
 * positive, 0 for success. Throws NetlinkError (EBADMSG).
 */
export function parseResult(message: Message): { errno: number; extendedAck: string } {
  const { payload, flags, type } = message
  // A dump's end without a result is a success.
  if (type === NLMSG_DONE && payload.length < 4) return { errno: 0, extendedAck: '' }
  const fixed = type === NLMSG_DONE ? 4 : 4 + NLMSG_HDRLEN
  const view = header(payload, fixed, 'netlink acknowledgement')
  const error = view.getInt32(0, true)
  if (error > 0 || error < -4095) throw malformed('netlink acknowledgement', `error ${error}`)
  if (error === 0 || (flags & NLM_F_ACK_TLVS) === 0) return { errno: 0 - error, extendedAck: '' }
  let at = fixed
  if (type === NLMSG_ERROR && (flags & NLM_F_CAPPED) === 0) {
    const echoed = view.getUint32(4, true)
    if (echoed < NLMSG_HDRLEN || echoed > payload.length - 4) {
      throw malformed('netlink acknowledgement', `echo of ${echoed} bytes in ${payload.length}`)
    }
    at = 4 + Math.ceil(echoed / 4) * 4
  }
  const attributes = new Attributes(payload, at)
  const text = attributes.string(NLMSGERR_ATTR_MSG) ?? ''
  const offset = attributes.u32(NLMSGERR_ATTR_OFFS)
  const place = offset === undefined ? '' : `at byte ${offset} of the request`
  return { errno: -error, extendedAck: text && place ? `${text} (${place})` : text || place }
}

/** Whether `error` is the kernel's word that an interface isn't there. */
export function isNoDevice(error: unknown): boolean {
  return error instanceof NetlinkError && error.errno === ENODEV
}

/** A copy of the next datagram; undefined after `timeoutMs`. */
function receiveDatagram(fd: number, timeoutMs: number): Uint8Array | undefined {
  const length = native.receive(fd, scratch, timeoutMs)
  if (length > scratch.length) {
    throw new NetlinkError('netlink datagram', EMSGSIZE, `${length} bytes`)
  }
  return length === 0 ? undefined : scratch.slice(0, length)
}

function where(netns: string): string {
  return netns === '' ? '' : ` in ${netns}`
}
