import { describe, expect, test } from 'vitest'
import { MAX_PORT_MAPPINGS, runtimeOf } from '../../../cni/spec/runtime-config.ts'

const of = (runtimeConfig: unknown, args = '', kind: 'tun' | 'xdp' = 'xdp') =>
  runtimeOf({ name: 'n', runtimeConfig }, args, kind)
const error = (text: RegExp) =>
  expect.objectContaining({ code: 7, message: expect.stringMatching(text) })

test('nothing asked for is nothing, in every way to say so', () => {
  for (const none of [
    undefined,
    null,
    {},
    { portMappings: null, bandwidth: null, mac: null },
    { portMappings: [], bandwidth: {}, mac: '' },
    { bandwidth: { ingressRate: 0, ingressBurst: 0, egressRate: 0, egressBurst: 0 } },
    { aliases: { net: ['a'] }, cgroupPath: '/x', 'io.kubernetes.cri.pod-annotations': {} },
  ]) {
    expect(of(none), JSON.stringify(none)).toBeUndefined()
  }
  expect(runtimeOf(null, '', 'tun')).toBeUndefined()
  expect(of(undefined, 'IgnoreUnknown=1;K8S_POD_NAME=x;MAC=')).toBeUndefined()
})

test('keys with a capital, as containerd 1.6 writes them', () => {
  const { portMappings, bandwidth } = of({
    portMappings: [{ HostPort: 8080, ContainerPort: 80, Protocol: 'tcp', HostIP: '' }],
    bandwidth: { IngressRate: 8000, IngressBurst: 4294967295, EgressRate: 0, EgressBurst: 0 },
  })!
  expect(portMappings).toEqual([{ protocol: 'tcp', hostPort: 8080, containerPort: 80 }])
  expect(bandwidth).toEqual({ ingressRate: 8000, ingressBurst: 4294967295 })
})

describe('portMappings', () => {
  test('as containerd and CRI-O write them', () => {
    const portMappings = [
      { hostPort: 8080, containerPort: 80, protocol: 'tcp', hostIP: '' },
      { hostPort: 53, containerPort: 5353, protocol: 'UDP', hostIP: '2001:DB8:0::1' },
      { hostPort: 9, containerPort: 9, protocol: 'sctp', HostIP: 'x', hostIP: '0.0.0.0' },
      { hostPort: 70, containerPort: 71 },
    ]
    expect(of({ portMappings, aliases: [] })).toEqual({
      portMappings: [
        { protocol: 'tcp', hostPort: 8080, containerPort: 80 },
        { protocol: 'udp', hostPort: 53, containerPort: 5353, hostIP: '2001:db8::1' },
        { protocol: 'sctp', hostPort: 9, containerPort: 9, hostIP: '0.0.0.0' },
        { protocol: 'tcp', hostPort: 70, containerPort: 71 },
      ],
    })
  })

  test('without a port of the node, or twice the same, they are passed over', () => {
    const same = { hostPort: 8080, containerPort: 80, protocol: 'tcp' }
    const portMappings = [{ hostPort: 0, containerPort: 80 }, { containerPort: 80 }, same, same]
    expect(of({ portMappings })?.portMappings).toHaveLength(1)
  })

  test('what can not be is refused, with its place', () => {
    const good = { hostPort: 8080, containerPort: 80, protocol: 'tcp' }
    for (const [bad, text] of [
      [{ ...good, hostPort: 65_536 }, /runtimeConfig\.portMappings\[0\]\.hostPort/],
      [{ ...good, hostPort: -1 }, /hostPort/],
      [{ ...good, hostPort: '80' }, /hostPort/],
      [{ ...good, containerPort: 0 }, /8080 leads to port 0/],
      [{ hostPort: 80 }, /containerPort/],
      [{ ...good, protocol: 'icmp' }, /protocol/],
      [{ ...good, hostIP: '10.0.0.1/24' }, /hostIP: not an IPv4 or IPv6 address/],
      [{ ...good, hostIP: 'fe80::1%eth0' }, /hostIP/],
    ] as const) {
      expect(() => of({ portMappings: [bad] }), JSON.stringify(bad)).toThrow(error(text))
    }
    const many = Array.from({ length: MAX_PORT_MAPPINGS + 1 }, (_, k) => ({ ...good, hostPort: k }))
    expect(() => of({ portMappings: many })).toThrow(error(/portMappings/))
    expect(() => of({ portMappings: 'x' })).toThrow(error(/portMappings/))
    expect(() => of('x')).toThrow(error(/runtimeConfig/))
  })
})

describe('bandwidth', () => {
  test('what has a rate is kept', () => {
    const bandwidth = { ingressRate: 1e6, ingressBurst: 4294967295, egressRate: 0, egressBurst: 5 }
    expect(of({ bandwidth })).toEqual({
      bandwidth: { ingressRate: 1e6, ingressBurst: 4294967295 },
    })
    expect(of({ bandwidth: { egressRate: 2 ** 64 } })?.bandwidth?.egressRate).toBe(2 ** 64)
  })

  test('what can not be is refused', () => {
    for (const rate of [-1, '1M', true]) {
      expect(() => of({ bandwidth: { ingressRate: rate } })).toThrow(error(/bandwidth.ingressRate/))
    }
  })
})

describe('mac', () => {
  test('from runtimeConfig, else from CNI_ARGS; in lower case', () => {
    expect(of({ mac: '02:AB:00:00:00:01' }, 'MAC=02:00:00:00:00:09')).toEqual({
      mac: '02:ab:00:00:00:01',
    })
    expect(of(undefined, 'IgnoreUnknown=1;MAC=02:00:00:00:00:0F;K=V')).toEqual({
      mac: '02:00:00:00:00:0f',
    })
  })

  test('it is that of one interface', () => {
    for (const [mac, text] of [
      ['02:00:00:00:00', /not a MAC/],
      ['02:00:00:00:00:01:02:03', /not a MAC/],
      ['02-00-00-00-00-01', /not a MAC/],
      ['x', /runtimeConfig\.mac x: not a MAC/],
      ['03:00:00:00:00:01', /group address/],
      ['ff:ff:ff:ff:ff:ff', /group address/],
      ['00:00:00:00:00:00', /no address/],
    ] as const) {
      expect(() => of({ mac }), mac).toThrow(error(text))
    }
    expect(() => of(undefined, 'MAC=zz')).toThrow(error(/CNI_ARGS MAC zz: not a MAC/))
  })

  test('a TUN pod has none', () => {
    expect(() => of({ mac: '02:00:00:00:00:01' }, '', 'tun')).toThrow(error(/"tun" has no MAC/))
    expect(() => of(undefined, 'MAC=02:00:00:00:00:01', 'tun')).toThrow(error(/has no MAC/))
  })
})
