/** Where a network's addresses come from when they are the daemon's own business. */
import { type Pool, poolsOf, rangesOf } from '../ipam-ranges.ts'
import type { Node } from './index.ts'

/** Networks whose ranges are remembered; further ones are only served. */
export const MAX_RANGED = 64

/**
 * The pools of network `name`; `ipam` is the configuration's. Its ranges are remembered, in memory
 * only, for `hawser ipam check`. Throws CniError (code 7).
 */
export function poolsFor(node: Node, name: string, ipam: unknown): Pool[] {
  const { podCidrs, exclude, ranges } = node
  const sets = rangesOf(ipam)
  const pools = poolsOf(podCidrs(), sets, exclude)
  if (sets === undefined) ranges?.delete(name)
  else if (ranges !== undefined && (ranges.size < MAX_RANGED || ranges.has(name))) {
    ranges.set(name, sets)
  }
  return pools
}
