/**
 * Addresses that an IPAM plugin gives: what its answer must be, and what is kept so that the daemon
 * can give them back by itself (state.ts, `delegations`).
 *
 * A pod has one address of each family, on an interface that has it alone (/32, /128) and that
 * everything leaves through. So of a plugin's answer the addresses, gateways and DNS settings are
 * taken; its routes are read, and when they have no default route where they should, that is an
 * error: a pod would reach what the plugin's configuration keeps from it.
 */

import { isIP } from 'node:net'
import { clean } from '../base/document.ts'
import { resultIn } from '../invoke/answer.ts'
import { type Address, parseAddress } from '../netip/cidr.ts'
import { CniError, CODE } from '../spec/errors.ts'
import type { Dns } from '../spec/netconf.ts'
import type { Result } from '../spec/result.ts'
import type { CniVersion } from '../spec/versions.ts'
import { poolsOf } from './ranges.ts'

/** What a plugin gave. */
export interface Lease {
  addresses: readonly Address[]
  gateways: Gateways
  dns?: Dns
}

export type Gateways = Partial<Record<4 | 6, string>>

/**
 * The lease in the answer of plugin `type` to an ADD of `version`; `podCidrs`: of this node, in the overlay
 * network if one is named. Throws CniError: code 6 for what is
 * no result, 7 for what a pod can't have.
 */
export function leaseOf(
  type: string,
  version: CniVersion,
  answer: unknown,
  podCidrs: readonly string[],
  overlay?: string,
): Lease {
  const result = resultIn(`IPAM plugin ${type}`, version, answer)
  const wrong = (cause: string): CniError =>
    new CniError(CODE.config, `IPAM plugin ${type}: ${cause}`)
  const blocks = poolsOf(podCidrs).flatMap(pool => pool.blocks)
  const addresses: Address[] = []
  const gateways: Gateways = {}
  for (const { address: text, gateway } of result.ips) {
    const address = withPrefix(text)
    if (typeof address === 'string') throw wrong(`${clean(text)}: ${address}`)
    const { family, value } = address
    const other = addresses.find(each => each.family === family)
    if (other !== undefined) {
      throw wrong(`${other.text} and ${address.text}: a pod has one IPv${family} address`)
    }
    const block = blocks.find(
      each => each.family === family && each.first <= value && value <= each.last,
    )
    if (block !== undefined) throw wrong(`${address.text}: it is ${block.what}`)
    if (gateway !== undefined && gateway !== '') {
      if (isIP(gateway) !== family) throw wrong(`gateway ${clean(gateway)}: not IPv${family}`)
      gateways[family] = gateway
    }
    addresses.push(address)
  }
  if (addresses.length === 0) throw wrong('its answer has no address')
  // An interface in another network than the cluster's own has that network's routes, whoever gives its addresses.
  const routeless = overlay === undefined ? withoutDefault(result, addresses) : undefined
  if (routeless !== undefined) {
    throw wrong(`its routes have no default route for ${routeless}, and a pod has nothing else`)
  }
  const dns = Object.keys(result.dns).length === 0 ? undefined : result.dns
  return { addresses, gateways, ...(dns === undefined ? {} : { dns }) }
}

/** The address of `ADDRESS/LENGTH`, or what is wrong with it. */
function withPrefix(text: string): Address | string {
  const [, base = '', length] = /^([^/]{1,64})\/(0|[1-9][0-9]{0,2})$/.exec(text) ?? []
  if (length === undefined) return 'not an address with a prefix length'
  const parsed = parseAddress(base)
  if (!parsed.ok) return parsed.cause
  const bits = parsed.value.family === 4 ? 32 : 128
  return Number(length) > bits ? `the prefix length is more than ${bits}` : parsed.value
}

/** The address whose family has routes, but no default route. */
function withoutDefault({ routes }: Result, addresses: readonly Address[]): string | undefined {
  return addresses.find(({ family }) => {
    const own = routes.filter(({ dst }) => dst.includes(':') === (family === 6))
    return own.length > 0 && !own.some(({ dst }) => /^[0:.]+\/0$/.test(dst))
  })?.text
}
