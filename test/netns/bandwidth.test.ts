// Bandwidth on real devices: what a limited pod sends and receives, of either kind.
//
//   node a   pods: free (TUN), slow (limited, TUN or veth)
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { DropCount } from '../../dataplane/control.ts'
import { ip, Namespaces } from '../harness/netns.ts'
import { addPod, TestNode, type TestPod } from '../harness/node.ts'
import { transfer } from '../harness/traffic.ts'
import { expectSound, tellLogsOnFailure } from './expect.ts'

const namespaces = new Namespaces('rate')
let node: TestNode
let free: TestPod
beforeAll(async () => {
  const netns = await namespaces.add('a')
  await ip(netns, 'link', 'add', 'under0', 'type', 'veth', 'peer', 'name', 'under1')
  await ip(netns, 'addr', 'add', '192.168.77.1/24', 'dev', 'under0')
  await ip(netns, 'link', 'set', 'under0', 'up')
  await ip(netns, 'link', 'set', 'under1', 'up')
  node = new TestNode('node-a', netns, {
    workers: 2,
    cluster: [
      { name: 'node-a', vtep: '192.168.77.1', podCIDRs: ['10.244.1.0/24', 'fd44:0:0:1::/64'] },
    ],
  })
  await node.start()
  free = await addPod(namespaces, node, 'free', 'tun')
})
afterAll(async () => {
  await node?.remove()
  await namespaces.removeAll()
})
tellLogsOnFailure(() => [node])

/** Bits a second, and what may pass at once; a bucket that lasts longer than TCP waits for an answer. */
const RATE = 20_000_000
const BURST = RATE / 2
/** Seconds of a measured stream. What was in the bucket is a twelfth of what passes. */
const SECONDS = 6
/** A machine that stands still lets a stream lose time, which says nothing of the limiter. */
const TRIES = 3

const rateDrops = async (): Promise<number> =>
  (await node.ask<DropCount[]>('drops')).find(({ reason }) => reason === 'rate')?.count ?? 0

/** A stream that is limited: never more than the rate lets through, and in one of the tries nearly that. */
async function expectLimited(from: TestPod, to: TestPod): Promise<void> {
  const shares: number[] = []
  for (let tried = 0; tried < TRIES; tried++) {
    const { netns } = from
    const done = await transfer('tcp', netns, to.netns, to.ip4, { seconds: SECONDS })
    expect(done.intact).toBe(true)
    const bits = done.receivedBytes * 8
    const seconds = bits / done.bitsPerSecond
    // The receiver's clock starts behind the handshake.
    expect(bits).toBeLessThan(RATE * (seconds + 0.05) + BURST + 8 * 65_536)
    shares.push(done.bitsPerSecond / RATE)
    if (shares.at(-1)! > 0.9) break
  }
  expect(shares.at(-1)).toBeGreaterThan(0.9)
  expect(shares.at(-1)).toBeLessThan(1.1)
}

describe.each(['tun', 'xdp'] as const)('a pod on %s', attach => {
  test.each(['ingress', 'egress'] as const)('%s', { timeout: 120_000 }, async direction => {
    const bandwidth = { [`${direction}Rate`]: RATE, [`${direction}Burst`]: BURST }
    const config = { runtimeConfig: { bandwidth } }
    const slow = await addPod(namespaces, node, `${attach}-${direction}`, attach, config)
    const [from, to] = direction === 'ingress' ? [free, slow] : [slow, free]
    await expectLimited(from, to)
    expect(await rateDrops()).toBeGreaterThan(0)
    // The other way only acknowledgements meet the limit.
    const back = await transfer('tcp', to.netns, from.netns, from.ip4, { seconds: 1 })
    expect(back.bitsPerSecond).toBeGreaterThan(3 * RATE)
    await expectSound(node)
  })
})

test('after a restart the rate is in force, and other pods have none', {
  timeout: 120_000,
}, async () => {
  const bandwidth = { ingressRate: RATE, ingressBurst: BURST }
  const slow = await addPod(namespaces, node, 'kept', 'xdp', { runtimeConfig: { bandwidth } })
  const other = await addPod(namespaces, node, 'other', 'xdp')
  await node.stop('SIGKILL')
  await node.start()
  const before = await rateDrops()
  const done = await transfer('tcp', free.netns, other.netns, other.ip4, { bytes: 32 << 20 })
  expect(done.intact).toBe(true)
  expect(await rateDrops()).toBe(before)
  await expectLimited(free, slow)
})
