/**
 * The table of the networks that this node is in beside the cluster's own: by VNI, open addressing,
 * linear probing, in the arena. Written whole by the main thread inside a change of the tables, read by
 * workers in their copy. (The cluster's own network is 0, its facts are in the arena's header.)
 *
 * Port records, next hops and packets name a network by its index, 1 .. MAX_NETWORK. Networks don't
 * share addresses, so all of them are in one FIB; a packet that finds a next hop of another network
 * than its own is dropped (`route`).
 *
 * Slot, NETWORK_BYTES bytes: word 0 the VNI (0 empty), 1 the index, 2 the gateway of this node's pods
 * (0: none), 3-6 the same in IPv6.
 */
import { MAX_NETWORKS, NETWORK_SLOTS } from '../limits.ts'
import { type Arena, NETWORK_BYTES } from '../memory/arena.ts'
import { markMoved } from './blocks.ts'

const WORDS = NETWORK_BYTES / 4

/** Largest index: a batch's column has 8 bits for it. */
export const MAX_NETWORK = 255

export interface NetworkEntry {
  /** 1 .. 2^24 - 1. */
  vni: number
  /** 1 .. MAX_NETWORK. */
  index: number
  /** Absent: this node has no such CIDR in it. */
  gateway4?: number
  /** Four words, most significant first. */
  gateway6?: Uint32Array
}

function slotOf(vni: number): number {
  const h = Math.imul(vni, 0x9e37_79b1)
  return (h >>> 16) & (NETWORK_SLOTS - 1)
}

/** Inside a change of the tables: writes the whole table. Throws RangeError above MAX_NETWORKS. */
export function writeNetworks(arena: Arena, networks: readonly NetworkEntry[]): void {
  if (networks.length > MAX_NETWORKS) {
    throw new RangeError(`${networks.length} networks: the table takes ${MAX_NETWORKS}`)
  }
  const { layout, words } = arena
  const at = layout.networks.offset / 4
  words.fill(0, at, at + NETWORK_SLOTS * WORDS)
  for (const { vni, index, gateway4 = 0, gateway6 = new Uint32Array(4) } of networks) {
    let slot = slotOf(vni)
    while (words[at + slot * WORDS] !== 0) slot = (slot + 1) & (NETWORK_SLOTS - 1)
    words.set([vni, index, gateway4, ...gateway6], at + slot * WORDS)
  }
  markMoved(arena, 'networks', 0, layout.networks.bytes)
}

/** Index of the network with this VNI in the table at word index `at`; -1 for none. At most NETWORK_SLOTS probes: half of the slots are empty. */
export function networkOf(words: Int32Array, at: number, vni: number): number {
  let slot = slotOf(vni)
  for (;;) {
    const p = at + slot * WORDS
    const there = words[p]!
    if (there === 0) return -1
    if (there === vni) return words[p + 1]!
    slot = (slot + 1) & (NETWORK_SLOTS - 1)
  }
}

/** Fills, by index, the gateways of the table at word index `at`; 0 where there is none. */
export function readGateways(
  words: Int32Array,
  at: number,
  gateway4: Uint32Array,
  gateway6: Uint32Array,
): void {
  gateway4.fill(0)
  gateway6.fill(0)
  for (let p = at; p < at + NETWORK_SLOTS * WORDS; p += WORDS) {
    if (words[p] === 0) continue
    const index = words[p + 1]!
    gateway4[index] = words[p + 2]!
    for (let w = 0; w < 4; w++) gateway6[index * 4 + w] = words[p + 3 + w]!
  }
}
