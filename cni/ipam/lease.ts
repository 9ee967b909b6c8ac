/**
 * Addresses that an IPAM plugin gives: what its answer must be, and what is kept so that the daemon
 * can give them back by itself (state.ts, `delegations`).
 *
 * A pod has one address of each family, on an interface that has it alone (/32, /128) and that
 * everything leaves through. So of a plugin's answer the addresses, gateways and DNS settings are
 * taken; its routes are read, and when they have no default route where they should, that is an
 * error: a pod would reach what the plugin's configuration keeps from it.
 */
import { existsSync } from 'node:fs'
import { isIP } from 'node:net'
import { clean } from '../base/document.ts'
import type { DelegateCall } from '../invoke/exec.ts'
import { type Address, parseAddress } from '../netip/cidr.ts'
import { CNI_VERSIONS } from '../rpc/protocol.ts'
import { CniError, CODE } from '../spec/errors.ts'
import { type CniVersion, check, type Dns, dnsSchema, versionIn } from '../spec/netconf.ts'
import { parseResult, type Result } from '../spec/result.ts'
import type { AttachmentKey, Delegation } from '../state/state.ts'
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

/**
 * What plugin `who` answered to an ADD of `version`; the answer's own version counts if it has a known
 * one. Throws CniError (code 6).
 */
export function resultIn(who: string, version: CniVersion, answer: unknown): Result {
  const what = `${who}: its answer`
  if (answer === undefined) throw new CniError(CODE.decode, `${what} is empty`)
  try {
    const own = CNI_VERSIONS.find(known => known === versionIn(answer)) ?? version
    const result = parseResult(own, answer, [])
    check(dnsSchema, result.dns, ['dns'])
    return result
  } catch (error) {
    const cause = (error as Error).message.replace(/^network configuration: /, '')
    throw new CniError(CODE.decode, `${what} is not a result: ${cause}`)
  }
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

/** What is kept of a call. */
export function delegationOf({ type, env, config }: DelegateCall): Delegation {
  const { CNI_NETNS: netns, CNI_ARGS: args, CNI_PATH: path } = env
  return { type, netns, args, path, config, created: Date.now() }
}

/** A call with what was kept. A namespace that is gone is not named. */
export function callOf(key: AttachmentKey, verb: string, kept: Delegation): DelegateCall {
  const { type, netns, args, path, config } = kept
  return {
    type,
    env: {
      CNI_COMMAND: verb,
      CNI_CONTAINERID: key.containerId,
      CNI_NETNS: existsSync(netns) ? netns : '',
      CNI_IFNAME: key.ifname,
      CNI_ARGS: args,
      CNI_PATH: path,
    },
    config,
  }
}

/**
 * The call of a plugin for an attachment: the runtime's request when it names the plugin that gave
 * the addresses, and what was kept otherwise. `kept`: of this attachment; `asked`: by the request.
 */
export function chooseCall(
  key: AttachmentKey,
  verb: string,
  kept: Delegation | undefined,
  asked: DelegateCall | undefined,
): DelegateCall | undefined {
  if (kept === undefined) return asked
  if (asked?.type !== kept.type) return callOf(key, verb, kept)
  // A DEL may come without the path.
  if (asked.env.CNI_PATH !== '') return asked
  return { ...asked, env: { ...asked.env, CNI_PATH: kept.path } }
}
