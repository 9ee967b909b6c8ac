/**
 * IPv6 by a path-compressed multibit trie: a root for the first 16 bits, below it nodes that each
 * decide four bits and exist only where routes end or paths part. A lookup walks down, remembers
 * the last next hop that it met, and stops where the path ends or the address leaves it. A table of
 * a few /64s and the /128s of one node is two or three nodes deep.
 *
 *   header     64 bytes: the version (version.ts)
 *   root       2^16 children of 32 bits, then 2^16 next hops of 16 bits
 *   nodes      NODE_BYTES each; node 0 is no node
 *     0   16 children: the node behind each value of the four bits, 0 for none
 *     64  16 next hops: of the longest route that ends in this node and has that value, 0 for none
 *     96  4 words: the address bits above the node (those behind `depth` don't matter)
 *     112 depth: how many bits those are, 16 .. 124, a multiple of 4
 *
 * A route of 1 .. 16 bits lies in the root, one of L bits in the node of depth (L - 1) & ~3, spread
 * over all values that it covers (controlled prefix expansion, V. Srinivasan, G. Varghese,
 * "Faster IP Lookups using Controlled Prefix Expansion", 1998). A node is one with routes, or one
 * with two children at least: R routes need at most 2R - 1 of them.
 *
 * Readers meet a change so: an address depends on one 16-bit next hop, or on one 32-bit child, that
 * the change stores once; nodes are complete before the Atomics.store that links them, and are
 * reached through the value loaded from there only. Taking out a node that decides nothing changes
 * no answer, and an unlinked node keeps what it held until `quiesced`. A lookup loads from several
 * nodes, so that several changes could show it a mixture: a batch that saw the version move is done
 * again, address by address (version.ts).
 */
import { wordsToIp } from '../../addresses.ts'
import type { Fib, FibLimits, FibReader, FibRoute, FibWriter } from '../fib.ts'
import { covering, lengthOf, numberOf, paint } from '../prefix-heap.ts'
import { checkLimits, checkPrefix, checkRoute, full, routeOf, wordMask } from '../route.ts'
import { slots } from '../slots.ts'
import { advance, unmoved, versionOf } from '../version.ts'

const HEADER_BYTES = 64
const ROOT_BITS = 16
const ROOT = 1 << ROOT_BITS
const STRIDE = 4
const BRANCHES = 1 << STRIDE
const NODE_BYTES = 128
const NODE_WORDS = NODE_BYTES / 4
const NODE_HALVES = NODE_BYTES / 2
/** Offsets in a node: in words, next hops in 16-bit halves. */
const HOPS = 32
const PREFIX = 24
const DEPTH = 28
/** Entries of a node's heap. */
const NODE_HEAP = 2 * BRANCHES

interface Tables {
  header: Int32Array
  rootChildren: Uint32Array
  rootHops: Uint16Array
  /** The same nodes as words and as halves. */
  nodes: Uint32Array
  halves: Uint16Array
}

/** Two a route, as many again for those that removals left until `quiesced`, and node 0. */
function nodesFor(limits: FibLimits): number {
  checkLimits(limits)
  return 4 * limits.routes + 1
}

function open({ buffer, byteOffset }: Uint8Array, limits: FibLimits): Tables {
  const rootAt = byteOffset + HEADER_BYTES
  const nodesAt = rootAt + ROOT * 6
  const count = nodesFor(limits)
  return {
    header: new Int32Array(buffer, byteOffset, HEADER_BYTES / 4),
    rootChildren: new Uint32Array(buffer, rootAt, ROOT),
    rootHops: new Uint16Array(buffer, rootAt + ROOT * 4, ROOT),
    nodes: new Uint32Array(buffer, nodesAt, count * NODE_WORDS),
    halves: new Uint16Array(buffer, nodesAt, count * NODE_HALVES),
  }
}

/** The four bits of an address behind `depth`. */
function branchOf(address: ArrayLike<number>, depth: number): number {
  return (address[depth >>> 5]! >>> (28 - (depth & 31))) & (BRANCHES - 1)
}

/** Depth of the node where a route longer than the root's ends. */
function depthOf(prefix: number): number {
  return (prefix - 1) & ~(STRIDE - 1)
}

function writer(memory: Uint8Array, limits: FibLimits): FibWriter {
  const { header, rootChildren, rootHops, nodes, halves } = open(memory, limits)
  const count = nodesFor(limits)
  const rootBook = new Uint16Array(2 * ROOT)
  /** By node: the heap of its routes, how many there are, how many children. */
  const book = new Uint16Array(count * NODE_HEAP)
  const routesIn = new Uint8Array(count)
  const childrenOf = new Uint8Array(count)
  const free = slots(1, count)
  let size = 0

  const depth = (node: number): number => nodes[node * NODE_WORDS + DEPTH]!
  const prefixWord = (node: number, w: number): number => nodes[node * NODE_WORDS + PREFIX + w]!

  /** A link is where a child stands: `parent` 0 is the root. */
  interface Link {
    parent: number
    branch: number
  }

  const linkOf = (parent: number, address: ArrayLike<number>): Link => ({
    parent,
    branch: parent === 0 ? address[0]! >>> ROOT_BITS : branchOf(address, depth(parent)),
  })

  function childAt({ parent, branch }: Link): number {
    return parent === 0 ? rootChildren[branch]! : nodes[parent * NODE_WORDS + branch]!
  }

  function link({ parent, branch }: Link, child: number): void {
    if (parent === 0) {
      Atomics.store(rootChildren, branch, child)
      return
    }
    const at = parent * NODE_WORDS + branch
    childrenOf[parent]! += (child === 0 ? 0 : 1) - (nodes[at] === 0 ? 0 : 1)
    Atomics.store(nodes, at, child)
  }

  /** Bits that address and node have in common, at most the node's depth and `most`, in whole strides. */
  function common(address: ArrayLike<number>, node: number, most: number): number {
    const limit = Math.min(depth(node), most)
    for (let w = 0; w * 32 < limit; w++) {
      const differ = prefixWord(node, w) ^ address[w]!
      if (differ !== 0) return Math.min(limit, (w * 32 + Math.clz32(differ)) & ~(STRIDE - 1))
    }
    return limit
  }

  /** A new node that is not linked yet. */
  function node(address: ArrayLike<number>, bits: number): number {
    const made = free.take()
    const at = made * NODE_WORDS
    nodes.fill(0, at, at + NODE_WORDS)
    for (let w = 0; w < 4; w++) nodes[at + PREFIX + w] = (address[w]! & wordMask(bits, w)) >>> 0
    nodes[at + DEPTH] = bits
    childrenOf[made] = 0
    return made
  }

  /** The links from the place of the address's node of depth `bits`, whether it is there or not, up to the root's. */
  function descend(address: ArrayLike<number>, bits: number): Link[] {
    const path = [linkOf(0, address)]
    for (;;) {
      const child = childAt(path[0]!)
      if (child === 0 || depth(child) >= bits || common(address, child, bits) < depth(child)) {
        return path
      }
      path.unshift(linkOf(child, address))
    }
  }

  /** The node at that place if it is the address's, else 0. */
  function found(address: ArrayLike<number>, bits: number, at: Link): number {
    const child = childAt(at)
    return child !== 0 && depth(child) === bits && common(address, child, bits) === bits ? child : 0
  }

  function numberIn(address: ArrayLike<number>, prefix: number): number {
    return prefix <= ROOT_BITS
      ? numberOf(address[0]! >>> ROOT_BITS, ROOT_BITS, prefix)
      : numberOf(branchOf(address, depthOf(prefix)), STRIDE, prefix - depthOf(prefix))
  }

  function set(at: number, number: number, nextHop: number): void {
    book[at * NODE_HEAP + number] = nextHop
    const shown = nextHop !== 0 ? nextHop : covering(book, at * NODE_HEAP, number)
    paint(book, at * NODE_HEAP, BRANCHES, number, shown, halves, at * NODE_HALVES + HOPS)
  }

  function setRoot(number: number, nextHop: number): void {
    rootBook[number] = nextHop
    const shown = nextHop !== 0 ? nextHop : covering(rootBook, 0, number)
    paint(rootBook, 0, ROOT, number, shown, rootHops, 0)
  }

  /** A route into a node that is not there: beside or above what stands at `at`. */
  function grow(address: ArrayLike<number>, prefix: number, nextHop: number, at: Link): void {
    const bits = depthOf(prefix)
    const there = childAt(at)
    const shared = there === 0 ? bits : common(address, there, bits)
    const needed = shared < bits ? 2 : 1
    if (free.available < needed) {
      throw new RangeError(
        `no room for ${wordsToIp(address)}/${prefix}: ${count - 1} nodes, ` +
          `${free.waiting} of them wait for quiesced()`,
      )
    }
    advance(header)
    const leaf = node(address, bits)
    set(leaf, numberIn(address, prefix), nextHop)
    routesIn[leaf] = 1
    if (there === 0) {
      link(at, leaf)
      return
    }
    const top = shared < bits ? node(address, shared) : leaf
    const words = [0, 1, 2, 3].map(w => prefixWord(there, w))
    link({ parent: top, branch: branchOf(words, shared) }, there)
    if (top !== leaf) link({ parent: top, branch: branchOf(address, shared) }, leaf)
    link(at, top)
  }

  /** Unlinks the node at the start of the path if it decides nothing, and then the one above it. */
  function prune(path: readonly Link[]): void {
    for (const at of path) {
      const idle = childAt(at)
      if (routesIn[idle] !== 0 || childrenOf[idle]! > 1) return
      const base = idle * NODE_WORDS
      const heir = nodes.subarray(base, base + BRANCHES).find(child => child !== 0) ?? 0
      link(at, heir)
      free.retire(idle)
      if (at.parent === 0) return
    }
  }

  return {
    get size() {
      return size
    },

    insert(address, prefix, nextHop) {
      checkRoute(4, address, prefix, nextHop)
      const number = numberIn(address, prefix)
      const bits = depthOf(prefix)
      const path = prefix <= ROOT_BITS ? [] : descend(address, bits)
      const at = path.length === 0 ? 0 : found(address, bits, path[0]!)
      const before =
        path.length === 0 ? rootBook[number]! : at === 0 ? 0 : book[at * NODE_HEAP + number]!
      if (before === nextHop) return
      if (before === 0 && size >= limits.routes) throw full(address, prefix, limits.routes)
      if (path.length > 0 && at === 0) {
        grow(address, prefix, nextHop, path[0]!)
      } else {
        advance(header)
        if (at === 0) setRoot(number, nextHop)
        else set(at, number, nextHop)
        if (at !== 0 && before === 0) routesIn[at]!++
      }
      if (before === 0) size++
    },

    remove(address, prefix) {
      checkPrefix(4, address, prefix)
      const number = numberIn(address, prefix)
      if (prefix <= ROOT_BITS) {
        if (rootBook[number] === 0) return false
        advance(header)
        setRoot(number, 0)
      } else {
        const path = descend(address, depthOf(prefix))
        const at = found(address, depthOf(prefix), path[0]!)
        if (at === 0 || book[at * NODE_HEAP + number] === 0) return false
        advance(header)
        set(at, number, 0)
        routesIn[at]!--
        prune(path)
      }
      size--
      return true
    },

    *routes(): Iterable<FibRoute> {
      for (let number = 1; number < rootBook.length; number++) {
        const length = lengthOf(number)
        // In two steps: a shift by 32 does nothing.
        const top = ((number << (31 - length)) << 1) >>> 0
        if (rootBook[number] !== 0) yield routeOf([top, 0, 0, 0], length, rootBook[number]!)
      }
      for (let at = 1; at < count; at++) {
        if (routesIn[at] === 0) continue
        for (let number = 2; number < NODE_HEAP; number++) {
          const nextHop = book[at * NODE_HEAP + number]!
          if (nextHop === 0) continue
          const length = lengthOf(number)
          const words = [0, 1, 2, 3].map(w => prefixWord(at, w))
          const branch = (number << (STRIDE - length)) & (BRANCHES - 1)
          words[depth(at) >>> 5]! |= branch << (28 - (depth(at) & 31))
          yield routeOf(words, depth(at) + length, nextHop)
        }
      }
    },

    quiesced: free.quiesced,
  }
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

/** Addresses `from` .. `to - 1`, each down the trie. */
function walk(
  { rootChildren, rootHops, nodes, halves }: Tables,
  addresses: Uint32Array,
  from: number,
  to: number,
  nextHops: Uint16Array,
): void {
  for (let i = from; i < to; i++) {
    const at = i * 4
    const top = addresses[at]! >>> ROOT_BITS
    let best = rootHops[top]!
    let node = rootChildren[top]!
    // Words of the address that are known to be the path's.
    let same = 0
    while (node !== 0) {
      const base = node * NODE_WORDS
      const depth = nodes[base + DEPTH]!
      const w = depth >>> 5
      const shift = 28 - (depth & 31)
      while (same < w && nodes[base + PREFIX + same] === addresses[at + same]) same++
      const word = addresses[at + w]!
      // The bits above the node's four; in two steps, because a shift by 32 does nothing.
      if (same < w || ((nodes[base + PREFIX + w]! ^ word) >>> shift) >>> STRIDE !== 0) break
      const branch = (word >>> shift) & (BRANCHES - 1)
      const hop = halves[node * NODE_HALVES + HOPS + branch]!
      if (hop !== 0) best = hop
      node = nodes[base + branch]!
    }
    nextHops[i] = best
  }
}

export const trie6: Fib = {
  name: 'trie6',
  family: 6,
  bytes: limits => HEADER_BYTES + ROOT * 6 + nodesFor(limits) * NODE_BYTES,
  writer,
  reader,
}
