/**
 * Addresses for pods, out of this node's pod CIDRs: one of each family that the node has, both or
 * none.
 *
 * Theory of operation. Next-fit: the search begins behind the address that was given out last, so
 * an address comes back as late as the range allows. One that was freed rests for COOLING_MS
 * besides: peers, conntrack tables and clients still speak to its last owner. When nothing else is
 * left the one that has rested longest is taken; a pod that starts matters more. The choice and
 * its reservation are one transaction, durable before any interface is made (state.ts).
 *
 * Never given out: the network's own address (in IPv6 the subnet routers' anycast address, RFC
 * 4291 section 2.6.1), the first one behind it, which is the node's (the pods' gateway), and in
 * IPv4 the last one (broadcast).
 */
import { Address4, Address6 } from 'ip-address'
import { type Cidr, parsePodCidr } from './cidr.ts'
import { CniError, CODE } from './errors.ts'
import type { AddressUse, Attachment, State } from './state.ts'

/** Milliseconds that a freed address rests while another one is to be had. */
export const COOLING_MS = 30_000

/** The addresses of one CIDR that pods may have, both ends included. */
export interface Range {
  family: 4 | 6
  first: bigint
  last: bigint
}

export function podRange({ family, first, last }: Cidr): Range {
  return { family, first: first + 2n, last: family === 4 ? last - 1n : last }
}

/** The node's own address in a pod CIDR: the first behind the network's (dataplane/addresses.ts). */
export function gateway({ family, first }: Cidr): string {
  return addressText(family, first + 1n)
}

/** Canonical text of an address (RFC 5952 for IPv6). */
export function addressText(family: 4 | 6, value: bigint): string {
  return family === 4
    ? Address4.fromBigInt(value).correctForm()
    : Address6.fromBigInt(value).correctForm()
}

/** Pod CIDRs as the cluster view has them; they were checked when it was read. */
export function cidrsOf(podCidrs: readonly string[]): Cidr[] {
  return podCidrs.map(text => {
    const parsed = parsePodCidr(text)
    if (!parsed.ok) throw new Error(`pod CIDR ${text}: ${parsed.cause}`)
    return parsed.value
  })
}

/** The next address of `range` at time `now`, or undefined when all are taken. */
export function pick(range: Range, use: AddressUse, now: number): bigint | undefined {
  const { first, last } = range
  const { taken, cooling, cursor } = use
  const size = last - first + 1n
  const start = cursor !== undefined && cursor >= first && cursor < last ? cursor - first + 1n : 0n
  // Among that many different addresses at least one is neither taken nor cooling.
  const enough = BigInt(taken.size + cooling.size + 1)
  for (let step = 0n; step < size && step < enough; step++) {
    const address = first + ((start + step) % size)
    if (taken.has(address)) continue
    const freed = cooling.get(address)
    if (freed === undefined || now - freed >= COOLING_MS) return address
  }
  for (const address of cooling.keys()) {
    if (address >= first && address <= last && !taken.has(address)) return address
  }
  return undefined
}

/**
 * Chooses addresses for `wanted` and writes it down as reserved; throws CniError when a family has
 * none left. Addresses that have cooled down are forgotten on the way.
 */
export function reserve(
  state: State,
  podCidrs: readonly string[],
  wanted: Omit<Attachment, 'phase' | 'ip4' | 'ip6' | 'created'>,
  now: number = Date.now(),
): Attachment {
  return state.transaction(() => {
    state.cooled(now - COOLING_MS)
    const attachment: Attachment = { ...wanted, phase: 'reserved', created: now }
    for (const cidr of cidrsOf(podCidrs)) {
      const { family } = cidr
      const address = pick(podRange(cidr), state.addressUse(family), now)
      if (address === undefined) {
        throw new CniError(
          CODE.tryAgain,
          `no IPv${family} address is left in ${cidr.text}`,
          'remove pods from this node, or give it a larger pod CIDR',
        )
      }
      attachment[family === 4 ? 'ip4' : 'ip6'] = addressText(family, address)
    }
    state.insert(attachment)
    return attachment
  })
}

/** The pod CIDRs of which every address is taken. */
export function exhausted(state: State, podCidrs: readonly string[]): string[] {
  return cidrsOf(podCidrs)
    .filter(cidr => pick(podRange(cidr), state.addressUse(cidr.family), Infinity) === undefined)
    .map(cidr => cidr.text)
}
