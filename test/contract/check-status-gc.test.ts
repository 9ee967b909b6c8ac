// The contract, "CHECK, STATUS, GC".

import { rmSync, writeFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { COLLECT_MS } from '../../cni/daemon/daemon.ts'
import { LOOKS } from '../../cni/pods/restore.ts'
import type { DataplaneStatus } from '../../dataplane/control.ts'
import { ip, nameOf } from '../harness/netns.ts'
import { addPod, type TestPod } from '../harness/node.ts'
import { must, Running } from '../harness/processes.ts'
import { NODE_A, type OneNode, oneNode } from '../harness/topology.ts'
import { ping } from '../harness/traffic.ts'
import { until } from '../harness/until.ts'
import { tellLogsOnFailure } from '../netns/expect.ts'
import {
  changeState,
  conformed,
  contractNode,
  expectError,
  expectSuccess,
  links,
  rows,
} from './fixture.ts'

/** Other nodes that the engine has room for. */
const PEERS = 1
const a = contractNode('csg', { config: { peers: PEERS } })
// On veth, which has a MAC.
const cases = conformed('18-*@1.1.0,19-*@1.1.0,20-*@1.1.0', '*dead-*,20-restart*', 'xdp')

describe.each(['tun', 'xdp', 'tap'] as const)('on %s', attach => {
  test('18 CHECK compares link, MAC, MTU, addresses and routes with what ADD answered, and leaves what others added', async () => {
    cases.expectPassed(
      '18',
      ...['18-check-good', '18-check-without-prevresult', '18-check-foreign-route'],
      ...['18-check-mac', '18-check-mtu', '18-check-link-down', '18-check-address-removed'],
      ...['18-check-route-removed', '18-check-interface-gone', '18-check-other-address'],
    )
    const pod = await a.add(attach)
    const { containerId, netns, result } = pod
    const without = { containerId, netns, config: a.node.config({ attach }) }
    expectError(await a.cni('CHECK', without), 7, /prevResult/)
    expectError(await a.check(pod, { ...result, interfaces: [] }), 104, /no interface eth0/)
    await ip(netns, 'route', 'add', '198.51.100.0/24', 'dev', 'eth0')
    await ip(netns, 'route', 'add', 'default', 'dev', 'eth0', 'metric', '77')
    await ip(netns, '-6', 'route', 'add', '2001:db8:9::/48', 'dev', 'eth0')
    await ip(netns, 'addr', 'add', '192.0.2.77/32', 'dev', 'eth0')
    expectSuccess(await a.check(pod))
    await ip(netns, '-6', 'route', 'del', 'default')
    expectError(await a.check(pod), 104, /lacks the route ::\/0/)
    expectSuccess(await a.cni('DEL', without))
  })

  test("18 CHECK compares the daemon's own state: reservation, namespace, way in the engine", async () => {
    const pod = await a.add(attach)
    const row = rows(a.node).find(each => each['container'] === pod.containerId)!
    const where = `WHERE container = '${pod.containerId}'`
    const tampered = async (set: string, cause: RegExp): Promise<void> => {
      changeState(a.node, `UPDATE attachments SET ${set} ${where}`)
      expectError(await a.check(pod), 104, cause)
      const old = `ip4 = '${row['ip4']}', netnsIno = '${row['netnsIno']}', phase = 'attached'`
      changeState(a.node, `UPDATE attachments SET ${old} ${where}`)
      expectSuccess(await a.check(pod))
    }
    await tampered("ip4 = '10.244.1.99'", /10\.244\.1\.\d+ is served, 10\.244\.1\.99 is reserved/)
    await tampered('ip4 = NULL', /none is reserved/)
    await tampered("netnsIno = '1'", /not the namespace that was attached/)
    await tampered("phase = 'reserved'", /not attached/)
    changeState(a.node, `DELETE FROM attachments ${where}`)
    expectError(await a.check(pod), 104, /not attached/)
    const { containerId, netns } = pod
    expectSuccess(await a.cni('DEL', { containerId, netns }))
    expect(await links(netns)).toEqual(['lo'])
  })
})

const STATUS = ['STATUS', { ifname: '' }] as const

test('19 STATUS: 0 out of step with the cluster file, which is told; 50 without a daemon', async () => {
  cases.expectPassed('19', '19-status-good', '19-status-with-pods')
  expectSuccess(await a.cni(...STATUS))
  // Readable, and not to be put in force: more nodes than there is room for.
  const others = Array.from({ length: PEERS + 1 }, (_, k) => ({
    ...{ name: `node-${k}`, vtep: `192.168.77.${10 + k}`, podCIDRs: [`10.244.${10 + k}.0/24`] },
  }))
  a.node.writeCluster([NODE_A, ...others])
  const note = async () => {
    const { notes } = await a.node.ask<DataplaneStatus>('status')
    return notes.find(each => each.startsWith('cluster: 2 peers'))
  }
  await until('it is out of step', async () => (await note()) !== undefined)
  expectSuccess(await a.cni(...STATUS))
  a.node.writeCluster([NODE_A])
  await until('it is in step again', async () => (await note()) === undefined)
  const nobody = a.node.config({ socket: `${a.node.folder}/nobody.sock` })
  expectError(await a.cni('STATUS', { config: nobody }), 50, /daemon is not running/)
})

test('19 STATUS: 51 when running pods are hurt, until they are whole again', async () => {
  const pod = await a.add('tun')
  await a.node.stop()
  // A namespace whose mount is not there (yet): it may be alive.
  await must('umount', [pod.netns])
  await a.node.start()
  expectError(await a.cni(...STATUS), 51, /is not restored: .*not a network namespace now/)
  expect(rows(a.node).filter(row => row['container'] === pod.containerId)).toHaveLength(1)
  expectSuccess(await a.cni('DEL', { containerId: pod.containerId, netns: pod.netns }))
  expectSuccess(await a.cni(...STATUS))
})

test('20 GC: without a list nothing goes, with an empty one all of this network', async () => {
  cases.expectPassed('20', '20-gc-absent', '20-gc-empty', '20-gc-partial', '20-gc-foreign-network')
  const pods = [await a.add('tun'), await a.add('xdp')]
  const gc = (more: Record<string, unknown>) =>
    a.cni('GC', { ifname: '', config: a.node.config(more) })
  expectSuccess(await gc({}))
  expectSuccess(await gc({ 'cni.dev/valid-attachments': null }))
  expectSuccess(await gc({ name: 'other', 'cni.dev/valid-attachments': [] }))
  expect(rows(a.node)).toHaveLength(2)
  for (const pod of pods) expectSuccess(await a.check(pod))
  expectSuccess(await gc({ 'cni.dev/valid-attachments': [] }))
  expect(rows(a.node)).toEqual([])
  for (const { netns } of pods) expect(await links(netns)).toEqual(['lo'])
})

describe('a small node whose daemon collects when it is told to', () => {
  let world: OneNode
  let looks = 0
  const program = [fileURLToPath(new URL('./collecting-daemon.ts', import.meta.url))]
  beforeAll(async () => {
    world = await oneNode('small', {
      program,
      cluster: [{ ...NODE_A, podCIDRs: ['10.244.1.0/27'] }],
      // As few as there can be.
      config: { smallFrames: 256 },
    })
    await world.node.start()
  })
  afterAll(() => world?.close())
  tellLogsOnFailure(() => [world?.node])

  const add = (name: string, attach: 'tun' | 'xdp') =>
    addPod(world.namespaces, world.node, name, attach)
  const del = ({ containerId, netns }: TestPod) =>
    world.node.cni({ command: 'DEL', containerId, netns })
  const status = () => world.node.cni({ command: 'STATUS', containerId: '', ifname: '' })
  const look = () => world.node.tell('look', 'collected', ++looks)
  const held = () => rows(world.node).map(row => row['container'])

  test('19 STATUS: 50 without a packet frame left, 0 without an address', async () => {
    // Each pod on veth takes frames to receive into.
    const pods = [await add('f0', 'xdp')]
    while (pods.length < 29 && (await status()).exit === 0) {
      pods.push(await add(`f${pods.length}`, 'xdp'))
    }
    expectError(await status(), 50, /no packet frame is left/)
    for (const pod of pods) expectSuccess(await del(pod))
    await until('frames are free', async () => (await status()).exit === 0)
    // /27 without network, broadcast and gateway.
    const all = await Promise.all(Array.from({ length: 29 }, (_, k) => add(`a${k}`, 'tun')))
    expectSuccess(await status())
    for (const pod of all) expectSuccess(await del(pod))
  })

  test('20 the daemon looks twice before it takes a pod whose namespace is gone, and leaves those that live', async () => {
    const [kept, lost, back] = [
      await add('kept', 'tun'),
      await add('lost', 'xdp'),
      await add('back', 'tun'),
    ]
    await world.namespaces.remove(lost.netns)
    // As a mount that is not there for a moment.
    const aside = `${back.netns}-aside`
    writeFileSync(aside, '')
    await must('mount', ['--bind', back.netns, aside])
    await must('umount', [back.netns])
    rmSync(back.netns)
    await look()
    expect(held()).toHaveLength(3)
    // Between two looks by itself it lets minutes pass: the time that a namespace has to come back.
    expect(LOOKS).toBeGreaterThanOrEqual(2)
    expect(COLLECT_MS).toBeGreaterThanOrEqual(60_000)
    writeFileSync(back.netns, '')
    await must('mount', ['--bind', aside, back.netns])
    await must('umount', [aside])
    rmSync(aside)
    await look()
    expect(held().sort()).toEqual([kept.containerId, back.containerId].sort())
    // What was missed once and came back has its two looks again.
    await look()
    expect(held()).toHaveLength(2)
    const { received } = await ping(kept.netns, back.ip4, { count: 1 })
    expect(received).toBe(1)
    for (const pod of [kept, back]) expectSuccess(await del(pod))
    looks = 0
  })

  test('20 so does one that starts: its first look is one of the two', async () => {
    const [kept, lost] = [await add('kept2', 'xdp'), await add('lost2', 'tun')]
    await world.node.stop('SIGKILL')
    await world.namespaces.remove(lost.netns)
    // Another namespace at the path of the first is not the first.
    looks = 0
    await world.node.start()
    expect(held().sort()).toEqual([kept.containerId, lost.containerId].sort())
    expectSuccess(await status())
    await look()
    expect(held()).toEqual([kept.containerId])
    expectSuccess(await del(kept))
  })

  test('20 a namespace that another one has replaced is gone; one known by a process is there while it runs', async () => {
    const replaced = await add('replaced', 'tun')
    const name = nameOf(replaced.netns)
    await must('ip', ['netns', 'delete', name])
    await must('ip', ['netns', 'add', name])
    await look()
    expect(held()).toEqual([replaced.containerId])
    await look()
    expect(held()).toEqual([])
    expect(await links(replaced.netns)).toEqual(['lo'])

    const script = "console.log('up'); setInterval(() => {}, 1000)"
    const holder = new Running('unshare', ['--net', process.execPath, '-e', script])
    try {
      await holder.until(line => line === 'up')
      const call = { containerId: 'by-process', netns: `/proc/${holder.child.pid}/ns/net` }
      const { exit } = await world.node.cni({ command: 'ADD', ...call })
      expect(exit).toBe(0)
      await look()
      await look()
      expect(held()).toEqual(['by-process'])
    } finally {
      await holder.stop('SIGKILL')
    }
    await look()
    expect(held()).toEqual(['by-process'])
    await look()
    expect(held()).toEqual([])
  })
})
