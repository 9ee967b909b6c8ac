/** Where planb6.ts keeps what, for its writer and its reader; the layout to the byte is explained there. */
import type { FibLimits } from '../fib.ts'
import { checkLimits } from '../route.ts'

export const HEADER_BYTES = 128
/** Header word: next hop of ::/0, 0 for none. Word 0 is the version. */
export const DEFAULT = 1

/** Address bits that the root decides, and the bits of each slice behind them. */
export const ROOT_BITS = 20
export const ROOT = 1 << ROOT_BITS
export const SLICE_BITS = 32
/** Longest slice value. */
export const SLICE_END = 0xffff_ffff
export const LAYERS = 4

/** Entries of a node: as many 32-bit keys as a cache line has room for. */
export const WIDTH = 16
export const NODE_BYTES = 8 * WIDTH
export const NODE_WORDS = 2 * WIDTH
/** Offset of the values in a node, words. */
export const VALUES = WIDTH

/** Slice bits that a fan decides, its cells, and what one of them has of the slice's values. */
export const FAN_BITS = 12
export const CELLS = 1 << FAN_BITS
export const CELL_BITS = SLICE_BITS - FAN_BITS
export const CELL_END = 2 ** CELL_BITS - 1
/** Most fans; beyond, large trees go without. */
export const MAX_FANS = 2048
/** Routes of a tree that takes one, at least. */
const FAN_ROUTES = 8
/** A fan takes the place of so many nodes. */
export const FAN_NODES = (4 * CELLS) / NODE_BYTES

/**
 * A value is a next hop shifted by HOP_SHIFT, or the place of a node in the pool, in bytes, and NODE:
 * with DEEPER that node belongs to the next slice, with FAN it is a fan.
 */
export const NODE = 1
export const DEEPER = 2
export const FAN = 4
export const FLAGS = NODE | DEEPER | FAN
export const HOP_SHIFT = 2
export const NODE_SHIFT = 7

/** Nodes beyond those that routes need: more than one step of a change takes before it frees any. */
export const SPARE_NODES = 64

export interface Tables {
  header: Int32Array
  rootValues: Int32Array
  rootHops: Uint16Array
  /** The pool, as keys and as values. */
  keys: Uint32Array
  values: Int32Array
}

/** Four a route (planb6.ts says why) and the spare ones. Throws RangeError. */
export function nodesFor(limits: FibLimits): number {
  checkLimits(limits)
  return LAYERS * limits.routes + SPARE_NODES
}

export function fansFor(limits: FibLimits): number {
  checkLimits(limits)
  return Math.min(MAX_FANS, Math.ceil(limits.routes / FAN_ROUTES))
}

/** Bytes of the pool: fans, then nodes. */
export function poolBytes(limits: FibLimits): number {
  return (fansFor(limits) * FAN_NODES + nodesFor(limits)) * NODE_BYTES
}

export function open({ buffer, byteOffset }: Uint8Array, limits: FibLimits): Tables {
  const rootAt = byteOffset + HEADER_BYTES
  const poolAt = rootAt + ROOT * 6
  const words = poolBytes(limits) / 4
  return {
    header: new Int32Array(buffer, byteOffset, HEADER_BYTES / 4),
    rootValues: new Int32Array(buffer, rootAt, ROOT),
    rootHops: new Uint16Array(buffer, rootAt + ROOT * 4, ROOT),
    keys: new Uint32Array(buffer, poolAt, words),
    values: new Int32Array(buffer, poolAt, words),
  }
}

/** The root's entry of an address. */
export function rootOf(address: ArrayLike<number>): number {
  return address[0]! >>> (32 - ROOT_BITS)
}

/** The 32 bits of an address that layer `layer` (0 .. 3) decides; the last layer has 12, and zeros. */
export function sliceOf(address: ArrayLike<number>, layer: number): number {
  const next = layer + 1 < LAYERS ? address[layer + 1]! : 0
  return ((address[layer]! << ROOT_BITS) | (next >>> (32 - ROOT_BITS))) >>> 0
}

/** The value of a node that belongs to the same slice as what is above it. */
export function linkTo(node: number): number {
  return (node << NODE_SHIFT) | NODE
}

/** Number of the node that a value leads to. */
export function nodeOf(value: number): number {
  return value >>> NODE_SHIFT
}

export function isNode(value: number): boolean {
  return (value & NODE) !== 0
}

/** A node of the same tree. */
export function isInner(value: number): boolean {
  return (value & FLAGS) === NODE
}
