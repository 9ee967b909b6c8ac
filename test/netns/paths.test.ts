// Every kind of pod to every other one, on one node and across two, both families, over an IPv4 and an
// IPv6 underlay, driven by AF_XDP, by UDP sockets and by the kernel's vxlan device, at each end as it likes:
//
//   node a                                                        node b
//   ┌──────────────────────────────┐                              ┌───────────────────────────┐
//   │ pods a1 a2 (TUN)             │ 192.168.77.1    192.168.77.2 │ pods b1 (TUN)             │
//   │      a3 a4 (veth, AF_XDP)    ├──────────── veth ────────────┤      b3 (veth, AF_XDP)    │
//   │      a5 (veth, TAP)          │                              │      b5 (veth, TAP)       │
//   │ 10.244.1.0/24 fd44:0:0:1::/64│ fd77::1              fd77::2 │ 10.244.2.0/24 fd44:0:0:2::│
//   └──────────────────────────────┘                              └───────────────────────────┘
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { AttachKind } from '../../dataplane/control.ts'
import { addPod, type TestPod } from '../harness/node.ts'
import { type TwoNodes, twoNodes } from '../harness/topology.ts'
import { checksumErrors, dropsOf, expectSound, expectTraffic, tellLogsOnFailure } from './expect.ts'

/** What may be dropped on a sound path: neighbour discovery of the pods' kernels, the first packets to a VTEP. */
const HARMLESS = [
  ...['handled', 'multicast', 'neighbour', 'source-ip', 'nd-malformed'],
  // A stream that speeds up finds out so how much a worker takes that waits for its core.
  'fill-empty',
  // The first words of a pod's kernel, before its port is served.
  'tap-gone',
]

describe.each([
  { underlay: 4, mode: 'xdp' },
  { underlay: 4, mode: 'udp' },
  { underlay: 6, mode: 'xdp' },
  { underlay: 6, mode: 'udp' },
  { underlay: 4, mode: 'vxlan' },
  { underlay: 6, mode: 'vxlan' },
  { underlay: 4, mode: 'vxlan', other: 'xdp' },
  { underlay: 4, mode: 'vxlan', other: 'udp' },
  { underlay: 6, mode: 'vxlan', other: 'udp' },
] as const)('underlay IPv$underlay by $mode, $other', ({ underlay, mode, ...rest }) => {
  const other = 'other' in rest ? rest.other : mode

  let nodes: TwoNodes
  const pods: Record<string, TestPod> = {}
  beforeAll(async () => {
    const modes = { underlayMode: mode, ofB: { underlayMode: other } }
    nodes = await twoNodes(`path${underlay}${mode}`, { underlay, ...modes })
    const { a, b, namespaces } = nodes
    const make = async (name: string, attach: AttachKind) => {
      pods[name] = await addPod(namespaces, name.startsWith('a') ? a : b, name, attach)
    }
    await Promise.all([make('a1', 'tun'), make('a2', 'tun'), make('b1', 'tun')])
    await Promise.all([make('a3', 'xdp'), make('a4', 'xdp'), make('b3', 'xdp')])
    await Promise.all([make('a5', 'tap'), make('b5', 'tap')])
  })
  afterAll(() => nodes?.close())
  tellLogsOnFailure(() => [nodes?.a, nodes?.b])

  test('the underlay is driven as asked', async () => {
    const { underlay: found, mtu } = await expectSound(nodes.a)
    expect(found.mode).toBe(mode)
    expect((await expectSound(nodes.b)).underlay.mode).toBe(other)
    expect(mtu).toBe(underlay === 4 ? 1450 : 1430)
  })

  test.each([
    ['a1', 'b1'],
    ['a3', 'b3'],
    ['b1', 'a3'],
    ['b3', 'a1'],
    ['a5', 'b5'],
    ['b5', 'a1'],
    ['b3', 'a5'],
    ['a1', 'b5'],
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
