// Pods by an ordinary veth, all of them behind one TAP, beside pods of the other kinds.
//
//   node a   hawser-tap ── tc programs ── hw… ── eth0 of v1, v2
//            eth0 of t1 (TUN)   hw… ── eth0 of x1 (AF_XDP)
import { rmSync } from 'node:fs'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { AttachKind, DataplaneStatus } from '../../dataplane/control.ts'
import { TAP_DEVICE } from '../../dataplane/limits.ts'
import { ip } from '../harness/netns.ts'
import { addPod, deletePod, type TestPod } from '../harness/node.ts'
import { type OneNode, oneNode } from '../harness/topology.ts'
import { ping, transfer } from '../harness/traffic.ts'
import { until } from '../harness/until.ts'
import {
  checksumErrors,
  dropsOf,
  expectPing,
  expectSound,
  expectTraffic,
  tellLogsOnFailure,
} from './expect.ts'

const WORKERS = 2
const KINDS: Readonly<Record<string, AttachKind>> = { v1: 'tap', v2: 'tap', t1: 'tun', x1: 'xdp' }
const pods: Record<string, TestPod> = {}
let one: OneNode | undefined

beforeAll(async () => {
  one = await oneNode('tappods', { workers: WORKERS })
  await one.node.start()
  for (const name of Object.keys(KINDS)) pods[name] = await add(name, KINDS[name]!)
})
afterAll(async () => {
  await one?.close()
})
tellLogsOnFailure(() => [one?.node])

const add = (name: string, attach: AttachKind) => addPod(one!.namespaces, one!.node, name, attach)
const status = () => one!.node.ask<DataplaneStatus>('status')

/** What has come from a pod. */
async function receivedFrom({ containerId }: TestPod): Promise<{ bytes: number; packets: number }> {
  const { ports } = await status()
  const { rxBytes, rxPackets } = ports.find(({ name }) => name.includes(containerId))!
  return { bytes: rxBytes, packets: rxPackets }
}

describe.each([
  ['v1', 'v2'],
  ['v1', 't1'],
  ['t1', 'v1'],
  ['v1', 'x1'],
  ['x1', 'v1'],
])('%s to %s', (from, to) => {
  test('every byte arrives', async () => {
    await expectTraffic(pods[from]!, pods[to]!)
  })
})

test('what a pod sends in bulk stays in superframes, and so does what it is sent', async () => {
  const { v1, v2 } = pods as { v1: TestPod; v2: TestPod }
  for (const address of [v2.ip4, v2.ip6]) {
    const before = await receivedFrom(v1)
    const { intact } = await transfer('tcp', v1.netns, v2.netns, address, { bytes: 64 << 20 })
    const after = await receivedFrom(v1)
    expect(intact).toBe(true)
    const [bytes, packets] = [after.bytes - before.bytes, after.packets - before.packets]
    expect(bytes / packets).toBeGreaterThan(20 * 1024)
  }
})

test('they cost no descriptor, and all go by one TAP', async () => {
  const before = one!.node.descriptors()
  const more: TestPod[] = []
  for (let k = 0; k < 4; k++) more.push(await add(`m${k}`, 'tap'))
  // One may be a request's own.
  await until('no descriptor is kept', () => one!.node.descriptors() <= before)
  for (const pod of more) await expectPing(pods['v1']!, pod)
  const { ports } = await status()
  const trunks = ports.filter(({ role }) => role === 'trunk')
  expect(trunks).toMatchObject([{ kind: 'tap', name: TAP_DEVICE, device: 'up' }])
  for (const pod of more) expect((await deletePod(pod)).exit).toBe(0)
  const { received } = await ping(pods['v1']!.netns, more[0]!.ip4, { count: 1, timeout: 1 })
  expect(received).toBe(0)
})

test('nothing that a pod writes into its MACs means anything', async () => {
  const { v1, v2 } = pods as { v1: TestPod; v2: TestPod }
  // The tag of a port, as if a tc program had written it; and another pod's MAC.
  for (const lladdr of ['02:00:00:01:00:00', '06:00:00:01:00:00', '02:12:34:56:78:9a']) {
    const gateway = ['169.254.1.1', 'lladdr', lladdr, 'nud', 'permanent', 'dev', 'eth0']
    await ip(v1.netns, 'neigh', 'replace', ...gateway)
    const { received } = await ping(v1.netns, v2.ip4, { count: 1, timeout: 1 })
    expect(received).toBe(0)
  }
  await ip(v1.netns, 'neigh', 'del', '169.254.1.1', 'dev', 'eth0')
  await expectPing(v1, v2)
  const drops = await dropsOf(one!.node)
  expect(drops['l2-foreign']).toBeGreaterThanOrEqual(3)
})

test('a daemon that is killed leaves devices and programs, and the next one takes over', async () => {
  const { v1, v2 } = pods as { v1: TestPod; v2: TestPod }
  const indices = async () => {
    const all = JSON.parse(await ip(one!.node.netns, '-j', 'link')) as {
      ifname: string
      ifindex: number
    }[]
    return all.map(({ ifname, ifindex }) => `${ifname} ${ifindex}`).sort()
  }
  const before = await indices()
  await one!.node.stop('SIGKILL')
  expect(await indices()).toEqual(before)
  const { received } = await ping(v1.netns, v2.ip4, { count: 1, timeout: 1 })
  expect(received).toBe(0)
  await one!.node.start()
  expect(await indices()).toEqual(before)
  await expectTraffic(v1, v2)
  await expectTraffic(pods['t1']!, v1)
})

test('a state file that is lost: their interfaces say which kind they are', async () => {
  const { v1, v2, x1 } = pods as { v1: TestPod; v2: TestPod; x1: TestPod }
  const kinds = async () => {
    const { ports } = await status()
    return ports.flatMap(({ role, name, kind }) => (role === 'pod' ? `${name} ${kind}` : [])).sort()
  }
  const before = await kinds()
  await one!.node.stop('SIGKILL')
  for (const end of ['', '-wal', '-shm']) rmSync(`${one!.node.state}${end}`, { force: true })
  await one!.node.start()
  expect(await kinds()).toEqual(before)
  await expectTraffic(v1, v2)
  await expectPing(x1, v1)
})

test('a pod deletes its interface: what is sent to it is dropped and counted', async () => {
  const lost = await add('lost', 'tap')
  await expectPing(pods['v1']!, lost)
  await ip(lost.netns, 'link', 'delete', 'eth0')
  const count = async () => (await dropsOf(one!.node))['tap-gone'] ?? 0
  await until('it is known to be gone', async () => {
    const before = await count()
    const { received } = await ping(pods['v1']!.netns, lost.ip4, { count: 1, timeout: 1 })
    expect(received).toBe(0)
    return (await count()) > before
  })
  expect((await deletePod(lost)).exit).toBe(0)
  await expectSound(one!.node)
})

test('the TAP is deleted, and made anew', async () => {
  const { v1, v2 } = pods as { v1: TestPod; v2: TestPod }
  await ip(one!.node.netns, 'link', 'delete', TAP_DEVICE)
  await one!.node.logged(`${TAP_DEVICE} was deleted and is made anew`)
  await until('pods talk again', async () => {
    const { received } = await ping(v1.netns, v2.ip4, { count: 1, timeout: 1 })
    return received === 1
  })
  await ip(one!.node.netns, 'link', 'set', TAP_DEVICE, 'down')
  await until('pods talk again', async () => {
    const { received } = await ping(v1.netns, v2.ip4, { count: 1, timeout: 1 })
    return received === 1
  })
  await expectTraffic(v1, v2)
})

test('no wrong checksum, no frame without an owner', async () => {
  for (const { netns } of Object.values(pods)) expect(await checksumErrors(netns)).toEqual({})
  await expectSound(one!.node)
})
