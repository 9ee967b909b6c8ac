/**
 * Where everything of a tree ACL lies in its half of the region; native/addon/lookup/acl-tree.cc
 * reads the same. W is 1 (IPv4) or 4 (IPv6), R is `limits.rules`.
 *
 *   0    32-bit words: 0 trees T   1 nodes begin, bytes   2 blocks begin, bytes   3 nodes, 4 blocks
 *        in use   5-7 zero
 *   32   roots: T nodes, by their least order
 *   128  nodes, 8 bytes each, NODES(R) of them
 *   ...  blocks of eight rules, cache line aligned, 64 W + 128 bytes each, BLOCKS(R) of them
 *
 * A node is two words. Its parent's children lie behind each other:
 *
 *   cut    word 0: number of its first child
 *          word 1: least order below << 16 | shift << 8 | word << 4 | width (1 .. MAX_WIDTH)
 *          a header goes on with child (header[word] >>> shift) & (2^width - 1)
 *   leaf   word 0: number of its first block
 *          word 1: least order in it << 16 | blocks << 4 | 0; an empty one is NO_ORDER << 16
 *
 * A block is eight rules in order of rank; lanes that no rule needs repeat the last one:
 *
 *   0                 2 W times 8 x u32: the words of source and destination
 *   64 W              8 x u16 first source port, 8 x u16 first destination port
 *   64 W + 32         8 x u16, 8 x u16: last - first of the same
 *   64 W + 64         8 x u8 source prefix length, 8 x u8 destination's
 *   64 W + 80         8 x u8 protocol, 8 x u8 its mask (0 or 255)
 *   64 W + 96         8 x u32 order << 16 | rule id
 *
 * An order is a rule's place among all rules, sorted by rank. A block may hold rules of several
 * leaves: a rule that matches is a right candidate wherever it was found.
 */
import type { AclLimits } from '../acl.ts'
import { checkLimits, wordsOf } from '../rule.ts'

export const MAX_TREES = 8
/** Most bits of one cut. */
export const MAX_WIDTH = 12
export const LANES = 8
/** Most blocks of one leaf. */
export const MAX_LEAF_BLOCKS = 0xfff
/** Behind every rule's order, which are 0 .. 65,534. */
export const NO_ORDER = 0xffff

export const TREES = 0
export const NODES_AT = 1
export const BLOCKS_AT = 2
export const NODES_USED = 3
export const BLOCKS_USED = 4
/** Word of the first root. */
export const ROOTS = 8
const NODES_START = 128
const NODE_BYTES = 8
const LINE = 64

/** Offsets in a block, bytes. */
export interface BlockShape {
  readonly bytes: number
  readonly first: number
  readonly span: number
  readonly lengths: number
  readonly protocols: number
  readonly answers: number
}

export function blockShape(family: 4 | 6): BlockShape {
  const first = 64 * wordsOf(family)
  return {
    bytes: first + 128,
    first,
    span: first + 32,
    lengths: first + 64,
    protocols: first + 80,
    answers: first + 96,
  }
}

export interface TreeSizes {
  readonly nodes: number
  readonly blocks: number
  readonly blocksAt: number
  readonly bytes: number
}

/** Eight nodes a rule, and blocks for each rule four times. */
export function treeSizes(family: 4 | 6, limits: AclLimits): TreeSizes {
  checkLimits(limits)
  const nodes = 8 * limits.rules + 2048
  const blocks = Math.ceil(limits.rules / 2) + 64
  const blocksAt = Math.ceil((NODES_START + nodes * NODE_BYTES) / LINE) * LINE
  return { nodes, blocks, blocksAt, bytes: blocksAt + blocks * blockShape(family).bytes }
}

/** A half, with views of every width. */
export interface TreeMemory {
  readonly words: Uint32Array
  readonly shorts: Uint16Array
  readonly bytes: Uint8Array
  /** Word of node 0. */
  readonly nodesAt: number
  /** Byte of block 0. */
  readonly blocksAt: number
  readonly sizes: TreeSizes
}

export function openTree(family: 4 | 6, half: Uint8Array, limits: AclLimits): TreeMemory {
  const sizes = treeSizes(family, limits)
  const { buffer, byteOffset } = half
  return {
    words: new Uint32Array(buffer, byteOffset, sizes.bytes >>> 2),
    shorts: new Uint16Array(buffer, byteOffset, sizes.bytes >>> 1),
    bytes: new Uint8Array(buffer, byteOffset, sizes.bytes),
    nodesAt: NODES_START / 4,
    blocksAt: sizes.blocksAt,
    sizes,
  }
}

/** Word 1 of a cut. */
export function cutWord(least: number, word: number, shift: number, width: number): number {
  return ((least << 16) | (shift << 8) | (word << 4) | width) >>> 0
}

/** Word 1 of a leaf. */
export function leafWord(least: number, blocks: number): number {
  return ((least << 16) | (blocks << 4)) >>> 0
}

export const EMPTY_LEAF = leafWord(NO_ORDER, 0)
