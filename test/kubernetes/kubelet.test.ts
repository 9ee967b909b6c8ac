// Real kubelets, standalone, over real containerds and hawser:
//
//     node a (namespace)                         node b (namespace)
//       kubelet ─ CRI ─ containerd ─ CNI ┐         kubelet ─ CRI ─ containerd ─ CNI ┐
//       hawser daemon, hawser0 ──────────┘         hawser daemon, hawser0 ──────────┘
//       pods: static manifests, probed by      ── veth ──    pods
//             the kubelet through hawser0
//
// A standalone kubelet knows no runtime classes, so the kind of attachment changes by the conflist: what
// comes later is attached in the other way, what runs stays as it is.
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import { type Cluster, networkReady, twoRuntimes } from '../containerd/cluster.ts'
import { expectMesh, expectOnly, queuedDels, tellRuntimesOnFailure } from '../containerd/expect.ts'
import { expectHttp, fetchFrom, type RuntimePod } from '../containerd/pods.ts'
import { missing } from '../containerd/requirements.ts'
import { follow, grows } from '../containerd/stream.ts'
import { until } from '../harness/until.ts'
import { goProblem, kubelet } from './build.ts'
import { Kubelet } from './kubelet.ts'

/** Milliseconds for a kubelet that is built from nothing, on two busy cores. */
const BUILD_MS = 40 * 60_000
const TEST_MS = 240_000

const skip = goProblem() ?? missing()
describe.skipIf(skip !== undefined)('kubelet', { timeout: TEST_MS }, () => {
  let cluster: Cluster | undefined
  let a: Kubelet
  let b: Kubelet
  const pods: RuntimePod[] = []
  beforeAll(async () => {
    const binary = await kubelet()
    cluster = await twoRuntimes('kube')
    a = new Kubelet(cluster.a, binary)
    b = new Kubelet(cluster.b, binary)
    for (const { runtime } of [a, b]) await networkReady(runtime)
    await Promise.all([a.start(), b.start()])
  }, BUILD_MS)
  afterAll(async () => {
    await Promise.all([a?.stop(), b?.stop()])
    await cluster?.close()
  }, TEST_MS)
  tellRuntimesOnFailure(() => [cluster?.a, cluster?.b])
  afterEach(({ task }) => {
    if (task.result?.state !== 'fail') return
    for (const each of [a, b]) {
      const grave = each?.log.filter(line => /^[EF]\d{4}/.test(line)) ?? []
      for (const line of grave.slice(-15)) console.log(`${each.runtime.node.name}: ${line}`)
    }
  })

  const on = (kubelet: Kubelet) => pods.filter(pod => pod.runtime === kubelet.runtime)

  test('pods of both kinds on both nodes become ready and reach each other', async () => {
    for (const attach of ['tun', 'xdp'] as const) {
      for (const { runtime } of [a, b]) await networkReady(runtime, attach)
      for (const each of [a, b]) each.addManifest(`pod-${attach}`, { liveness: each === b })
      pods.push(...(await Promise.all([a, b].map(each => each.running(`pod-${attach}`, attach)))))
    }
    await expectMesh(pods)
    for (const each of [a, b]) await expectOnly(each.runtime, on(each))
  })

  test('a pod that says it is busy is not ready, and is not restarted', async () => {
    const { ip4, name } = on(a)[0]!
    const { netns } = a.runtime.node
    await fetchFrom(netns, ip4, '/busy')
    await a.becomes(name, { ready: false, restarts: 0 })
    await fetchFrom(netns, ip4, '/idle')
    await a.becomes(name, { ready: true, restarts: 0 })
  })

  test('a pod that says it is sick is restarted where it is', async () => {
    for (const pod of on(b)) {
      await fetchFrom(b.runtime.node.netns, pod.ip6, '/sick')
      await b.becomes(pod.name, { ready: true, restarts: 1 })
      expect(await b.running(pod.name, pod.attach)).toEqual(pod)
      await expectHttp(on(a)[0]!, pod)
    }
  })

  test('a container that crashes is started again', async () => {
    for (const pod of on(a)) {
      await expect(fetchFrom(a.runtime.node.netns, pod.ip4, '/crash')).rejects.toThrow()
      await a.becomes(pod.name, { ready: true, restarts: 1 })
      expect(await a.running(pod.name, pod.attach)).toEqual(pod)
      await expectHttp(pod, on(b)[0]!)
    }
  })

  test('restarts of kubelet and containerd cut nothing', async () => {
    const streams = [...on(a), ...on(b)].map((to, k) => {
      const from = (to.runtime === a.runtime ? on(b) : on(a))[k % 2]!
      return follow(from, to, k % 2 === 0 ? to.ip4 : to.ip6)
    })
    const flow = () => Promise.all(streams.map(grows))
    await flow()
    await a.stop()
    await a.start()
    await flow()
    await a.runtime.stop()
    await flow()
    await a.runtime.start()
    await networkReady(a.runtime, 'xdp')
    for (const pod of pods) {
      const owner = pod.runtime === a.runtime ? a : b
      // The same sandbox, and no further restart.
      await owner.becomes(pod.name, { ready: true, restarts: 1 })
      expect(await owner.running(pod.name, pod.attach)).toEqual(pod)
    }
    await flow()
    for (const stream of streams) expect(await stream.stop()).toBe(0)
    for (const each of [a, b]) await expectOnly(each.runtime, on(each))
  })

  test('a deleted manifest leaves nothing', async () => {
    const names = ['short-1', 'short-2']
    for (const name of names) a.addManifest(name)
    for (const name of names) await a.running(name, 'xdp')
    for (const name of names) a.removeManifest(name)
    for (const name of names) await a.gone(name)
    await expectOnly(a.runtime, on(a))
  })

  test('pods made and deleted while the daemon is away', async () => {
    const { node } = a.runtime
    const doomed = ['doomed-1', 'doomed-2']
    for (const name of doomed) a.addManifest(name)
    for (const name of doomed) await a.running(name, 'xdp')
    await node.stop()
    const fresh = ['fresh-1', 'fresh-2', 'fresh-3']
    for (const name of fresh) a.addManifest(name)
    for (const name of doomed) a.removeManifest(name)
    for (const name of doomed) await a.gone(name)
    for (const name of fresh) {
      await until(
        `the kubelet has tried ${name}`,
        () =>
          a.runtime.log.some(line => line.includes(`${name}-${node.name}`) && /failed/.test(line)),
        60,
      )
    }
    expect(queuedDels(node).length).toBeGreaterThanOrEqual(doomed.length)
    await node.start()
    await node.acquainted()
    for (const name of fresh) pods.push(await a.running(name, 'xdp'))
    await Promise.all(on(a).map(({ name }) => a.becomes(name, { ready: true })))
    await expectOnly(a.runtime, on(a))
    await expectMesh([...on(a).slice(-2), on(b)[0]!])
  })

  test('everything goes with the manifests', async () => {
    for (const each of [a, b]) for (const { name } of on(each)) each.removeManifest(name)
    for (const each of [a, b]) for (const { name } of on(each)) await each.gone(name)
    for (const each of [a, b]) await expectOnly(each.runtime, [])
  })
})
