// What plugins get wrong: the contract's last section, in its order, against one daemon.
import { copyFileSync, mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { expect, test } from 'vitest'
import { MAX_PARALLEL } from '../../cni/pods/turns.ts'
import { fakeDelegate, fakeIpam } from '../cni/invoke/fake-delegate.ts'
import { ip } from '../harness/netns.ts'
import { CLI, EXECUTABLE } from '../harness/node.ts'
import { run } from '../harness/processes.ts'
import { until } from '../harness/until.ts'
import { contractNode, expectError, expectSuccess, links, rows } from './fixture.ts'

const a = contractNode('wrong')
const KINDS = ['tun', 'xdp', 'tap'] as const
const held = () => rows(a.node).map(row => String(row['container']))

test('W1 a DEL that fails on a missing namespace', async () => {
  for (const attach of KINDS) {
    const [gone, unnamed] = [await a.add(attach), await a.add(attach)]
    await a.lose(gone.netns)
    const { containerId, netns } = gone
    expectSuccess(await a.cni('DEL', { containerId, netns }))
    expectSuccess(await a.cni('DEL', { containerId: unnamed.containerId }))
    expect(await links(unnamed.netns)).toEqual(['lo'])
  }
  expect(held()).toEqual([])
})

test('W2 an address that a failed ADD leaks', async () => {
  const netns = await a.netns()
  for (const attach of KINDS) {
    for (let k = 0; k < 3; k++) {
      // The kernel takes no device of this name: it fails when the address has been reserved.
      const config = a.node.config({ attach })
      expectError(await a.cni('ADD', { netns, ifname: 'default', config }), 5)
    }
  }
  expect(held()).toEqual([])
  expect(await links(netns)).toEqual(['lo'])
})

test('W3 an existing interface that ADD deletes', async () => {
  const netns = await a.netns()
  await ip(netns, 'link', 'add', 'eth0', 'type', 'veth', 'peer', 'name', 'eth1')
  const before = await ip(netns, '-j', 'link')
  for (const attach of KINDS) {
    const call = { netns, containerId: a.newId(), config: a.node.config({ attach }) }
    expectError(await a.cni('ADD', call), 103)
    expectSuccess(await a.cni('DEL', call))
  }
  expect(await ip(netns, '-j', 'link')).toBe(before)
})

test('W4 a CHECK that does nothing', async () => {
  for (const attach of KINDS) {
    const pod = await a.add(attach)
    expectSuccess(await a.check(pod))
    await ip(pod.netns, 'addr', 'flush', 'dev', 'eth0')
    expectError(await a.check(pod), 104, /lacks the address/)
    const { containerId, netns } = pod
    expectSuccess(await a.cni('DEL', { containerId, netns }))
    expectError(await a.check(pod), 104, /not attached/)
  }
})

test('W5 an interface name that is ignored', async () => {
  const netns = await a.netns()
  const call = { netns, containerId: a.newId() }
  for (const ifname of ['net1', 'net2'])
    expect((await a.cni('ADD', { ...call, ifname })).exit).toBe(0)
  expect(await links(netns)).toEqual(['lo', 'net1', 'net2'])
  expectSuccess(await a.cni('DEL', { ...call, ifname: 'net1' }))
  expect(await links(netns)).toEqual(['lo', 'net2'])
  expectSuccess(await a.cni('DEL', { ...call, ifname: 'net2' }))
})

test('W6 a DEL that succeeds and cleans nothing', async () => {
  const before = await links(a.node.netns)
  const pods = await Promise.all(KINDS.map(attach => a.add(attach)))
  for (const { containerId, netns } of pods)
    expectSuccess(await a.cni('DEL', { containerId, netns }))
  for (const { netns } of pods) {
    expect(await links(netns)).toEqual(['lo'])
    expect(await ip(netns, 'route')).toBe('')
  }
  expect(await links(a.node.netns)).toEqual(before)
  expect([held(), await a.attached()]).toEqual([[], []])
  const routes = await a.node.ask<{ kind: string }[]>('routes')
  expect(routes.filter(each => each.kind === 'pod')).toEqual([])
})

test('W7 a GC that frees addresses of pods that live', async () => {
  const [one, other] = [await a.add('tun'), await a.add('xdp')]
  const valid = [{ containerID: one.containerId, ifname: 'eth0' }]
  for (const list of [
    undefined,
    null,
    [...valid, { containerID: other.containerId, ifname: 'eth0' }],
  ]) {
    const config = a.node.config(list === undefined ? {} : { 'cni.dev/valid-attachments': list })
    expectSuccess(await a.cni('GC', { config }))
    for (const pod of [one, other]) expectSuccess(await a.check(pod))
  }
  const config = a.node.config({ 'cni.dev/valid-attachments': valid })
  expectSuccess(await a.cni('GC', { config }))
  expectSuccess(await a.check(one))
  expect(held()).toEqual([one.containerId])
  expectSuccess(await a.cni('DEL', { containerId: one.containerId, netns: one.netns }))
})

test('W8 logs on stdout', async () => {
  const fake = fakeDelegate(a.node.folder)
  const netns = await a.netns()
  const env = {
    CNI_CONTAINERID: a.newId(),
    CNI_NETNS: netns,
    CNI_IFNAME: 'eth0',
    CNI_PATH: fake.folder,
  }
  // The plugin that it asks speaks on stderr, at every verb.
  const ips = [{ address: '10.244.1.150/24', gateway: '10.244.1.1' }]
  const input = JSON.stringify(a.node.config({ ipam: fakeIpam({ ips }) }))
  const stdout: string[] = []
  for (const CNI_COMMAND of [
    'VERSION',
    'ADD',
    'ADD',
    'DEL',
    'DEL',
    'STATUS',
    'GC',
    'NONSENSE',
    '',
  ]) {
    const done = await run(EXECUTABLE, [], {
      netns: a.node.netns,
      env: { ...env, CNI_COMMAND },
      input,
    })
    stdout.push(done.stdout)
  }
  const [version, added, again, ...rest] = stdout
  for (const document of [version, added, again, rest[4]]) {
    expect(JSON.parse(document!)).toBeTypeOf('object')
  }
  // DEL twice, STATUS, GC, and the question of a person: nothing at all.
  expect([...rest.slice(0, 4), rest[5]]).toEqual(['', '', '', '', ''])
})

test('W9 unlimited parallel work', async () => {
  const folder = join(a.node.folder, 'many')
  mkdirSync(folder)
  const fake = fakeDelegate(folder)
  const config = a.node.config({ ipam: fakeIpam({}, { ADD: 'wait' }) })
  const asked = Array.from({ length: 3 * MAX_PARALLEL }, async () =>
    a.cni('ADD', { netns: await a.netns(), path: fake.folder, config }),
  )
  // Each that is at work has its plugin run; no further one is started before one has ended.
  let started = 0
  const count = (): number => {
    started += fake.asked().filter(each => each.env['CNI_COMMAND'] === 'ADD').length
    return started
  }
  await until('as many as may work', () => count() === MAX_PARALLEL)
  expectSuccess(await a.cni('STATUS'))
  expect(count()).toBe(MAX_PARALLEL)
  writeFileSync(join(fake.folder, 'go'), '')
  for (const answer of await Promise.all(asked)) expectError(answer, 117, /ADD is refused/)
  expect(count()).toBe(3 * MAX_PARALLEL)
  await until('nothing is kept', () => rows(a.node, 'delegations').length === 0)
  expect(held()).toEqual([])
})

test('W10 state that a power loss takes along', async () => {
  const { node } = a
  const pod = await a.add('tun')
  const gone = await a.add('xdp')
  expectSuccess(await a.cni('DEL', { containerId: gone.containerId, netns: gone.netns }))
  // The files as they lie there the moment that DEL has answered.
  const folder = join(node.folder, 'lost')
  mkdirSync(folder)
  for (const end of ['', '-wal'])
    copyFileSync(`${node.state}${end}`, join(folder, `state.db${end}`))
  const copy = new DatabaseSync(join(folder, 'state.db'))
  const list = copy.prepare('SELECT container FROM attachments').all()
  const resting = copy.prepare('SELECT address FROM cooling').all()
  copy.close()
  expect(list).toEqual([{ container: pod.containerId }])
  expect(resting).toContainEqual({ address: gone.ip4 })
  // Written through to the disk at each commit.
  const database = new DatabaseSync(node.state, { readOnly: true })
  expect(database.prepare('PRAGMA journal_mode').get()).toEqual({ journal_mode: 'wal' })
  database.close()
  expectSuccess(await a.cni('DEL', { containerId: pod.containerId, netns: pod.netns }))
})

test('W11 a DEL that needs the API server', async () => {
  // What the daemon knows of the cluster it knows from a file; that goes, and then the daemon, too.
  const pods = [await a.add('tun'), await a.add('xdp')]
  a.node.writeClusterText('')
  const [one, other] = pods.map(({ containerId, netns }) => ({ containerId, netns }))
  expectSuccess(await a.cni('DEL', one!))
  expect(await links(one!.netns)).toEqual(['lo'])
  await a.node.stop()
  expectSuccess(await a.cni('DEL', other!))
  a.node.writeCluster([{ name: 'node-a', vtep: '192.168.77.1', podCIDRs: ['10.244.1.0/24'] }])
  await a.node.start()
  expect(await links(other!.netns)).toEqual(['lo'])
  expect(held()).toEqual([])
})

test('W12 a configuration that is written before the daemon can serve', async () => {
  const { node } = a
  const [bin, conf] = ['bin', 'net.d'].map(name => join(node.folder, name))
  for (const folder of [bin!, conf!]) mkdirSync(folder)
  const words = [CLI, 'install', '--bin-dir', bin!, '--conf-dir', conf!, '--socket', node.socket]
  await node.stop()
  const early = await run(process.execPath, words, { netns: node.netns })
  expect(early).toMatchObject({ code: 1, stdout: '' })
  await node.start()
  const { code, stdout } = await run(process.execPath, words, { netns: node.netns })
  expect({ code, stdout }).toMatchObject({ code: 0, stdout: expect.stringContaining('10-hawser') })
})
