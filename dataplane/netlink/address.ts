/** Addresses of interfaces: RTM_NEWADDR, RTM_DELADDR, RTM_GETADDR (linux/if_addr.h). */
import { ipBytes } from '../addresses.ts'
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
} from './message.ts'
import { type Scope, scopeName, scopeNumber } from './scope.ts'
import type { Netlink } from './socket.ts'

export const RTM_NEWADDR = 20
export const RTM_DELADDR = 21
const RTM_GETADDR = 22

const IFA_ADDRESS = 1
const IFA_LOCAL = 2
const IFA_FLAGS = 8
const IFA_F_NODAD = 0x02
const IFA_F_TENTATIVE = 0x40
const IFA_F_NOPREFIXROUTE = 0x200
const IFADDRMSG_BYTES = 8

export interface Address {
  ifindex: number
  family: Family
  /** The interface's own address. */
  address: string
  prefix: number
  scope: Scope
  /** IFA_F_* */
  flags: number
  /** IPv6: duplicate address detection has not ended; the address can't be used yet. */
  tentative: boolean
}

export interface AddressOptions {
  ifindex: number
  address: string
  prefix: number
  /** IPv6: usable at once, without duplicate address detection. */
  noDad?: boolean
  /** `global` if absent. */
  scope?: Scope
  /** The kernel makes no route for the prefix. */
  noPrefixRoute?: boolean
}

/** EEXIST if the interface has it. */
export function addAddress(nl: Netlink, options: AddressOptions): void {
  const { noDad = false, noPrefixRoute = false, scope = 'global' } = options
  const family = options.address.includes(':') ? 6 : 4
  const flags =
    (noDad && family === 6 ? IFA_F_NODAD : 0) | (noPrefixRoute ? IFA_F_NOPREFIXROUTE : 0)
  const message = addressMessage(RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, options, scope)
  if (flags !== 0) message.attributeU32(IFA_FLAGS, flags)
  nl.request(message, () => `add address ${describe(nl, options)}`)
}

/** EADDRNOTAVAIL if the interface doesn't have it. */
export function deleteAddress(
  nl: Netlink,
  options: Pick<AddressOptions, 'ifindex' | 'address' | 'prefix'>,
): void {
  const message = addressMessage(RTM_DELADDR, 0, options, 'global')
  nl.request(message, () => `delete address ${describe(nl, options)}`)
}

/** Addresses of both families, of one interface or of all. */
export function listAddresses(nl: Netlink, ifindex?: number): Address[] {
  const message = new MessageBuilder(RTM_GETADDR).u8(AF_UNSPEC).u8(0).u8(0).u8(0).u32(0)
  return nl
    .dump(message, () => 'list of addresses')
    .flatMap(each => parseAddress(each) ?? [])
    .filter(each => ifindex === undefined || each.ifindex === ifindex)
}

/** RTM_NEWADDR or RTM_DELADDR of an IP address, undefined for others. Throws NetlinkError (EBADMSG). */
export function parseAddress(message: Message): Address | undefined {
  if (message.type !== RTM_NEWADDR && message.type !== RTM_DELADDR) return undefined
  const fixed = header(message.payload, IFADDRMSG_BYTES, 'ifaddrmsg')
  const family = familyOf(fixed.getUint8(0))
  if (family === undefined) return undefined
  const attributes = new Attributes(message.payload, IFADDRMSG_BYTES)
  // With a peer, IFA_ADDRESS is the peer's; without, IPv6 has IFA_ADDRESS only.
  const bytes = attributes.bytes(IFA_LOCAL) ?? attributes.bytes(IFA_ADDRESS)
  if (bytes === undefined) throw malformed('ifaddrmsg', 'no address')
  const flags = attributes.u32(IFA_FLAGS) ?? fixed.getUint8(2)
  return {
    ifindex: fixed.getUint32(4, true),
    family,
    address: ipText(bytes),
    prefix: fixed.getUint8(1),
    scope: scopeName(fixed.getUint8(3)),
    flags,
    tentative: (flags & IFA_F_TENTATIVE) !== 0,
  }
}

/** struct ifaddrmsg { family u8, prefixlen u8, flags u8, scope u8, index u32 } */
function addressMessage(
  type: number,
  flags: number,
  options: Pick<AddressOptions, 'ifindex' | 'address' | 'prefix'>,
  scope: Scope,
): MessageBuilder {
  const { ifindex, address, prefix } = options
  const bytes = ipBytes(address)
  if (prefix > bytes.length * 8) throw new RangeError(`${address}/${prefix} is no prefix`)
  return new MessageBuilder(type, flags)
    .u8(addressFamily(bytes.length === 4 ? 4 : 6))
    .u8(prefix)
    .u8(0)
    .u8(scopeNumber(scope))
    .u32(ifindex)
    .attribute(IFA_LOCAL, bytes)
    .attribute(IFA_ADDRESS, bytes)
}

function describe(
  nl: Netlink,
  options: Pick<AddressOptions, 'ifindex' | 'address' | 'prefix'>,
): string {
  return `${options.address}/${options.prefix} on ${linkName(nl, options.ifindex)}`
}
