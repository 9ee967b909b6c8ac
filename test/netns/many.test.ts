// A burst: fifty pods at once on one node, and gone again. Nothing may stay: no address, link, route,
// descriptor, frame or row.
//
//   node a   under0 ── veth ── (no peer)
//   50 × ADD in parallel, half of them TUN, half AF_XDP; pings; 50 × DEL in parallel; and once more
import { DatabaseSync } from 'node:sqlite'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { ip, Namespaces } from '../harness/netns.ts'
import { addPod, deletePod, TestNode, type TestPod } from '../harness/node.ts'
import { ping } from '../harness/traffic.ts'
import { until } from '../harness/until.ts'
import { expectSound, tellLogsOnFailure } from './expect.ts'

const PODS = 50
const PINGS = 8

const namespaces = new Namespaces('many')
let node: TestNode | undefined
beforeAll(async () => {
  const netns = await namespaces.add('a')
  await ip(netns, 'link', 'add', 'under0', 'type', 'veth', 'peer', 'name', 'under1')
  await ip(netns, 'addr', 'add', '192.168.77.1/24', 'dev', 'under0')
  for (const device of ['under0', 'under1']) {
    // No address that comes and settles by itself while things are counted.
    await ip(netns, 'link', 'set', device, 'addrgenmode', 'none')
    await ip(netns, 'link', 'set', device, 'up')
  }
  node = new TestNode('node-a', netns, {
    cluster: [
      { name: 'node-a', vtep: '192.168.77.1', podCIDRs: ['10.244.1.0/24', 'fd44:0:0:1::/64'] },
    ],
  })
  await node.start()
  // What is made once and for all at the first pod of a kind is no leak.
  for (const attach of ['tun', 'xdp'] as const) {
    const pod = await addPod(namespaces, node, `first-${attach}`, attach)
    await deletePod(pod)
    await namespaces.remove(pod.netns)
  }
})
afterAll(async () => {
  await node?.remove()
  await namespaces.removeAll()
})
tellLogsOnFailure(() => [node])

/** Everything that could stay behind. */
async function inventory(): Promise<object> {
  const { netns } = node!
  const { workers, ports, routes, pods } = await expectSound(node!)
  const links = JSON.parse(await ip(netns, '-j', 'link')) as { ifname: string }[]
  const lines = async (...args: string[]) => (await ip(netns, ...args)).trim().split('\n').sort()
  const database = new DatabaseSync(node!.state, { readOnly: true })
  try {
    return {
      descriptors: node!.descriptors(),
      links: links.map(each => each.ifname).sort(),
      addresses: await lines('-o', 'addr'),
      routes4: await lines('-4', 'route', 'show', 'table', 'all'),
      routes6: await lines('-6', 'route', 'show', 'table', 'all'),
      frames: workers.map(({ smallFree, smallHeld, largeFree, leaked }) => ({
        ...{ smallFree, smallHeld, largeFree, leaked },
      })),
      ports: ports.map(({ name }) => name),
      engine: { routes, pods },
      rows: database.prepare('SELECT count(*) AS n FROM attachments').get(),
    }
  } finally {
    database.close()
  }
}

/** Resolves when all is as it was; frames and descriptors come back a little after the answer to DEL. */
async function settled(before: object): Promise<void> {
  let last: object = {}
  await until('everything is as before', async () => {
    last = await inventory()
    return JSON.stringify(last) === JSON.stringify(before)
  }).catch(() => expect(last).toEqual(before))
}

test.each(['the first time', 'and once more'])('fifty pods come and go, %s', async round => {
  const before = await inventory()
  const pods: TestPod[] = await Promise.all(
    Array.from({ length: PODS }, (_, k) =>
      addPod(namespaces, node!, `p${k}-${round.length}`, k % 2 === 0 ? 'tun' : 'xdp'),
    ),
  )
  expect(new Set(pods.flatMap(({ ip4, ip6 }) => [ip4, ip6])).size).toBe(2 * PODS)
  expect((await expectSound(node!)).pods).toBe(PODS)
  const pinged = await Promise.all(
    pods.slice(0, PINGS).map((pod, k) => {
      const to = pods[PODS - 1 - k]!
      return ping(pod.netns, k % 2 === 0 ? to.ip4 : to.ip6, { count: 2 })
    }),
  )
  expect(pinged.map(({ received, errors }) => [received, errors])).toEqual(
    Array.from({ length: PINGS }, () => [2, []]),
  )
  const answers = await Promise.all(pods.map(deletePod))
  expect(answers.map(({ exit }) => exit)).toEqual(Array.from({ length: PODS }, () => 0))
  for (const { netns } of pods) {
    expect(await ip(netns, '-o', 'link')).not.toContain('eth0')
    await namespaces.remove(netns)
  }
  await settled(before)
})
