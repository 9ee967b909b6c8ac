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
import type { AddressCheck } from '../../cni/pods/address-check.ts'
import { query } from '../../cni/rpc/client.ts'
import { type Cluster, networkReady, twoRuntimes } from '../containerd/cluster.ts'
import { expectMesh, expectOnly, queuedDels, tellRuntimesOnFailure } from '../containerd/expect.ts'
import { askFrom, expectHttp, fetchFrom, type RuntimePod } from '../containerd/pods.ts'
import { missing } from '../containerd/requirements.ts'
import { follow, grows } from '../containerd/stream.ts'
import { noGo } from '../harness/needs.ts'
import { BUILD_MS } from '../harness/prebuilt.ts'
import { must } from '../harness/processes.ts'
import { NODE_A } from '../harness/topology.ts'
import { until } from '../harness/until.ts'
import { kubelet } from './build.ts'
import { Kubelet } from './kubelet.ts'

const TEST_MS = 240_000
/** Ports of the nodes that lead to their pods. */
const HOST_PORTS = { tun: 18_080, xdp: 18_081, tap: 18_082 } as const
const ADDRESSES_OF_A = [NODE_A.vtep, 'fd77::1']
/** How many pods are made, and how many others deleted, while the daemon is away. */
const MEANWHILE = 10

const skip = noGo('the kubelet') ?? missing()
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
  const names = (some: readonly RuntimePod[]) => some.map(({ name }) => name)

  test('pods of both kinds on both nodes become ready and reach each other', async () => {
    for (const attach of ['tun', 'xdp'] as const) {
      for (const { runtime } of [a, b]) await networkReady(runtime, attach)
      for (const each of [a, b]) {
        each.addManifest(`pod-${attach}`, { liveness: each === b, hostPort: HOST_PORTS[attach] })
      }
      pods.push(...(await Promise.all([a, b].map(each => each.running(`pod-${attach}`, attach)))))
    }
    await expectMesh(pods)
    for (const each of [a, b]) {
      await each.become(names(on(each)), { ready: true, restarts: 0 })
      await expectOnly(each.runtime, on(each))
    }
  })

  test('hostPort answers on the node and from the other one, TCP and UDP', async () => {
    const here = [...ADDRESSES_OF_A, '127.0.0.1'].map(at => [a.runtime.node.netns, at] as const)
    const there = ADDRESSES_OF_A.map(at => [b.runtime.node.netns, at] as const)
    for (const { attach, name } of on(a)) {
      for (const [netns, address] of [...here, ...there]) {
        expect(await fetchFrom(netns, address, '/', HOST_PORTS[attach]), address).toBe(name)
        expect(await askFrom(netns, address, HOST_PORTS[attach]), address).toBe(name)
      }
    }
  })

  test('a pod that says it is busy is not ready, and is not restarted', async () => {
    const { netns } = a.runtime.node
    for (const { ip4 } of on(a)) await fetchFrom(netns, ip4, '/busy')
    await a.become(names(on(a)), { ready: false, restarts: 0 })
    for (const { ip4 } of on(a)) await fetchFrom(netns, ip4, '/idle')
    await a.become(names(on(a)), { ready: true, restarts: 0 })
  })

  test('a pod that says it is sick is restarted where it is', async () => {
    for (const { ip6 } of on(b)) await fetchFrom(b.runtime.node.netns, ip6, '/sick')
    await b.become(names(on(b)), { ready: true, restarts: 1 })
    for (const pod of on(b)) {
      expect(await b.running(pod.name, pod.attach)).toEqual(pod)
      await expectHttp(on(a)[0]!, pod)
    }
  })

  test('a container that crashes is started again', async () => {
    for (const { ip4 } of on(a)) {
      await expect(fetchFrom(a.runtime.node.netns, ip4, '/crash')).rejects.toThrow()
    }
    await a.become(names(on(a)), { ready: true, restarts: 1 })
    for (const pod of on(a)) {
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
    const short = ['short-1', 'short-2']
    for (const [k, name] of short.entries()) a.addManifest(name, { hostPort: 19_080 + k })
    await a.allRunning(short, 'xdp')
    expect(await fetchFrom(b.runtime.node.netns, NODE_A.vtep, '/', 19_080)).toBe(short[0])
    for (const name of short) a.removeManifest(name)
    await a.gone(short)
    await expect(fetchFrom(b.runtime.node.netns, NODE_A.vtep, '/', 19_080)).rejects.toThrow()
    await expectOnly(a.runtime, on(a))
  })

  test(`${MEANWHILE} pods made and ${MEANWHILE} deleted while the daemon is dead`, async () => {
    const { node } = a.runtime
    const each = Array.from({ length: MEANWHILE }, (_, k) => k)
    const [doomed, fresh] = [each.map(k => `doomed-${k}`), each.map(k => `fresh-${k}`)]
    for (const attach of ['tun', 'xdp'] as const) {
      await networkReady(a.runtime, attach)
      const half = doomed.filter((_, k) => k % 2 === (attach === 'tun' ? 0 : 1))
      for (const name of half) a.addManifest(name)
      await a.allRunning(half, attach)
    }
    await node.stop('SIGKILL')
    for (const name of fresh) a.addManifest(name)
    for (const name of doomed) a.removeManifest(name)
    await a.gone(doomed)
    for (const name of fresh) {
      const tried = (line: string) => line.includes(`${name}-${node.name}`) && /failed/.test(line)
      await until(`the kubelet has tried ${name}`, () => a.runtime.log.some(tried), 60)
    }
    expect(queuedDels(node).length).toBeGreaterThanOrEqual(doomed.length)
    await node.start()
    await node.acquainted()
    const made = await a.allRunning(fresh, 'xdp')
    pods.push(...made)
    expect([...(await a.states()).keys()].sort()).toEqual(names(on(a)).sort())
    await a.become(names(on(a)), { ready: true })
    await expectOnly(a.runtime, on(a))
    const { findings } = (await query(node.socket, 'ipam check')) as AddressCheck
    expect(findings).toEqual([])
    await Promise.all(made.map(pod => expectMesh([pod, on(b)[0]!])))
  })

  test('everything goes with the manifests', async () => {
    for (const each of [a, b]) for (const name of names(on(each))) each.removeManifest(name)
    for (const each of [a, b]) await each.gone(names(on(each)))
    for (const { runtime } of [a, b]) {
      await expectOnly(runtime, [])
      const rules = await must('nft', ['list', 'ruleset'], { netns: runtime.node.netns })
      expect(rules).not.toContain('hawser_ports')
    }
  })
})
