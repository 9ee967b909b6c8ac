/**
 * Connection tracking (include/uapi/linux/netfilter/nfnetlink_conntrack.h): flows of one destination
 * port are forgotten. A flow keeps the translation, or the lack of one, that its first packet met,
 * and one of UDP never ends as long as packets come: rules that changed would not reach it.
 *
 *     payload = nfgenmsg { family u8, version u8 0, resource u16 0 }, attribute*
 */
import { ENOENT } from './error.ts'
import { Attributes, header, MessageBuilder } from './message.ts'
import { NETLINK_NETFILTER, Netlink, NetlinkError } from './socket.ts'

const NFNL_SUBSYS_CTNETLINK = 1 << 8
const IPCTNL_MSG_CT_GET = NFNL_SUBSYS_CTNETLINK | 1
const IPCTNL_MSG_CT_DELETE = NFNL_SUBSYS_CTNETLINK | 2
const NFGENMSG_BYTES = 4
const CTA_TUPLE_ORIG = 1
const CTA_ID = 12
const CTA_FILTER = 25
const CTA_TUPLE_PROTO = 2
const CTA_PROTO_NUM = 1
const CTA_PROTO_DST_PORT = 3
const CTA_FILTER_ORIG_FLAGS = 1
const CTA_FILTER_REPLY_FLAGS = 2
/** CTA_FILTER_F_CTA_PROTO_NUM | CTA_FILTER_F_CTA_PROTO_DST_PORT. */
const BY_PROTO_AND_PORT = 0x28
const AF_INET = 2
const AF_INET6 = 10

/** A protocol number and the port that flows were sent to, before any translation. */
export interface FlowPort {
  proto: number
  port: number
}

/**
 * Forgets every flow of both families that was sent to one of `ports`, in `netns` ('' is the process's
 * own). Returns how many. Throws NetlinkError when the kernel has no connection tracking.
 */
export function forgetFlows(netns: string, ports: readonly FlowPort[]): number {
  if (ports.length === 0) return 0
  const nl = new Netlink(netns, NETLINK_NETFILTER)
  try {
    let forgotten = 0
    for (const family of [AF_INET, AF_INET6]) {
      for (const port of ports) forgotten += forget(nl, family, port)
    }
    return forgotten
  } finally {
    nl.close()
  }
}

function forget(nl: Netlink, family: number, { proto, port }: FlowPort): number {
  const what = () => `flows of protocol ${proto} to port ${port}`
  // Kernels before 5.8 know no filter and give the whole table.
  const query = message(IPCTNL_MSG_CT_GET, family)
    .nest(CTA_TUPLE_ORIG, tuple =>
      tuple.nest(CTA_TUPLE_PROTO, part =>
        part.attributeU8(CTA_PROTO_NUM, proto).attributeU16be(CTA_PROTO_DST_PORT, port),
      ),
    )
    .nest(CTA_FILTER, filter =>
      filter
        .attributeU32(CTA_FILTER_ORIG_FLAGS, BY_PROTO_AND_PORT)
        .attributeU32(CTA_FILTER_REPLY_FLAGS, 0),
    )
  let forgotten = 0
  for (const { payload } of nl.dump(query, what)) {
    if (header(payload, NFGENMSG_BYTES, 'conntrack entry').getUint8(0) !== family) continue
    const entry = new Attributes(payload, NFGENMSG_BYTES)
    const tuple = entry.bytes(CTA_TUPLE_ORIG)
    const id = entry.bytes(CTA_ID)
    const parts = entry.nested(CTA_TUPLE_ORIG)?.nested(CTA_TUPLE_PROTO)
    const to = parts?.bytes(CTA_PROTO_DST_PORT)
    if (tuple === undefined || to === undefined || to.length < 2) continue
    if (parts?.u8(CTA_PROTO_NUM) !== proto || ((to[0]! << 8) | to[1]!) !== port) continue
    const order = message(IPCTNL_MSG_CT_DELETE, family).attribute(CTA_TUPLE_ORIG, tuple)
    if (id !== undefined) order.attribute(CTA_ID, id)
    try {
      nl.request(order, what)
      forgotten++
    } catch (error) {
      // It has ended meanwhile.
      if (!(error instanceof NetlinkError && error.errno === ENOENT)) throw error
    }
  }
  return forgotten
}

function message(type: number, family: number): MessageBuilder {
  return new MessageBuilder(type).u8(family).u8(0).u16(0)
}
