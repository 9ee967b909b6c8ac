// Pods and the node they run on, and what lies beyond the cluster:
//
//   node a ┌────────────────────────────────────────┐
//          │ pods ── daemon ── hawser0 10.244.1.1   │  under0 ── veth ── (no peer)
//          │ t1 (TUN)  x1 (AF_XDP)                  │
//          │ servers and clients of the node itself │  world0 198.51.100.1 ── veth ── 198.51.100.2
//          └────────────────────────────────────────┘  2001:db8::1                     2001:db8::2  world
import { existsSync } from 'node:fs'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { connect, ip, Namespaces } from '../harness/netns.ts'
import { addPod, TestNode, type TestPod } from '../harness/node.ts'
import { run } from '../harness/processes.ts'
import { ping } from '../harness/traffic.ts'
import {
  checksumErrors,
  type Endpoint,
  expectPing,
  expectSound,
  expectTraffic,
  tellLogsOnFailure,
} from './expect.ts'

const NFT = ['/usr/sbin/nft', '/sbin/nft', '/usr/bin/nft'].some(path => existsSync(path))
if (!NFT) console.warn('skipped: masquerading, nft is not installed (apt-get install nftables)')

const namespaces = new Namespaces('host')
let node: TestNode | undefined
const pods: Partial<Record<'t1' | 'x1' | 'v1', TestPod>> = {}
let world: Endpoint
let host: Endpoint

beforeAll(async () => {
  const netns = await namespaces.add('a')
  const far = await namespaces.add('world')
  await ip(netns, 'link', 'add', 'under0', 'type', 'veth', 'peer', 'name', 'under1')
  await ip(netns, 'addr', 'add', '192.168.77.1/24', 'dev', 'under0')
  await ip(netns, 'link', 'set', 'under0', 'up')
  await ip(netns, 'link', 'set', 'under1', 'up')
  await connect(
    { netns, device: 'world0', addresses: ['198.51.100.1/24', '2001:db8::1/64'] },
    { netns: far, device: 'world0', addresses: ['198.51.100.2/24', '2001:db8::2/64'] },
  )
  world = { name: 'world', netns: far, ip4: '198.51.100.2', ip6: '2001:db8::2' }
  host = { name: 'node', netns, ip4: '10.244.1.1', ip6: 'fd44:0:0:1::1' }
  node = new TestNode('node-a', netns, {
    cluster: [
      { name: 'node-a', vtep: '192.168.77.1', podCIDRs: ['10.244.1.0/24', 'fd44:0:0:1::/64'] },
    ],
    masquerade: NFT,
    config: { metrics: { listen: '127.0.0.1:9473' } },
  })
  await node.start()
  pods.t1 = await addPod(namespaces, node, 't1', 'tun')
  pods.x1 = await addPod(namespaces, node, 'x1', 'xdp')
  pods.v1 = await addPod(namespaces, node, 'v1', 'tap')
})
afterAll(async () => {
  await node?.remove()
  await namespaces.removeAll()
})
tellLogsOnFailure(() => [node])

describe.each(['t1', 'x1', 'v1'] as const)('pod %s', name => {
  test('reaches a server of the node', async () => {
    await expectTraffic(pods[name]!, host)
  })

  test('is reached by the node, as kubelet probes it', async () => {
    await expectTraffic(host, pods[name]!)
  })

  test("reaches the node's address on the underlay", async () => {
    const { received, errors } = await ping(pods[name]!.netns, '192.168.77.1')
    expect([received, errors]).toEqual([3, []])
  })

  test('an address of this node that no pod has answers "host unreachable"', async () => {
    for (const address of ['10.244.1.200', 'fd44:0:0:1::2000']) {
      const { received, errors } = await ping(pods[name]!.netns, address, { count: 1 })
      const [four, six] = [
        { type: 3, code: 1, from: host.ip4 },
        { type: 1, code: 0, from: host.ip6 },
      ]
      expect(received).toBe(0)
      expect(errors).toMatchObject([address.includes(':') ? six : four])
    }
  })

  if (NFT) {
    test('reaches the world, which sees the address of the node', async () => {
      await expectTraffic(pods[name]!, world)
    })
  }

  test('and the world, when it knows the way, reaches the pod', async () => {
    const ways = [
      ['-4', '10.244.1.0/24', '198.51.100.1'],
      ['-6', 'fd44:0:0:1::/64', '2001:db8::1'],
    ] as const
    for (const [family, prefix, via] of ways) {
      await ip(world.netns, family, 'route', 'add', prefix, 'via', via)
    }
    await expectPing(world, pods[name]!)
    await expectPing(pods[name]!, world)
    for (const [family, prefix] of ways) await ip(world.netns, family, 'route', 'del', prefix)
  })
})

test('no wrong checksum, no frame without an owner', async () => {
  for (const { netns } of [host, world, ...Object.values(pods)]) {
    expect(await checksumErrors(netns)).toEqual({})
  }
  await expectSound(node!)
})

test('metrics tell what the engine and the state have counted', async () => {
  await expectPing(pods.t1!, host)
  const url = 'http://127.0.0.1:9473/metrics'
  const fetch = `import urllib.request; print(urllib.request.urlopen(${JSON.stringify(url)}).read().decode())`
  const { stdout } = await run('python3', ['-c', fetch], { netns: host.netns })
  const value = (sample: string): number => {
    const line = stdout.split('\n').find(each => each.startsWith(`${sample} `))
    return line === undefined ? Number.NaN : Number(line.slice(sample.length + 1))
  }
  expect(value('hawser_ready')).toBe(1)
  expect(value('hawser_pods')).toBe(3)
  expect(value('hawser_addresses{overlay="",network="",range="10.244.1.0/24",state="taken"}')).toBe(
    3,
  )
  expect(value('hawser_cni_requests_total{verb="ADD",outcome="ok"}')).toBe(3)
  expect(value('hawser_worker_frames{worker="0",size="any",state="leaked"}')).toBe(0)
  const received = stdout.matchAll(/^hawser_port_receive_packets_total\{role="pod".*\} (\d+)$/gm)
  const packets = [...received].map(([, count]) => Number(count))
  expect(packets.length).toBe(3)
  for (const count of packets) expect(count).toBeGreaterThan(0)
})
