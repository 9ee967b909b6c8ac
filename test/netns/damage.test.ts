// The state file of a node is destroyed while its pods run: the next daemon takes them over by what
// their interfaces say, and everything goes on.
//
//   node a                                         node b
//   pods t1 (TUN), x1, m1 (AF_XDP)  ──── veth ──── pod b1 (TUN)
//   state: 1st ─ garbage ─ 2nd, made anew
import { readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { dirname } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { damagedFiles } from '../../cni/state/damage.ts'
import type { DataplaneStatus, PodAttachment } from '../../dataplane/control.ts'
import { ip } from '../harness/netns.ts'
import { addPod, deletePod, type TestPod } from '../harness/node.ts'
import { type TwoNodes, twoNodes } from '../harness/topology.ts'
import { expectPing, expectSound, expectTraffic, tellLogsOnFailure } from './expect.ts'

const MAC = '02:00:00:00:00:07'

let nodes: TwoNodes | undefined
let pods: TestPod[]
let far: TestPod
let before: DataplaneStatus
beforeAll(async () => {
  nodes = await twoNodes('damage')
  const { a, b, namespaces } = nodes
  before = await expectSound(a)
  pods = [
    await addPod(namespaces, a, 't1', 'tun'),
    await addPod(namespaces, a, 'x1', 'xdp', { mtu: 1300 }),
    await addPod(namespaces, a, 'm1', 'xdp', { runtimeConfig: { mac: MAC } }),
  ]
  far = await addPod(namespaces, b, 'b1', 'tun')
})
afterAll(() => nodes?.close())
tellLogsOnFailure(() => [nodes?.a, nodes?.b])

const GARBAGE = 'no database '.repeat(1000)

/** As a killed daemon leaves it, all that it has is in the -wal: SQLite would mend the file from there. */
function destroy(path: string): void {
  for (const ending of ['', '-wal']) writeFileSync(path + ending, GARBAGE)
}

const interfaces = async (netns: string): Promise<string[]> =>
  (JSON.parse(await ip(netns, '-j', 'link')) as { ifname: string }[]).map(each => each.ifname)

async function expectTakenOver(): Promise<void> {
  const { a } = nodes!
  const served = await a.ask<PodAttachment[]>('pods')
  expect(served).toHaveLength(pods.length)
  for (const { containerId, netns, ip4, ip6, attach, result } of pods) {
    expect(served.find(each => each.id.includes(containerId))).toMatchObject({ ip4, ip6, netns })
    const config = a.config({ attach, prevResult: result })
    const { exit, json } = await a.cni({ command: 'CHECK', containerId, netns, config })
    expect([exit, json]).toEqual([0, {}])
  }
  await a.acquainted()
}

test('a file of garbage: pods are served again with the addresses that they have', async () => {
  const { a } = nodes!
  await expectTraffic(pods[0]!, far)
  await a.stop('SIGKILL')
  destroy(a.state)
  await a.start()
  await expectTakenOver()
  for (const pod of pods) {
    await expectTraffic(pod, far)
    await expectPing(far, pod)
  }
  await expectPing(pods[0]!, pods[1]!)
  await expectSound(a)
  const [kept, ...more] = damagedFiles(a.state)
  for (const ending of ['', '-wal']) expect(readFileSync(kept! + ending, 'utf8')).toBe(GARBAGE)
  expect(more).toEqual([])
  const told = a.log.map(line => JSON.parse(line) as { level: string; msg: string; kept?: string })
  expect(told.find(({ msg }) => msg.startsWith('the state file is damaged'))).toMatchObject({
    ...{ level: 'error', kept },
  })
  expect(told.find(({ msg }) => msg.startsWith('the state is made anew'))).toMatchObject({
    attachments: expect.arrayContaining(pods.map(each => `hawser/${each.containerId}/eth0`)),
  })
})

test('an address that is in use is not given out again', async () => {
  const { a, namespaces } = nodes!
  const taken = pods.flatMap(({ ip4, ip6 }) => [ip4, ip6])
  for (const attach of ['tun', 'xdp'] as const) {
    const fresh = await addPod(namespaces, a, `f-${attach}`, attach)
    expect(taken).not.toContain(fresh.ip4)
    expect(taken).not.toContain(fresh.ip6)
    await expectPing(fresh, far)
    expect((await deletePod(fresh)).exit).toBe(0)
  }
})

test('a file that a person has removed is as good as a damaged one', async () => {
  const { a } = nodes!
  await a.stop('SIGKILL')
  rmSync(dirname(a.state), { recursive: true })
  await a.start()
  await expectTakenOver()
  for (const pod of pods) await expectPing(pod, far)
  expect(readdirSync(dirname(a.state)).filter(name => name.includes('damaged'))).toEqual([])
})

test('a DEL that waits in the queue is meant for a pod that was taken over', async () => {
  const { a, namespaces } = nodes!
  const doomed = [
    await addPod(namespaces, a, 'dt', 'tun'),
    await addPod(namespaces, a, 'dx', 'xdp'),
  ]
  await a.stop('SIGKILL')
  for (const each of doomed) expect((await deletePod(each)).exit).toBe(0)
  destroy(a.state)
  await a.start()
  for (const { netns } of doomed) expect(await interfaces(netns)).toEqual(['lo'])
  await expectTakenOver()
})

test('their DEL leaves nothing', async () => {
  const { a } = nodes!
  for (const pod of pods) expect((await deletePod(pod)).exit).toBe(0)
  for (const { netns } of pods) expect(await interfaces(netns)).toEqual(['lo'])
  expect((await interfaces(a.netns)).filter(name => /^hw[0-9a-f]{12}$/.test(name))).toEqual([])
  const database = new DatabaseSync(a.state, { readOnly: true })
  expect(database.prepare('SELECT * FROM attachments').all()).toEqual([])
  database.close()
  const { routes, workers } = await expectSound(a)
  expect(routes).toEqual(before.routes)
  expect(workers[0]!.smallFree + workers[0]!.smallHeld).toBe(
    before.workers[0]!.smallFree + before.workers[0]!.smallHeld,
  )
})
