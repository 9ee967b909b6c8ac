import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import {
  MAX_NETWORKS,
  MAX_PLUGINS,
  networksFor,
  networksIn,
} from '../../../cni/secondary/config.ts'
import { CniError } from '../../../cni/spec/errors.ts'

const POD = { ifname: 'eth0', namespace: 'shop' }

const ANNOTATIONS = 'io.kubernetes.cri.pod-annotations'
const plugins = [{ type: 'bridge' }]
const net = (name: string, ifname: string, more: object = {}) => ({
  name,
  ifname,
  plugins,
  ...more,
})

/** Names of the networks that a pod with that annotation gets. */
function wanted(networks: unknown, annotation?: unknown, where: 'runtime' | 'beside' = 'runtime') {
  const annotations = { [ANNOTATIONS]: { 'hawser.dev/networks': annotation } }
  const document =
    where === 'runtime' ? { networks, runtimeConfig: annotations } : { networks, ...annotations }
  return networksFor(document, '1.0.0', POD).map(each => each.name)
}

describe('networks', () => {
  test('are none, or lists with the version of the configuration or their own', () => {
    for (const document of [{}, { networks: null }, { networks: [] }]) {
      expect(networksFor(document, '1.0.0', POD)).toEqual([])
    }
    const networks = [
      net('a', 'net1', { when: 'always', unknown: 1 }),
      net('b', 'net2', { cniVersion: '0.4.0', disableCheck: true }),
    ]
    expect(networksFor({ networks }, '1.1.0', POD)).toEqual([
      { name: 'a', ifname: 'net1', cniVersion: '1.1.0', plugins },
      { name: 'b', ifname: 'net2', cniVersion: '0.4.0', disableCheck: true, plugins },
    ])
  })

  test('give their plugins the capabilities that those name and the runtime has given', () => {
    const runtimeConfig = { portMappings: [1], bandwidth: { ingressRate: 1 }, mac: 'x' }
    const capabilities = { portMappings: true, bandwidth: false, ips: true, constructor: true }
    const list = [{ type: 'portmap', capabilities, snat: true }, { type: 'tuning' }]
    const networks = [{ name: 'a', ifname: 'net1', plugins: list }]
    expect(networksIn({ networks, runtimeConfig }, '1.0.0')[0]?.plugins).toEqual([
      { type: 'portmap', capabilities, snat: true, runtimeConfig: { portMappings: [1] } },
      { type: 'tuning' },
    ])
  })

  test('bring no prevResult of their own', () => {
    const networks = [net('a', 'net1', { plugins: [{ type: 'bridge', prevResult: { ips: [] } }] })]
    expect(networksIn({ networks }, '1.0.0')[0]?.plugins).toEqual([{ type: 'bridge' }])
  })

  const many = (n: number) => Array.from({ length: n }, (_, k) => net(`n${k}`, `net${k}`))
  test.each<[title: string, networks: unknown, cause: RegExp]>([
    ['no list', 'bridge', /networks: expected array/],
    ['too many', many(MAX_NETWORKS + 1), /networks: Too big/],
    ['no plugins', [net('a', 'net1', { plugins: [] })], /networks\[0\]\.plugins: Too small/],
    [
      'too many plugins',
      [net('a', 'net1', { plugins: Array(MAX_PLUGINS + 1).fill({ type: 'x' }) })],
      /networks\[0\]\.plugins: Too big/,
    ],
    ['no name', [{ ifname: 'net1', plugins }], /networks\[0\]\.name: /],
    ['a bad name', [net('../a', 'net1')], /networks\[0\]\.name: \.\.\/a: not a name/],
    ['a bad interface', [net('a', 'net/1')], /networks\[0\]\.ifname: net\/1: holds/],
    ['a long interface', [net('a', 'n'.repeat(16))], /not 1 \.\. 15 bytes long/],
    ['a path as type', [net('a', 'net1', { plugins: [{ type: '../sh' }] })], /type: \.\.\/sh: not/],
    ['an absolute type', [net('a', 'net1', { plugins: [{ type: '/bin/sh' }] })], /\/bin\/sh: not/],
    ['no type', [net('a', 'net1', { plugins: [{}] })], /networks\[0\]\.plugins\[0\]\.type: /],
    ['an odd version', [net('a', 'net1', { cniVersion: '9.9.9' })], /networks\[0\]\.cniVersion: /],
    ['an odd time', [net('a', 'net1', { when: 'never' })], /networks\[0\]\.when: /],
    ['one name twice', [net('a', 'net1'), net('a', 'net2')], /networks\[1\]\.name: a: another/],
    ['one interface twice', [net('a', 'net1'), net('b', 'net1')], /\[1\]\.ifname: net1: another/],
    ["the pod's own interface", [net('a', 'eth0')], /networks: a: eth0: it is CNI_IFNAME/],
    [
      'networks inside of networks',
      [net('a', 'net1', { plugins: [{ type: 'hawser', networks: [] }] })],
      /networks\[0\]\.plugins\[0\]\.networks: a further interface has none of its own/,
    ],
  ])('are refused with %s', (_title, networks, cause) => {
    expect(() => networksFor({ networks }, '1.0.0', POD)).toThrow(
      expect.objectContaining({ code: 7, message: expect.stringMatching(cause) }),
    )
  })

  test('as many as may be are taken', () => {
    expect(networksFor({ networks: many(MAX_NETWORKS) }, '1.0.0', POD)).toHaveLength(16)
  })
})

describe('what a pod asks for', () => {
  const networks = [
    net('always', 'net1'),
    net('storage', 'net2', { when: 'asked' }),
    net('video', 'net3', { when: 'asked' }),
  ]

  test('comes beside what all pods get, in the order of the configuration', () => {
    expect(wanted(networks)).toEqual(['always'])
    expect(wanted(networks, 'storage')).toEqual(['always', 'storage'])
    expect(wanted(networks, ' video , storage,')).toEqual(['always', 'storage', 'video'])
    expect(wanted(networks, '["video", "video", "always"]')).toEqual(['always', 'video'])
    expect(wanted(networks, 'storage', 'beside')).toEqual(['always', 'storage'])
    expect(wanted(networks, '')).toEqual(['always'])
  })

  test.each<[annotation: unknown, cause: RegExp]>([
    ['tape', /hawser\.dev\/networks: tape: no such network, there are always, storage, video/],
    ['storage,\u001b[31m', /\?\[31m: no such network/],
    ['[1]', /not a list of networks/],
    ['["storage"', /neither a JSON list nor/],
    [7, /not text/],
    ['x'.repeat(1025), /longer than 1024/],
    [`[${' '.repeat(1024)}]`, /longer than 1024/],
  ])('is refused when it is %j', (annotation, cause) => {
    expect(() => wanted(networks, annotation)).toThrow(
      expect.objectContaining({ code: 7, message: expect.stringMatching(cause) }),
    )
  })

  test('can not be had where there are no networks', () => {
    expect(() => wanted(undefined, 'storage')).toThrow(/no such network, there are none/)
  })
})

test('whatever it is, it is networks or code 7', () => {
  fc.assert(
    fc.property(fc.jsonValue(), fc.jsonValue(), (networks, annotations) => {
      const document = { networks, runtimeConfig: { [ANNOTATIONS]: annotations } }
      try {
        expect(Array.isArray(networksFor(document, '1.0.0', POD))).toBe(true)
      } catch (error) {
        expect(error).toBeInstanceOf(CniError)
        expect((error as CniError).code).toBe(7)
      }
    }),
  )
})

describe('namespaces of a network', () => {
  const plugins = [{ type: 'ptp' }]
  const document = (namespaces: unknown, when: string, asked?: string) => ({
    networks: [{ name: 'storage', ifname: 'net1', when, plugins, namespaces }],
    ...(asked === undefined
      ? {}
      : {
          runtimeConfig: {
            'io.kubernetes.cri.pod-annotations': { 'hawser.dev/networks': asked },
          },
        }),
  })
  const names = (of: object, namespace: string) =>
    networksFor(of, '1.0.0', { ifname: 'eth0', namespace }).map(each => each.name)

  test('a pod of another namespace does not get what every pod gets', () => {
    expect(names(document(['shop', 'bank'], 'always'), 'bank')).toEqual(['storage'])
    expect(names(document(['shop'], 'always'), 'bank')).toEqual([])
    expect(names(document(['shop'], 'always'), '')).toEqual([])
    expect(names(document(undefined, 'always'), '')).toEqual(['storage'])
  })

  test('a pod of another namespace that asks is refused, by name', () => {
    expect(names(document(['shop'], 'asked', 'storage'), 'shop')).toEqual(['storage'])
    expect(() => names(document(['shop'], 'asked', 'storage'), 'bank')).toThrow(
      'storage: this network is for pods of shop, not for pods of namespace bank',
    )
    expect(() => names(document(['shop'], 'asked', 'storage'), '')).toThrow(
      'not for a pod whose namespace is not known',
    )
  })

  test.each([[[]], [['Shop']], ['shop'], [['a b']]])('%j is refused', namespaces => {
    expect(() => names(document(namespaces, 'always'), 'shop')).toThrow(/networks\[0\]\.namespaces/)
  })
})
