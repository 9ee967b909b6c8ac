/**
 * The naive FIB of both families: a list of routes, and every lookup reads all of it. It is slow,
 * and plain enough to be right: the oracle of the tests, the reference of the benches.
 *
 * Memory, 32-bit words:
 *
 *   0 version, odd while the list is being changed   1 routes in the list
 *   4 + i * (W + 1): the W words of route i's address, then prefix length << 16 | next hop
 *
 * A change rewrites several words of the list, so a reader looks again when it met one (a seqlock):
 * it waits as long as the writer is inside, which no other FIB lets it. Nothing waits for
 * `quiesced`.
 */
import type { Fib, FibLimits, FibReader, FibRoute, FibWriter } from './fib.ts'
import { checkLimits, checkPrefix, checkRoute, full, routeOf } from './route.ts'
import { advance, unmoved, versionOf } from './version.ts'

const COUNT = 1
const ROUTES = 4

function linear(name: string, words: 1 | 4): Fib {
  const stride = words + 1
  return {
    name,
    family: words === 1 ? 4 : 6,
    bytes(limits) {
      checkLimits(limits)
      return (ROUTES + limits.routes * stride) * 4
    },
    writer: (memory, limits) => writer(memory, limits, words),
    reader: memory => reader(memory, words),
  }
}

function open(memory: Uint8Array): { header: Int32Array; table: Uint32Array } {
  const { buffer, byteOffset, byteLength } = memory
  return {
    header: new Int32Array(buffer, byteOffset, ROUTES),
    table: new Uint32Array(buffer, byteOffset, byteLength >>> 2),
  }
}

function writer(memory: Uint8Array, limits: FibLimits, words: 1 | 4): FibWriter {
  checkLimits(limits)
  const { header, table } = open(memory)
  const stride = words + 1
  const end = () => ROUTES + table[COUNT]! * stride

  /** Where the route is in the list, or the list's end. */
  function find(address: ArrayLike<number>, prefix: number): number {
    let at = ROUTES
    for (; at < end(); at += stride) {
      let same = table[at + words]! >>> 16 === prefix
      for (let w = 0; w < words; w++) same &&= table[at + w] === address[w]
      if (same) break
    }
    return at
  }

  function change(write: () => void): void {
    advance(header)
    write()
    advance(header)
  }

  return {
    get size() {
      return table[COUNT]!
    },

    insert(address, prefix, nextHop) {
      checkRoute(words, address, prefix, nextHop)
      const at = find(address, prefix)
      const fresh = at === end()
      if (fresh && table[COUNT]! >= limits.routes) throw full(address, prefix, limits.routes)
      change(() => {
        for (let w = 0; w < words; w++) table[at + w] = address[w]!
        table[at + words] = (prefix << 16) | nextHop
        if (fresh) table[COUNT]!++
      })
    },

    remove(address, prefix) {
      checkPrefix(words, address, prefix)
      const at = find(address, prefix)
      if (at === end()) return false
      change(() => {
        const last = end() - stride
        for (let w = 0; w < stride; w++) table[at + w] = table[last + w]!
        table[COUNT]!--
      })
      return true
    },

    *routes(): Iterable<FibRoute> {
      for (let at = ROUTES; at < end(); at += stride) {
        const last = table[at + words]!
        yield routeOf([...table.subarray(at, at + words)], last >>> 16, last & 0xffff)
      }
    },

    quiesced() {},
  }
}

function reader(memory: Uint8Array, words: 1 | 4): FibReader {
  const { header, table } = open(memory)
  const stride = words + 1

  /** Next hop of the longest prefix in the list that covers the address at `from`. */
  function scan(addresses: Uint32Array, from: number): number {
    const end = Math.min(ROUTES + table[COUNT]! * stride, table.length)
    let longest = -1
    let nextHop = 0
    for (let at = ROUTES; at < end; at += stride) {
      const last = table[at + words]!
      const prefix = last >>> 16
      if (prefix <= longest || !covers(at, prefix, addresses, from)) continue
      longest = prefix
      nextHop = last & 0xffff
    }
    return nextHop
  }

  function covers(at: number, prefix: number, addresses: Uint32Array, from: number): boolean {
    let w = 0
    for (let bits = prefix; bits > 0; bits -= 32, w++) {
      const differ = table[at + w]! ^ addresses[from + w]!
      if (bits >= 32 ? differ !== 0 : differ >>> (32 - bits) !== 0) return false
    }
    return true
  }

  return {
    lookup(addresses, n, nextHops) {
      for (let i = 0; i < n; i++) {
        let version: number
        do {
          version = versionOf(header)
          nextHops[i] = scan(addresses, i * words)
        } while ((version & 1) !== 0 || !unmoved(header, version))
      }
    },
  }
}

export const linear4 = linear('linear4', 1)
export const linear6 = linear('linear6', 4)
