/** Results of ADD, read from the form of any version (specification, "Result types"), as far as they can be. */

import { clean } from '../base/document.ts'
import { Failed } from './failed.ts'
import { canonical, canonicalCidr } from './namespaces.ts'
import { atLeast, type SpecVersion } from './versions.ts'

export interface ResultInterface {
  name: string
  mac: string
  mtu: number | undefined
  sandbox: string
}
export interface ResultIp {
  /** Canonical, without and with its prefix length. */
  address: string
  cidr: string
  gateway: string | undefined
  interface: number | undefined
}
export interface ResultRoute {
  dst: string
  gw: string | undefined
}

/** The MAC of an interface without one is left out, or all zero. */
function macOf(answered = ''): string {
  return /^[0:]*$/.test(answered) ? '' : answered
}

/** A result of any version, as far as it can be read. */
export interface Result {
  interfaces: ResultInterface[]
  ips: ResultIp[]
  routes: ResultRoute[]
}

/** Reads a result of ADD (specification, "Result types" of `version`). Throws `Failed` when it is none. */
export function readResult(version: SpecVersion, document: Record<string, unknown>): Result {
  if (!atLeast(version, '0.3.0')) return readOldResult(document)
  return {
    interfaces: list(document, 'interfaces').map(each => ({
      name: text(each, 'name', 'interfaces[]'),
      mac: macOf(optionalText(each, 'mac', 'interfaces[]')),
      mtu: typeof each['mtu'] === 'number' ? each['mtu'] : undefined,
      sandbox: optionalText(each, 'sandbox', 'interfaces[]') ?? '',
    })),
    ips: list(document, 'ips').map(each => ({
      ...addressOf(text(each, 'address', 'ips[]')),
      gateway: gatewayOf(optionalText(each, 'gateway', 'ips[]')),
      interface: indexOf(each['interface']),
    })),
    routes: list(document, 'routes').map(routeOf),
  }
}

function readOldResult(document: Record<string, unknown>): Result {
  const result: Result = { interfaces: [], ips: [], routes: [] }
  for (const family of ['ip4', 'ip6']) {
    const entry = document[family]
    if (entry === undefined || entry === null) continue
    const fields = object(entry, family)
    result.ips.push({
      ...addressOf(text(fields, 'ip', family)),
      gateway: gatewayOf(optionalText(fields, 'gateway', family)),
      interface: undefined,
    })
    result.routes.push(...list(fields, 'routes').map(routeOf))
  }
  return result
}

function addressOf(cidr: string): { address: string; cidr: string } {
  const read = cidr.includes('/') ? canonicalCidr(cidr) : undefined
  if (read === undefined) throw new Failed(`the result has ${clean(cidr)} where a CIDR must be`)
  return { address: read.split('/')[0]!, cidr: read }
}

function gatewayOf(gateway: string | undefined): string | undefined {
  if (gateway === undefined || gateway === '') return undefined
  const read = canonical(gateway)
  if (read === undefined) throw new Failed(`the result has the gateway ${clean(gateway)}`)
  return read
}

function indexOf(value: unknown): number | undefined {
  if (value === undefined || value === null) return undefined
  if (typeof value === 'number' && Number.isInteger(value)) return value
  throw new Failed(`the result has an ips[].interface of ${clean(value)}`)
}

function routeOf(fields: Record<string, unknown>): ResultRoute {
  const dst = text(fields, 'dst', 'routes[]')
  const read = canonicalCidr(dst)
  if (read === undefined) throw new Failed(`the result has a route to ${clean(dst)}`)
  return { dst: read, gw: gatewayOf(optionalText(fields, 'gw', 'routes[]')) }
}

function list(document: Record<string, unknown>, key: string): Record<string, unknown>[] {
  const value = document[key]
  if (value === undefined || value === null) return []
  if (!Array.isArray(value)) throw new Failed(`the result's ${key} is no list`)
  return value.map(each => object(each, `${key}[]`))
}

function object(value: unknown, key: string): Record<string, unknown> {
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) {
    return value as Record<string, unknown>
  }
  throw new Failed(`the result's ${key} is no object`)
}

function text(fields: Record<string, unknown>, key: string, at: string): string {
  const value = optionalText(fields, key, at)
  if (value === undefined) throw new Failed(`the result's ${at}.${key} is missing`)
  return value
}

function optionalText(
  fields: Record<string, unknown>,
  key: string,
  at: string,
): string | undefined {
  const value = fields[key]
  if (value === undefined || value === null) return undefined
  if (typeof value !== 'string') throw new Failed(`the result's ${at}.${key} is no string`)
  return value
}
