// The cluster file changes under a running daemon: nodes come and go, and a file that is broken
// changes nothing.
//
//   node a (its file changes)        node b (its file stays)
//   pod a1 (TUN), a2 (AF_XDP)  ────  pod b1 (TUN)
import { afterAll, beforeAll, expect, test } from 'vitest'
import type { RouteEntry } from '../../dataplane/control.ts'
import { addPod, type ClusterNode, type TestPod } from '../harness/node.ts'
import { NODE_A, NODE_B, type TwoNodes, twoNodes } from '../harness/topology.ts'
import { ping } from '../harness/traffic.ts'
import { until } from '../harness/until.ts'
import { dropsOf, expectPing, expectSound, expectTraffic, tellLogsOnFailure } from './expect.ts'

const NODE_C: ClusterNode = {
  name: 'node-c',
  vtep: '192.168.77.3',
  podCIDRs: ['10.244.3.0/24', 'fd44:0:0:3::/64'],
}

let nodes: TwoNodes | undefined
let pods: TestPod[]
let far: TestPod
beforeAll(async () => {
  nodes = await twoNodes('cluster')
  const { a, b, namespaces } = nodes
  pods = [await addPod(namespaces, a, 'a1', 'tun'), await addPod(namespaces, a, 'a2', 'xdp')]
  far = await addPod(namespaces, b, 'b1', 'tun')
})
afterAll(() => nodes?.close())
tellLogsOnFailure(() => [nodes?.a, nodes?.b])

/** Resolves when exactly these remote prefixes are routed to peers. */
function routed(...prefixes: string[]): Promise<unknown> {
  return until(`routes to ${prefixes.join(', ') || 'nobody'}`, async () => {
    const routes = await nodes!.a.ask<RouteEntry[]>('routes')
    const found = routes.filter(({ kind }) => kind === 'vxlan').map(({ prefix }) => prefix)
    return JSON.stringify(found.sort()) === JSON.stringify([...prefixes].sort())
  })
}

function noted(text: string | undefined): Promise<unknown> {
  return until(`the status notes ${text ?? 'no trouble with the file'}`, async () => {
    const { notes } = await expectSound(nodes!.a)
    const about = notes.filter(note => note.startsWith('cluster'))
    return text === undefined ? about.length === 0 : about.some(note => note.includes(text))
  })
}

test('a node that goes is no longer sent to, nor believed', async () => {
  const { a } = nodes!
  for (const pod of pods) await expectPing(pod, far)
  a.writeCluster([NODE_A])
  await routed()
  const before = (await dropsOf(a))['vxlan-vtep'] ?? 0
  expect((await ping(pods[0]!.netns, far.ip4, { count: 1, timeout: 0.3 })).received).toBe(0)
  expect((await ping(far.netns, pods[0]!.ip4, { count: 1, timeout: 0.3 })).received).toBe(0)
  expect((await dropsOf(a))['vxlan-vtep']).toBeGreaterThan(before)
  await expectPing(pods[0]!, pods[1]!)
})

test('a node that comes is reached', async () => {
  const { a } = nodes!
  a.writeCluster([NODE_A, NODE_C, NODE_B])
  await routed(...NODE_B.podCIDRs, ...NODE_C.podCIDRs)
  await until('the way to b is known', async () => {
    const { notes } = await expectSound(a)
    return !notes.some(note => note.includes(NODE_B.vtep))
  })
  for (const pod of pods) await expectTraffic(pod, far)
})

test.each([
  ['text that is no YAML', '{ nodes: [', 'cluster.json'],
  ['an empty file', '', 'cluster.json'],
  ['a file without this node', JSON.stringify({ nodes: [NODE_B] }), 'node-a'],
  [
    'two nodes with one VTEP',
    JSON.stringify({ nodes: [NODE_A, NODE_B, { ...NODE_C, vtep: NODE_B.vtep }] }),
    NODE_B.vtep,
  ],
])('%s changes nothing', async (_, text, cause) => {
  const { a } = nodes!
  a.writeClusterText(text)
  await noted(cause)
  await routed(...NODE_B.podCIDRs, ...NODE_C.podCIDRs)
  for (const pod of pods) await expectPing(pod, far)
  const status = await a.cni({ command: 'STATUS', containerId: '', ifname: '' })
  expect([status.exit, status.json]).toEqual([0, {}])
})

test('and a good one is taken again', async () => {
  const { a } = nodes!
  a.writeCluster([NODE_A, NODE_B])
  await noted(undefined)
  await routed(...NODE_B.podCIDRs)
  for (const pod of pods) await expectPing(pod, far)
  for (const node of [a, nodes!.b]) await expectSound(node)
})
