/**
 * The textbook's trie, both families: one node a bit. A lookup goes left or right by the next bit of
 * the address, as long as there is a node, and the last next hop that it met on its way is the
 * answer. Nothing is compressed, so that it can be read in one go; every faster FIB is this one with
 * steps left out.
 *
 *   header  64 bytes: the version (version.ts)
 *   nodes   three 32-bit words each: the child of bit 0, the child of bit 1 (0: none), the next hop
 *           of the route that ends here (0: none). Node 0 is no node, node 1 the root, for /0.
 *
 * A node is there when a route ends in it or below it. At each depth that is one a route at most,
 * and 2^depth at most; `bytes` has room for twice as many, so that those of `limits.routes` removals
 * may wait for `quiesced`.
 *
 * Readers meet a change so: it is one store that they can see, a next hop or a link, and a chain of
 * new nodes is complete before the Atomics.store that links its top. When a route goes, its next hop
 * goes first; unlinking the nodes that this leaves idle changes no answer, and they keep what they
 * hold until `quiesced`. A lookup loads from many nodes, so that several changes could show it a
 * mixture: a batch that saw the version move is done again, address by address.
 */
import { wordsToIp } from '../addresses.ts'
import type { Fib, FibLimits, FibReader, FibRoute, FibWriter } from './fib.ts'
import { checkLimits, checkPrefix, checkRoute, full, routeOf } from './route.ts'
import { slots } from './slots.ts'
import { advance, unmoved, versionOf } from './version.ts'

const HEADER_WORDS = 16
const NODE_WORDS = 3
/** Word of a node, behind its two children. */
const HOP = 2
const ROOT = 1

/** Node 0, and two for each that `limits.routes` prefixes can need: at each depth one a prefix, and one a path. */
function nodesFor(limits: FibLimits, bits: number): number {
  checkLimits(limits)
  let nodes = 0
  for (let depth = 0; depth <= bits; depth++) nodes += Math.min(2 ** depth, limits.routes)
  return 2 * nodes + 1
}

/** Bit number `depth` of an address whose words begin at `from`. */
function bitOf(address: ArrayLike<number>, depth: number, from = 0): number {
  return (address[from + (depth >>> 5)]! >>> (31 - (depth & 31))) & 1
}

function binary(name: string, words: 1 | 4): Fib {
  const bits = 32 * words
  const bytes = (limits: FibLimits): number =>
    (HEADER_WORDS + nodesFor(limits, bits) * NODE_WORDS) * 4
  return {
    name,
    family: words === 1 ? 4 : 6,
    bytes,
    writer: (memory, limits) => writer(open(memory, bytes(limits)), limits, words),
    reader: (memory, limits) => reader(open(memory, bytes(limits)), words),
  }
}

interface Tables {
  header: Int32Array
  nodes: Uint32Array
}

function open({ buffer, byteOffset }: Uint8Array, bytes: number): Tables {
  return {
    header: new Int32Array(buffer, byteOffset, HEADER_WORDS),
    nodes: new Uint32Array(buffer, byteOffset + HEADER_WORDS * 4, bytes / 4 - HEADER_WORDS),
  }
}

function writer({ header, nodes }: Tables, limits: FibLimits, words: 1 | 4): FibWriter {
  const bits = 32 * words
  const count = nodesFor(limits, bits)
  const free = slots(ROOT + 1, count)
  /** Nodes from the root towards the prefix, by depth, as far as there are any. */
  const path = new Uint32Array(bits + 1)
  path[0] = ROOT
  let size = 0

  /** Fills `path`; returns how many of the prefix's bits it goes along. */
  function descend(address: ArrayLike<number>, prefix: number): number {
    for (let depth = 0; depth < prefix; depth++) {
      const child = nodes[path[depth]! * NODE_WORDS + bitOf(address, depth)]!
      if (child === 0) return depth
      path[depth + 1] = child
    }
    return prefix
  }

  /** Nodes for the bits behind `depth`, linked last. */
  function grow(address: ArrayLike<number>, depth: number, prefix: number, nextHop: number): void {
    if (free.available < prefix - depth) {
      throw new RangeError(
        `no room for ${wordsToIp(address)}/${prefix}: ${count} nodes, ` +
          `${free.waiting} of them wait for quiesced()`,
      )
    }
    advance(header)
    let child = 0
    for (let at = prefix; at > depth; at--) {
      const node = free.take()
      const base = node * NODE_WORDS
      nodes.fill(0, base, base + NODE_WORDS)
      if (at === prefix) nodes[base + HOP] = nextHop
      else nodes[base + bitOf(address, at)] = child
      child = node
    }
    Atomics.store(nodes, path[depth]! * NODE_WORDS + bitOf(address, depth), child)
  }

  /** Unlinks the idle end of the path to `prefix` bits, by the link above it. */
  function prune(address: ArrayLike<number>, prefix: number): void {
    const idle = (depth: number): boolean => {
      const base = path[depth]! * NODE_WORDS
      const below = depth === prefix ? 0 : path[depth + 1]!
      return nodes[base + HOP] === 0 && nodes[base]! + nodes[base + 1]! === below
    }
    let top = prefix
    while (top > 0 && idle(top)) top--
    if (top === prefix) return
    Atomics.store(nodes, path[top]! * NODE_WORDS + bitOf(address, top), 0)
    for (let depth = top + 1; depth <= prefix; depth++) free.retire(path[depth]!)
  }

  return {
    get size() {
      return size
    },

    insert(address, prefix, nextHop) {
      checkRoute(words, address, prefix, nextHop)
      const depth = descend(address, prefix)
      const hop = path[depth]! * NODE_WORDS + HOP
      const before = depth === prefix ? nodes[hop]! : 0
      if (before === nextHop) return
      if (before === 0 && size >= limits.routes) throw full(address, prefix, limits.routes)
      if (depth < prefix) {
        grow(address, depth, prefix, nextHop)
      } else {
        advance(header)
        Atomics.store(nodes, hop, nextHop)
      }
      if (before === 0) size++
    },

    remove(address, prefix) {
      checkPrefix(words, address, prefix)
      const hop = descend(address, prefix) < prefix ? 0 : path[prefix]! * NODE_WORDS + HOP
      if (hop === 0 || nodes[hop] === 0) return false
      advance(header)
      Atomics.store(nodes, hop, 0)
      prune(address, prefix)
      size--
      return true
    },

    *routes(): Iterable<FibRoute> {
      const stack = [{ node: ROOT, depth: 0, address: new Array<number>(words).fill(0) }]
      for (let at = stack.pop(); at !== undefined; at = stack.pop()) {
        const { node, depth, address } = at
        const base = node * NODE_WORDS
        if (nodes[base + HOP] !== 0) yield routeOf(address, depth, nodes[base + HOP]!)
        for (const bit of [0, 1]) {
          if (nodes[base + bit] === 0) continue
          const below = [...address]
          below[depth >>> 5]! |= bit << (31 - (depth & 31))
          stack.push({ node: nodes[base + bit]!, depth: depth + 1, address: below })
        }
      }
    },

    quiesced: free.quiesced,
  }
}

function reader({ header, nodes }: Tables, words: 1 | 4): FibReader {
  const bits = 32 * words

  /** Next hop of the address whose words begin at `from`. */
  function walk(addresses: Uint32Array, from: number): number {
    let best = 0
    let node = ROOT
    for (let depth = 0; node !== 0; depth++) {
      const base = node * NODE_WORDS
      const hop = nodes[base + HOP]!
      if (hop !== 0) best = hop
      if (depth === bits) break
      node = nodes[base + bitOf(addresses, depth, from)]!
    }
    return best
  }

  return {
    lookup(addresses, n, nextHops) {
      const version = versionOf(header)
      for (let i = 0; i < n; i++) nextHops[i] = walk(addresses, i * words)
      if (unmoved(header, version)) return
      for (let i = 0; i < n; i++) {
        let before: number
        do {
          before = versionOf(header)
          nextHops[i] = walk(addresses, i * words)
        } while (!unmoved(header, before))
      }
    },
  }
}

export const binary4 = binary('binary4', 1)
export const binary6 = binary('binary6', 4)
