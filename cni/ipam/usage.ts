/** How full the ranges of a node are. */
import { inSpans, sizeOf, subtract } from '../netip/spans.ts'
import type { State } from '../state/state.ts'
import { type AddressSources, overlayCidrs, wholePools } from './pools.ts'
import { type Pool, poolsOf } from './ranges.ts'

/**
 * A pod CIDR, or a range of a network that has ADDed or asked for its STATUS since the daemon started.
 * Numbers that can be larger than a double are decimal text.
 */
export interface RangeReport {
  /** Of a network's own range. */
  network?: string
  /** Overlay network that it lies in; absent: the cluster's own. */
  overlay?: string
  range: string
  family: 4 | 6
  /** All addresses; those that no pod may have; those that can be had now. */
  size: string
  excluded: string
  free: string
  taken: number
  cooling: number
}

/** The pod CIDRs, then the ranges of networks, as far as they still lie inside. */
export function rangeReports(node: AddressSources & { state: State }): RangeReport[] {
  const { state, exclude, ranges = new Map() } = node
  const of = (pools: readonly Pool[], more: Pick<RangeReport, 'network' | 'overlay'>) =>
    pools.flatMap(pool => reports(state, pool).map(each => ({ ...each, ...more })))
  const whole = wholePools(node).flatMap(({ pools, ...overlay }) => of(pools, overlay))
  const networks = [...ranges].flatMap(([network, { sets, overlay }]) => {
    try {
      const pools = poolsOf(overlayCidrs(node, overlay), sets, exclude)
      return of(pools, { network, ...(overlay === undefined ? {} : { overlay }) })
    } catch {
      return []
    }
  })
  return [...whole, ...networks]
}

function reports(state: State, { family, ranges, blocks }: Pool): RangeReport[] {
  const { taken, cooling } = state.addressUse(family)
  return ranges.map(range => {
    const spans = subtract([range], blocks)
    const inside = (values: Iterable<bigint>): bigint[] =>
      [...values].filter(value => inSpans(spans, value))
    const used = inside(taken).length
    const resting = inside(cooling.keys()).filter(value => !taken.has(value)).length
    const size = sizeOf([range])
    const usable = sizeOf(spans)
    return {
      ...{ range: range.text, family, size: `${size}`, excluded: `${size - usable}` },
      ...{ free: `${usable - BigInt(used + resting)}`, taken: used, cooling: resting },
    }
  })
}
