// Pods in two networks on real devices: eth0 in the cluster's own, net1 in `blue` or `red`.
//
//   node a                                 underlay            node b
//   a1  eth0 TUN      net1 TUN    blue  ─── VNI 1   (own)  ───  b1  eth0 TUN     net1 AF_XDP blue
//   a2  eth0 AF_XDP   net1 AF_XDP blue  ─── VNI 100 (blue) ───  b2  eth0 AF_XDP  net1 TUN    blue
//   a3  eth0 TUN                            VNI 200 (red)       b3  eth0 TUN     net1 TUN    red
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { AttachKind, DataplaneStatus, RouteEntry } from '../../dataplane/control.ts'
import { ip } from '../harness/netns.ts'
import { addInterface, addPod, type TestNode, type TestPod } from '../harness/node.ts'
import { Ear } from '../harness/raw.ts'
import { NODE_A, NODE_B, type TwoNodes, twoNodes } from '../harness/topology.ts'
import { ping } from '../harness/traffic.ts'
import { until } from '../harness/until.ts'
import { dropsOf, expectPing, expectSound, expectTraffic, tellLogsOnFailure } from './expect.ts'

const BLUE = { name: 'blue', vni: 100, cidrs: ['10.60.0.0/16', 'fd60::/48'] }
const RED = { name: 'red', vni: 200 }
const IN_NETWORKS: [Record<string, string[]>, Record<string, string[]>] = [
  { blue: ['10.60.1.0/24', 'fd60:0:0:1::/64'], red: ['10.70.1.0/24', 'fd70:0:0:1::/64'] },
  { blue: ['10.60.2.0/24', 'fd60:0:0:2::/64'], red: ['10.70.2.0/24', 'fd70:0:0:2::/64'] },
]
const LITTLE = { tcpBytes: 256 << 10, udpBytes: 32 << 10 }

const blue = (attach: AttachKind) => ({ name: 'multus-blue', attach, network: 'blue' })
const red = { name: 'multus-red', network: 'red' }

/** Bytes of a VXLAN header that has this VNI, behind its UDP length. */
const vxlanOf = (vni: number) =>
  Uint8Array.of(8, 0, 0, 0, vni >> 16, (vni >> 8) & 255, vni & 255, 0)

describe.each([
  { underlay: 4, underlayMode: 'xdp' },
  { underlay: 6, underlayMode: 'udp' },
] as const)('IPv$underlay, $underlayMode', ({ underlay, underlayMode }) => {
  let nodes: TwoNodes | undefined
  /** With the addresses of eth0; and of net1. */
  let own: Record<string, TestPod>
  let net1: Record<string, TestPod>
  beforeAll(async () => {
    nodes = await twoNodes(`nets${underlay}`, {
      ...{ underlay, underlayMode, networks: [BLUE, RED] },
      inNetworks: IN_NETWORKS,
    })
    const { a, b, namespaces } = nodes
    own = {
      a1: await addPod(namespaces, a, 'a1', 'tun'),
      a2: await addPod(namespaces, a, 'a2', 'xdp'),
      a3: await addPod(namespaces, a, 'a3', 'tun'),
      b1: await addPod(namespaces, b, 'b1', 'tun'),
      b2: await addPod(namespaces, b, 'b2', 'xdp'),
      b3: await addPod(namespaces, b, 'b3', 'tun'),
    }
    net1 = {
      a1: await addInterface(own['a1']!, 'net1', blue('tun')),
      a2: await addInterface(own['a2']!, 'net1', blue('xdp')),
      b1: await addInterface(own['b1']!, 'net1', blue('xdp')),
      b2: await addInterface(own['b2']!, 'net1', blue('tun')),
      b3: await addInterface(own['b3']!, 'net1', red),
    }
  })
  afterAll(() => nodes?.close())
  tellLogsOnFailure(() => [nodes?.a, nodes?.b])

  test("an interface has its network's addresses and routes, and the default route stays", async () => {
    for (const name of ['a1', 'a2']) {
      const { netns, ip4, ip6, attach, result } = net1[name]!
      expect([ip4, ip6]).toEqual([
        expect.stringMatching(/^10\.60\.1\./),
        expect.stringMatching(/^fd60:0:0:1::/),
      ])
      const via = attach === 'tun' ? [{}, {}] : [{ gw: '169.254.1.1' }, { gw: 'fe80::1' }]
      const routes = BLUE.cidrs.map((dst, k) => ({ dst, ...via[k] }))
      expect(result['routes']).toEqual(routes)
      const there = await ip(netns, '-4', 'route')
      expect(there).toMatch(/^default .*dev eth0/m)
      expect(there).toMatch(/^10\.60\.0\.0\/16 .*dev net1/m)
      expect(there).not.toMatch(/^default .*dev net1/m)
      expect(await ip(netns, '-6', 'route')).toMatch(/^fd60::\/48 .*dev net1/m)
    }
    // Without `cidrs` of the network: those of the nodes.
    const routes = [
      ...['10.70.1.0/24', '10.70.2.0/24', 'fd70:0:0:1::/64', 'fd70:0:0:2::/64'].map(dst => ({
        dst,
      })),
    ]
    expect(net1['b3']!.result['routes']).toEqual(expect.arrayContaining(routes))
    expect(net1['b3']!.result['routes']).toHaveLength(4)
  })

  test('both interfaces carry pings, TCP and UDP, on a node and between nodes', async () => {
    const ways = [
      ['a1', 'a2'],
      ['a1', 'b1'],
      ['b2', 'a1'],
      ['a2', 'b2'],
      ['b1', 'a2'],
    ] as const
    for (const [from, to] of ways) {
      await expectTraffic(net1[from]!, net1[to]!, LITTLE)
      await expectPing(own[from]!, own[to]!)
    }
    await expectTraffic(own['a1']!, own['b2']!, LITTLE)
    for (const node of [nodes!.a, nodes!.b]) {
      expect(await dropsOf(node)).not.toHaveProperty('other-network')
    }
  })

  // A packet socket sees nothing of AF_XDP; there the kernel's VXLAN proves it (kernel-peer.test.ts).
  const captured = async () => {
    const { a, b } = nodes!
    const ears = [await Ear.at(b.netns, 'under0'), await Ear.at(a.netns, 'under0')]
    try {
      await expectPing(net1['a1']!, net1['b1']!)
      for (const ear of ears) await ear.until(vxlanOf(100))
      for (const ear of ears) expect(ear.has(vxlanOf(1))).toBe(false)
      await expectPing(own['a1']!, own['b1']!)
      for (const ear of ears) await ear.until(vxlanOf(1))
      for (const ear of ears) expect(ear.has(vxlanOf(200))).toBe(false)
    } finally {
      for (const ear of ears) await ear.close()
    }
  }
  if (underlayMode === 'udp') test('the VNI is on the wire, both ways', captured)

  test('nothing leaves a network, and whoever tries is told', async () => {
    const { a, b } = nodes!
    const before = await dropsOf(a)
    // From net1 of a pod of blue: to pods of the cluster's own network, of red, to the node, by any of its addresses.
    for (const from of [net1['a1']!, net1['a2']!]) {
      const targets = [
        ...[own['a3']!, own['b3']!, net1['b3']!].map(({ ip4, ip6 }) => [ip4, ip6] as const),
        ['10.244.1.1', 'fd44:0:0:1::1'] as const,
        ['192.168.77.1', 'fd77::1'] as const,
        ['192.0.2.99', '2001:db8::99'] as const,
      ]
      for (const [four, six] of targets) {
        const error = { count: 1, source: from.ip4 }
        expect(await ping(from.netns, four, error)).toMatchObject({
          ...{ received: 0, errors: [{ type: 3, code: 1, from: '10.60.1.1' }] },
        })
        expect(await ping(from.netns, six, { count: 1, source: from.ip6 })).toMatchObject({
          ...{ received: 0, errors: [{ type: 1, from: 'fd60:0:0:1::1' }] },
        })
      }
    }
    // The other way round, by eth0: from a pod that is in no other network, and from the one in red.
    expect(await ping(own['a3']!.netns, net1['a1']!.ip4, { count: 1 })).toMatchObject({
      ...{ received: 0, errors: [{ type: 3, code: 1, from: '10.244.1.1' }] },
    })
    expect(await ping(own['b3']!.netns, net1['b1']!.ip6, { count: 1 })).toMatchObject({
      ...{ received: 0, errors: [{ type: 1, from: 'fd44:0:0:2::1' }] },
    })
    const after = await dropsOf(a)
    expect(after['other-network']! - (before['other-network'] ?? 0)).toBe(2 * 6 * 2 + 1)
    expect((await dropsOf(b))['other-network']).toBe(1)
    // The node itself has no way into the network, in its kernel's table or else.
    expect(await ip(a.netns, 'route')).not.toContain('10.60.')
  })

  test('status and routes name the networks', async () => {
    const { a } = nodes!
    const { networks } = await expectSound(a)
    expect(networks).toEqual([
      { name: 'blue', vni: 100, podCidrs: IN_NETWORKS[0]['blue'], pods: 2 },
      { name: 'red', vni: 200, podCidrs: IN_NETWORKS[0]['red'], pods: 0 },
    ])
    const routes = await a.ask<RouteEntry[]>('routes')
    const by = (prefix: string) => routes.find(each => each.prefix === prefix)
    expect(by('10.60.2.0/24')).toMatchObject({ kind: 'vxlan', network: 'blue' })
    expect(by('10.70.1.0/24')).toMatchObject({ kind: 'reject', network: 'red' })
    expect(by(`${net1['a1']!.ip4}/32`)).toMatchObject({ kind: 'pod', network: 'blue' })
    expect(by('10.244.2.0/24')).not.toHaveProperty('network')
    expect(by('10.60.1.1/32')).toBeUndefined()
  })

  if (underlayMode === 'udp') return

  test('a daemon that crashed and the next one', async () => {
    const { a } = nodes!
    await a.stop('SIGKILL')
    await a.start()
    await a.acquainted()
    for (const name of ['a1', 'a2']) {
      const config = blue(net1[name]!.attach)
      const { exit, json } = await check(net1[name]!, config)
      expect([exit, json]).toEqual([0, {}])
      await expectTraffic(net1[name]!, net1['b1']!, LITTLE)
      await expectPing(net1['b2']!, net1[name]!)
      await expectPing(own[name]!, own['b1']!)
    }
    expect((await expectSound(a)).networks).toMatchObject([{ name: 'blue', pods: 2 }, {}])
  })

  test('CHECK misses a route, and DEL of one interface leaves the other', async () => {
    for (const name of ['a1', 'a2'] as const) {
      const pod = net1[name]!
      await ip(pod.netns, 'route', 'del', '10.60.0.0/16', 'dev', 'net1')
      expect((await check(pod, blue(pod.attach))).json).toMatchObject({
        code: 104,
        msg: expect.stringContaining('lacks the route 10.60.0.0/16 by net1'),
      })
      const del = { command: 'DEL', containerId: pod.containerId, netns: pod.netns }
      const config = pod.node.config(blue(pod.attach))
      expect(await pod.node.cni({ ...del, ifname: 'net1', config })).toMatchObject({ exit: 0 })
      expect(await ip(pod.netns, 'link')).not.toContain('net1')
      await expectPing(own[name]!, own['b1']!)
      net1[name] = await addInterface(own[name]!, 'net1', blue(pod.attach))
      expect((await pod.node.cni({ ...del, config: pod.node.config() })).exit).toBe(0)
      expect(await ip(pod.netns, 'link')).not.toContain('eth0')
      await expectPing(net1[name]!, net1['b1']!)
      await expectPing(net1['b2']!, net1[name]!)
    }
    await expectSound(nodes!.a)
  })
})

/** CHECK of an interface net1. */
function check({ node, containerId, netns, result }: TestPod, config: Record<string, unknown>) {
  const call = { command: 'CHECK', containerId, netns, ifname: 'net1' }
  return node.cni({ ...call, config: node.config({ ...config, prevResult: result }) })
}

describe('networks come and go while packets flow', () => {
  let nodes: TwoNodes | undefined
  beforeAll(async () => {
    nodes = await twoNodes('netsmove')
  })
  afterAll(() => nodes?.close())
  tellLogsOnFailure(() => [nodes?.a, nodes?.b])

  const files = (vni: number | undefined) => {
    const networks = vni === undefined ? [] : [{ ...BLUE, vni }]
    const cluster = [NODE_A, NODE_B].map((node, k) =>
      vni === undefined ? node : { ...node, networks: { blue: IN_NETWORKS[k]!['blue']! } },
    )
    for (const node of [nodes!.a, nodes!.b]) node.writeCluster(cluster, networks)
  }
  const vniOn = (node: TestNode, vni: number | undefined) =>
    until(`${node.name} has VNI ${vni}`, async () => {
      const { networks } = await node.ask<DataplaneStatus>('status')
      return networks[0]?.vni === vni
    })

  test('added, moved to another VNI, taken away with a pod in it, and back', async () => {
    const { a, b, namespaces } = nodes!
    const plain = [
      await addPod(namespaces, a, 'pa', 'tun'),
      await addPod(namespaces, b, 'pb', 'xdp'),
    ] as const
    const early = await a.cni({
      ...{ command: 'ADD', containerId: plain[0].containerId, netns: plain[0].netns },
      ...{ ifname: 'net1', config: a.config(blue('tun')) },
    })
    expect(early.json).toMatchObject({ code: 7, msg: expect.stringContaining('but in none') })
    // Pings in the own network all the while; none may get lost.
    let over = false
    const flow = (async () => {
      let all = { sent: 0, received: 0 }
      while (!over) {
        const { sent, received } = await ping(plain[0].netns, plain[1].ip4, { count: 50 })
        all = { sent: all.sent + sent, received: all.received + received }
      }
      return all
    })()

    files(100)
    for (const node of [a, b]) await vniOn(node, 100)
    const far = await addInterface(plain[1], 'net1', blue('xdp'))
    const near = await addInterface(plain[0], 'net1', blue('tun'))
    await expectPing(near, far)

    files(0x12_3456)
    for (const node of [a, b]) await vniOn(node, 0x12_3456)
    await expectPing(near, far)

    const mate = await addPod(namespaces, a, 'mate', 'xdp')
    const beside = await addInterface(mate, 'net1', blue('xdp'))
    files(undefined)
    for (const node of [a, b]) await vniOn(node, 0)
    const { notes } = await a.ask<DataplaneStatus>('status')
    expect(notes).toContain(
      'network blue: this node is not in it any more; pods that still are (2) reach nobody on other nodes',
    )
    await expectPing(near, beside)
    expect((await ping(near.netns, far.ip4, { count: 1, timeout: 1 })).received).toBe(0)
    const late = await a.cni({
      ...{ command: 'ADD', containerId: mate.containerId, netns: mate.netns, ifname: 'net2' },
      config: a.config(blue('tun')),
    })
    expect(late.json).toMatchObject({ code: 7 })
    over = true
    const { sent, received } = await flow
    expect(sent).toBeGreaterThan(0)
    expect(received).toBe(sent)
    // The next daemon takes such pods over, too.
    await a.stop()
    await a.start()
    await a.acquainted()
    await expectPing(near, beside)

    files(100)
    for (const node of [a, b]) await vniOn(node, 100)
    await expectPing(near, far)
    files(undefined)
    await vniOn(a, 0)
    for (const { netns, containerId } of [near, beside]) {
      const call = { command: 'DEL', containerId, netns, ifname: 'net1' }
      expect((await a.cni({ ...call, config: a.config(blue('tun')) })).exit).toBe(0)
    }
    expect((await expectSound(a)).networks).toEqual([])
    await expectSound(b)
  })
})
