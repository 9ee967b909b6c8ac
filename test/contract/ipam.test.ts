// The contract, "IPAM": plugins that give addresses, and addresses of our own.
import { copyFileSync, mkdirSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { afterAll, beforeAll, expect, test } from 'vitest'
import type { DataplaneStatus } from '../../dataplane/control.ts'
import { FAKE, type FakeDelegate, fakeDelegate, fakeIpam } from '../cni/invoke/fake-delegate.ts'
import { noPlugin } from '../harness/needs.ts'
import { ip } from '../harness/netns.ts'
import { addPod, type CniAnswer, type TestPod } from '../harness/node.ts'
import { type OneNode, oneNode } from '../harness/topology.ts'
import { expectPing, tellLogsOnFailure } from '../netns/expect.ts'
import { changeState, conformed, expectError, expectSuccess, links, rows } from './fixture.ts'

const ranges = [[{ subnet: '10.244.1.0/25' }], [{ subnet: 'fd44:0:0:1::/64' }]]
const cases =
  noPlugin('host-local', '21 has less') === undefined
    ? conformed('21-*@1.0.0,21-delegate-stderr,11-delegate*@1.0.0', '', 'tun', {
        ipam: { type: 'host-local', ranges },
      })
    : undefined

/** IPv4: six to give out, as the network, the gateway and the broadcast address are none. IPv6: more. */
const CIDRS = ['10.244.1.0/29', 'fd44:0:0:1::/64']
let world: OneNode
let fake: FakeDelegate
beforeAll(async () => {
  world = await oneNode('contract-ipam', {
    cluster: [{ name: 'node-a', vtep: '192.168.77.1', podCIDRs: CIDRS }],
  })
  await world.node.start()
  fake = fakeDelegate(world.node.folder)
})
afterAll(() => world?.close())
tellLogsOnFailure(() => [world?.node])

let serial = 0
const add = (attach: 'tun' | 'xdp' = 'tun', extra: Record<string, unknown> = {}) =>
  addPod(world.namespaces, world.node, `i${++serial}`, attach, extra)
const del = ({ containerId, netns }: Pick<TestPod, 'containerId' | 'netns'>) =>
  world.node.cni({ command: 'DEL', containerId, netns })
/** ADD in a namespace of its own that may be refused. */
async function tryAdd(extra: Record<string, unknown> = {}): Promise<CniAnswer> {
  const netns = await world.namespaces.add(`i${++serial}`)
  const answer = await world.node.cni({
    command: 'ADD',
    containerId: `i${serial}`,
    netns,
    config: world.node.config(extra),
  })
  if (answer.exit !== 0) expect(await links(netns)).toEqual(['lo'])
  return answer
}

test('21 a delegate is found in CNI_PATH and gets each verb, the same environment and the whole configuration', async () => {
  const { node, namespaces } = world
  const netns = await namespaces.add('delegated')
  const ips = [{ address: '10.244.1.5/29', gateway: '10.244.1.1' }]
  const config = node.config({ ipam: fakeIpam({ ips }), nobodys: { key: [1, 2] } })
  // The first folder that has it counts; what is no folder is passed over.
  const path = `/nowhere:${fake.folder}:/usr/lib/cni`
  const args = 'IgnoreUnknown=1;K8S_POD_NAME=delegated'
  const call = { containerId: 'delegated', netns, path, args, config }
  const { exit, json } = await node.cni({ command: 'ADD', ...call })
  expect(exit).toBe(0)
  expect(json['ips']).toMatchObject([{ address: '10.244.1.5/32', interface: 0 }])
  const prevResult = json
  expectSuccess(await node.cni({ command: 'CHECK', ...call, config: { ...config, prevResult } }))
  const empty = { containerId: '', netns: '', ifname: '', args: '' }
  expectSuccess(await node.cni({ command: 'STATUS', ...call, ...empty }))
  const valid = [{ containerID: 'delegated', ifname: 'eth0' }]
  const list = { ...config, 'cni.dev/valid-attachments': valid }
  expectSuccess(await node.cni({ command: 'GC', ...call, ...empty, config: list }))
  expectSuccess(await node.cni({ command: 'DEL', ...call, config: { ...config, prevResult } }))
  const asked = fake.asked()
  expect(asked.map(each => each.env['CNI_COMMAND'])).toEqual([
    ...['ADD', 'CHECK', 'STATUS', 'GC', 'DEL'],
  ])
  const own = { CNI_CONTAINERID: 'delegated', CNI_NETNS: netns, CNI_IFNAME: 'eth0', CNI_ARGS: args }
  const none = { CNI_CONTAINERID: '', CNI_NETNS: '', CNI_IFNAME: '', CNI_ARGS: '' }
  const sent = [config, { ...config, prevResult }, config, list, { ...config, prevResult }]
  for (const [k, { env, config: got }] of asked.entries()) {
    expect(env).toMatchObject({ CNI_PATH: path, ...(k === 2 || k === 3 ? none : own) })
    expect(got).toEqual(sent[k])
  }
  // Its refusals are the runtime's to see, of every verb but a DEL that nobody owes, and STATUS: there
  // the node serves all the same, and an operator is told.
  const refusing = (command: string) =>
    node.config({
      ipam: fakeIpam({ ips }, { [command]: 'refuse' }),
      'cni.dev/valid-attachments': [],
    })
  const refused = (command: string) =>
    node.cni({ command, ...call, ...empty, config: refusing(command) })
  expectError(await refused('GC'), 117, /refused/)
  expectSuccess(await refused('STATUS'))
  expect(fake.asked().map(each => each.env['CNI_COMMAND'])).toEqual(['GC', 'STATUS'])
  const { notes } = await node.ask<DataplaneStatus>('status')
  expect(notes).toContainEqual(expect.stringMatching(/^STATUS of hawser: .*fake-ipam.*refused/))
  expectError(await tryAdd({ ipam: { type: FAKE } }), 4, /IPAM plugin fake-ipam: not in/)
})

test.skipIf(cases === undefined)(
  '21 so it is with a delegate of the runner and with host-local',
  () => {
    cases!.expectPassed(
      '21',
      ...['21-delegate-asked', '21-delegate-stderr', '21-delegate-missing', '21-delegate-refuses'],
    )
  },
)

test.skipIf(cases === undefined)(
  "11 a delegate's DEL is called when ADD fails behind its own",
  () => {
    cases!.expectPassed('11', '11-delegate-undone')
  },
)

test('22 never the network, the broadcast or the gateway address; both families or none', async () => {
  const pods = await Promise.all(Array.from({ length: 5 }, () => add()))
  expect(pods.map(pod => pod.ip4).sort()).toEqual([2, 3, 4, 5, 6].map(n => `10.244.1.${n}`))
  expect(pods.every(pod => pod.ip6 !== '')).toBe(true)
  const before = rows(world.node)
  const refused = await tryAdd()
  expectError(refused, 11, /no IPv4 address is left/)
  // The family that has some gives none.
  expect(rows(world.node)).toEqual(before)
  for (const pod of pods) expectSuccess(await del(pod))
  for (const asked of ['10.244.1.0', '10.244.1.7', '10.244.1.1', 'fd44:0:0:1::', 'fd44:0:0:1::1']) {
    expectError(await tryAdd({ runtimeConfig: { ips: [asked] } }), 7, /it is the/)
  }
})

test('22 an address is on disk before the answer, and survives a crash and a restart', async () => {
  const { node } = world
  const pod = await add()
  // What a power loss would leave: the files as they are, without what the process has in memory.
  const aside = join(node.folder, 'power-loss')
  mkdirSync(aside)
  for (const end of ['', '-wal']) copyFileSync(`${node.state}${end}`, join(aside, `state.db${end}`))
  const copy = new DatabaseSync(join(aside, 'state.db'))
  const kept = copy.prepare('SELECT container, phase, ip4, ip6 FROM attachments').all()
  copy.close()
  expect(kept).toMatchObject([
    { container: pod.containerId, phase: 'attached', ip4: pod.ip4, ip6: pod.ip6 },
  ])
  await node.stop('SIGKILL')
  await node.start()
  expect(rows(node)).toMatchObject([{ container: pod.containerId, ip4: pod.ip4 }])
  const other = await add('xdp')
  expect([other.ip4, other.ip6]).not.toEqual([pod.ip4, pod.ip6])
  await expectPing(other, pod)
  for (const each of [pod, other]) expectSuccess(await del(each))
  expect(dirname(node.state)).toBe(join(node.folder, 'state'))
})

test('22 another boot is noticed: its attachments are forgotten, their addresses rest', async () => {
  const { node } = world
  const pod = await add()
  await node.stop()
  changeState(node, "UPDATE facts SET value = 'another boot' WHERE name = 'boot'")
  // As after a boot, nothing is left of the pod.
  await world.namespaces.remove(pod.netns)
  await node.start()
  expect(rows(node)).toEqual([])
  const cooling = rows(node, 'cooling').map(row => row['address'])
  expect(cooling).toEqual(expect.arrayContaining([pod.ip4, pod.ip6]))
  expectSuccess(await del(pod))
})

test('22 an address rests before it is given out again, whatever the wall clock says', async () => {
  const { node } = world
  const pod = await add()
  const asking = { runtimeConfig: { ips: [pod.ip6] } }
  expectSuccess(await del(pod))
  expectError(await tryAdd(asking), 11, /still cools down/)
  const next = await add()
  expect([next.ip4, next.ip6]).not.toContain(pod.ip6)
  expectSuccess(await del(next))
  // Freed in the future, or long ago: the clock was set while no daemon ran. Neither keeps an address
  // for years nor frees it at once.
  await node.stop()
  const [year, now] = [365 * 86_400_000, Date.now()]
  changeState(node, `UPDATE cooling SET freed = ${now + year} WHERE address = '${pod.ip4}'`)
  changeState(node, `UPDATE cooling SET freed = ${now - year} WHERE address = '${pod.ip6}'`)
  await node.start()
  expectError(await tryAdd(asking), 11, /still cools down/)
  const freed = rows(node, 'cooling').map(row => Number(row['freed']))
  for (const each of freed) expect(Math.abs(each - Date.now())).toBeLessThan(60_000)
  // When nothing else is left the one that has rested longest is given.
  const all = await Promise.all(Array.from({ length: 5 }, () => add()))
  expect(new Set(all.map(each => each.ip4)).size).toBe(5)
  for (const each of all) expectSuccess(await del(each))
  expect(await ip(node.netns, '-o', 'link')).not.toContain('eth0')
})
