// Pods that come and go: 20 at a time for 30 seconds; at length (npm run test:long) 50 for 10 minutes.
// One pod on either node stays, and a stream between them must not notice (cluster.ts has the picture).
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { TestNode } from '../harness/node.ts'
import { LONG } from '../runner/tiers.ts'
import { type Cluster, networkReady, twoRuntimes } from './cluster.ts'
import { expectOnly, tellRuntimesOnFailure } from './expect.ts'
import { expectReached, removePod, runPod, runSandbox } from './pods.ts'
import { missing } from './requirements.ts'
import { follow, grows } from './stream.ts'

const AT_A_TIME = LONG ? 50 : 20
const SECONDS = LONG ? 600 : 30

function median(values: readonly number[]): number {
  return Math.round([...values].sort((x, y) => x - y)[values.length >> 1] ?? 0)
}

/** Milliseconds that the daemon took for each call of a verb. */
function verbTimes(node: TestNode, verb: string): number[] {
  return node.log
    .map(line => JSON.parse(line) as { msg: string; verb?: string; ms: number })
    .filter(each => each.msg === 'cni' && each.verb === verb)
    .map(each => each.ms)
}

describe.skipIf(missing() !== undefined)('churn', () => {
  let cluster: Cluster | undefined
  beforeAll(async () => {
    cluster = await twoRuntimes('churn')
    await networkReady(cluster.a)
    await networkReady(cluster.b)
  })
  afterAll(() => cluster?.close(), 300_000)
  tellRuntimesOnFailure(() => [cluster?.a, cluster?.b])

  test(`${AT_A_TIME} pods at a time for ${SECONDS} s`, {
    timeout: (SECONDS + 420) * 1000,
  }, async () => {
    const { a, b } = cluster!
    const [stays, far] = [await runPod(a, 'stays', 'tun'), await runPod(b, 'far', 'xdp')]
    const stream = follow(far, stays)
    await grows(stream)

    const inUse = new Set([stays.ip4, stays.ip6])
    const started: number[] = []
    const removed: number[] = []
    const end = performance.now() + SECONDS * 1000
    const oneAfterAnother = async (lane: number): Promise<void> => {
      for (let turn = 0; performance.now() < end; turn++) {
        const attach = (lane + turn) % 2 === 0 ? 'tun' : 'xdp'
        const began = performance.now()
        const { pod } = await runSandbox(a, `lane-${lane}-${turn}`, attach)
        started.push(performance.now() - began)
        for (const address of [pod.ip4, pod.ip6]) {
          expect(inUse.has(address), `${address} is given out twice`).toBe(false)
          inUse.add(address)
          await expectReached(a.node.netns, address)
        }
        for (const address of [pod.ip4, pod.ip6]) inUse.delete(address)
        const leaves = performance.now()
        await removePod(pod)
        removed.push(performance.now() - leaves)
      }
    }
    await Promise.all(Array.from({ length: AT_A_TIME }, (_, lane) => oneAfterAnother(lane)))
    const times = [
      `run ${median(started)} ms (of it in hawser ${median(verbTimes(a.node, 'ADD'))})`,
      `stop and remove ${median(removed)} ms (${median(verbTimes(a.node, 'DEL'))})`,
    ]
    console.log(`${started.length} pods churned; medians: ${times.join(', ')}`)
    expect(started.length).toBeGreaterThanOrEqual(AT_A_TIME)

    await grows(stream)
    expect(await stream.stop()).toBe(0)
    await expectOnly(a, [stays])
    for (const pod of [stays, far]) await removePod(pod)
    for (const runtime of [a, b]) await expectOnly(runtime, [])
  })
})
