// Routes: what is made, compared with what `ip -json` says.
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { addAddress } from '../../../dataplane/netlink/address.ts'
import { createVeth, getLink, setLink } from '../../../dataplane/netlink/link.ts'
import {
  addRoute,
  deleteRoute,
  listRoutes,
  lookupRoute,
  type Route,
  replaceRoute,
} from '../../../dataplane/netlink/route.ts'
import { removeNamespaces } from '../../native/namespace.ts'
import { type Place, place } from './kernel.ts'

let here: Place
let va: number
let vb: number
beforeEach(() => {
  here = place()
  createVeth(here.nl, { name: 'va', peer: { name: 'vb' } })
  va = getLink(here.nl, 'va')!.index
  vb = getLink(here.nl, 'vb')!.index
  for (const index of [va, vb]) setLink(here.nl, index, { up: true })
  addAddress(here.nl, { ifindex: va, address: '10.1.0.1', prefix: 24 })
  addAddress(here.nl, { ifindex: va, address: 'fd01::1', prefix: 64, noDad: true })
})
afterEach(() => {
  here?.nl.close()
  removeNamespaces()
})

interface IpRoute {
  dst: string
  gateway?: string
  dev?: string
  prefsrc?: string
  scope?: string
  metric?: number
  type?: string
  protocol?: string
  metrics?: { mtu?: number }[]
  flags: string[]
  via?: { family: string; host: string }
}

function asIp(family: 4 | 6, destination: string, table = 'main'): IpRoute | undefined {
  const all = here.json(`-${family}`, 'route', 'show', 'table', table) as unknown as IpRoute[]
  return all.find(each => each.dst === destination)
}

function ours(family: 4 | 6, destination: string): Route | undefined {
  return listRoutes(here.nl, { family, table: 254 }).find(each => each.destination === destination)
}

describe('routes', () => {
  test('through a gateway, on the link, with a source, an MTU and a metric', () => {
    addRoute(here.nl, { destination: '10.2.0.0/16', gateway: '10.1.0.9', mtu: 1400, metric: 7 })
    addRoute(here.nl, { destination: '10.3.0.0/16', ifindex: va, source: '10.1.0.1' })
    addRoute(here.nl, {
      destination: '10.4.0.1',
      gateway: '169.254.1.1',
      ifindex: va,
      onlink: true,
    })
    addRoute(here.nl, { destination: 'default', gateway: '10.1.0.9' })
    expect(asIp(4, '10.2.0.0/16')).toMatchObject({
      gateway: '10.1.0.9',
      dev: 'va',
      metric: 7,
      protocol: 'static',
      metrics: [{ mtu: 1400 }],
    })
    expect(asIp(4, '10.3.0.0/16')).toMatchObject({ dev: 'va', scope: 'link', prefsrc: '10.1.0.1' })
    expect(asIp(4, '10.4.0.1')).toMatchObject({ gateway: '169.254.1.1', flags: ['onlink'] })
    expect(asIp(4, 'default')).toMatchObject({ gateway: '10.1.0.9', dev: 'va' })
    expect(ours(4, '10.2.0.0/16')).toMatchObject({
      gateway: '10.1.0.9',
      ifindex: va,
      mtu: 1400,
      metric: 7,
      type: 'unicast',
      scope: 'global',
      onlink: false,
    })
    expect(ours(4, '10.3.0.0/16')).toMatchObject({ ifindex: va, scope: 'link', source: '10.1.0.1' })
    expect(ours(4, '10.4.0.1/32')).toMatchObject({ gateway: '169.254.1.1', onlink: true })
    expect(ours(4, '0.0.0.0/0')).toMatchObject({ gateway: '10.1.0.9' })
  })

  test('of IPv6, and IPv4 through an IPv6 gateway', () => {
    addRoute(here.nl, { destination: 'fd02::/64', gateway: 'fd01::9', mtu: 1300 })
    addRoute(here.nl, { destination: 'default', family: 6, ifindex: va })
    addRoute(here.nl, { destination: '10.5.0.0/16', gateway: 'fd01::9', ifindex: va })
    expect(asIp(6, 'fd02::/64')).toMatchObject({ gateway: 'fd01::9', dev: 'va', metric: 1024 })
    expect(asIp(6, 'default')).toMatchObject({ dev: 'va' })
    expect(asIp(4, '10.5.0.0/16')?.via).toEqual({ family: 'inet6', host: 'fd01::9' })
    expect(ours(6, 'fd02::/64')).toMatchObject({ gateway: 'fd01::9', mtu: 1300, metric: 1024 })
    expect(ours(6, '::/0')).toMatchObject({ ifindex: va, gateway: undefined })
    expect(ours(4, '10.5.0.0/16')).toMatchObject({ gateway: 'fd01::9' })
  })

  test('types that drop, other tables, several hops', () => {
    for (const type of ['blackhole', 'unreachable', 'prohibit'] as const) {
      addRoute(here.nl, { destination: `10.${type.length}.0.0/16`, type })
      expect(asIp(4, `10.${type.length}.0.0/16`)?.type).toBe(type)
      expect(ours(4, `10.${type.length}.0.0/16`)?.type).toBe(type)
    }
    addRoute(here.nl, { destination: '10.6.0.0/16', ifindex: va, table: 1000 })
    expect(asIp(4, '10.6.0.0/16', '1000')).toMatchObject({ dev: 'va' })
    const [other] = listRoutes(here.nl, { family: 4, table: 1000 })
    expect(other).toMatchObject({ destination: '10.6.0.0/16', table: 1000 })
    const hops = ['nexthop', 'via', '10.1.0.8', 'nexthop', 'dev', 'vb']
    here.namespace.ip('route', 'add', '10.7.0.0/16', ...hops)
    expect(ours(4, '10.7.0.0/16')?.nextHops).toEqual([
      { ifindex: va, gateway: '10.1.0.8' },
      { ifindex: vb, gateway: undefined },
    ])
    const byDevice = listRoutes(here.nl, { family: 4, ifindex: vb }).map(each => each.destination)
    expect(byDevice).toContain('10.7.0.0/16')
  })

  test('adding twice, replacing, removing', () => {
    const route = { destination: '10.2.0.0/16', gateway: '10.1.0.9' }
    addRoute(here.nl, route)
    expect(() => addRoute(here.nl, route)).toThrow(
      `add route 10.2.0.0/16 via 10.1.0.9 in ${here.namespace.path}: File exists (EEXIST)`,
    )
    replaceRoute(here.nl, { destination: '10.2.0.0/16', gateway: '10.1.0.7' })
    expect(asIp(4, '10.2.0.0/16')?.gateway).toBe('10.1.0.7')
    expect(
      here.json('-4', 'route', 'show').filter(each => each['dst'] === '10.2.0.0/16'),
    ).toHaveLength(1)
    expect(() => deleteRoute(here.nl, { destination: '10.2.0.0/16', gateway: '10.1.0.9' })).toThrow(
      'No such process (ESRCH)',
    )
    deleteRoute(here.nl, { destination: '10.2.0.0/16' })
    expect(asIp(4, '10.2.0.0/16')).toBeUndefined()
    replaceRoute(here.nl, { destination: 'fd03::/64', ifindex: va })
    replaceRoute(here.nl, { destination: 'fd03::/64', ifindex: va, mtu: 1290 })
    expect(ours(6, 'fd03::/64')?.mtu).toBe(1290)
    deleteRoute(here.nl, { destination: 'fd03::/64', ifindex: va })
    expect(asIp(6, 'fd03::/64')).toBeUndefined()
  })

  test('all of many are listed', () => {
    const batch = Array.from({ length: 600 }, (_, i) => `10.${100 + (i >> 8)}.${i & 255}.0/24`)
    for (const destination of batch) addRoute(here.nl, { destination, ifindex: va })
    const found = listRoutes(here.nl, { family: 4, table: 254, ifindex: va })
    const names = new Set(found.map(each => each.destination))
    expect(batch.every(each => names.has(each))).toBe(true)
    expect(found.length).toBe(batch.length + 1)
  })

  test('what is no prefix is refused before the kernel sees it', () => {
    for (const destination of ['10.1.0.0/33', '10.1.0.1/24', 'x', '', '10.1.0.0/', 'fd00::/129']) {
      const add = () => addRoute(here.nl, { destination, ifindex: va })
      expect(add, destination).toThrow(RangeError)
    }
    expect(() => addRoute(here.nl, { destination: '10.0.0.0/8', family: 6, ifindex: va })).toThrow(
      '10.0.0.0/8 is not of IPv6',
    )
  })
})

describe('lookup', () => {
  test('how a packet would go', () => {
    addRoute(here.nl, { destination: '10.2.0.0/16', gateway: '10.1.0.9', mtu: 1400 })
    addRoute(here.nl, { destination: 'fd02::/64', gateway: 'fd01::9' })
    const type = 'unicast'
    expect(lookupRoute(here.nl, '10.1.0.77')).toEqual({
      ifindex: va,
      gateway: undefined,
      source: '10.1.0.1',
      type,
      mtu: undefined,
    })
    expect(lookupRoute(here.nl, '10.2.3.4')).toMatchObject({ gateway: '10.1.0.9', mtu: 1400, type })
    expect(lookupRoute(here.nl, 'fd02::5')).toMatchObject({ ifindex: va, gateway: 'fd01::9' })
    expect(lookupRoute(here.nl, '127.0.0.1')).toMatchObject({ ifindex: 1, type: 'local' })
    expect(lookupRoute(here.nl, '10.2.3.4', { source: '10.1.0.1', ifindex: va }).ifindex).toBe(va)
  })

  test('no way, and a way that is barred', () => {
    addRoute(here.nl, { destination: '10.3.0.0/16', type: 'unreachable' })
    const code = (address: string) => {
      try {
        lookupRoute(here.nl, address)
        return 'found'
      } catch (error) {
        return (error as { code: string }).code
      }
    }
    expect(code('203.0.113.1')).toBe('ENETUNREACH')
    expect(code('10.3.0.1')).toBe('EHOSTUNREACH')
    expect(() => lookupRoute(here.nl, '203.0.113.1')).toThrow(
      `route to 203.0.113.1 in ${here.namespace.path}: Network is unreachable`,
    )
  })
})
