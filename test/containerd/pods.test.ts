// A real containerd: sandboxes and containers through the CRI, the plugin called as containerd calls
// it, pods of both kinds on two nodes (cluster.ts has the picture).
import { readFileSync, renameSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { NODE_A } from '../harness/topology.ts'
import { until } from '../harness/until.ts'
import { expectTraffic } from '../netns/expect.ts'
import { type Cluster, networkReady, twoRuntimes } from './cluster.ts'
import { expectMesh, expectOnly, holdings, queuedDels, tellRuntimesOnFailure } from './expect.ts'
import {
  expectHttp,
  fetchFrom,
  PORT,
  type RuntimePod,
  removeAllPods,
  removePod,
  runPod,
  runSandbox,
  stopPod,
} from './pods.ts'
import { missing } from './requirements.ts'
import { expectShaped, expectUnshaped } from './shaped.ts'

/** Bits a second, as annotations have it and as containerd sends it. */
const RATE = 20_000_000
const RATE_TEXT = '20M'

describe.skipIf(missing() !== undefined)('containerd', () => {
  let cluster: Cluster | undefined
  let pods: RuntimePod[] = []
  beforeAll(async () => {
    cluster = await twoRuntimes('ctd')
  })
  afterAll(() => cluster?.close())
  tellRuntimesOnFailure(() => [cluster?.a, cluster?.b])

  const on = (runtime: Cluster['a'] | undefined) => pods.filter(pod => pod.runtime === runtime)

  test('the network is ready once its configuration is there', async () => {
    const { a, b } = cluster!
    for (const runtime of [a, b]) {
      expect(await runtime.cri.conditions()).toEqual({ RuntimeReady: true, NetworkReady: false })
      await networkReady(runtime)
      expect(await runtime.cri.conditions()).toEqual({ RuntimeReady: true, NetworkReady: true })
    }
  })

  // `hawser install` says so where it is missing.
  test('no pod starts without the plugin loopback, though the network is ready', async () => {
    const { a } = cluster!
    const loopback = join(a.folder, 'cni/bin/loopback')
    renameSync(loopback, `${loopback}.away`)
    try {
      await expect(runSandbox(a, 'lo', 'tun')).rejects.toThrow(/"loopback"/)
      expect(await a.cri.conditions()).toEqual({ RuntimeReady: true, NetworkReady: true })
    } finally {
      renameSync(`${loopback}.away`, loopback)
    }
    await removeAllPods(a)
    await expectOnly(a, [])
  })

  test('pods of both kinds, on one node and on two, reach each other', async () => {
    const { a, b } = cluster!
    pods = await Promise.all([
      runPod(a, 'a-tun', 'tun'),
      runPod(a, 'a-xdp', 'xdp'),
      runPod(b, 'b-tun', 'tun'),
      runPod(b, 'b-xdp', 'xdp'),
    ])
    await expectMesh(pods)
    await expectTraffic(pods[0]!, pods[3]!)
    await expectTraffic(pods[2]!, pods[1]!)
    for (const runtime of [a, b]) await expectOnly(runtime, on(runtime))
  })

  test.each(['tun', 'xdp'] as const)('%s: what containerd sends is taken', async attach => {
    const { a } = cluster!
    const bandwidth = {
      'kubernetes.io/ingress-bandwidth': RATE_TEXT,
      'kubernetes.io/egress-bandwidth': RATE_TEXT,
    }
    const options = { hostPort: 18_080, annotations: { ...bandwidth, 'test/word': 'hawser' } }
    const pod = await runPod(a, `sent-${attach}`, attach, options)
    // libcni keeps what it sent until the DEL. containerd 1.6 spells the keys within with capitals.
    const text = readFileSync(`/var/lib/cni/results/hawser-${pod.sandboxId}-eth0`, 'utf8')
    const kept = JSON.parse(text.toLowerCase()) as { capabilityargs: Record<string, unknown> }
    expect(kept.capabilityargs).toMatchObject({
      portmappings: [{ hostport: 18_080, containerport: PORT }],
      bandwidth: { ingressrate: RATE, egressrate: RATE },
      'io.kubernetes.cri.pod-annotations': { 'test/word': 'hawser' },
    })
    await expectHttp(pod, pods[2]!)
    const free = pods[attach === 'tun' ? 1 : 0]!
    const [ingress, egress] =
      attach === 'tun' ? (['tcp', 'udp'] as const) : (['udp', 'tcp'] as const)
    await expectShaped(pod, ingress, [free, pod], RATE)
    await expectShaped(pod, egress, [pod, free], RATE)
    await expectUnshaped(pods[2]!, free)
    const elsewhere = cluster!.b.node.netns
    expect(await fetchFrom(elsewhere, NODE_A.vtep, '/', 18_080)).toBe(pod.name)
    await removePod(pod)
    await expect(fetchFrom(elsewhere, NODE_A.vtep, '/', 18_080)).rejects.toThrow()
    await expectOnly(a, on(a))
  })

  test('two pods of one name: the old one goes after the new one came', async () => {
    const { a } = cluster!
    const [old, young] = [await runPod(a, 'twin', 'tun'), await runPod(a, 'twin', 'tun')]
    expect([young.ip4, young.ip6]).not.toContain(old.ip4)
    await removePod(old)
    await expectHttp(young, pods[1]!)
    await stopPod(young)
    // Again, as kubelets do until they are sure.
    await removePod(young)
    await expectOnly(a, on(a))
  })

  test('without a daemon: no pod starts, those that end are made up for', async () => {
    const { a } = cluster!
    const doomed = [await runPod(a, 'doomed-tun', 'tun'), await runPod(a, 'doomed-xdp', 'xdp')]
    const addresses = doomed.flatMap(({ ip4, ip6 }) => [ip4, ip6])
    await a.node.stop()
    await expect(runSandbox(a, 'early', 'tun')).rejects.toThrow(/hawser/)
    for (const pod of doomed) await removePod(pod)
    expect(a.namespaces()).toHaveLength(on(a).length)
    const waiting = queuedDels(a.node).length
    expect(waiting).toBeGreaterThanOrEqual(doomed.length)
    await a.node.start()
    await a.node.acquainted()
    await expectOnly(a, on(a))
    const late = await runPod(a, 'late', 'tun')
    for (const address of [late.ip4, late.ip6]) expect(addresses).not.toContain(address)
    await expectMesh([late, ...on(cluster!.b)])
    await removePod(late)
  })

  test('containerd restarts: pods stay, and can be removed', async () => {
    const { a } = cluster!
    const pod = await runPod(a, 'stays', 'tun')
    await a.stop()
    expect(await fetchFrom(a.node.netns, pod.ip4)).toBe('stays')
    await a.start()
    await until('the runtime is ready', async () => (await a.cri.conditions())['NetworkReady'])
    await expectHttp(pod, pods[3]!)
    await removePod(pod)
    await expectOnly(a, on(a))
  })

  test('everything goes when the pods go', async () => {
    const { a, b } = cluster!
    await Promise.all(pods.map(removePod))
    pods = []
    for (const runtime of [a, b]) {
      await expectOnly(runtime, [])
      expect(await runtime.cri.sandboxes()).toEqual([])
    }
    expect((await holdings(a.node)).links).toBe(0)
  })
})
