/** Addresses on the wire and as text. */
import { wordsToIp } from '../addresses.ts'
import { malformed } from './error.ts'

export const AF_UNSPEC = 0
export const AF_INET = 2
export const AF_BRIDGE = 7
export const AF_INET6 = 10

export type Family = 4 | 6

/** The kernel's number of an IP version. */
export function addressFamily(family: Family): number {
  return family === 4 ? AF_INET : AF_INET6
}

/** IP version of a kernel family; undefined for others (bridge, MPLS). */
export function familyOf(addressFamily: number): Family | undefined {
  return addressFamily === AF_INET ? 4 : addressFamily === AF_INET6 ? 6 : undefined
}

/** The text of 4 or 16 bytes in network order. Throws NetlinkError (EBADMSG) for other lengths. */
export function ipText(bytes: Uint8Array): string {
  if (bytes.length !== 4 && bytes.length !== 16) {
    throw malformed('IP address', `${bytes.length} bytes`)
  }
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length)
  return wordsToIp(Array.from({ length: bytes.length / 4 }, (_, i) => view.getUint32(i * 4)))
}

/** `02:68:…` of 6 bytes; undefined for link-layer addresses that are no MAC. */
export function macText(bytes: Uint8Array | undefined): string | undefined {
  if (bytes?.length !== 6) return undefined
  return Array.from(bytes, byte => byte.toString(16).padStart(2, '0')).join(':')
}
