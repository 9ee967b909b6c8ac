/**
 * One listener for what happens to the kernel's state in a namespace: rtnetlink's links, addresses,
 * routes, rules, neighbours and the switches that it tells of (forwarding, rp_filter), and nftables. Besides, of the links in
 * namespaces that this one has a number for: those that the other end of a veth pair lies in.
 *
 * It is level-triggered. An event only says *look*: what it tells is not kept, since another one may
 * have been lost. Events that come together are one call with all their topics. When the kernel had
 * to drop some (ENOBUFS) everything may have changed, and the call has all topics.
 *
 *     kernel ──► sockets ──► (a thread waits) ──► drain ──► SETTLE_MS ──► drain ──► look(topics)
 *
 * So however many events there are, there are at most 1000 / SETTLE_MS calls a second, and between
 * them nothing is read: the kernel's buffer is the limit, and ENOBUFS says when it was reached.
 */
import { native } from '../../native/native.ts'
import type { Message } from './message.ts'
import {
  NETLINK_NETFILTER,
  NETLINK_ROUTE,
  NetlinkEvents,
  RTMGRP_IPV4_IFADDR,
  RTMGRP_IPV4_NETCONF,
  RTMGRP_IPV4_ROUTE,
  RTMGRP_IPV4_RULE,
  RTMGRP_IPV6_IFADDR,
  RTMGRP_IPV6_NETCONF,
  RTMGRP_IPV6_ROUTE,
  RTMGRP_IPV6_RULE,
  RTMGRP_LINK,
  RTMGRP_NEIGH,
} from './socket.ts'

export const TOPICS = [
  'link',
  'address',
  'route',
  'rule',
  'neighbour',
  'netconf',
  'pod',
  'nft',
] as const
export type Topic = (typeof TOPICS)[number]

/** Milliseconds for events to gather: a change of one device is a dozen of them. */
const SETTLE_MS = 30
/** Milliseconds until the next try when no thread could be had to wait, or a socket is broken. */
const RETRY_MS = 1000

const ROUTE_GROUPS =
  RTMGRP_LINK |
  RTMGRP_NEIGH |
  RTMGRP_IPV4_IFADDR |
  RTMGRP_IPV4_NETCONF |
  RTMGRP_IPV4_ROUTE |
  RTMGRP_IPV4_RULE |
  RTMGRP_IPV6_IFADDR |
  RTMGRP_IPV6_NETCONF |
  RTMGRP_IPV6_ROUTE |
  RTMGRP_IPV6_RULE
/** NFNLGRP_NFTABLES is group 7 (linux/netfilter/nfnetlink.h). */
const NFTABLES_GROUP = 1 << 6

/** Topic of an rtnetlink message by its type without the verb: RTM_NEWLINK is 16, RTM_NEWADDR 20, … */
const OF_TYPE: ReadonlyMap<number, Topic> = new Map([
  [16, 'link'],
  [20, 'address'],
  [24, 'route'],
  [28, 'neighbour'],
  [32, 'rule'],
  [80, 'netconf'],
])

interface Source {
  events: NetlinkEvents
  topicOf(message: Message): Topic | undefined
}

export class Watch {
  /** False where the kernel has no netfilter: nothing tells of nftables then. */
  readonly hearsNft: boolean
  private readonly sources: Source[]
  private readonly stopFd: number
  private readonly look: (topics: ReadonlySet<Topic>) => void
  private readonly listening: Promise<void>
  private endPause: (() => void) | undefined
  private closed = false

  /**
   * Listens in `netns` ('' is the process's own). `look` is called after something has happened to
   * `topics`; it must not throw. Throws NetlinkError when there is no rtnetlink.
   */
  constructor(netns: string, look: (topics: ReadonlySet<Topic>) => void) {
    this.look = look
    const route = new NetlinkEvents(netns, ROUTE_GROUPS)
    this.sources = [{ events: route, topicOf: ({ type }) => OF_TYPE.get(type & ~3) }]
    const pods = podLinks(netns)
    if (pods !== undefined) this.sources.push({ events: pods, topicOf: () => 'pod' })
    const nft = nftables(netns)
    this.hearsNft = nft !== undefined
    if (nft !== undefined) this.sources.push({ events: nft, topicOf: () => 'nft' })
    this.stopFd = native.eventfd()
    this.listening = this.listen()
  }

  /** Resolves when no call is made any more and the sockets are closed. Idempotent. */
  async close(): Promise<void> {
    if (!this.closed) {
      this.closed = true
      native.eventfdSignal(this.stopFd)
      this.endPause?.()
    }
    await this.listening
  }

  private async listen(): Promise<void> {
    const fds = [...this.sources.map(({ events }) => events.fd), this.stopFd]
    while (!this.closed) {
      try {
        await native.waitReadable(fds)
      } catch {
        await this.pause(RETRY_MS)
      }
      if (this.closed) break
      const topics = new Set<Topic>()
      this.drain(topics)
      await this.pause(SETTLE_MS)
      if (this.closed) break
      this.drain(topics)
      if (topics.size > 0) this.look(topics)
    }
    for (const { events } of this.sources) events.close()
    native.close(this.stopFd)
  }

  private drain(topics: Set<Topic>): void {
    for (const { events, topicOf } of this.sources) {
      try {
        for (const message of events.drain()) {
          const topic = topicOf(message)
          if (topic !== undefined) topics.add(topic)
        }
      } catch {
        // ENOBUFS, or bytes that make no sense: whatever it was, look at all.
        for (const topic of TOPICS) topics.add(topic)
      }
    }
  }

  private pause(ms: number): Promise<void> {
    return new Promise(resolve => {
      const end = () => {
        clearTimeout(timer)
        this.endPause = undefined
        resolve()
      }
      const timer = setTimeout(end, ms)
      timer.unref()
      this.endPause = end
    })
  }
}

/** Undefined without CAP_NET_BROADCAST: only passes look at pods' links then. */
function podLinks(netns: string): NetlinkEvents | undefined {
  try {
    return new NetlinkEvents(netns, RTMGRP_LINK, NETLINK_ROUTE, true)
  } catch {
    return undefined
  }
}

function nftables(netns: string): NetlinkEvents | undefined {
  try {
    return new NetlinkEvents(netns, NFTABLES_GROUP, NETLINK_NETFILTER)
  } catch {
    return undefined
  }
}
