// Two workers, each with a queue of every device:
//
//   node a                    2 queues                    node b
//   pods a1 (TUN) a2 (AF_XDP) ── veth ── pods b1 (TUN) b2 (AF_XDP)
//   worker 0: queue 0 of all  ·  worker 1: queue 1 of all
import { afterAll, beforeAll, expect, test } from 'vitest'
import { addPod, type TestPod } from '../harness/node.ts'
import { type TwoNodes, twoNodes } from '../harness/topology.ts'
import { transfer } from '../harness/traffic.ts'
import { expectSound, expectTraffic, tellLogsOnFailure } from './expect.ts'

const STREAMS = 6

let nodes: TwoNodes | undefined
const pods: Record<string, TestPod> = {}
beforeAll(async () => {
  nodes = await twoNodes('workers', { workers: 2, underlayMode: 'xdp', underlayQueues: 2 })
  const { a, b, namespaces } = nodes
  for (const [name, attach] of [
    ['a1', 'tun'],
    ['a2', 'xdp'],
    ['b1', 'tun'],
    ['b2', 'xdp'],
  ] as const) {
    pods[name] = await addPod(namespaces, name.startsWith('a') ? a : b, name, attach)
  }
})
afterAll(() => nodes?.close())
tellLogsOnFailure(() => [nodes?.a, nodes?.b])

test.each([
  ['a1', 'b1'],
  ['a2', 'b2'],
  ['a1', 'a2'],
])('%s to %s', async (from, to) => {
  await expectTraffic(pods[from]!, pods[to]!)
})

test('many connections at once, whole', async () => {
  const streams = await Promise.all(
    Array.from({ length: STREAMS }, (_, k) => {
      const [from, to] = (
        [
          ['a1', 'b2'],
          ['a2', 'b1'],
          ['b1', 'a1'],
        ] as const
      )[k % 3]!
      const address = k % 2 === 0 ? pods[to]!.ip4 : pods[to]!.ip6
      return transfer('tcp', pods[from]!.netns, pods[to]!.netns, address, { bytes: 4 << 20 })
    }),
  )
  expect(streams.map(({ intact, receivedBytes }) => [intact, receivedBytes])).toEqual(
    Array.from({ length: STREAMS }, () => [true, 4 << 20]),
  )
})

test('both workers had work, and neither lost a frame', async () => {
  for (const node of [nodes!.a, nodes!.b]) {
    const { workers } = await expectSound(node)
    expect(workers).toHaveLength(2)
    for (const { packets } of workers) expect(packets).toBeGreaterThan(0)
  }
})
