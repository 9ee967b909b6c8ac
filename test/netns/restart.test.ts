// A daemon that ends, by a signal or by a crash, and the next one: pods keep their interfaces and
// addresses, and their traffic goes on.
//
//   node a                                 node b
//   pods t1 (TUN), x1 (AF_XDP)  ── veth ── pod b1 (TUN)
//   daemon: 1st ─ 2nd ─ …                  daemon: always the same
import { afterAll, beforeAll, expect, test } from 'vitest'
import type { PodAttachment } from '../../dataplane/control.ts'
import { ip } from '../harness/netns.ts'
import { addPod, deletePod, type TestPod } from '../harness/node.ts'
import { type TwoNodes, twoNodes } from '../harness/topology.ts'
import { transfer } from '../harness/traffic.ts'
import { until } from '../harness/until.ts'
import { expectPing, expectSound, expectTraffic, tellLogsOnFailure } from './expect.ts'

let nodes: TwoNodes | undefined
let pods: TestPod[]
let far: TestPod
beforeAll(async () => {
  nodes = await twoNodes('restart')
  const { a, b, namespaces } = nodes
  pods = [await addPod(namespaces, a, 't1', 'tun'), await addPod(namespaces, a, 'x1', 'xdp')]
  far = await addPod(namespaces, b, 'b1', 'tun')
})
afterAll(() => nodes?.close())
tellLogsOnFailure(() => [nodes?.a, nodes?.b])

const idOf = (pod: TestPod) => `hawser/${pod.containerId}/eth0`

async function expectPodsAsBefore(): Promise<void> {
  const { a } = nodes!
  const served = await a.ask<PodAttachment[]>('pods')
  for (const { containerId, netns, ip4, ip6, attach, result } of pods) {
    expect(served.find(each => each.id.includes(containerId))).toMatchObject({ ip4, ip6 })
    const config = a.config({ attach, prevResult: result })
    const { exit, json } = await a.cni({ command: 'CHECK', containerId, netns, config })
    expect([exit, json]).toEqual([0, {}])
  }
}

test.each(['SIGTERM', 'SIGINT', 'SIGKILL'] as const)('after %s', async signal => {
  const { a } = nodes!
  const code = await a.stop(signal)
  expect(code).toBe(signal === 'SIGKILL' ? null : 0)
  for (const { netns } of pods) expect(await ip(netns, 'link', 'show', 'eth0')).toContain('eth0')
  await a.start()
  await a.acquainted()
  await expectPodsAsBefore()
  for (const pod of pods) {
    await expectTraffic(pod, far)
    await expectPing(far, pod)
  }
  await expectSound(a)
})

test('a TCP connection outlives a crash', async () => {
  const { a } = nodes!
  for (const pod of pods) {
    const stream = transfer('tcp', far.netns, pod.netns, pod.ip4, { bytes: 64 << 20 })
    await until('the stream flows', async () => {
      const { ports } = await expectSound(a)
      return (ports.find(each => each.name === idOf(pod))?.txBytes ?? 0) > 1 << 20
    })
    await a.stop('SIGKILL')
    await a.start()
    const { intact, receivedBytes } = await stream
    expect([intact, receivedBytes]).toEqual([true, 64 << 20])
  }
})

test('addresses that are in use stay so, and what went meanwhile is forgotten', async () => {
  const { a, namespaces } = nodes!
  const doomed = [
    await addPod(namespaces, a, 'deleted', 'tun'),
    await addPod(namespaces, a, 'vanished', 'tun'),
    await addPod(namespaces, a, 'vanished-x', 'xdp'),
  ]
  await a.stop('SIGKILL')
  const queued = await deletePod(doomed[0]!)
  expect([queued.exit, queued.json]).toEqual([0, {}])
  for (const { netns } of doomed.slice(1)) await namespaces.remove(netns)
  await a.start()
  await a.acquainted()
  await until('only the old pods are there', async () => {
    const served = (await a.ask<PodAttachment[]>('pods')).map(each => each.id)
    return served.length === pods.length && pods.every(pod => served.includes(idOf(pod)))
  })
  expect(await ip(doomed[0]!.netns, '-o', 'link')).not.toContain('eth0')
  const fresh = await addPod(namespaces, a, 'fresh', 'tun')
  for (const pod of [...pods, ...doomed]) expect([pod.ip4, pod.ip6]).not.toContain(fresh.ip4)
  for (const pod of [...pods, fresh]) await expectPing(pod, far)
  const links = JSON.parse(await ip(a.netns, '-j', 'link')) as { ifname: string }[]
  // The node's end of one veth pod, not of the one that went.
  expect(links.filter(({ ifname }) => /^hw[0-9a-f]{12}$/.test(ifname))).toHaveLength(1)
  await expectSound(a)
})
