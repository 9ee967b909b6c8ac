/**
 * Addresses and CIDRs as configuration files hold them. Text is accepted only in forms that every
 * tool reads alike (no leading zeros, no zone, no IPv4-mapped IPv6) and is given back canonical
 * (RFC 5952 for IPv6). Causes of refusal are returned, not thrown: the caller knows the field.
 */
import { isIPv4, isIPv6 } from 'node:net'
import { Address6 } from 'ip-address'

export interface Address {
  family: 4 | 6
  /** Canonical text. */
  text: string
  value: bigint
}

export interface Cidr {
  family: 4 | 6
  /** Canonical text, address and prefix length. */
  text: string
  prefixLength: number
  first: bigint
  last: bigint
}

/** A parsed value, or why there is none. */
export type Parsed<T> = { ok: true; value: T } | { ok: false; cause: string }

const BITS = { 4: 32, 6: 128 } as const

/** Ranges that no node or pod can have: family, first address, prefix length, what they are. */
const RESERVED: readonly [family: 4 | 6, first: string, prefixLength: number, what: string][] = [
  [4, '0.0.0.0', 8, 'in "this network" (0.0.0.0/8)'],
  [4, '127.0.0.0', 8, 'loopback'],
  [4, '169.254.0.0', 16, 'link-local'],
  [4, '224.0.0.0', 4, 'multicast'],
  [4, '240.0.0.0', 4, 'reserved (240.0.0.0/4)'],
  [6, '::', 96, 'unspecified, loopback or IPv4-compatible'],
  [6, '::ffff:0:0', 96, 'IPv4-mapped'],
  [6, 'fe80::', 10, 'link-local'],
  [6, 'ff00::', 8, 'multicast'],
]

/**
 * `text` has passed `isIPv4` or `isIPv6`. A cluster of thousands of nodes, and each choice of an address among a
 * node's, is mostly this for IPv4, so that takes no library: less than a fifth of its time.
 */
function toBigInt(family: 4 | 6, text: string): bigint {
  if (family === 6) return new Address6(text).bigInt()
  let value = 0
  for (const byte of text.split('.')) value = value * 256 + Number(byte)
  return BigInt(value)
}

const RESERVED_RANGES = RESERVED.map(([family, first, prefixLength, what]) => {
  const start = toBigInt(family, first)
  return { family, first: start, last: lastOf(family, start, prefixLength), what }
})

function lastOf(family: 4 | 6, first: bigint, prefixLength: number): bigint {
  return first + (1n << BigInt(BITS[family] - prefixLength)) - 1n
}

function reserved(family: 4 | 6, first: bigint, last: bigint): string | undefined {
  return RESERVED_RANGES.find(
    range => range.family === family && range.first <= last && first <= range.last,
  )?.what
}

/** Parses a unicast address without prefix or zone. */
export function parseAddress(text: string): Parsed<Address> {
  const family = isIPv4(text) ? 4 : isIPv6(text) && !text.includes('%') ? 6 : undefined
  if (family === undefined) return { ok: false, cause: 'not an IPv4 or IPv6 address' }
  const value = toBigInt(family, text)
  const what = reserved(family, value, value)
  if (what !== undefined) return { ok: false, cause: `the address is ${what}` }
  return { ok: true, value: { family, text: addressText(family, value), value } }
}

/** Shortest and longest prefix of a pod CIDR; a longer one has no room for a gateway and a pod. */
export const POD_CIDR_LENGTHS = { 4: [8, 30], 6: [16, 126] } as const

/** Parses a pod CIDR; host bits must be zero. */
export function parsePodCidr(text: string): Parsed<Cidr> {
  const match = /^([^/]+)\/(0|[1-9][0-9]{0,2})$/.exec(text)
  if (!match) return { ok: false, cause: 'not a CIDR (address/length)' }
  const [, base = '', length = ''] = match
  const family = isIPv4(base) ? 4 : isIPv6(base) && !base.includes('%') ? 6 : undefined
  if (family === undefined) return { ok: false, cause: 'not an IPv4 or IPv6 CIDR' }
  const prefixLength = Number(length)
  const [shortest, longest] = POD_CIDR_LENGTHS[family]
  if (prefixLength < shortest || prefixLength > longest) {
    return { ok: false, cause: `the prefix length is not ${shortest} .. ${longest}` }
  }
  const value = toBigInt(family, base)
  const hostBits = BigInt(BITS[family] - prefixLength)
  const first = (value >> hostBits) << hostBits
  const canonicalText = `${addressText(family, first)}/${prefixLength}`
  if (first !== value) return { ok: false, cause: `host bits are set (meant ${canonicalText}?)` }
  const last = lastOf(family, first, prefixLength)
  const what = reserved(family, first, last)
  if (what !== undefined) return { ok: false, cause: `the range is or holds ${what}` }
  return { ok: true, value: { family, text: canonicalText, prefixLength, first, last } }
}

/** Whether `address` lies in `cidr`. */
export function contains(cidr: Cidr, address: Address): boolean {
  return cidr.family === address.family && cidr.first <= address.value && address.value <= cidr.last
}

/** Canonical text of an address (RFC 5952 for IPv6). */
export function addressText(family: 4 | 6, value: bigint): string {
  if (family === 6) return Address6.fromBigInt(value).correctForm()
  const word = Number(value)
  return [24, 16, 8, 0].map(shift => (word >>> shift) & 255).join('.')
}

/** The node's own address in a pod CIDR: the first behind the network's (dataplane/addresses.ts). */
export function gateway({ family, first }: Cidr): string {
  return addressText(family, first + 1n)
}

/** Pod CIDRs as the cluster view has them; they were checked when it was read. */
export function cidrsOf(podCidrs: readonly string[]): Cidr[] {
  return podCidrs.map(text => {
    const parsed = parsePodCidr(text)
    if (!parsed.ok) throw new Error(`pod CIDR ${text}: ${parsed.cause}`)
    return parsed.value
  })
}

/** An address that was checked before it was written down. */
export function storedAddress(text: string): Address {
  const parsed = parseAddress(text)
  if (!parsed.ok) throw new Error(`address ${text}: ${parsed.cause}`)
  return parsed.value
}
