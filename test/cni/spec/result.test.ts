import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import type { CniError } from '../../../cni/spec/errors.ts'
import { chain, parseResult, type Result, render, resultOf } from '../../../cni/spec/result.ts'
import { CNI_VERSIONS } from '../../../cni/spec/versions.ts'
import type { PodAttachment } from '../../../dataplane/control.ts'

const PODS = ['10.244.0.0/24', 'fd00:10:244::/64']
const TUN: PodAttachment = {
  id: 'hawser/c/eth0',
  kind: 'tun',
  netns: '/run/netns/c',
  ifname: 'eth0',
  ip4: '10.244.0.7',
  ip6: 'fd00:10:244::7',
  mtu: 1450,
  port: 3,
  routes: [{ dst: '0.0.0.0/0' }, { dst: '::/0' }],
}
const XDP: PodAttachment = {
  ...TUN,
  kind: 'xdp',
  mac: '02:00:00:00:00:01',
  hostDevice: 'hw0123456789ab',
  hostMac: '02:00:00:00:00:02',
  routes: [
    { dst: '169.254.1.1/32' },
    { dst: '0.0.0.0/0', gw: '169.254.1.1' },
    { dst: '::/0', gw: 'fe80::1' },
  ],
}
const DNS = { nameservers: ['10.96.0.10'], search: ['cluster.local'] }

describe('a veth pod', () => {
  const result = resultOf(XDP, PODS, DNS)

  test('in 1.1.0', () => {
    expect(render('1.1.0', result)).toEqual({
      cniVersion: '1.1.0',
      interfaces: [
        { name: 'eth0', mac: '02:00:00:00:00:01', mtu: 1450, sandbox: '/run/netns/c' },
        { name: 'hw0123456789ab', mac: '02:00:00:00:00:02', mtu: 1450 },
      ],
      ips: [
        { address: '10.244.0.7/32', gateway: '10.244.0.1', interface: 0 },
        { address: 'fd00:10:244::7/128', gateway: 'fd00:10:244::1', interface: 0 },
      ],
      routes: XDP.routes,
      dns: DNS,
    })
  })

  test('in 1.0.0, without an MTU', () => {
    expect(render('1.0.0', result)).toEqual({
      cniVersion: '1.0.0',
      interfaces: [
        { name: 'eth0', mac: '02:00:00:00:00:01', sandbox: '/run/netns/c' },
        { name: 'hw0123456789ab', mac: '02:00:00:00:00:02' },
      ],
      ips: [
        { address: '10.244.0.7/32', gateway: '10.244.0.1', interface: 0 },
        { address: 'fd00:10:244::7/128', gateway: 'fd00:10:244::1', interface: 0 },
      ],
      routes: XDP.routes,
      dns: DNS,
    })
  })

  for (const version of ['0.3.0', '0.3.1', '0.4.0'] as const) {
    test(`in ${version}, with the family of every address`, () => {
      expect(render(version, result)).toMatchObject({
        cniVersion: version,
        interfaces: [{ name: 'eth0' }, { name: 'hw0123456789ab' }],
        ips: [
          { version: '4', address: '10.244.0.7/32', interface: 0 },
          { version: '6', address: 'fd00:10:244::7/128', interface: 0 },
        ],
      })
    })
  }

  for (const version of ['0.1.0', '0.2.0'] as const) {
    test(`in ${version}, one address of each family`, () => {
      expect(render(version, result)).toEqual({
        cniVersion: version,
        ip4: {
          ip: '10.244.0.7/32',
          gateway: '10.244.0.1',
          routes: [{ dst: '169.254.1.1/32' }, { dst: '0.0.0.0/0', gw: '169.254.1.1' }],
        },
        ip6: {
          ip: 'fd00:10:244::7/128',
          gateway: 'fd00:10:244::1',
          routes: [{ dst: '::/0', gw: 'fe80::1' }],
        },
        dns: DNS,
      })
    })
  }
})

test('a TUN pod has a MAC of zeros and no host interface, a pod of one family one address', () => {
  const { ip6: _, ...v4 } = TUN
  expect(render('1.1.0', resultOf({ ...v4, routes: [{ dst: '0.0.0.0/0' }] }, PODS, null))).toEqual({
    cniVersion: '1.1.0',
    interfaces: [{ name: 'eth0', mac: '00:00:00:00:00:00', mtu: 1450, sandbox: '/run/netns/c' }],
    ips: [{ address: '10.244.0.7/32', gateway: '10.244.0.1', interface: 0 }],
    routes: [{ dst: '0.0.0.0/0' }],
    dns: {},
  })
})

test('an address outside of the pod CIDRs has no gateway', () => {
  expect(resultOf(TUN, ['10.9.0.0/24'], undefined).ips).toEqual([
    { address: '10.244.0.7/32', interface: 0 },
    { address: 'fd00:10:244::7/128', interface: 0 },
  ])
})

describe('a prevResult', () => {
  const PREVIOUS = {
    cniVersion: '1.1.0',
    interfaces: [
      { name: 'net1', sandbox: '/run/netns/c', mtu: 9000, socketPath: '/s', pciID: 'p' },
    ],
    ips: [{ address: '192.0.2.7/24', gateway: '192.0.2.1', interface: 0 }],
    routes: [{ dst: '192.0.2.0/24', mtu: 1400, priority: 7 }],
    dns: { nameservers: ['192.0.2.53'] },
  }

  test('stays in front, whole, and our indices move behind it', () => {
    const chained = chain(parseResult('1.1.0', PREVIOUS), resultOf(TUN, PODS, undefined))
    expect(render('1.1.0', chained)).toEqual({
      ...PREVIOUS,
      interfaces: [
        ...PREVIOUS.interfaces,
        { name: 'eth0', mac: '00:00:00:00:00:00', mtu: 1450, sandbox: '/run/netns/c' },
      ],
      ips: [
        ...PREVIOUS.ips,
        { address: '10.244.0.7/32', gateway: '10.244.0.1', interface: 1 },
        { address: 'fd00:10:244::7/128', gateway: 'fd00:10:244::1', interface: 1 },
      ],
      routes: [...PREVIOUS.routes, ...TUN.routes],
    })
  })

  test('loses in older versions what they lack', () => {
    const older = { ...PREVIOUS, cniVersion: '1.0.0' }
    expect(render('1.0.0', parseResult('1.0.0', older))).toEqual({
      ...older,
      interfaces: [{ name: 'net1', sandbox: '/run/netns/c' }],
      routes: [{ dst: '192.0.2.0/24' }],
    })
  })

  test('of the oldest versions is understood', () => {
    const old = {
      cniVersion: '0.2.0',
      ip4: { ip: '192.0.2.7/24', gateway: '192.0.2.1', routes: [{ dst: '0.0.0.0/0' }] },
      dns: {},
    }
    expect(render('0.2.0', parseResult('0.2.0', old))).toEqual(old)
  })

  test('may leave lists out or have them null', () => {
    const empty: Result = { interfaces: [], ips: [], routes: [], dns: {} }
    expect(parseResult('1.0.0', {})).toMatchObject(empty)
    expect(
      parseResult('1.0.0', { interfaces: null, ips: null, routes: null, dns: null }),
    ).toMatchObject(empty)
    expect(chain(undefined, empty)).toBe(empty)
  })

  test('that is none is refused by field', () => {
    expect(() => parseResult('1.0.0', { ips: [{ address: 7 }] })).toThrow(
      /^network configuration: prevResult\.ips\[0\]\.address: /,
    )
  })

  test('of any shape gives a result whose own indices are in range, or an error', () => {
    fc.assert(
      fc.property(
        fc.constantFrom(...CNI_VERSIONS),
        fc.record({
          interfaces: fc.array(fc.record({ name: fc.string() })),
          ips: fc.oneof(fc.jsonValue(), fc.array(fc.record({ address: fc.string() }))),
          routes: fc.oneof(fc.jsonValue(), fc.array(fc.record({ dst: fc.string() }))),
          ip4: fc.jsonValue(),
        }),
        (version, previous) => {
          let earlier: Result
          try {
            earlier = parseResult(version, previous)
          } catch (error) {
            expect((error as CniError).code).toBe(7)
            return
          }
          const result = chain(earlier, resultOf(XDP, PODS, undefined))
          for (const ip of result.ips.slice(-2)) {
            expect(result.interfaces[ip.interface ?? -1]?.name).toBe('eth0')
          }
          JSON.stringify(render(version, result))
        },
      ),
    )
  })
})
