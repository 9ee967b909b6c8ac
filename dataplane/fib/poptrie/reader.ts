/**
 * Lookups of `poptrie4` and `poptrie6` in TypeScript. poptrie-layout.ts has the layout, and says why
 * a lookup beside a change is right.
 *
 * Addresses go down together, GROUP at a time, so that the CPU waits for many loads at once: first
 * all slots at the top, then a word of each node that they point to, and only then what depends on
 * it. (The sum of those words means nothing; it is there so that they are loaded.) In IPv6 that is
 * done for each level, with the addresses that have not arrived.
 */
import type { FibReader } from '../fib.ts'
import { unmoved, versionOf } from '../version.ts'
import {
  bitsAt,
  DEFAULT,
  DIRECT,
  DIRECT_BITS,
  LEAFVEC,
  rank,
  SKIP,
  SKIP_ADDRESS,
  SKIP_BITS,
  SKIP_SLOT,
  SLOTS,
  STRIDE,
  TABLE,
  type Tables,
  TOP_BITS,
  WORD,
} from './layout.ts'

const GROUP = 256

/** What a walk needs besides the tables; made once. */
interface Scratch {
  slots: Int32Array
  /** By address: bits that are decided; and which addresses have not arrived. */
  depths: Uint8Array
  lanes: Uint8Array
  touched: number
}

/** Next hops of addresses `from` .. `to - 1`, at most GROUP, and `otherwise` for those without one. */
type Walk = (
  tables: Tables,
  scratch: Scratch,
  addresses: Uint32Array,
  from: number,
  to: number,
  otherwise: number,
  nextHops: Uint16Array,
) => void

/** What stands in the cell of the node that `slot` points to: a slot, or a next hop. */
function follow(
  words: Int32Array,
  halves: Uint16Array,
  end: number,
  slot: number,
  cell: number,
): number {
  const node = slot & WORD
  if (node >= end) return 0
  return (words[node + (cell >>> 5)]! >>> cell) & 1
    ? words[node + SLOTS - 1 + rank(words, node, cell)]!
    : halves[2 * node - rank(words, node + LEAFVEC, cell)]!
}

const SHIFT4 = 32 - DIRECT_BITS[4]
const MASK = (1 << STRIDE) - 1

const walk4: Walk = (tables, scratch, addresses, from, to, otherwise, nextHops) => {
  const { words, halves, end } = tables
  const { slots } = scratch
  for (let i = from; i < to; i++) slots[i - from] = words[DIRECT + (addresses[i]! >>> SHIFT4)]!
  let touched = 0
  for (let i = 0; i < to - from; i++) touched ^= words[slots[i]! & WORD]!
  scratch.touched = touched
  for (let i = from; i < to; i++) {
    const address = addresses[i]!
    let slot = slots[i - from]!
    if (slot < 0) slot = follow(words, halves, end, slot, (address >>> (SHIFT4 - 6)) & MASK)
    if (slot < 0) slot = follow(words, halves, end, slot, (address >>> (SHIFT4 - 12)) & MASK)
    // Two bits are left.
    if (slot < 0) slot = follow(words, halves, end, slot, (address << (18 - SHIFT4)) & MASK)
    nextHops[i] = slot === 0 ? otherwise : slot
  }
}

const BITS6 = 128
const SHIFT6 = 32 - DIRECT_BITS[6]
const SHIFT6_TABLE = 32 - TOP_BITS[6]

const walk6: Walk = (tables, scratch, addresses, from, to, otherwise, nextHops) => {
  const { words, halves, end } = tables
  const { slots, depths, lanes } = scratch
  let active = 0
  for (let i = 0; i < to - from; i++) {
    const top = addresses[(from + i) * 4]!
    let slot = words[DIRECT + (top >>> SHIFT6)]!
    if (slot < 0) slot = words[(slot & WORD) + ((top >>> SHIFT6_TABLE) & (TABLE - 1))]!
    slots[i] = slot
    depths[i] = TOP_BITS[6]
    lanes[active] = i
    active += slot >>> 31
  }
  let touched = 0
  while (active > 0) {
    for (let k = 0; k < active; k++) touched ^= words[slots[lanes[k]!]! & WORD]!
    let stay = 0
    for (let k = 0; k < active; k++) {
      const i = lanes[k]!
      const depth = depths[i]!
      const at = (from + i) * 4
      let slot = slots[i]!
      if (depth >= BITS6) {
        slot = 0
      } else if (slot & SKIP) {
        const skip = slot & WORD
        const bits = skip < end ? halves[2 * skip + SKIP_BITS]! : 0
        if (bits === 0 || depth + bits > BITS6) {
          slot = 0
        } else {
          const same = bitsAt(addresses, at, 4, depth, bits) === words[skip + SKIP_ADDRESS]
          slot = same ? words[skip + SKIP_SLOT]! : halves[2 * skip]!
        }
        depths[i] = depth + bits
      } else {
        slot = follow(words, halves, end, slot, bitsAt(addresses, at, 4, depth, STRIDE))
        depths[i] = depth + STRIDE
      }
      slots[i] = slot
      lanes[stay] = i
      stay += slot >>> 31
    }
    active = stay
  }
  scratch.touched = touched
  for (let i = from; i < to; i++) {
    const slot = slots[i - from]!
    nextHops[i] = slot === 0 ? otherwise : slot
  }
}

export function reader(tables: Tables, family: 4 | 6): FibReader {
  const walk = family === 4 ? walk4 : walk6
  const { header } = tables
  const scratch: Scratch = {
    slots: new Int32Array(GROUP),
    depths: new Uint8Array(GROUP),
    lanes: new Uint8Array(GROUP),
    touched: 0,
  }

  /** In halves, down to one address, when what was read may not belong together. */
  function settle(addresses: Uint32Array, from: number, to: number, nextHops: Uint16Array): void {
    do {
      const version = versionOf(header)
      const otherwise = Atomics.load(header, DEFAULT)
      walk(tables, scratch, addresses, from, to, otherwise, nextHops)
      if (unmoved(header, version)) return
    } while (to - from === 1)
    const middle = (from + to) >>> 1
    settle(addresses, from, middle, nextHops)
    settle(addresses, middle, to, nextHops)
  }

  return {
    lookup(addresses, n, nextHops) {
      for (let from = 0; from < n; from += GROUP) {
        settle(addresses, from, Math.min(n, from + GROUP), nextHops)
      }
    },
  }
}
