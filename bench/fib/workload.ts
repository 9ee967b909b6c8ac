/** Seeded tables and addresses: the same in every run. */
import { seeded } from '../../dataplane/fib/columns.ts'
import { nextHopOf, prefixOf, type RouteTable, wordsOf } from '../data/routes.ts'

const word = (mask: number, kept: number, filled: number): number =>
  ((kept & mask) | (filled & ~mask)) >>> 0

/** `address` up to `length` bits, `filler` behind them. */
function merge(address: ArrayLike<number>, length: number, filler: () => number): number[] {
  return Array.from(address, (kept, w) => {
    const bits = Math.min(32, Math.max(0, length - 32 * w))
    return word(bits === 0 ? 0 : -1 << (32 - bits), kept, filler())
  })
}

/** Prefix lengths in their shares: what a node knows of its cluster and what a router's table looks like. */
const LENGTHS = {
  4: [16, 20, 22, 23, 24, 24, 24, 24, 24, 32],
  6: [32, 36, 44, 48, 48, 48, 64, 64, 64, 128],
}

/** A table of `count` different routes; a single one is a /24 or /64. */
export function randomTable(family: 4 | 6, count: number): RouteTable {
  const words = wordsOf(family)
  const random = seeded(0x6861_7773 + count + family)
  const seen = new Set<string>()
  const table: RouteTable = {
    family,
    count,
    addresses: new Uint32Array(count * words),
    lengths: new Uint8Array(count),
    nextHops: new Uint16Array(count),
  }
  while (seen.size < count) {
    const i = seen.size
    const length = LENGTHS[family][count === 1 ? 6 : random() % 10]!
    const address = merge(anyAddress(family, random), length, () => 0)
    const key = `${address}/${length}`
    if (seen.has(key)) continue
    seen.add(key)
    table.addresses.set(address, i * words)
    table.lengths[i] = length
    table.nextHops[i] = nextHopOf(i)
  }
  return table
}

/** `count` routes of a larger table, chosen evenly, in its order. */
export function sampleOf(table: RouteTable, count: number): RouteTable {
  const random = seeded(0x0003_0001)
  const words = wordsOf(table.family)
  const sample: RouteTable = {
    family: table.family,
    count,
    addresses: new Uint32Array(count * words),
    lengths: new Uint8Array(count),
    nextHops: new Uint16Array(count),
  }
  let taken = 0
  for (let i = 0; taken < count; i++) {
    // Of those that are left, as many are taken as are missing (Knuth, TAOCP 2, algorithm 3.4.2 S).
    if ((random() / 2 ** 32) * (table.count - i) >= count - taken) continue
    sample.addresses.set(prefixOf(table, i), taken * words)
    sample.lengths[taken] = table.lengths[i]!
    sample.nextHops[taken++] = table.nextHops[i]!
  }
  return sample
}

/** Any IPv4 address; any of 2000::/3, where IPv6 has its global ones. */
function anyAddress(family: 4 | 6, random: () => number): number[] {
  if (family === 4) return [random()]
  return [(0x2000_0000 | (random() >>> 3)) >>> 0, random(), random(), random()]
}

/** Addresses behind each other: each in a prefix of the table, chosen evenly. */
export function addressesIn(table: RouteTable, n: number): Uint32Array {
  const random = seeded(0x0001_0001)
  return addressesOf(table, n, random, () => random() % table.count)
}

/** Addresses in prefixes of the table; the k-th most frequent one has a share like 1/k (Zipf), and which one it is, is left to chance. */
export function addressesZipf(table: RouteTable, n: number): Uint32Array {
  const random = seeded(0x0004_0001)
  const upTo = new Float64Array(table.count)
  const byRank = new Uint32Array(table.count)
  for (let k = 0, sum = 0; k < table.count; k++) {
    sum += 1 / (k + 1)
    upTo[k] = sum
    const other = random() % (k + 1)
    byRank[k] = byRank[other]!
    byRank[other] = k
  }
  return addressesOf(table, n, random, () => {
    const wanted = (random() / 2 ** 32) * upTo[table.count - 1]!
    let rank = 0
    for (let step = 2 ** 31; step >= 1; step /= 2) {
      if (rank + step < table.count && upTo[rank + step - 1]! <= wanted) rank += step
    }
    return byRank[rank]!
  })
}

/** `n` addresses, each in the route that `choose` names. */
function addressesOf(
  table: RouteTable,
  n: number,
  random: () => number,
  choose: () => number,
): Uint32Array {
  const words = wordsOf(table.family)
  const addresses = new Uint32Array(n * words)
  for (let i = 0; i < n; i++) {
    const route = choose()
    addresses.set(merge(prefixOf(table, route), table.lengths[route]!, random), i * words)
  }
  return addresses
}

/** Addresses anywhere. */
export function addressesAnywhere(family: 4 | 6, n: number): Uint32Array {
  const random = seeded(0x0002_0001)
  const words = wordsOf(family)
  const addresses = new Uint32Array(n * words)
  for (let i = 0; i < n; i++) addresses.set(anyAddress(family, random), i * words)
  return addresses
}

/** The next hop of one address by reading the whole table: what every FIB must answer. */
export function bruteForce(table: RouteTable, address: ArrayLike<number>): number {
  const words = wordsOf(table.family)
  let longest = -1
  let nextHop = 0
  for (let i = 0; i < table.count; i++) {
    const length = table.lengths[i]!
    if (length <= longest) continue
    let covers = true
    for (let w = 0, bits = length; covers && bits > 0; w++, bits -= 32) {
      const differ = table.addresses[i * words + w]! ^ address[w]!
      covers = bits >= 32 ? differ === 0 : differ >>> (32 - bits) === 0
    }
    if (!covers) continue
    longest = length
    nextHop = table.nextHops[i]!
  }
  return nextHop
}
