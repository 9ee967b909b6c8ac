/** Neighbours (ARP, NDP) and bridge FDB: RTM_NEWNEIGH, RTM_DELNEIGH, RTM_GETNEIGH (linux/neighbour.h). */
import { ipBytes, macBytes } from '../addresses.ts'
import {
  AF_BRIDGE,
  AF_UNSPEC,
  addressFamily,
  type Family,
  familyOf,
  ipText,
  macText,
} from './bytes.ts'
import { ENOENT, malformed } from './error.ts'
import { linkName } from './link.ts'
import {
  Attributes,
  header,
  type Message,
  MessageBuilder,
  NLM_F_APPEND,
  NLM_F_CREATE,
  NLM_F_REPLACE,
} from './message.ts'
import { type Netlink, NetlinkError } from './socket.ts'

export const RTM_NEWNEIGH = 28
export const RTM_DELNEIGH = 29
const RTM_GETNEIGH = 30

const NDA_DST = 1
const NDA_LLADDR = 2
const NDA_VLAN = 5
const NDA_VNI = 7
const NTF_USE = 0x01
const NTF_SELF = 0x02
const NTF_MASTER = 0x04
const NDMSG_BYTES = 12

/** NUD_*: the states of a neighbour (RFC 4861 section 7.3.2 and the kernel's own). */
const STATES = {
  incomplete: 0x01,
  reachable: 0x02,
  stale: 0x04,
  delay: 0x08,
  probe: 0x10,
  failed: 0x20,
  noarp: 0x40,
  permanent: 0x80,
} as const
export type NeighbourState = keyof typeof STATES | 'none'
const STATE_NAMES = Object.keys(STATES) as (keyof typeof STATES)[]
/** NUD_VALID: the MAC may be used. */
const VALID =
  STATES.permanent | STATES.noarp | STATES.reachable | STATES.probe | STATES.stale | STATES.delay

/** The destination of a VXLAN device for frames whose MAC it doesn't know. */
export const FDB_DEFAULT_MAC = '00:00:00:00:00:00'

export interface Neighbour {
  ifindex: number
  family: Family
  address: string
  /** Undefined while it isn't known. */
  mac: string | undefined
  state: NeighbourState
  /** Whether the kernel sends to `mac`. */
  valid: boolean
  /** NTF_* */
  flags: number
}

/** Sets the MAC of a neighbour; `permanent`: for good, else until the kernel finds it silent. */
export function setNeighbour(
  nl: Netlink,
  options: { ifindex: number; address: string; mac: string; permanent: boolean },
): void {
  const { ifindex, address, mac, permanent } = options
  const state = permanent ? STATES.permanent : STATES.reachable
  const message = neighbourMessage(RTM_NEWNEIGH, NLM_F_CREATE | NLM_F_REPLACE, options, state, 0)
  message.attribute(NDA_LLADDR, macBytes(mac))
  nl.request(message, () => `set neighbour ${address} on ${linkName(nl, ifindex)} to ${mac}`)
}

/** ENOENT if there is none. */
export function deleteNeighbour(nl: Netlink, key: { ifindex: number; address: string }): void {
  const message = neighbourMessage(RTM_DELNEIGH, 0, key, 0, 0)
  nl.request(message, () => `delete neighbour ${key.address} on ${linkName(nl, key.ifindex)}`)
}

/**
 * Has the kernel resolve the neighbour now, or confirm it if it is stale, as if a packet were sent
 * to it. Does nothing to one that was set by hand: NTF_USE would take its permanence away.
 */
export function useNeighbour(nl: Netlink, key: { ifindex: number; address: string }): void {
  const known = getNeighbour(nl, key.ifindex, key.address)
  if (known?.state === 'permanent' || known?.state === 'noarp') return
  const message = neighbourMessage(RTM_NEWNEIGH, NLM_F_CREATE, key, 0, NTF_USE)
  nl.request(message, () => `resolve neighbour ${key.address} on ${linkName(nl, key.ifindex)}`)
}

/** What the kernel knows of one neighbour; undefined if nothing. */
export function getNeighbour(nl: Netlink, ifindex: number, address: string): Neighbour | undefined {
  const message = neighbourMessage(RTM_GETNEIGH, 0, { ifindex, address }, 0, 0)
  try {
    const what = () => `neighbour ${address} on ${linkName(nl, ifindex)}`
    const [answer] = nl.query(message, what)
    return answer === undefined ? undefined : parseNeighbour(answer)
  } catch (error) {
    if (error instanceof NetlinkError && error.errno === ENOENT) return undefined
    throw error
  }
}

/** Neighbours of one interface or of all, of one family or of both. */
export function listNeighbours(
  nl: Netlink,
  filter: { ifindex?: number; family?: Family } = {},
): Neighbour[] {
  const { ifindex, family } = filter
  const message = new MessageBuilder(RTM_GETNEIGH)
  addHeader(message, family === undefined ? AF_UNSPEC : addressFamily(family), 0, 0, 0)
  return nl
    .dump(message, () => 'list of neighbours')
    .flatMap(each => parseNeighbour(each) ?? [])
    .filter(each => ifindex === undefined || each.ifindex === ifindex)
    .filter(each => family === undefined || each.family === family)
}

/**
 * RTM_NEWNEIGH, and RTM_DELNEIGH (whose `message.type` tells it), of an IP neighbour; undefined for
 * other messages, FDB entries among them. Throws NetlinkError (EBADMSG).
 */
export function parseNeighbour(message: Message): Neighbour | undefined {
  const fixed = neighbourHeader(message)
  const family = fixed && familyOf(fixed.getUint8(0))
  if (fixed === undefined || family === undefined) return undefined
  const attributes = new Attributes(message.payload, NDMSG_BYTES)
  const address = attributes.bytes(NDA_DST)
  if (address === undefined) throw malformed('ndmsg', 'no address')
  const state = fixed.getUint16(8, true)
  return {
    ifindex: fixed.getInt32(4, true),
    family,
    address: ipText(address),
    mac: macText(attributes.bytes(NDA_LLADDR)),
    state: STATE_NAMES.find(name => (state & STATES[name]) !== 0) ?? 'none',
    valid: (state & VALID) !== 0,
    flags: fixed.getUint8(10),
  }
}

/** An entry of a bridge's or a VXLAN device's forwarding table. */
export interface FdbEntry {
  ifindex: number
  mac: string
  /** VXLAN: the VTEP behind which the MAC is. */
  destination: string | undefined
  vni: number | undefined
  vlan: number | undefined
  /** Of the device itself (NTF_SELF), not of the bridge that it is a port of. */
  self: boolean
  permanent: boolean
}

export interface FdbOptions {
  ifindex: number
  /** `FDB_DEFAULT_MAC` if absent. */
  mac?: string
  destination?: string
  /** `self`: the device's own table (VXLAN); `master`: that of its bridge. `self` if absent. */
  table?: 'self' | 'master'
}

/** Adds a destination to a MAC's list, once: of the default MAC, all get a copy. */
export function appendFdb(nl: Netlink, options: FdbOptions): void {
  const message = fdbMessage(RTM_NEWNEIGH, NLM_F_CREATE | NLM_F_APPEND, options)
  nl.request(message, () => `append FDB entry ${describeFdb(nl, options)}`)
}

/** Sets the one destination of a MAC. The kernel refuses it for the default MAC (EOPNOTSUPP). */
export function setFdb(nl: Netlink, options: FdbOptions & { mac: string }): void {
  const message = fdbMessage(RTM_NEWNEIGH, NLM_F_CREATE | NLM_F_REPLACE, options)
  nl.request(message, () => `set FDB entry ${describeFdb(nl, options)}`)
}

/** ENOENT if there is none. */
export function deleteFdb(nl: Netlink, options: FdbOptions): void {
  const message = fdbMessage(RTM_DELNEIGH, 0, options)
  nl.request(message, () => `delete FDB entry ${describeFdb(nl, options)}`)
}

/** Forwarding entries of one device or of all. */
export function listFdb(nl: Netlink, ifindex?: number): FdbEntry[] {
  // The header of this dump is an ifinfomsg; a short one is read as an ndmsg, with its filters.
  const message = new MessageBuilder(RTM_GETNEIGH)
  message.u8(AF_BRIDGE).u8(0).u16(0).u32(0).u32(0).u32(0)
  return nl
    .dump(message, () => 'list of FDB entries')
    .flatMap(each => parseFdb(each) ?? [])
    .filter(each => ifindex === undefined || each.ifindex === ifindex)
}

/** As `parseNeighbour`, of a forwarding entry. */
export function parseFdb(message: Message): FdbEntry | undefined {
  const fixed = neighbourHeader(message)
  if (fixed === undefined || fixed.getUint8(0) !== AF_BRIDGE) return undefined
  const attributes = new Attributes(message.payload, NDMSG_BYTES)
  const mac = macText(attributes.bytes(NDA_LLADDR))
  if (mac === undefined) throw malformed('ndmsg', 'no MAC address')
  const destination = attributes.bytes(NDA_DST)
  return {
    ifindex: fixed.getInt32(4, true),
    mac,
    destination: destination === undefined ? undefined : ipText(destination),
    vni: attributes.u32(NDA_VNI),
    vlan: attributes.u16(NDA_VLAN),
    self: (fixed.getUint8(10) & NTF_SELF) !== 0,
    permanent: (fixed.getUint16(8, true) & STATES.permanent) !== 0,
  }
}

function neighbourHeader(message: Message): DataView | undefined {
  if (message.type !== RTM_NEWNEIGH && message.type !== RTM_DELNEIGH) return undefined
  return header(message.payload, NDMSG_BYTES, 'ndmsg')
}

/** struct ndmsg { family u8, pad u8, pad u16, ifindex s32, state u16, flags u8, type u8 } */
function addHeader(
  message: MessageBuilder,
  family: number,
  ifindex: number,
  state: number,
  flags: number,
): void {
  message.u8(family).u8(0).u16(0).u32(ifindex).u16(state).u8(flags).u8(0)
}

function neighbourMessage(
  type: number,
  messageFlags: number,
  key: { ifindex: number; address: string },
  state: number,
  flags: number,
): MessageBuilder {
  const bytes = ipBytes(key.address)
  const message = new MessageBuilder(type, messageFlags)
  addHeader(message, addressFamily(bytes.length === 4 ? 4 : 6), key.ifindex, state, flags)
  return message.attribute(NDA_DST, bytes)
}

function fdbMessage(type: number, messageFlags: number, options: FdbOptions): MessageBuilder {
  const { ifindex, mac = FDB_DEFAULT_MAC, destination, table = 'self' } = options
  const message = new MessageBuilder(type, messageFlags)
  const flags = table === 'self' ? NTF_SELF : NTF_MASTER
  addHeader(message, AF_BRIDGE, ifindex, STATES.noarp | STATES.permanent, flags)
  message.attribute(NDA_LLADDR, macBytes(mac))
  if (destination !== undefined) message.attribute(NDA_DST, ipBytes(destination))
  return message
}

function describeFdb(nl: Netlink, { mac, destination, ifindex }: FdbOptions): string {
  const to = destination === undefined ? '' : ` to ${destination}`
  return `${mac ?? FDB_DEFAULT_MAC}${to} on ${linkName(nl, ifindex)}`
}
