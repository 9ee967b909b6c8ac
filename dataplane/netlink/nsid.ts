/**
 * The numbers by which one network namespace knows others (RTM_GETNSID, linux/net_namespace.h): a
 * link whose other end lies elsewhere names that namespace so (IFLA_LINK_NETNSID).
 *
 *     payload = rtgenmsg { family u8, padding }, attribute*
 */
import { closeSync, constants, openSync } from 'node:fs'
import { native } from '../../native/native.ts'
import { AF_UNSPEC } from './bytes.ts'
import { Attributes, MessageBuilder } from './message.ts'
import type { Netlink } from './socket.ts'

const RTM_NEWNSID = 88
const RTM_GETNSID = 90
const NETNSA_NSID = 1
const NETNSA_FD = 3
const RTGENMSG_BYTES = 4

/** The number that the namespace of `nl` has for the one at `path`; undefined when it has none. Throws when `path` is no network namespace. */
export function namespaceId(nl: Netlink, path: string): number | undefined {
  // Refuses what is no namespace, before an open could do anything to it.
  native.netnsIdentity(path)
  const fd = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK)
  try {
    const message = new MessageBuilder(RTM_GETNSID).u8(AF_UNSPEC).u8(0).u16(0)
    message.attributeU32(NETNSA_FD, fd)
    const answers = nl.query(message, () => `number of ${path}`)
    const answer = answers.find(each => each.type === RTM_NEWNSID)
    const id = answer && new Attributes(answer.payload, RTGENMSG_BYTES).s32(NETNSA_NSID)
    return id === undefined || id < 0 ? undefined : id
  } finally {
    closeSync(fd)
  }
}
