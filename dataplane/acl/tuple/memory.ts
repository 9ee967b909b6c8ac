/**
 * The memory of tuple spaces: rules in hash tables, one table a *tuple*, which says how many bits of
 * each field its key has. `tss` and `tuplemerge` differ only in how their writers choose tuples; the
 * memory, the steps of a change (tuple-tables.ts) and the readers (tuple-reader.ts, and
 * native/addon/lookup/tuplemerge.cc) are the same.
 *
 * 32-bit words; R is `limits.rules` + 1 (a rule is replaced by its next version while both are
 * there), W the words of an address, D and N the words of a table and a node (8 for IPv4, 16 for IPv6):
 *
 *   0 version   1 which directory is valid, 0 or 1   2, 3 where they are   4 where the nodes are
 *   16          two directories of 16 + R * D words each:
 *                 0 number of tables, then 15 unused words; tables, the smallest best rank first:
 *                   0 best rank in it        1 first word of its slots << 4 | 32 - log2(slots)
 *                   2 mask of the ports      3 mask of the protocol       4 source mask, W words
 *                   4 + W destination mask, W words
 *   then        nodes 0 .. R of N words each; a node is one rule, written once and then only read,
 *               the fields in a header's order (first value, or the prefix's address):
 *                 IPv4: 0 source, 1 destination, 2 ports, 3 protocol | low half of the rank << 16
 *                       4-7 how far each goes: bits behind the prefixes, last - first of the ports
 *                       (source << 16 | destination), of the protocol 0 or 0xffff | high half of
 *                       the rank << 16
 *                 IPv6: 0-3 source, 4-7 destination, 8 ports, 9 protocol | low half of the rank << 16
 *                       10, 11 how far ports and protocol go, likewise
 *                       12 source length | destination length << 8
 *   then        two halves of 16 * R words each, where tables have their slots: 0, or
 *                 node << TAG_BITS | low bits of the key's hash, the lowest is always 1
 *
 * A table has a power of two of slots, never less than four times its rules; keys that
 * meet go to the next free slot (linear probing), the first one is hash >>> (32 - log2(slots)). Where
 * the slots are and how many is one word, so that a reader stays in bounds whatever it meets; their
 * first word is even, and so leaves the five bits. The number of tables is stored (release) behind
 * the tables that it counts and loaded (acquire) before them, so that a reader gets to no table that
 * was never written.
 */

import type { AclLimits } from '../acl.ts'
import { checkLimits, type FlatRule, wordMask, wordsOf } from '../rule.ts'

/** Header words; word 0 is the version (fib/version.ts). The places are there for the native twin. */
export const DIRECTORY = 1
const DIRECTORIES = 2
const NODES = 4
const HEADER_WORDS = 16
/** Words of a directory before its tables. */
export const DIRECTORY_HEADER = 16

/** Words of a table in a directory. */
export const BEST = 0
export const SLOTS = 1
export const PORTS_MASK = 2
export const PROTOCOL_MASK = 3
export const SOURCE_MASK = 4

/** Words of a node, IPv4. */
export const NODE4 = { source: 0, destination: 1, ports: 2, protocol: 3, far: 4 } as const
/** Words of a node, IPv6; `far` begins with the ports. */
export const NODE6 = {
  source: 0,
  destination: 4,
  ports: 8,
  protocol: 9,
  far: 10,
  lengths: 12,
} as const

/** Bits of the hash in a slot; the 17 above them are a node: MAX_RULE_ID + 1 of them, and none. */
export const TAG_BITS = 15
export const TAG = (1 << TAG_BITS) - 1

/** Slots of a table, by rule in it, at least; a power of two may make them nearly twice as many. */
export const SLOTS_OF_RULE = 4
/** Words of a half, by rule: what tables have at most, and as many until they move again. */
const HALF_OF_RULE = 4 * SLOTS_OF_RULE

/** Where things are, in words. */
export interface Places {
  readonly family: 4 | 6
  /** W, D and N. */
  readonly words: 1 | 4
  readonly stride: 8 | 16
  readonly directories: readonly [number, number]
  readonly nodes: number
  /** Nodes that may be in use: 1 .. rules. */
  readonly rules: number
  readonly halves: readonly [number, number]
  readonly half: number
  readonly end: number
}

/** Throws RangeError for limits out of range. */
export function placesOf(family: 4 | 6, limits: AclLimits): Places {
  checkLimits(limits)
  const rules = limits.rules + 1
  const stride = family === 4 ? 8 : 16
  const directory = align(DIRECTORY_HEADER + rules * stride)
  const nodes = HEADER_WORDS + 2 * directory
  const slots = nodes + align((rules + 1) * stride)
  const half = align(HALF_OF_RULE * rules)
  return {
    family,
    words: wordsOf(family),
    stride,
    directories: [HEADER_WORDS, HEADER_WORDS + directory],
    nodes,
    rules,
    halves: [slots, slots + half],
    half,
    end: slots + 2 * half,
  }
}

/** To whole cache lines. */
const align = (words: number) => (words + 15) & ~15

export interface Space {
  readonly places: Places
  readonly header: Int32Array
  readonly words: Uint32Array
}

export function open({ buffer, byteOffset }: Uint8Array, places: Places): Space {
  return {
    places,
    header: new Int32Array(buffer, byteOffset, HEADER_WORDS),
    words: new Uint32Array(buffer, byteOffset, places.end),
  }
}

/** Writes what the native twin needs to know. */
export function describe({ places, words }: Space): void {
  words.set(places.directories, DIRECTORIES)
  words[NODES] = places.nodes
}

/** How many bits of each field a table's key has. */
export interface Tuple {
  source: number
  destination: number
  /** 0 .. 16. A range has the bits that its first and last port share. */
  sourcePort: number
  destinationPort: number
  /** 0 or 8. */
  protocol: number
}

/** The longest tuple that a rule fits into. */
export function tupleOf(rule: FlatRule): Tuple {
  return {
    source: rule.sourceLength,
    destination: rule.destinationLength,
    sourcePort: shared(rule.sourceFirst, rule.sourceLast),
    destinationPort: shared(rule.destinationFirst, rule.destinationLast),
    protocol: rule.protocol < 0 ? 0 : 8,
  }
}

const shared = (first: number, last: number) => Math.clz32(first ^ last) - 16

/** A table's SLOTS word: 2^bits slots from `first` on, and what readers do with it. */
export const slotsWord = (first: number, bits: number) => (first << 4) | (32 - bits)
export const firstSlot = (word: number) => (word >>> 4) & ~1
export const shiftOf = (word: number) => word & 31

/** The words of a table from PORTS_MASK on. */
export function masksOf(words: 1 | 4, tuple: Tuple): Uint32Array {
  const masks = new Uint32Array(2 + 2 * words)
  masks[0] = portMask(tuple.sourcePort) * 0x1_0000 + portMask(tuple.destinationPort)
  masks[1] = tuple.protocol === 0 ? 0 : 255
  for (let w = 0; w < words; w++) {
    masks[2 + w] = wordMask(tuple.source, w)
    masks[2 + words + w] = wordMask(tuple.destination, w)
  }
  return masks
}

const portMask = (bits: number) => (0xffff << (16 - bits)) & 0xffff

/** Odd multipliers of the hash: ports, protocol, source, destination. A sum of products, then mixed: its high bits choose a slot, its low
 * ones are the tag; the lowest is 1, so that no tag is that of an empty slot. */
export const MULTIPLIERS = [
  0x9e37_79b1, 0x85eb_ca77, 0xc2b2_ae3d, 0x27d4_eb2f, 0x1656_67b1, 0xd3a2_646d, 0xfd70_46c5,
  0xb55a_4f09, 0x5851_f42d, 0x4c95_7f2d,
] as const
export const MIX = 0x2c1b_3c6d

/** The key's hash of a rule under a table's masks, as readers compute it for a header. */
export function hashOf(rule: FlatRule, masks: Uint32Array): number {
  const words = rule.source.length
  const ports = rule.sourceFirst * 0x1_0000 + rule.destinationFirst
  let sum = Math.imul(ports & masks[0]!, MULTIPLIERS[0])
  sum += Math.imul(rule.protocol & masks[1]!, MULTIPLIERS[1])
  for (let w = 0; w < words; w++) {
    sum += folded(rule.source[w]! & masks[2 + w]!, MULTIPLIERS[2 + w]!)
    sum += folded(rule.destination[w]! & masks[2 + words + w]!, MULTIPLIERS[2 + words + w]!)
  }
  return (Math.imul(sum ^ (sum >>> 15), MIX) | 1) >>> 0
}

/** A prefix has its bits above; without folding, a sum of short ones would only have these. */
const folded = (word: number, by: number) => Math.imul(word ^ (word >>> 16), by)
