/** What a prefix is in the slices of planb6.ts, and which ranges are of one route. */
import { ROOT_BITS, SLICE_BITS, SLICE_END, sliceOf } from './layout.ts'

/** First and last slice value of a prefix, in the layer where it ends. */
export function span(
  address: ArrayLike<number>,
  prefix: number,
): { layer: number; first: number; last: number } {
  const layer = (prefix - ROOT_BITS - 1) >>> 5
  const behind = ROOT_BITS + SLICE_BITS * (layer + 1) - prefix
  const first = sliceOf(address, layer)
  return { layer, first, last: (first | (2 ** behind - 1)) >>> 0 }
}

/** Whether the ranges on both sides of a border, owners of `left` and `right` bits, belong to one route. */
export function together(left: number, right: number, border: number, layer: number): boolean {
  if (left !== right) return false
  const bits = left - ROOT_BITS - SLICE_BITS * layer
  // A route of the layers above, or none, reaches over the whole tree.
  return bits <= 0 || (bits < SLICE_BITS && (border & (SLICE_END >>> bits)) !== 0)
}
