/** Addresses as text, bytes and words; what the control side needs to fill tables. */
import { isIPv4, isIPv6 } from 'node:net'
import { Address6 } from 'ip-address'

/** Four or sixteen bytes in network order. Throws RangeError when `text` is no address. */
export function ipBytes(text: string): Uint8Array {
  if (isIPv4(text)) return Uint8Array.from(text.split('.'), Number)
  if (isIPv6(text) && !text.includes('%')) {
    const hex = new Address6(text).bigInt().toString(16).padStart(32, '0')
    return Uint8Array.from(Buffer.from(hex, 'hex'))
  }
  throw new RangeError(`${JSON.stringify(text)} is no IP address`)
}

/** One word (IPv4) or four (IPv6), host order, most significant first. */
export function ipWords(text: string): Uint32Array {
  const bytes = ipBytes(text)
  const view = new DataView(bytes.buffer, bytes.byteOffset)
  return Uint32Array.from({ length: bytes.length / 4 }, (_, i) => view.getUint32(i * 4))
}

/** The text of one or four words: dotted, or RFC 5952. */
export function wordsToIp(words: ArrayLike<number>): string {
  if (words.length === 1) {
    const a = words[0]! >>> 0
    return `${a >>> 24}.${(a >>> 16) & 255}.${(a >>> 8) & 255}.${a & 255}`
  }
  let value = 0n
  for (let i = 0; i < 4; i++) value = (value << 32n) | BigInt(words[i]! >>> 0)
  return Address6.fromBigInt(value).correctForm()
}

export interface Cidr {
  family: 4 | 6
  /** The network's words, bits behind the prefix zero. */
  words: Uint32Array
  prefix: number
}

/** Parses `10.244.1.0/24` or `fd00::/64`. Throws RangeError; bits behind the prefix must be zero. */
export function parseCidr(text: string): Cidr {
  const [address, length, ...rest] = text.split('/')
  const words = ipWords(address ?? '')
  const bits = words.length * 32
  const prefix = /^\d{1,3}$/.test(length ?? '') ? Number(length) : -1
  if (rest.length > 0 || prefix < 0 || prefix > bits) {
    throw new RangeError(`${JSON.stringify(text)} is no prefix (ADDRESS/LENGTH)`)
  }
  for (let i = 0; i < words.length; i++) {
    const kept = Math.min(32, Math.max(0, prefix - i * 32))
    const mask = kept === 0 ? 0 : (-1 << (32 - kept)) >>> 0
    if ((words[i]! & ~mask) !== 0) throw new RangeError(`${text}: bits behind the prefix are set`)
  }
  return { family: words.length === 1 ? 4 : 6, words, prefix }
}

/** The first address behind the network's: the gateway of a pod CIDR. */
export function gatewayOf(cidr: Cidr): string {
  const words = Uint32Array.from(cidr.words)
  words[words.length - 1] = (words[words.length - 1]! | 1) >>> 0
  return wordsToIp(words)
}

/** Six bytes of `02:68:…`. Throws RangeError. */
export function macBytes(mac: string): Uint8Array {
  if (!/^[0-9a-f]{2}(:[0-9a-f]{2}){5}$/i.test(mac)) {
    throw new RangeError(`${JSON.stringify(mac)} is no MAC address`)
  }
  return Uint8Array.from(mac.split(':'), part => Number.parseInt(part, 16))
}

/** Whether an address, as words, lies in a prefix. */
export function inCidr({ words, prefix }: Cidr, address: ArrayLike<number>): boolean {
  if (address.length !== words.length) return false
  for (let i = 0; i < words.length; i++) {
    const kept = Math.min(32, Math.max(0, prefix - i * 32))
    const mask = kept === 0 ? 0 : (-1 << (32 - kept)) >>> 0
    if (((address[i]! ^ words[i]!) & mask) !== 0) return false
  }
  return true
}
