/**
 * IPv6 by ranges, after Z. Zhang, L. Liu, C. Chen et al., "PlanB: Efficient Software IPv6 Lookup with
 * Linearized B+-Tree" (NSDI 2026): prefixes cut the address space into ranges that don't overlap, each
 * with the next hop of its longest prefix, and a B+-tree of wide nodes finds the range of an address.
 * PlanB keeps all ranges in one array that is built anew; here a change makes new nodes for those that
 * it touches. Keys are slices of 32 bits, as in Masstree (Y. Mao, E. Kohler, R. Morris, "Cache
 * Craftiness for Fast Multicore Key-Value Storage", EuroSys 2012), so that a cache line has 16 of them:
 *
 *   bits 0 .. 19   the root, an array
 *   20 .. 51, 52 .. 83, 84 .. 115, 116 .. 127   layers 0 .. 3: a tree for each value of the bits above
 *                  that has longer routes
 *
 *   header   128 bytes: the version (version.ts), next hop of ::/0
 *   root     2^20 values of 32 bits: the tree of layer 0, 0 for none; then 2^20 next hops of 16 bits,
 *            of the longest route of 1 .. 20 bits
 *   pool     fans, 16 KiB each, then nodes, 128 bytes each
 *   node 0   16 keys: where a range begins, ascending
 *     64     16 values: four times a next hop, 0 for no route of more than 20 bits; or a node's place
 *            in the pool, bytes, and NODE: the ranges from this key on; or the same and DEEPER: the
 *            tree of the next layer, for one slice value alone
 *   fan 0    2^12 values, by the first bits of the slice: a next hop or a node as above
 *
 * A tree of layer 0 that outgrows one node takes a fan, while there are any (MAX_FANS; one for eight
 * routes at most), and has then up to 2^12 trees, most of them of one node: a full Internet table is
 * two nodes deep instead of more than three. Without it grows upwards.
 *
 * A node with fewer entries has them at its end and keys of zero in front, so that the entry of a
 * slice is always the last one whose key isn't greater. Ranges that a deeper tree has no route for
 * carry the next hop of the layers above. Only the root's is looked up when there is none.
 *
 * A node has LEAST entries at least, or is the top of its tree. A route makes a border or two in its
 * tree (none where cells of a fan meet), a tree the same in the one above; so R routes need at most 4R
 * nodes (a /128 alone has four).
 *
 * Readers meet a change so. It is made in steps, and each one advances the version. A step changes the
 * borders of ranges or their next hops. Borders: new nodes are complete before the one Atomics.store
 * that puts them in the place of old ones, and give every address the same answer. Next hops: an
 * address depends on one value, which the step stores once. So a reader that met the stores of one
 * step at most found the old or the new next hop. Nodes that a step unlinks are used again in the next
 * step: a reader that met several may have walked through anything (never out of the table), but sees
 * that the version moved, and the batch is done again, address by address. Nothing waits for
 * `quiesced`. A reader's walk ends whatever it meets: when the writer is at rest, all that can be
 * reached is trees.
 *
 * Cost of a change: some nodes, and one store for each range below the prefix that has no longer route
 * (2^(20 - L) root entries for a prefix of L <= 20 bits, one word for ::/0).
 */
import { wordsToIp } from '../../addresses.ts'
import type { Fib, FibLimits, FibReader, FibWriter } from '../fib.ts'
import { checkPrefix, checkRoute, full } from '../route.ts'
import { advance, unmoved, versionOf } from '../version.ts'
import {
  CELL_BITS,
  DEEPER,
  DEFAULT,
  FAN,
  HEADER_BYTES,
  HOP_SHIFT,
  LAYERS,
  NODE,
  NODE_SHIFT,
  NODE_WORDS,
  nodesFor,
  open,
  poolBytes,
  ROOT,
  ROOT_BITS,
  rootOf,
  SPARE_NODES,
  type Tables,
  VALUES,
} from './layout.ts'
import { routeSet } from './routes.ts'
import { trees } from './trees.ts'

function writer(memory: Uint8Array, limits: FibLimits): FibWriter {
  const tables = open(memory, limits)
  const { header, rootHops } = tables
  const { available, cutOut, paint, joinUp } = trees(tables, limits)
  const book = routeSet(limits.routes)
  /** By root entry: length of the route that it shows. */
  const rootOwners = new Uint8Array(ROOT)

  type Address = ArrayLike<number>

  /** Gives what is below the prefix and has an owner of `least` bits or more, `prefix` at most, to `owner`. */
  function show(address: Address, prefix: number, least: number, owner: number, hop: number): void {
    if (prefix > ROOT_BITS) {
      paint({ address, prefix }, least, prefix, owner, hop)
      return
    }
    advance(header)
    if (prefix === 0) {
      Atomics.store(header, DEFAULT, hop)
      return
    }
    const first = rootOf(address)
    const end = first + 2 ** (ROOT_BITS - prefix)
    for (let at = first; at < end; at++) {
      if (rootOwners[at]! < least || rootOwners[at]! > prefix) continue
      rootOwners[at] = owner
      rootHops[at] = hop
    }
  }

  return {
    get size() {
      return book.size
    },

    insert(address, prefix, nextHop) {
      checkRoute(4, address, prefix, nextHop)
      const before = book.get(address, prefix)
      if (before === nextHop) return
      if (before === 0 && book.size >= limits.routes) throw full(address, prefix, limits.routes)
      if (before === 0 && prefix > ROOT_BITS) {
        if (available() < SPARE_NODES) throw noRoom(address, prefix, limits)
        cutOut(address, prefix)
      }
      book.set(address, prefix, nextHop)
      show(address, prefix, 0, prefix, nextHop)
    },

    remove(address, prefix) {
      checkPrefix(4, address, prefix)
      if (book.get(address, prefix) === 0) return false
      book.delete(address, prefix)
      const least = prefix > ROOT_BITS ? ROOT_BITS + 1 : 1
      const owner = book.covering(address, prefix, least)
      show(address, prefix, prefix, owner, owner === 0 ? 0 : book.get(address, owner))
      if (prefix > ROOT_BITS) joinUp(address, prefix)
      return true
    },

    routes: book.routes,

    quiesced() {},
  }
}

/** Never seen: nodesFor has room for whatever routes there are. */
function noRoom(address: ArrayLike<number>, prefix: number, limits: FibLimits): RangeError {
  return new RangeError(`no room for ${wordsToIp(address)}/${prefix}: ${nodesFor(limits)} nodes`)
}

function reader(memory: Uint8Array, limits: FibLimits): FibReader {
  const tables = open(memory, limits)
  const { header } = tables
  return {
    lookup(addresses, n, nextHops) {
      const version = versionOf(header)
      walk(tables, addresses, 0, n, nextHops)
      if (unmoved(header, version)) return
      for (let i = 0; i < n; i++) {
        let before: number
        do {
          before = versionOf(header)
          walk(tables, addresses, i, i + 1, nextHops)
        } while (!unmoved(header, before))
      }
    },
  }
}

/** Addresses `from` .. `to - 1`. */
function walk(
  { header, rootValues, rootHops, keys, values }: Tables,
  addresses: Uint32Array,
  from: number,
  to: number,
  nextHops: Uint16Array,
): void {
  const otherwise = header[DEFAULT]!
  const tail = 32 - ROOT_BITS
  for (let i = from; i < to; i++) {
    let at = 4 * i
    const top = addresses[at]! >>> tail
    let value = rootValues[top]!
    if ((value & NODE) !== 0) {
      const end = at + LAYERS - 1
      let slice = ((addresses[at]! << ROOT_BITS) | (addresses[at + 1]! >>> tail)) >>> 0
      if ((value & FAN) !== 0) {
        value = values[(value >>> NODE_SHIFT) * NODE_WORDS + (slice >>> CELL_BITS)]!
      }
      while ((value & NODE) !== 0) {
        let entry = (value >>> NODE_SHIFT) * NODE_WORDS
        if (keys[entry + 8]! <= slice) entry += 8
        if (keys[entry + 4]! <= slice) entry += 4
        if (keys[entry + 2]! <= slice) entry += 2
        if (keys[entry + 1]! <= slice) entry += 1
        value = values[entry + VALUES]!
        if ((value & DEEPER) !== 0 && at < end) {
          at++
          slice = (addresses[at]! << ROOT_BITS) >>> 0
          if (at < end) slice = (slice | (addresses[at + 1]! >>> tail)) >>> 0
        }
      }
      value >>>= HOP_SHIFT
    }
    if (value === 0) value = rootHops[top]!
    nextHops[i] = value !== 0 ? value : otherwise
  }
}

export const planb6: Fib = {
  name: 'planb6',
  family: 6,
  bytes: limits => HEADER_BYTES + ROOT * 6 + poolBytes(limits),
  writer,
  reader,
}
