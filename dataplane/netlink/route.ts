/** Routes: RTM_NEWROUTE, RTM_DELROUTE, RTM_GETROUTE (linux/rtnetlink.h). */
import { ipBytes, parseCidr } from '../addresses.ts'
import { AF_UNSPEC, addressFamily, type Family, familyOf, ipText } from './bytes.ts'
import { malformed } from './error.ts'
import { linkName } from './link.ts'
import {
  Attributes,
  header,
  type Message,
  MessageBuilder,
  NLM_F_CREATE,
  NLM_F_EXCL,
  NLM_F_REPLACE,
} from './message.ts'
import { type Scope, scopeName, scopeNumber } from './scope.ts'
import type { Netlink } from './socket.ts'

export const RTM_NEWROUTE = 24
export const RTM_DELROUTE = 25
const RTM_GETROUTE = 26

const RTA_DST = 1
const RTA_SRC = 2
const RTA_OIF = 4
const RTA_GATEWAY = 5
const RTA_PRIORITY = 6
const RTA_PREFSRC = 7
const RTA_METRICS = 8
const RTA_MULTIPATH = 9
const RTA_TABLE = 15
const RTA_VIA = 18
const RTA_IP_PROTO = 27
const RTA_DPORT = 29
const RTAX_MTU = 2
const RTNH_F_ONLINK = 4
const RTM_F_CLONED = 0x200
const RT_TABLE_UNSPEC = 0
export const RT_TABLE_MAIN = 254
const RTPROT_UNSPEC = 0
export const RTPROT_STATIC = 4
const RTMSG_BYTES = 12
const RTNEXTHOP_BYTES = 8

const TYPES = {
  unspec: 0,
  unicast: 1,
  local: 2,
  broadcast: 3,
  anycast: 4,
  multicast: 5,
  blackhole: 6,
  unreachable: 7,
  prohibit: 8,
  throw: 9,
} as const
export type RouteType = keyof typeof TYPES
const TYPE_NAMES = Object.keys(TYPES) as RouteType[]

export interface RouteOptions {
  /** `10.1.0.0/16`, `fd00::/64`, a single address, or `default`. */
  destination: string
  /** Needed only for a `default` without a gateway; IPv4 if absent. */
  family?: Family
  /** May be IPv6 for an IPv4 destination (RFC 5549). */
  gateway?: string
  /** Absent with types that drop: blackhole, unreachable, prohibit, throw. */
  ifindex?: number
  /** Preferred source address. */
  source?: string
  /** IPv4: `host` for local, `link` without a gateway, else `global`, if absent. */
  scope?: Scope
  /** The gateway is on the link, whatever the addresses say. */
  onlink?: boolean
  /** Bytes; larger packets are fragmented or refused. */
  mtu?: number
  /** Priority: the lowest wins. IPv6 has 1024 if absent. */
  metric?: number
  /** 254 (main) if absent. */
  table?: number
  /** `unicast` if absent; for deleting, any. */
  type?: RouteType
  /** RTPROT_*: who made it. 4 (static) if absent; for deleting, anyone. */
  protocol?: number
}

export interface NextHop {
  ifindex: number
  gateway: string | undefined
}

export interface Route {
  family: Family
  /** `10.1.0.0/16`; the default is `0.0.0.0/0` or `::/0`. */
  destination: string
  gateway: string | undefined
  ifindex: number | undefined
  source: string | undefined
  scope: Scope
  onlink: boolean
  mtu: number | undefined
  metric: number
  table: number
  type: RouteType
  protocol: number
  /** All hops of a multipath route, else empty. `ifindex` and `gateway` are those of the first. */
  nextHops: readonly NextHop[]
}

/** EEXIST if there is one with the destination, table and metric. */
export function addRoute(nl: Netlink, options: RouteOptions): void {
  const message = routeMessage(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL, options)
  nl.request(message, () => `add route ${describe(nl, options)}`)
}

/** Adds the route, in place of the one with the destination, table and metric if there is one. */
export function replaceRoute(nl: Netlink, options: RouteOptions): void {
  const message = routeMessage(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE, options)
  nl.request(message, () => `replace route ${describe(nl, options)}`)
}

/** Removes the first route that has all that is given. ESRCH if there is none. */
export function deleteRoute(nl: Netlink, options: RouteOptions): void {
  const message = routeMessage(RTM_DELROUTE, 0, {
    scope: 'nowhere',
    type: 'unspec',
    protocol: RTPROT_UNSPEC,
    ...options,
  })
  nl.request(message, () => `delete route ${describe(nl, options)}`)
}

/** Routes of all tables (`local`, 255, too) unless one is given; not those that the kernel caches. */
export function listRoutes(
  nl: Netlink,
  filter: { family: Family; ifindex?: number; table?: number },
): Route[] {
  const message = new MessageBuilder(RTM_GETROUTE)
  addHeader(message, { family: addressFamily(filter.family) })
  return nl
    .dump(message, () => `list of IPv${filter.family} routes`)
    .flatMap(each => parseRoute(each) ?? [])
    .filter(
      route =>
        route.family === filter.family &&
        (filter.table === undefined || route.table === filter.table) &&
        (filter.ifindex === undefined ||
          route.ifindex === filter.ifindex ||
          route.nextHops.some(hop => hop.ifindex === filter.ifindex)),
    )
}

export interface RouteLookup {
  ifindex: number
  /** Undefined: the destination is on the link. */
  gateway: string | undefined
  /** Undefined: the interface has no address of the family. */
  source: string | undefined
  type: RouteType
  mtu: number | undefined
}

export interface RouteKey {
  /** An address of this node. */
  source?: string
  ifindex?: number
  /** IPPROTO_* and destination port: rules and multipath hashes may ask for them. */
  protocol?: number
  port?: number
}

/** How a packet from here to `address` would go. Throws NetlinkError (ENETUNREACH, EHOSTUNREACH). */
export function lookupRoute(nl: Netlink, address: string, from: RouteKey = {}): RouteLookup {
  const bytes = ipBytes(address)
  const message = new MessageBuilder(RTM_GETROUTE)
  const source = from.source === undefined ? undefined : ipBytes(from.source)
  addHeader(message, {
    family: addressFamily(bytes.length === 4 ? 4 : 6),
    destinationBits: bytes.length * 8,
    sourceBits: (source?.length ?? 0) * 8,
  })
  message.attribute(RTA_DST, bytes)
  if (source !== undefined) message.attribute(RTA_SRC, source)
  if (from.ifindex !== undefined) message.attributeU32(RTA_OIF, from.ifindex)
  if (from.protocol !== undefined) message.attributeU8(RTA_IP_PROTO, from.protocol)
  if (from.port !== undefined) message.attributeU16be(RTA_DPORT, from.port)
  const what = () => `route to ${address}`
  const answer = nl.query(message, what).find(each => each.type === RTM_NEWROUTE)
  const route = answer === undefined ? undefined : readRoute(answer)
  if (route?.ifindex === undefined) throw malformed(what(), 'no interface in the answer')
  const { ifindex, gateway, type, mtu } = route
  return { ifindex, gateway, source: route.source, type, mtu }
}

/** RTM_NEWROUTE or RTM_DELROUTE of an IP route, undefined for others. Throws NetlinkError (EBADMSG). */
export function parseRoute(message: Message): Route | undefined {
  if (message.type !== RTM_NEWROUTE && message.type !== RTM_DELROUTE) return undefined
  const cached = header(message.payload, RTMSG_BYTES, 'rtmsg').getUint32(8, true) & RTM_F_CLONED
  return cached === 0 ? readRoute(message) : undefined
}

function readRoute({ payload }: Message): Route | undefined {
  const fixed = header(payload, RTMSG_BYTES, 'rtmsg')
  const family = familyOf(fixed.getUint8(0))
  if (family === undefined) return undefined
  const attributes = new Attributes(payload, RTMSG_BYTES)
  const destination = attributes.bytes(RTA_DST) ?? new Uint8Array(family === 4 ? 4 : 16)
  const source = attributes.bytes(RTA_PREFSRC)
  const multipath = attributes.bytes(RTA_MULTIPATH)
  const nextHops = multipath === undefined ? [] : parseNextHops(multipath)
  const type = fixed.getUint8(7)
  return {
    family,
    destination: `${ipText(destination)}/${fixed.getUint8(1)}`,
    gateway: gatewayOf(attributes) ?? nextHops[0]?.gateway,
    ifindex: attributes.u32(RTA_OIF) ?? nextHops[0]?.ifindex,
    source: source === undefined ? undefined : ipText(source),
    scope: scopeName(fixed.getUint8(6)),
    onlink: (fixed.getUint32(8, true) & RTNH_F_ONLINK) !== 0,
    mtu: attributes.nested(RTA_METRICS)?.u32(RTAX_MTU),
    metric: attributes.u32(RTA_PRIORITY) ?? 0,
    table: attributes.u32(RTA_TABLE) ?? fixed.getUint8(4),
    type: TYPE_NAMES[type] ?? 'unspec',
    protocol: fixed.getUint8(5),
    nextHops,
  }
}

/** rtnexthop { length u16, flags u8, hops u8, ifindex s32 }, attributes; one after the other. */
function parseNextHops(bytes: Uint8Array): NextHop[] {
  const hops: NextHop[] = []
  for (let at = 0; at < bytes.length; ) {
    const fixed = header(bytes.subarray(at), RTNEXTHOP_BYTES, 'rtnexthop')
    const length = fixed.getUint16(0, true)
    if (length < RTNEXTHOP_BYTES || length > bytes.length - at) {
      throw malformed('rtnexthop', `length ${length} with ${bytes.length - at} bytes left`)
    }
    const attributes = new Attributes(bytes.subarray(at, at + length), RTNEXTHOP_BYTES)
    hops.push({ ifindex: fixed.getInt32(4, true), gateway: gatewayOf(attributes) })
    at += Math.ceil(length / 4) * 4
  }
  return hops
}

/** RTA_GATEWAY, or rtvia { family u16, address } for a gateway of the other family. */
function gatewayOf(attributes: Attributes): string | undefined {
  const same = attributes.bytes(RTA_GATEWAY)
  if (same !== undefined) return ipText(same)
  const via = attributes.bytes(RTA_VIA)
  return via === undefined ? undefined : ipText(via.subarray(2))
}

function routeMessage(type: number, flags: number, options: RouteOptions): MessageBuilder {
  const { gateway, ifindex, source, mtu, metric } = options
  const { bytes, prefix } = destinationOf(options)
  const family = bytes.length === 4 ? 4 : 6
  const table = options.table ?? RT_TABLE_MAIN
  const kind = options.type ?? 'unicast'
  const message = new MessageBuilder(type, flags)
  addHeader(message, {
    family: addressFamily(family),
    destinationBits: prefix,
    table: table > 255 ? RT_TABLE_UNSPEC : table,
    protocol: options.protocol ?? RTPROT_STATIC,
    scope: scopeNumber(options.scope ?? defaultScope(family, kind, gateway)),
    type: TYPES[kind],
    flags: options.onlink ? RTNH_F_ONLINK : 0,
  })
  if (prefix > 0) message.attribute(RTA_DST, bytes)
  if (gateway !== undefined) {
    const hop = ipBytes(gateway)
    if (hop.length === bytes.length) message.attribute(RTA_GATEWAY, hop)
    else
      message.attribute(RTA_VIA, Uint8Array.of(addressFamily(hop.length === 4 ? 4 : 6), 0, ...hop))
  }
  if (ifindex !== undefined) message.attributeU32(RTA_OIF, ifindex)
  if (source !== undefined) message.attribute(RTA_PREFSRC, ipBytes(source))
  if (metric !== undefined) message.attributeU32(RTA_PRIORITY, metric)
  if (mtu !== undefined) message.nest(RTA_METRICS, each => each.attributeU32(RTAX_MTU, mtu))
  message.attributeU32(RTA_TABLE, table)
  return message
}

/** struct rtmsg { family, dst_len, src_len, tos, table, protocol, scope, type u8, flags u32 } */
function addHeader(
  message: MessageBuilder,
  fields: {
    family: number
    destinationBits?: number
    sourceBits?: number
    table?: number
    protocol?: number
    scope?: number
    type?: number
    flags?: number
  },
): void {
  message
    .u8(fields.family)
    .u8(fields.destinationBits ?? 0)
    .u8(fields.sourceBits ?? 0)
    .u8(0)
  message
    .u8(fields.table ?? 0)
    .u8(fields.protocol ?? 0)
    .u8(fields.scope ?? 0)
  message.u8(fields.type ?? AF_UNSPEC).u32(fields.flags ?? 0)
}

function defaultScope(family: Family, type: RouteType, gateway: string | undefined): Scope {
  if (family === 6) return 'global'
  if (type === 'local') return 'host'
  const onLink = type === 'unicast' || type === 'broadcast' || type === 'multicast'
  return onLink && gateway === undefined ? 'link' : 'global'
}

function destinationOf(options: RouteOptions): { bytes: Uint8Array; prefix: number } {
  const { destination, gateway, family } = options
  if (destination === 'default') {
    const chosen = family ?? (gateway?.includes(':') ? 6 : 4)
    return { bytes: new Uint8Array(chosen === 4 ? 4 : 16), prefix: 0 }
  }
  const bytes = ipBytes(destination.split('/')[0]!)
  if (family !== undefined && bytes.length !== (family === 4 ? 4 : 16)) {
    throw new RangeError(`${destination} is not of IPv${family}`)
  }
  if (!destination.includes('/')) return { bytes, prefix: bytes.length * 8 }
  return { bytes, prefix: parseCidr(destination).prefix }
}

function describe(nl: Netlink, options: RouteOptions): string {
  const { destination, gateway, ifindex, table } = options
  const hops = [gateway, ifindex === undefined ? undefined : linkName(nl, ifindex)]
  const via = hops.filter(each => each !== undefined).join(' on ')
  const parts = [destination, options.type, via && `via ${via}`, table && `in table ${table}`]
  return parts.filter(Boolean).join(' ')
}
