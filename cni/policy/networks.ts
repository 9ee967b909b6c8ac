/**
 * CIDRs of policies as prefixes: `ipBlock` with `except`, `networks`, nodes' addresses. An exception is taken out by
 * cutting: what is left are prefixes again, at most the prefix length's difference for each.
 */
import { type Cidr, ipWords, parseCidr, wordsToIp } from '../../dataplane/addresses.ts'

/** A CIDR, its host bits cleared as the API server's clients do (net.ParseCIDR); or why it is none. */
export function policyCidr(text: string): { cidr: Cidr; hostBits: boolean } | { cause: string } {
  const [address = '', length = '', ...rest] = text.split('/')
  let words: Uint32Array
  try {
    words = ipWords(address)
  } catch {
    return { cause: 'not a CIDR (address/length)' }
  }
  const bits = words.length * 32
  if (rest.length > 0 || !/^(?:0|[1-9][0-9]{0,2})$/.test(length) || Number(length) > bits) {
    return { cause: `the prefix length is not 0 .. ${bits}` }
  }
  const prefix = Number(length)
  const network = words.map((word, w) => (word & mask(prefix, w)) >>> 0)
  const hostBits = network.some((word, w) => word !== words[w])
  return { cidr: { family: words.length === 1 ? 4 : 6, words: network, prefix }, hostBits }
}

/** One address, whole. */
export function hostCidr(address: string): Cidr {
  return parseCidr(`${address}/${address.includes(':') ? 128 : 32}`)
}

/** `10.0.0.0/8`. */
export function cidrText({ words, prefix }: Cidr): string {
  return `${wordsToIp(words)}/${prefix}`
}

/** `cidr` without `exceptions`, which need not lie inside. Sorted, disjoint. */
export function without(cidr: Cidr, exceptions: readonly Cidr[]): Cidr[] {
  const inside = exceptions.filter(each => overlap(cidr, each))
  if (inside.length === 0) return [cidr]
  if (inside.some(each => each.prefix <= cidr.prefix)) return []
  return halves(cidr).flatMap(half => without(half, inside))
}

function overlap(a: Cidr, b: Cidr): boolean {
  if (a.family !== b.family) return false
  const bits = Math.min(a.prefix, b.prefix)
  return a.words.every((word, w) => ((word ^ b.words[w]!) & mask(bits, w)) === 0)
}

function halves({ family, words, prefix }: Cidr): [Cidr, Cidr] {
  const upper = Uint32Array.from(words)
  const w = prefix >>> 5
  upper[w] = (upper[w]! | (1 << (31 - (prefix & 31)))) >>> 0
  return [
    { family, words, prefix: prefix + 1 },
    { family, words: upper, prefix: prefix + 1 },
  ]
}

/** The bits of word `w` that a prefix has. */
function mask(prefix: number, w: number): number {
  const bits = Math.min(32, Math.max(0, prefix - 32 * w))
  return bits === 0 ? 0 : -1 << (32 - bits)
}
