// Sizes and hops: how large a packet may be, and what its sender is told when it is too large or has
// gone too far.
//
//   node a                                   node b
//   pods a1 (TUN)                            pods b1 (TUN), b2 (AF_XDP), narrow (MTU 1300)
//        a2 (AF_XDP)  ── under0 1600 ─────
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { addPod, type TestPod } from '../harness/node.ts'
import { type TwoNodes, twoNodes } from '../harness/topology.ts'
import { ping } from '../harness/traffic.ts'
import { expectSound, expectTraffic, tellLogsOnFailure } from './expect.ts'

const UNDERLAY_MTU = 1600
const MTU = UNDERLAY_MTU - 50
const NARROW = 1300
const IPV4_ECHO = 28
const IPV6_ECHO = 48

let nodes: TwoNodes | undefined
const pods: Record<string, TestPod> = {}
beforeAll(async () => {
  nodes = await twoNodes('mtu', { underlayMtu: UNDERLAY_MTU })
  const { a, b, namespaces } = nodes
  pods['a1'] = await addPod(namespaces, a, 'a1', 'tun')
  pods['a2'] = await addPod(namespaces, a, 'a2', 'xdp')
  pods['b1'] = await addPod(namespaces, b, 'b1', 'tun')
  pods['b2'] = await addPod(namespaces, b, 'b2', 'xdp')
  pods['narrow'] = await addPod(namespaces, b, 'narrow', 'tun', { mtu: NARROW })
})
afterAll(() => nodes?.close())
tellLogsOnFailure(() => [nodes?.a, nodes?.b])

test("a pod's MTU is the underlay's less the overhead, or smaller if asked", async () => {
  expect((await expectSound(nodes!.a)).mtu).toBe(MTU)
  const mtu = (name: string) => (pods[name]!.result['interfaces'] as { mtu: number }[])[0]!.mtu
  expect([mtu('a1'), mtu('a2'), mtu('narrow')]).toEqual([MTU, MTU, NARROW])
})

describe.each([
  ['a1', 'b1'],
  ['a2', 'b2'],
  ['b1', 'a2'],
  ['b2', 'a1'],
])('%s to %s', (from, to) => {
  test('the largest packet passes, one byte more stays with its sender', async () => {
    for (const [address, header] of [
      [pods[to]!.ip4, IPV4_ECHO],
      [pods[to]!.ip6, IPV6_ECHO],
    ] as const) {
      const options = { count: 2, dontFragment: true }
      const fits = await ping(pods[from]!.netns, address, { ...options, size: MTU - header })
      expect([address, fits.received, fits.errors]).toEqual([address, 2, []])
      const more = await ping(pods[from]!.netns, address, { ...options, size: MTU - header + 1 })
      expect([address, more.received, more.errors]).toEqual([
        address,
        0,
        ['Message too long', 'Message too long'],
      ])
    }
  })

  test('who goes too far is told by the node where it ended', async () => {
    const gateways = (name: string) =>
      name.startsWith('a') ? ['10.244.1.1', 'fd44:0:0:1::1'] : ['10.244.2.1', 'fd44:0:0:2::1']
    for (const [ttl, where] of [
      [1, from],
      [2, to],
    ] as const) {
      for (const [k, address] of [pods[to]!.ip4, pods[to]!.ip6].entries()) {
        const { received, errors } = await ping(pods[from]!.netns, address, { ttl, count: 1 })
        expect(received).toBe(0)
        expect(errors).toMatchObject([
          { type: k === 0 ? 11 : 3, code: 0, from: gateways(where)[k] },
        ])
      }
    }
  })
})

describe.each(['a1', 'a2', 'b2'])('%s to a pod with a smaller MTU', from => {
  test('is told the MTU', async () => {
    for (const [address, header, error] of [
      [pods['narrow']!.ip4, IPV4_ECHO, { type: 3, code: 4, from: '10.244.2.1', mtu: NARROW }],
      [pods['narrow']!.ip6, IPV6_ECHO, { type: 2, code: 0, from: 'fd44:0:0:2::1', mtu: NARROW }],
    ] as const) {
      const { received, errors } = await ping(pods[from]!.netns, address, {
        ...{ count: 1, dontFragment: true, size: NARROW + 1 - header },
      })
      expect(received).toBe(0)
      expect(errors).toEqual([error])
      const fits = await ping(pods[from]!.netns, address, {
        ...{ count: 1, dontFragment: true, size: NARROW - header },
      })
      expect([fits.received, fits.errors]).toEqual([1, []])
    }
  })

  test('and sends files all the same', async () => {
    await expectTraffic(pods[from]!, pods['narrow']!, { udpSize: NARROW - IPV6_ECHO })
  })
})
