/** Where a network's addresses come from when they are the daemon's own business. */

import { clean } from '../base/document.ts'
import { CniError, CODE } from '../spec/errors.ts'
import type { StatusConfig } from '../spec/netconf.ts'
import { type Block, type Pool, poolsOf, type RangeSets, rangesOf } from './ranges.ts'

/** Where the daemon's own addresses come from. */
export interface AddressSources {
  /** This node's pod CIDRs, as they are now; those in an overlay network beside the cluster's own, if any. */
  podCidrs: (overlay?: string) => readonly string[]
  /** Overlay networks beside the cluster's own that this node is in; absent: none. */
  overlays?: () => readonly string[]
  /** Addresses that no pod may have, whatever a network configuration says. */
  exclude?: readonly Block[]
  /** Ranges of networks that have some, by name; filled by ADD and STATUS. */
  ranges?: Map<string, { sets: RangeSets; overlay: string | undefined }>
}

/** Networks whose ranges are remembered; further ones are only served. */
export const MAX_RANGED = 64

/**
 * The pools that a network configuration says. Its ranges are remembered, in memory only, for `hawser
 * ipam check`. `namespace`: of the pod that they are for; absent: of all. Throws CniError (code 7).
 */
export function poolsFor(
  node: AddressSources,
  { name, ipam, network }: Pick<StatusConfig, 'name' | 'ipam' | 'network'>,
  namespace?: string,
): Pool[] {
  const { exclude, ranges } = node
  const sets = rangesOf(ipam)
  const pools = poolsOf(overlayCidrs(node, network), sets, exclude, namespace)
  if (sets === undefined) ranges?.delete(name)
  else if (ranges !== undefined && (ranges.size < MAX_RANGED || ranges.has(name))) {
    ranges.set(name, { sets, overlay: network })
  }
  return pools
}

/** This node's CIDRs in an overlay network, absent: the cluster's own. Throws CniError (code 7) when it has none there. */
export function overlayCidrs(
  { podCidrs, overlays }: AddressSources,
  overlay: string | undefined,
): readonly string[] {
  if (overlay === undefined) return podCidrs()
  const names = overlays?.() ?? []
  if (names.includes(overlay)) return podCidrs(overlay)
  const there = names.length === 0 ? 'in none' : `in ${names.join(', ')}`
  throw new CniError(
    CODE.config,
    `network configuration: network: ${clean(overlay)}: this node has no pod CIDR in a network of that name, but ${there}`,
    "networks are in the cluster file; without the key it is the cluster's own",
  )
}

/** The pod CIDRs whole, by overlay network; the cluster's own first. */
export function wholePools({
  podCidrs,
  overlays,
  exclude,
}: AddressSources): { overlay?: string; pools: Pool[] }[] {
  const further = (overlays?.() ?? []).map(overlay => {
    return { overlay, pools: poolsOf(podCidrs(overlay), undefined, exclude) }
  })
  return [{ pools: poolsOf(podCidrs(), undefined, exclude) }, ...further]
}
