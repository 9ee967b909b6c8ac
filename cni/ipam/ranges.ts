/**
 * Which addresses pods may have: the node's pod CIDRs, or the ranges inside them that a network
 * configuration names, without what is blocked.
 *
 * Theory of operation. A pool is all that one address of a pod may come from: one family, one range
 * or several. Blocks say what is never given out and why: of every pod CIDR and every subnet the
 * network's own address (in IPv6 the subnet routers' anycast address, RFC 4291 section 2.6.1), the
 * gateway and in IPv4 the last address (broadcast), and what the daemon or the network configuration
 * excludes. `spans` is what is left, sorted and disjoint; a search goes through spans, so that
 * neither a huge range nor a huge exclusion is ever walked through.
 *
 * Ranges are written as the host-local plugin has them: a list of sets, a set for each address of a
 * pod, a set a list of `{subnet, rangeStart, rangeEnd, gateway}`; `exclude` is ours.
 */

import { z } from 'zod'
import { clean } from '../base/document.ts'
import {
  type Address,
  addressText,
  type Cidr,
  cidrsOf,
  contains,
  gateway,
  parseAddress,
  parsePodCidr,
} from '../netip/cidr.ts'
import { type Span, subtract } from '../netip/spans.ts'
import { check } from '../spec/check.ts'
import { CniError, CODE } from '../spec/errors.ts'
import { inNamespace, namespacesSchema } from '../spec/namespaces.ts'

/** Ranges of one set, and exclusions of one range or of the daemon. */
export const MAX_RANGES = 64
export const MAX_EXCLUSIONS = 256

/** Addresses that no pod may have. */
export interface Block extends Span {
  family: 4 | 6
  /** What they are, for people: `the gateway of 10.0.0.0/24`. */
  what: string
}

export interface Range extends Span {
  subnet: Cidr
  /** What results name as the gateway of these addresses. */
  gateway: string
  /** For people: the subnet, or the part of it. */
  text: string
  /** Kubernetes namespaces whose pods alone may have its addresses; absent: all. */
  namespaces?: readonly string[]
}

/** Where one address of a pod comes from. */
export interface Pool {
  family: 4 | 6
  ranges: readonly Range[]
  blocks: readonly Block[]
  /** What pods may have: ranges less blocks, sorted and disjoint. */
  spans: readonly Span[]
  /** For people: the ranges. */
  text: string
}

const rangeSchema = z.looseObject({
  subnet: z.string(),
  rangeStart: z.string().nullish(),
  rangeEnd: z.string().nullish(),
  gateway: z.string().nullish(),
  exclude: z.array(z.string()).max(MAX_EXCLUSIONS).nullish(),
  namespaces: namespacesSchema,
})
const ownSchema = z.looseObject({
  ranges: z.array(z.array(rangeSchema).min(1).max(MAX_RANGES)).min(1).max(2).nullish(),
})

export type RangeSets = NonNullable<z.output<typeof ownSchema>['ranges']>

/** `ipam.ranges` of a network configuration; undefined when it has none. Throws CniError (code 7). */
export function rangesOf(ipam: unknown): RangeSets | undefined {
  return (ipam == null ? undefined : check(ownSchema, ipam, ['ipam']).ranges) ?? undefined
}

/** An exclusion, an address or a CIDR of any length, as a block; or why it is none. */
export function parseExclusion(text: string): Block | { cause: string } {
  const [, address = '', length] = /^([^/]*)(?:\/(0|[1-9][0-9]{0,2}))?$/.exec(text) ?? []
  const parsed = parseAddress(address)
  if (!parsed.ok) return { cause: `${clean(text)}: not an address or CIDR (${parsed.cause})` }
  const { family, value } = parsed.value
  const bits = family === 4 ? 32 : 128
  const prefix = length === undefined ? bits : Number(length)
  if (prefix > bits) return { cause: `${clean(text)}: the prefix length is more than ${bits}` }
  const size = 1n << BigInt(bits - prefix)
  const first = value - (value % size)
  if (first !== value) {
    const meant = `${addressText(family, first)}/${prefix}`
    return { cause: `${clean(text)}: host bits are set (meant ${meant}?)` }
  }
  return { family, first, last: first + size - 1n, what: `excluded (${text})` }
}

/**
 * The pools of a network: `sets` as its configuration has them, the pod CIDRs whole without. With a `namespace`
 * they are those of its pods: ranges that are kept for others are blocked, also where another range has them in
 * it. Throws CniError (code 7) for a set that isn't one, that lies outside of the node's pod CIDRs, or that has
 * nothing for the namespace.
 */
export function poolsOf(
  podCidrs: readonly string[],
  sets?: RangeSets,
  exclude: readonly Block[] = [],
  namespace?: string,
): Pool[] {
  const cidrs = cidrsOf(podCidrs)
  const known = [...exclude, ...cidrs.flatMap(cidr => ends(cidr, gateway(cidr)))]
  if (sets === undefined) {
    return cidrs.map(cidr => {
      const { family, first, last, text } = cidr
      return pool(family, [{ subnet: cidr, first, last, text, gateway: gateway(cidr) }], known)
    })
  }
  const pools = sets.map((set, k) => {
    const blocks = [...known]
    const ranges = set.map((range, n) => readRange(range, `ipam.ranges[${k}][${n}]`, cidrs, blocks))
    const family = ranges[0]!.subnet.family
    const other = ranges.find(range => range.subnet.family !== family)
    if (other !== undefined) {
      throw wrong(`ipam.ranges[${k}]`, `${ranges[0]!.text} and ${other.text} in one set`)
    }
    if (namespace === undefined) return pool(family, ranges, blocks)
    const others = ranges.filter(range => range.namespaces?.includes(namespace) === false)
    if (others.length === ranges.length) {
      throw wrong(`ipam.ranges[${k}]`, `no range is for ${inNamespace(namespace)}`)
    }
    const kept = others.map(({ first, last, namespaces }): Block => {
      return { family, first, last, what: `kept for pods of ${namespaces!.join(', ')}` }
    })
    const own = ranges.filter(range => !others.includes(range))
    return pool(family, own, [...blocks, ...kept])
  })
  if (pools.length === 2 && pools[0]!.family === pools[1]!.family) {
    throw wrong('ipam.ranges', `two sets of IPv${pools[0]!.family}; a pod has one address of it`)
  }
  return pools
}

/** Why no pod of `pool` may have `address`; undefined when one may. */
export function refusal(pool: Pool, address: Address): string | undefined {
  const { family, value } = address
  const block = pool.blocks.find(
    each => each.family === family && each.first <= value && value <= each.last,
  )
  if (block !== undefined) return `it is ${block.what}`
  if (pool.ranges.some(({ first, last }) => first <= value && value <= last)) return undefined
  return `it is not in ${pool.text}`
}

/** The gateway that a result names for an address of `pool`. */
export function gatewayFor(pool: Pool, address: Address): string | undefined {
  return pool.ranges.find(({ subnet }) => contains(subnet, address))?.gateway
}

function pool(family: 4 | 6, ranges: readonly Range[], all: readonly Block[]): Pool {
  const blocks = all.filter(block => block.family === family)
  const text = ranges.map(range => range.text).join(', ')
  return { family, ranges, blocks, spans: subtract(ranges, blocks), text }
}

/** What is never given out of a network. */
function ends({ family, first, last, text }: Cidr, gateway: string): Block[] {
  const one = (value: bigint, what: string): Block => ({
    family,
    first: value,
    last: value,
    what: `the ${what} of ${text}`,
  })
  const parsed = parseAddress(gateway)
  return [
    one(first, family === 4 ? 'network address' : "subnet routers' address"),
    ...(parsed.ok ? [one(parsed.value.value, 'gateway')] : []),
    ...(family === 4 ? [one(last, 'broadcast address')] : []),
  ]
}

/** One range of a set; what it blocks is added to `blocks`. Throws CniError (code 7) with its place. */
function readRange(
  range: RangeSets[number][number],
  at: string,
  cidrs: readonly Cidr[],
  blocks: Block[],
): Range {
  const parsed = parsePodCidr(range.subnet)
  if (!parsed.ok) throw wrong(`${at}.subnet`, `${clean(range.subnet)}: ${parsed.cause}`)
  const subnet = parsed.value
  const { family, text } = subnet
  const around = cidrs.find(
    each => each.family === family && each.first <= subnet.first && subnet.last <= each.last,
  )
  if (around === undefined) {
    const own = cidrs.map(each => each.text).join(', ')
    throw wrong(`${at}.subnet`, `${text} is not inside the node's pod CIDRs (${own})`)
  }
  const inside = (key: 'rangeStart' | 'rangeEnd' | 'gateway'): Address | undefined => {
    const given = range[key]
    if (given == null || given === '') return undefined
    const address = parseAddress(given)
    if (!address.ok) throw wrong(`${at}.${key}`, `${clean(given)}: ${address.cause}`)
    if (contains(subnet, address.value)) return address.value
    throw wrong(`${at}.${key}`, `${address.value.text} is not in ${text}`)
  }
  const start = inside('rangeStart')
  const end = inside('rangeEnd')
  const via = inside('gateway')?.text ?? gateway(subnet)
  const first = start?.value ?? subnet.first
  const last = end?.value ?? subnet.last
  if (first > last) throw wrong(at, `it ends (${end?.text}) before it starts (${start?.text})`)
  blocks.push(...ends(subnet, via))
  for (const [k, given] of (range.exclude ?? []).entries()) {
    const block = parseExclusion(given)
    if ('cause' in block) throw wrong(`${at}.exclude[${k}]`, block.cause)
    blocks.push(block)
  }
  const part = start !== undefined || end !== undefined
  const name = `${addressText(family, first)} .. ${addressText(family, last)}`
  const kept = range.namespaces == null ? {} : { namespaces: range.namespaces }
  return { subnet, first, last, gateway: via, text: part ? name : text, ...kept }
}

function wrong(at: string, cause: string): CniError {
  return new CniError(CODE.config, `network configuration: ${at}: ${cause}`)
}
