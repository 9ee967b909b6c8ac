// Every kind of pod to every other one, on one node and across two, both families, over an IPv4 and an
// IPv6 underlay, driven by AF_XDP and by UDP sockets:
//
//   node a                                                        node b
//   ┌──────────────────────────────┐                              ┌───────────────────────────┐
//   │ pods a1 a2 (TUN)             │ 192.168.77.1    192.168.77.2 │ pods b1 (TUN)             │
//   │      a3 a4 (veth, AF_XDP)    ├──────────── veth ────────────┤      b3 (veth, AF_XDP)    │
//   │ 10.244.1.0/24 fd44:0:0:1::/64│ fd77::1              fd77::2 │ 10.244.2.0/24 fd44:0:0:2::│
//   └──────────────────────────────┘                              └───────────────────────────┘
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { addPod, type TestPod } from '../harness/node.ts'
import { type TwoNodes, twoNodes } from '../harness/topology.ts'
import { checksumErrors, dropsOf, expectSound, expectTraffic, tellLogsOnFailure } from './expect.ts'

/** What may be dropped on a sound path: neighbour discovery of the pods' kernels, the first packets to a VTEP. */
const HARMLESS = [
  ...['handled', 'multicast', 'neighbour', 'source-ip', 'nd-malformed'],
  // A stream that speeds up finds out so how much a worker takes that waits for its core.
  'fill-empty',
]

describe.each([
  { underlay: 4, mode: 'xdp' },
  { underlay: 4, mode: 'udp' },
  { underlay: 6, mode: 'xdp' },
  { underlay: 6, mode: 'udp' },
] as const)('underlay IPv$underlay by $mode', ({ underlay, mode }) => {
  let nodes: TwoNodes
  const pods: Record<string, TestPod> = {}
  beforeAll(async () => {
    nodes = await twoNodes(`path${underlay}${mode}`, { underlay, underlayMode: mode })
    const { a, b, namespaces } = nodes
    const make = async (name: string, attach: 'tun' | 'xdp') => {
      pods[name] = await addPod(namespaces, name.startsWith('a') ? a : b, name, attach)
    }
    await Promise.all([make('a1', 'tun'), make('a2', 'tun'), make('b1', 'tun')])
    await Promise.all([make('a3', 'xdp'), make('a4', 'xdp'), make('b3', 'xdp')])
  })
  afterAll(() => nodes?.close())
  tellLogsOnFailure(() => [nodes?.a, nodes?.b])

  test('the underlay is driven as asked', async () => {
    const { underlay: found, mtu } = await expectSound(nodes.a)
    expect(found.mode).toBe(mode)
    expect(mtu).toBe(underlay === 4 ? 1450 : 1430)
  })

  test.each([
    ['a1', 'b1'],
    ['a3', 'b3'],
    ['b1', 'a3'],
    ['b3', 'a1'],
  ])('two nodes: %s to %s', async (from, to) => {
    await expectTraffic(pods[from]!, pods[to]!)
  })

  // What happens inside a node does not depend on the underlay: once is enough.
  if (underlay === 4 && mode === 'xdp') {
    test.each([
      ['a1', 'a2'],
      ['a3', 'a4'],
      ['a1', 'a3'],
      ['a4', 'a2'],
    ])('one node: %s to %s', async (from, to) => {
      await expectTraffic(pods[from]!, pods[to]!)
    })
  }

  test('nothing was lost, nothing was wrong', async () => {
    for (const node of [nodes.a, nodes.b]) {
      await expectSound(node)
      const reasons = Object.keys(await dropsOf(node)).filter(name => !HARMLESS.includes(name))
      expect(reasons).toEqual([])
    }
    for (const { netns } of Object.values(pods)) expect(await checksumErrors(netns)).toEqual({})
  })
})
