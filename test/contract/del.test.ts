// The contract, "DEL": it succeeds whatever is missing, and takes everything along.
import { rmSync } from 'node:fs'
import { createConnection } from 'node:net'
import { join } from 'node:path'
import { beforeAll, describe, expect, test } from 'vitest'
import { queueFolder } from '../../cni/rpc/del-queue.ts'
import { native } from '../../native/native.ts'
import { FAKE, type FakeDelegate, fakeDelegate, fakeIpam } from '../cni/invoke/fake-delegate.ts'
import { ip } from '../harness/netns.ts'
import { NODE_A } from '../harness/topology.ts'
import { until } from '../harness/until.ts'
import { expectSound } from '../netns/expect.ts'
import { conformed, contractNode, expectSuccess, links, rows } from './fixture.ts'

const a = contractNode('del')
const cases = conformed('15-*@1.1.0,16-*@1.1.0', '*killed*,16-dead-del-*')
let fake: FakeDelegate
beforeAll(() => {
  fake = fakeDelegate(a.node.folder)
})

describe.each(['tun', 'xdp', 'tap'] as const)('on %s', attach => {
  test('15 DEL succeeds: twice, without a namespace or with a dead one, with another configuration, for what was never added, with the interface gone', async () => {
    cases.expectPassed(
      '15',
      ...['15-del-twice', '15-del-without-netns', '15-del-without-prevresult'],
      ...['15-del-other-config', '15-del-interface-gone', '15-add-behind-del', '15-del-at-once'],
    )
    const others = [
      { type: 'bridge', bridge: 'cni0' },
      { attach: attach === 'tun' ? 'xdp' : 'tun' },
      { attach: 7, mtu: 'huge', dns: 'none', runtimeConfig: [], prevResult: 'gone' },
      { cniVersion: '0.1.0', ipam: {} },
      { ipam: { type: 'hawser', ranges: [[{ subnet: 'nowhere' }]] } },
      { ipam: { type: '../../sh' } },
      { ipam: { type: 'not-installed' } },
      { ipam: fakeIpam({}, { DEL: 'good' }) },
      { ipam: fakeIpam({}, { DEL: 'refuse' }) },
      { ipam: fakeIpam({}, { DEL: 'fail' }) },
      { ipam: fakeIpam({}, { DEL: 'junk' }) },
    ]
    for (const other of others) {
      const { containerId, netns } = await a.add(attach)
      const call = { containerId, netns, config: a.node.config(other), path: fake.folder }
      expectSuccess(await a.cni('DEL', call))
      expect(await links(netns)).toEqual(['lo'])
      expectSuccess(await a.cni('DEL', call))
      expectSuccess(await a.cni('DEL', { ...call, containerId: a.newId() }))
    }
    // The other way round: the plugin that gave the addresses hears of a DEL that does not name it.
    const ips = [{ address: '10.244.1.201/24', gateway: '10.244.1.1' }]
    const containerId = a.newId()
    const call = { containerId, netns: await a.netns(), path: fake.folder }
    const config = a.node.config({ attach, ipam: fakeIpam({ ips }) })
    expect((await a.cni('ADD', { ...call, config })).exit).toBe(0)
    fake.asked()
    expectSuccess(await a.cni('DEL', { ...call, path: '', config: a.node.config() }))
    expect(fake.asked().map(each => each.env['CNI_COMMAND'])).toEqual(['DEL'])
    // And when its executable is gone by then, so be it: it hears of it when it is back.
    expect((await a.cni('ADD', { ...call, config })).exit).toBe(0)
    rmSync(join(fake.folder, FAKE))
    expectSuccess(await a.cni('DEL', { ...call, config }))
    expect(await links(call.netns)).toEqual(['lo'])
    expect(rows(a.node)).toEqual([])
    expect(rows(a.node, 'delegations')).toMatchObject([{ container: containerId, type: FAKE }])
    rmSync(fake.folder, { recursive: true })
    fake = fakeDelegate(a.node.folder)
    await a.node.stop()
    await a.node.start()
    await until('it is given back', async () => rows(a.node, 'delegations').length === 0)
    expect(fake.asked().map(each => each.env['CNI_COMMAND'])).toEqual(['DEL'])
  })

  test('16 without its daemon DEL is on disk, and done before the socket opens again', async () => {
    cases.expectPassed('16', '16-dead-del')
    const pods = [await a.add(attach), await a.add(attach), await a.add(attach)]
    const lost = pods[2]!
    await a.node.stop()
    await a.lose(lost.netns)
    await Promise.all(
      pods.map(async ({ containerId, netns }) => {
        const answer = await a.cni('DEL', { containerId, netns })
        expectSuccess(answer)
        expect(answer.stderr).toContain(queueFolder(a.node.socket))
      }),
    )
    // The first thing that a connection can see is that nothing of them is left.
    const opened = until('the socket opens', async () => {
      const socket = createConnection(a.node.socket)
      const served = await new Promise<boolean>(resolve => {
        socket.once('connect', () => resolve(true)).once('error', () => resolve(false))
      })
      socket.destroy()
      return served && { rows: rows(a.node), links: pods.slice(0, 2).map(interfaceOf) }
    })
    await a.node.start()
    expect(await opened).toEqual({ rows: [], links: [0, 0] })
    const messages = a.node.log.map(line => JSON.parse(line) as { msg: string; verb?: string })
    const ready = messages.findLastIndex(each => each.msg === 'ready')
    const dels = messages.slice(0, ready).filter(each => each.verb === 'DEL')
    expect(dels.length).toBeGreaterThanOrEqual(3)
    await expectSound(a.node)
  })

  test('17 the address is the last to go', async () => {
    const pod = await a.add(attach)
    const neighbour = await a.add(attach)
    const call = { containerId: pod.containerId, netns: pod.netns }
    let done = false
    const deleted = a.cni('DEL', call).finally(() => {
      done = true
    })
    // Looked at again and again, the address first: once it is free the interface is not there any more.
    const seen = new Set<string>()
    do {
      const taken = rows(a.node).some(row => row['container'] === pod.containerId)
      seen.add(
        `${taken ? 'taken' : 'free'}, interface ${interfaceOf(pod) === 0 ? 'gone' : 'there'}`,
      )
      await new Promise(resolve => setImmediate(resolve))
    } while (!done)
    expectSuccess(await deleted)
    expect(seen).toContain('taken, interface there')
    expect(seen).not.toContain('free, interface there')
    // Nor is there a route to it, and it rests.
    const routes = await a.node.cli<{ prefix: string; kind: string }[]>('routes')
    const to = (prefix: string) => routes.filter(each => each.prefix === prefix)
    expect([to(`${pod.ip4}/32`), to(`${pod.ip6}/128`)]).toEqual([[], []])
    expect(to(`${neighbour.ip4}/32`)).toHaveLength(1)
    const cooling = rows(a.node, 'cooling').map(row => row['address'])
    expect(cooling).toEqual(expect.arrayContaining([pod.ip4, pod.ip6]))
    const { containerId, netns } = neighbour
    expectSuccess(await a.cni('DEL', { containerId, netns }))
  })
})

test('16 nor does DEL need what else a daemon lives on: a cluster file that is gone or broken', async () => {
  const pods = [await a.add('tun'), await a.add('xdp')]
  a.node.writeClusterText('nodes: [')
  await a.node.logged('the cluster file can not be used; the last good one stays')
  for (const { containerId, netns } of pods) {
    expectSuccess(await a.cni('DEL', { containerId, netns }))
    expect(await links(netns)).toEqual(['lo'])
  }
  a.node.writeCluster([NODE_A])
})

/** Index of the pod's interface, 0 without one. */
function interfaceOf({ netns }: { netns: string }): number {
  return native.interfaceIndex(netns, 'eth0')
}

test('15 DEL with the interface down, or renamed, or with others beside it, leaves none of ours', async () => {
  const pod = await a.add('xdp')
  await ip(pod.netns, 'link', 'set', 'eth0', 'down')
  await ip(pod.netns, 'link', 'set', 'eth0', 'name', 'renamed')
  await ip(pod.netns, 'link', 'add', 'eth0', 'type', 'bridge')
  const { containerId, netns } = pod
  expectSuccess(await a.cni('DEL', { containerId, netns }))
  // The veth is known by what it is, not by where it was; the stranger stays.
  expect(await links(netns)).toEqual(['eth0', 'lo'])
})
