/** Interfaces: RTM_NEWLINK, RTM_DELLINK, RTM_GETLINK, RTM_SETLINK (linux/if_link.h). */
import { closeSync, constants, openSync } from 'node:fs'
import { native } from '../../native/native.ts'
import { ipBytes, macBytes } from '../addresses.ts'
import { AF_UNSPEC, macText } from './bytes.ts'
import {
  Attributes,
  header,
  type Message,
  MessageBuilder,
  NLM_F_CREATE,
  NLM_F_EXCL,
} from './message.ts'
import { isNoDevice, type Netlink, NetlinkError } from './socket.ts'

export const RTM_NEWLINK = 16
export const RTM_DELLINK = 17
const RTM_GETLINK = 18
const RTM_SETLINK = 19

const IFLA_ADDRESS = 1
const IFLA_IFNAME = 3
const IFLA_MTU = 4
const IFLA_LINK = 5
const IFLA_MASTER = 10
const IFLA_TXQLEN = 13
const IFLA_LINKINFO = 18
const IFLA_IFALIAS = 20
const IFLA_STATS64 = 23
/** Byte offset of tx_dropped in struct rtnl_link_stats64. */
const STATS_TX_DROPPED = 56
const IFLA_NET_NS_FD = 28
const IFLA_EXT_MASK = 29
const IFLA_NUM_TX_QUEUES = 31
const IFLA_NUM_RX_QUEUES = 32
const IFLA_LINK_NETNSID = 37
const IFLA_GSO_MAX_SIZE = 41
const IFLA_INFO_KIND = 1
const IFLA_INFO_DATA = 2
const VETH_INFO_PEER = 1
const IFLA_VXLAN_ID = 1
const IFLA_VXLAN_LINK = 3
const IFLA_VXLAN_LOCAL = 4
const IFLA_VXLAN_LEARNING = 7
const IFLA_VXLAN_PORT_RANGE = 10
const IFLA_VXLAN_PORT = 15
const IFLA_VXLAN_LOCAL6 = 17
const IFLA_VXLAN_UDP_ZERO_CSUM6_RX = 20
const IFLA_VXLAN_COLLECT_METADATA = 25
/** First and last source port, network order: the dynamic ones (RFC 6335 section 6). */
const SOURCE_PORTS = Uint8Array.of(0xc0, 0, 0xff, 0xff)
const RTEXT_FILTER_SKIP_STATS = 8
const IFF_UP = 0x1
const IFF_RUNNING = 0x40
const IFINFOMSG_BYTES = 16
/** Bytes of a name without its NUL (IFNAMSIZ - 1). */
const NAME_BYTES = 15
/** The same of an alias (IFALIASZ - 1). */
export const ALIAS_BYTES = 255

export interface Link {
  index: number
  name: string
  /** Undefined where there is none (TUN) or it isn't 6 bytes. */
  mac: string | undefined
  mtu: number
  /** IFF_* */
  flags: number
  /** Set up by an administrator. */
  up: boolean
  /** Up, with a carrier. */
  running: boolean
  /** `veth`, `tun`, `bridge`, `vxlan`; undefined for hardware and loopback. */
  kind: string | undefined
  /** Any text that somebody in its namespace has given it. */
  alias: string | undefined
  /** IFLA_LINK: a veth's other end, a macvlan's lower device (a VXLAN tells none); an index in the namespace `linkNetnsid`. */
  peerIndex: number | undefined
  /** This namespace's number for the one of `peerIndex`; undefined if it is the same one. */
  linkNetnsid: number | undefined
  numTxQueues: number
  numRxQueues: number
  /** Index of the bridge that it is a port of. */
  master: number | undefined
  gsoMaxSize: number | undefined
  txQueueLength: number
}

/** What every kind of device can be made with. */
export interface DeviceOptions {
  name: string
  mac?: string
  /** Bytes of the L3 packet. */
  mtu?: number
  /** Number of transmit and of receive queues. */
  queues?: number
  /** Largest superframe that the stack gives the device, bytes. */
  gsoMaxSize?: number
}

export interface VethOptions extends DeviceOptions {
  /** Has `queues` of the first end if it has none of its own. */
  peer: DeviceOptions & {
    /** Namespace of the peer: an open descriptor, or its path ('' is the process's own). Neither: that of the socket. */
    netnsFd?: number
    netnsPath?: string
  }
}

export interface VxlanOptions extends DeviceOptions {
  vni: number
  /** Source address of outer packets. */
  local: string
  /** UDP port; 4789 (RFC 7348) if absent. */
  port?: number
  /** Index of the underlay device. */
  dev?: number
  /** Whether it learns from packets; not if absent. */
  learning?: boolean
}

/** The interface of that name or index; undefined if there is none. */
export function getLink(nl: Netlink, nameOrIndex: string | number): Link | undefined {
  if (nameOrIndex === 0 || (typeof nameOrIndex === 'string' && !isName(nameOrIndex))) {
    return undefined
  }
  const byName = typeof nameOrIndex === 'string'
  const message = linkMessage(RTM_GETLINK, 0, byName ? 0 : nameOrIndex)
  if (byName) message.attributeString(IFLA_IFNAME, nameOrIndex)
  message.attributeU32(IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS)
  try {
    const [answer] = nl.query(message, () => `interface ${nameOrIndex}`)
    return answer === undefined ? undefined : parseLink(answer)
  } catch (error) {
    if (isNoDevice(error)) return undefined
    throw error
  }
}

/** Packets that an interface could not send; 0 when it is gone. */
export function droppedBy(nl: Netlink, index: number): number {
  try {
    const [answer] = nl.query(linkMessage(RTM_GETLINK, 0, index), () => `interface ${index}`)
    if (answer?.type !== RTM_NEWLINK) return 0
    const stats = new Attributes(answer.payload, IFINFOMSG_BYTES).bytes(IFLA_STATS64)
    if (stats === undefined) return 0
    return Number(
      header(stats, STATS_TX_DROPPED + 8, 'link_stats64').getBigUint64(STATS_TX_DROPPED, true),
    )
  } catch (error) {
    if (isNoDevice(error)) return 0
    throw error
  }
}

/** All interfaces of the namespace. */
export function listLinks(nl: Netlink): Link[] {
  const message = linkMessage(RTM_GETLINK, 0, 0)
  message.attributeU32(IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS)
  return nl.dump(message, () => 'list of interfaces').flatMap(each => parseLink(each) ?? [])
}

/** Makes a device of `kind`; `data` adds the attributes of IFLA_INFO_DATA. EEXIST if the name is taken. */
export function createDevice(
  nl: Netlink,
  kind: string,
  options: DeviceOptions,
  data?: (message: MessageBuilder) => void,
): void {
  const message = linkMessage(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, 0)
  addOptions(message, options)
  message.nest(IFLA_LINKINFO, info => {
    info.attributeString(IFLA_INFO_KIND, kind)
    if (data !== undefined) info.nest(IFLA_INFO_DATA, data)
  })
  nl.request(message, () => `create ${kind} ${options.name}`)
}

/** Makes both ends at once, the peer in its namespace from the start: it is never seen elsewhere. */
export function createVeth(nl: Netlink, options: VethOptions): void {
  const { peer } = options
  let opened: number | undefined
  if (peer.netnsFd === undefined && peer.netnsPath !== undefined) {
    opened = openNetns(peer.netnsPath)
  }
  const fd = peer.netnsFd ?? opened
  try {
    createDevice(nl, 'veth', options, data => {
      data.nest(VETH_INFO_PEER, message => {
        addHeader(message, 0)
        const { queues } = options
        addOptions(message, queues === undefined ? peer : { queues, ...peer })
        if (fd !== undefined) message.attributeU32(IFLA_NET_NS_FD, fd)
      })
    })
  } catch (error) {
    // The kernel tells EEXIST for either end: only the caller knows both.
    if (!(error instanceof NetlinkError)) throw error
    const place = peer.netnsPath ? ` in ${peer.netnsPath}` : ''
    const what = `create veth ${options.name}${nl.netns && ` in ${nl.netns}`} with peer ${peer.name}${place}`
    throw new NetlinkError(what, error.errno, error.extendedAck)
  } finally {
    if (opened !== undefined) closeSync(opened)
  }
}

export function createBridge(nl: Netlink, options: DeviceOptions): void {
  createDevice(nl, 'bridge', options)
}

export function createVxlan(nl: Netlink, options: VxlanOptions): void {
  const { vni, local, port = 4789, dev, learning = false } = options
  if (!Number.isInteger(vni) || vni < 0 || vni > 0xffffff) {
    throw new RangeError(`VNI ${vni} is no integer of 24 bits`)
  }
  const source = ipBytes(local)
  createDevice(nl, 'vxlan', options, data => {
    data.attributeU32(IFLA_VXLAN_ID, vni)
    data.attribute(source.length === 4 ? IFLA_VXLAN_LOCAL : IFLA_VXLAN_LOCAL6, source)
    data.attributeU16be(IFLA_VXLAN_PORT, port)
    data.attributeU8(IFLA_VXLAN_LEARNING, learning ? 1 : 0)
    if (dev !== undefined) data.attributeU32(IFLA_VXLAN_LINK, dev)
  })
}

/**
 * A vxlan device in external mode (collect_md): packets say where they go. It takes UDP packets without a
 * checksum over IPv6 too (RFC 6935), and sends from ports of which each flow has one.
 */
export function createExternalVxlan(nl: Netlink, options: DeviceOptions & { port: number }): void {
  createDevice(nl, 'vxlan', options, data => {
    data.attributeU8(IFLA_VXLAN_COLLECT_METADATA, 1)
    data.attributeU16be(IFLA_VXLAN_PORT, options.port)
    data.attributeU8(IFLA_VXLAN_LEARNING, 0)
    data.attributeU8(IFLA_VXLAN_UDP_ZERO_CSUM6_RX, 1)
    data.attribute(IFLA_VXLAN_PORT_RANGE, SOURCE_PORTS)
  })
}

/** Removes the interface, and with a veth its peer. ENODEV if it isn't there. */
export function deleteLink(nl: Netlink, index: number): void {
  nl.request(linkMessage(RTM_DELLINK, 0, index), () => `delete ${linkName(nl, index)}`)
}

/** As `deleteLink`, without holding up the calling thread for the kernel's 20 ms. */
export function deleteLinkInBackground(nl: Netlink, index: number): Promise<void> {
  const message = linkMessage(RTM_DELLINK, 0, index)
  return nl.requestInBackground(message, () => `delete interface ${index}`)
}

export interface LinkChange {
  up?: boolean
  mtu?: number
  mac?: string
  name?: string
  gsoMaxSize?: number
  /** Packets. */
  txQueueLength?: number
  /** 1 .. ALIAS_BYTES bytes. */
  alias?: string
}

/** Changes what is given. The kernel sets `up` last, and keeps earlier changes when a later one fails. */
export function setLink(nl: Netlink, index: number, change: LinkChange): void {
  const { up, alias, txQueueLength, ...options } = change
  const message = linkMessage(RTM_SETLINK, 0, index, up)
  addOptions(message, options)
  if (txQueueLength !== undefined) message.attributeU32(IFLA_TXQLEN, txQueueLength)
  if (alias !== undefined) message.attribute(IFLA_IFALIAS, aliasBytes(alias))
  nl.request(message, () => {
    const values = Object.entries(change).map(([key, value]) => `${key} ${value}`)
    return `set ${linkName(nl, index)} ${values.join(', ')}`
  })
}

/** Makes the interface a port of the bridge `master`; 0 frees it. */
export function setMaster(nl: Netlink, index: number, master: number): void {
  const message = linkMessage(RTM_SETLINK, 0, index).attributeU32(IFLA_MASTER, master)
  nl.request(message, () => `set ${linkName(nl, index)} master ${master}`)
}

/** The name for error messages: of an interface that is gone, `interface 7`. */
export function linkName(nl: Netlink, index: number): string {
  try {
    const name = getLink(nl, index)?.name
    if (name !== undefined) return name
  } catch {
    // The error that is being described matters more than its description.
  }
  return `interface ${index}`
}

/** RTM_NEWLINK or RTM_DELLINK as a Link, undefined for other messages. Throws NetlinkError (EBADMSG). */
export function parseLink(message: Message): Link | undefined {
  if (message.type !== RTM_NEWLINK && message.type !== RTM_DELLINK) return undefined
  const fixed = header(message.payload, IFINFOMSG_BYTES, 'ifinfomsg')
  // The bridge family tells of ports, not of interfaces.
  if (fixed.getUint8(0) !== AF_UNSPEC) return undefined
  const attributes = new Attributes(message.payload, IFINFOMSG_BYTES)
  const flags = fixed.getUint32(8, true)
  return {
    index: fixed.getInt32(4, true),
    name: attributes.string(IFLA_IFNAME) ?? '',
    mac: macText(attributes.bytes(IFLA_ADDRESS)),
    mtu: attributes.u32(IFLA_MTU) ?? 0,
    flags,
    up: (flags & IFF_UP) !== 0,
    running: (flags & IFF_RUNNING) !== 0,
    kind: attributes.nested(IFLA_LINKINFO)?.string(IFLA_INFO_KIND),
    alias: attributes.string(IFLA_IFALIAS),
    peerIndex: attributes.u32(IFLA_LINK),
    linkNetnsid: attributes.s32(IFLA_LINK_NETNSID),
    numTxQueues: attributes.u32(IFLA_NUM_TX_QUEUES) ?? 1,
    numRxQueues: attributes.u32(IFLA_NUM_RX_QUEUES) ?? 1,
    master: attributes.u32(IFLA_MASTER),
    gsoMaxSize: attributes.u32(IFLA_GSO_MAX_SIZE),
    txQueueLength: attributes.u32(IFLA_TXQLEN) ?? 0,
  }
}

function linkMessage(type: number, flags: number, index: number, up?: boolean): MessageBuilder {
  const message = new MessageBuilder(type, flags)
  addHeader(message, index, up)
  return message
}

/** struct ifinfomsg { family u8, pad, type u16, index s32, flags u32, change u32 } */
function addHeader(message: MessageBuilder, index: number, up?: boolean): void {
  message.u8(AF_UNSPEC).u8(0).u16(0).u32(index)
  message.u32(up ? IFF_UP : 0).u32(up === undefined ? 0 : IFF_UP)
}

function addOptions(message: MessageBuilder, options: Partial<DeviceOptions>): void {
  const { name, mac, mtu, queues, gsoMaxSize } = options
  if (name !== undefined) {
    if (!isName(name)) throw new RangeError(`${JSON.stringify(name)} is no interface name`)
    message.attributeString(IFLA_IFNAME, name)
  }
  if (mac !== undefined) message.attribute(IFLA_ADDRESS, macBytes(mac))
  if (mtu !== undefined) message.attributeU32(IFLA_MTU, mtu)
  if (queues !== undefined) {
    message.attributeU32(IFLA_NUM_TX_QUEUES, queues).attributeU32(IFLA_NUM_RX_QUEUES, queues)
  }
  if (gsoMaxSize !== undefined) message.attributeU32(IFLA_GSO_MAX_SIZE, gsoMaxSize)
}

/** What the kernel's dev_valid_name accepts, without `%`, which would make it a pattern. */
function isName(name: string): boolean {
  return (
    /^[^\s/:%\0]+$/.test(name) &&
    name !== '.' &&
    name !== '..' &&
    Buffer.byteLength(name) <= NAME_BYTES
  )
}

/** Without a NUL: the kernel would count it. */
function aliasBytes(alias: string): Uint8Array {
  const bytes = Buffer.from(alias)
  if (bytes.length === 0 || bytes.length > ALIAS_BYTES || bytes.includes(0)) {
    throw new RangeError(`alias of ${bytes.length} bytes: 1 .. ${ALIAS_BYTES} without NUL`)
  }
  return bytes
}

function openNetns(path: string): number {
  const file = path === '' ? '/proc/self/ns/net' : path
  // Refuses what is no namespace, before an open could do anything to it.
  native.netnsIdentity(file)
  return openSync(file, constants.O_RDONLY | constants.O_NONBLOCK)
}
