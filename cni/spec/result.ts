/**
 * Results of ADD, kept in the newest form (specification 1.1.0, "Result types") and rendered in the
 * version that was asked for:
 *
 *     0.1.0 0.2.0         ip4 and ip6 (one address of each family, its routes beside it), dns
 *     0.3.0 0.3.1 0.4.0   interfaces, ips with a `version`, routes (dst, gw), dns
 *     1.0.0               ips without a `version`
 *     1.1.0               interfaces may have mtu, socketPath and pciID; routes mtu, priority, …
 *
 * A result that came with the request (`prevResult`, of earlier plugins in the chain) is read, kept
 * with all of its keys and passed on in front of ours.
 */

import { z } from 'zod'
import type { PodAttachment } from '../../dataplane/control.ts'
import type { FieldPath } from '../base/document.ts'
import { cidrsOf, contains, gateway, parseAddress } from '../netip/cidr.ts'
import { check } from './check.ts'
import type { Dns } from './netconf.ts'
import type { CniVersion } from './versions.ts'

const interfaceSchema = z.looseObject({
  name: z.string(),
  mac: z.string().optional(),
  mtu: z.number().optional(),
  sandbox: z.string().optional(),
})
const routeSchema = z.looseObject({ dst: z.string(), gw: z.string().optional() })
const ipSchema = z.looseObject({
  address: z.string(),
  gateway: z.string().optional(),
  interface: z.int().min(0).optional(),
})
/** A list that Go may also leave out, or write as null. */
const list = <T extends z.ZodType>(item: T) =>
  z
    .array(item)
    .nullish()
    .transform(items => items ?? [])
const dns = z
  .looseObject({})
  .nullish()
  .transform(value => value ?? {})
const resultSchema = z.looseObject({
  interfaces: list(interfaceSchema),
  ips: list(ipSchema),
  routes: list(routeSchema),
  dns,
})
const oldIpSchema = z.looseObject({
  ip: z.string(),
  gateway: z.string().optional(),
  routes: list(routeSchema),
})
/** The MAC of an interface that has none: podman refuses a result without one. */
const NO_MAC = '00:00:00:00:00:00'
/** Where it lies in the configuration. */
const AT = ['prevResult']

const oldResultSchema = z.looseObject({
  ip4: oldIpSchema.nullish(),
  ip6: oldIpSchema.nullish(),
  dns,
})

export type Result = Pick<z.output<typeof resultSchema>, 'interfaces' | 'ips' | 'routes' | 'dns'>

/** What ADD answers for one attachment. `podCidrs`: this node's, for the gateways. */
export function resultOf(
  attachment: PodAttachment,
  podCidrs: readonly string[],
  dns: Dns | null | undefined,
): Result {
  const { ifname, netns, mac, mtu, hostDevice, hostMac } = attachment
  const interfaces: Result['interfaces'] = [
    { name: ifname, mac: mac ?? NO_MAC, mtu, sandbox: netns },
  ]
  if (hostDevice !== undefined) {
    interfaces.push({ name: hostDevice, ...(hostMac === undefined ? {} : { mac: hostMac }), mtu })
  }
  const ips: Result['ips'] = []
  for (const address of [attachment.ip4, attachment.ip6]) {
    if (address === undefined) continue
    const via = gatewayFor(address, podCidrs)
    ips.push({
      // The pod's link is a point to point one: its prefix holds the pod alone.
      address: `${address}/${address.includes(':') ? 128 : 32}`,
      ...(via === undefined ? {} : { gateway: via }),
      interface: 0,
    })
  }
  return { interfaces, ips, routes: attachment.routes.map(route => ({ ...route })), dns: dns ?? {} }
}

function gatewayFor(address: string, podCidrs: readonly string[]): string | undefined {
  const parsed = parseAddress(address)
  if (!parsed.ok) return undefined
  const cidr = cidrsOf(podCidrs).find(each => contains(each, parsed.value))
  return cidr === undefined ? undefined : gateway(cidr)
}

/** Reads a `prevResult`, or the result that lies `at` another place, of `version`; throws CniError (code 7). */
export function parseResult(version: CniVersion, result: unknown, at: FieldPath = AT): Result {
  if (!isOld(version)) return check(resultSchema, result, at)
  const { ip4, ip6, dns } = check(oldResultSchema, result, at)
  const both = [ip4, ip6].filter(each => each != null)
  return {
    interfaces: [],
    ips: both.map(({ ip, gateway: via }) => ({
      address: ip,
      ...(via === undefined ? {} : { gateway: via }),
    })),
    routes: both.flatMap(each => each.routes),
    dns,
  }
}

/** `earlier` with `own` behind it; the indices of our addresses move with our interfaces. */
export function chain(earlier: Result | undefined, own: Result): Result {
  if (earlier === undefined) return own
  const shift = earlier.interfaces.length
  return {
    interfaces: [...earlier.interfaces, ...own.interfaces],
    ips: [
      ...earlier.ips,
      ...own.ips.map(ip =>
        ip.interface === undefined ? ip : { ...ip, interface: ip.interface + shift },
      ),
    ],
    routes: [...earlier.routes, ...own.routes],
    dns: Object.keys(own.dns).length > 0 ? own.dns : earlier.dns,
  }
}

/** The document that goes to stdout. */
export function render(version: CniVersion, result: Result): object {
  if (isOld(version)) return renderOld(version, result)
  if (version === '1.1.0') return { cniVersion: version, ...pickResult(result) }
  const { interfaces, ips, routes, dns } = result
  return {
    cniVersion: version,
    interfaces: interfaces.map(({ mtu: _, socketPath: __, pciID: ___, ...rest }) => rest),
    ips:
      version === '1.0.0'
        ? ips.map(({ version: _, ...rest }) => rest)
        : ips.map(ip => ({ version: isIpv6(ip.address) ? '6' : '4', ...ip })),
    routes: routes.map(plainRoute),
    dns,
  }
}

function pickResult({ interfaces, ips, routes, dns }: Result): Result {
  return { interfaces, ips, routes, dns }
}

/** The first address of each family; a route belongs to the family of its destination. */
function renderOld(version: CniVersion, { ips, routes, dns }: Result): object {
  const family = (six: boolean): object | undefined => {
    const ip = ips.find(each => isIpv6(each.address) === six)
    if (ip === undefined) return undefined
    return {
      ip: ip.address,
      ...(ip.gateway === undefined ? {} : { gateway: ip.gateway }),
      routes: routes.filter(route => isIpv6(route.dst) === six).map(plainRoute),
    }
  }
  const ip4 = family(false)
  const ip6 = family(true)
  return {
    cniVersion: version,
    ...(ip4 === undefined ? {} : { ip4 }),
    ...(ip6 === undefined ? {} : { ip6 }),
    dns,
  }
}

function plainRoute({ dst, gw }: { dst: string; gw?: string | undefined }): object {
  return gw === undefined ? { dst } : { dst, gw }
}

function isOld(version: CniVersion): boolean {
  return version === '0.1.0' || version === '0.2.0'
}

function isIpv6(text: string): boolean {
  return text.includes(':')
}
