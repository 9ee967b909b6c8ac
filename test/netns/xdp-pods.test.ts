// Pods by AF_XDP at their limit, and one that takes its interface away.
//
//   node a   under0 ── veth ── (no peer)   xdpSockets: 3
import { afterAll, beforeAll, expect, test } from 'vitest'
import type { DataplaneStatus, DropCount } from '../../dataplane/control.ts'
import { ip, Namespaces } from '../harness/netns.ts'
import { addPod, deletePod, TestNode, type TestPod } from '../harness/node.ts'
import { ping } from '../harness/traffic.ts'
import { until } from '../harness/until.ts'
import { expectPing, expectSound, tellLogsOnFailure } from './expect.ts'

const LIMIT = 3
const namespaces = new Namespaces('xdppods')
let node: TestNode | undefined
let netns: string
beforeAll(async () => {
  netns = await namespaces.add('a')
  await ip(netns, 'link', 'add', 'under0', 'type', 'veth', 'peer', 'name', 'under1')
  await ip(netns, 'addr', 'add', '192.168.77.1/24', 'dev', 'under0')
  for (const device of ['under0', 'under1']) await ip(netns, 'link', 'set', device, 'up')
  node = new TestNode('node-a', netns, {
    cluster: [
      { name: 'node-a', vtep: '192.168.77.1', podCIDRs: ['10.244.1.0/24', 'fd44:0:0:1::/64'] },
    ],
    config: { xdpSockets: LIMIT },
  })
  await node.start()
})
afterAll(async () => {
  await node?.remove()
  await namespaces.removeAll()
})
tellLogsOnFailure(() => [node])

const status = () => node!.ask<DataplaneStatus>('status')
const add = (name: string, attach: 'tun' | 'xdp' = 'xdp') => addPod(namespaces, node!, name, attach)
async function links(): Promise<string[]> {
  const all = JSON.parse(await ip(netns, '-j', 'link')) as { ifname: string }[]
  return all.map(each => each.ifname).sort()
}

let pods: TestPod[]

test('at the limit the error names it and what helps; nothing stays of the attempt; others are not held up', async () => {
  pods = []
  for (let k = 0; k < LIMIT; k++) pods.push(await add(`p${k}`))
  const before = { descriptors: node!.descriptors(), links: await links() }
  await expect(add('one-more')).rejects.toThrow(
    'no room for the rings of another AF_XDP socket: a worker has 3 (raise xdpSockets, or attach by TUN)',
  )
  expect(await links()).toEqual(before.links)
  // One may have been a request's own when they were counted first.
  await until('no descriptor stays', () => node!.descriptors() <= before.descriptors)
  const tun = await add('tun', 'tun')
  await expectPing(tun, pods[0]!)
  expect((await deletePod(pods.pop()!)).exit).toBe(0)
  pods.push(await add('again'))
  await expectPing(pods[0]!, pods.at(-1)!)
  expect((await deletePod(tun)).exit).toBe(0)
  await expectSound(node!)
})

test('a pod deletes its interface: its port is left, holds no frame, and the worker sleeps under what is sent to it', async () => {
  const [gone, other] = pods as [TestPod, TestPod]
  const state = async () => {
    const { ports, workers } = await status()
    const { device } = ports.find(each => each.name.includes(gone.containerId))!
    return { device, held: workers[0]!.smallHeld, leaked: workers[0]!.leaked }
  }
  const before = await state()
  expect(before).toMatchObject({ device: 'up', leaked: 0 })
  await ip(gone.netns, 'link', 'delete', 'eth0')
  await until('the port is left', async () => (await state()).device === 'gone')
  await until('its frames are back', async () => (await state()).held < before.held)
  const { received } = await ping(other.netns, gone.ip4, { count: 3 })
  expect(received).toBe(0)
  const drops = await node!.cli<DropCount[]>('drops')
  expect(drops.find(each => each.reason === 'port-gone')?.count).toBeGreaterThanOrEqual(3)
  await until('the worker sleeps', async () => (await status()).workers[0]!.asleep)
  expect((await state()).leaked).toBe(0)
  expect((await deletePod(gone)).exit).toBe(0)
  await expectPing(other, pods[2]!)
})
