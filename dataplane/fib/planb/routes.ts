/**
 * The writer's routes of planb6.ts: a hash table with linear probing in ordinary memory, which says
 * which route is there and which one shows through when it goes. A deleted slot is closed by moving
 * the ones behind it up, so that a table that changes for ever stays as quick as a new one.
 */
import type { FibRoute } from '../fib.ts'
import { routeOf, wordMask } from '../route.ts'

const BITS = 128

export interface RouteSet {
  readonly size: number
  /** Next hop of exactly this prefix, 0 for none. */
  get(address: ArrayLike<number>, prefix: number): number
  set(address: ArrayLike<number>, prefix: number, nextHop: number): void
  /** The route is there. */
  delete(address: ArrayLike<number>, prefix: number): void
  /** Length of the longest route of `least` .. `prefix - 1` bits that covers the address; 0 for none. */
  covering(address: ArrayLike<number>, prefix: number, least: number): number
  routes(): Iterable<FibRoute>
}

/** Room for `limit` routes; half of the slots stay free at least. */
export function routeSet(limit: number): RouteSet {
  const slots = 1 << (32 - Math.clz32(2 * limit))
  const mask = slots - 1
  const words = new Uint32Array(4 * slots)
  const lengths = new Uint8Array(slots)
  /** 0: the slot is free. */
  const nextHops = new Uint16Array(slots)
  const ofLength = new Uint32Array(BITS + 1)
  let size = 0

  function home(a: number, b: number, c: number, d: number, prefix: number): number {
    let hash = Math.imul(a, 0x9e37_79b1) ^ prefix
    hash = Math.imul(hash ^ (hash >>> 15) ^ b, 0x85eb_ca6b)
    hash = Math.imul(hash ^ (hash >>> 13) ^ c, 0xc2b2_ae35)
    hash = Math.imul(hash ^ (hash >>> 16) ^ d, 0x27d4_eb2f)
    return (hash ^ (hash >>> 15)) & mask
  }

  /** The slot of the address's first `prefix` bits, or the free one where they would go. */
  function find(address: ArrayLike<number>, prefix: number): number {
    const a = (address[0]! & wordMask(prefix, 0)) >>> 0
    const b = (address[1]! & wordMask(prefix, 1)) >>> 0
    const c = (address[2]! & wordMask(prefix, 2)) >>> 0
    const d = (address[3]! & wordMask(prefix, 3)) >>> 0
    let slot = home(a, b, c, d, prefix)
    for (; nextHops[slot] !== 0; slot = (slot + 1) & mask) {
      const at = 4 * slot
      if (
        words[at + 1] === b &&
        words[at] === a &&
        lengths[slot] === prefix &&
        words[at + 2] === c &&
        words[at + 3] === d
      ) {
        break
      }
    }
    return slot
  }

  function homeOf(slot: number): number {
    const at = 4 * slot
    return home(words[at]!, words[at + 1]!, words[at + 2]!, words[at + 3]!, lengths[slot]!)
  }

  return {
    get size() {
      return size
    },

    get: (address, prefix) => nextHops[find(address, prefix)]!,

    set(address, prefix, nextHop) {
      const slot = find(address, prefix)
      if (nextHops[slot] === 0) {
        for (let w = 0; w < 4; w++) words[4 * slot + w] = address[w]!
        lengths[slot] = prefix
        ofLength[prefix]!++
        size++
      }
      nextHops[slot] = nextHop
    },

    delete(address, prefix) {
      let hole = find(address, prefix)
      ofLength[prefix]!--
      size--
      for (let next = hole; ; ) {
        next = (next + 1) & mask
        if (nextHops[next] === 0) break
        // It may move up unless its home lies behind the hole.
        if (((next - homeOf(next)) & mask) < ((next - hole) & mask)) continue
        words.copyWithin(4 * hole, 4 * next, 4 * next + 4)
        lengths[hole] = lengths[next]!
        nextHops[hole] = nextHops[next]!
        hole = next
      }
      nextHops[hole] = 0
    },

    covering(address, prefix, least) {
      for (let length = prefix - 1; length >= least; length--) {
        if (ofLength[length] !== 0 && nextHops[find(address, length)] !== 0) return length
      }
      return 0
    },

    *routes(): Iterable<FibRoute> {
      for (let slot = 0; slot < slots; slot++) {
        if (nextHops[slot] === 0) continue
        const address = [...words.subarray(4 * slot, 4 * slot + 4)]
        yield routeOf(address, lengths[slot]!, nextHops[slot]!)
      }
    },
  }
}
