// The contract, "ADD": what it makes, what it answers, what it leaves when it fails.
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { beforeAll, describe, expect, test } from 'vitest'
import type { AddressCheck } from '../../cni/pods/address-check.ts'
import { type FakeDelegate, fakeDelegate, fakeIpam } from '../cni/invoke/fake-delegate.ts'
import { ip } from '../harness/netns.ts'
import { CLI, EXECUTABLE, type TestPod } from '../harness/node.ts'
import { must } from '../harness/processes.ts'
import { Ear } from '../harness/raw.ts'
import { until } from '../harness/until.ts'
import { expectPing, expectSound } from '../netns/expect.ts'
import { conformed, contractNode, expectError, expectSuccess, links, rows } from './fixture.ts'

const FIRST_PACKET = fileURLToPath(new URL('../tools/first-packet.py', import.meta.url))
const a = contractNode('add')
const cases = conformed(
  ['09-', '10-', '11-', '12-', '13-', '14-frozen'].map(id => `${id}*@1.1.0`).join(),
  '*pool*',
)
let fake: FakeDelegate
beforeAll(() => {
  fake = fakeDelegate(a.node.folder)
})

interface Answered {
  interfaces: { name: string; sandbox?: string; mac?: string; mtu?: number }[]
  ips: { address: string; interface?: number }[]
}
const resultOf = (pod: TestPod) => pod.result as unknown as Answered
const KINDS = ['tun', 'xdp', 'tap'] as const

describe.each(KINDS)('on %s', attach => {
  test('9 an interface that is there stays, the name is the one asked for, and the node has another', async () => {
    cases.expectPassed('09', '09-add-twice', '09-foreign-interface', '09-name-on-node')
    const netns = await a.netns()
    await ip(netns, 'link', 'add', 'net7', 'type', 'veth', 'peer', 'name', 'net8')
    const [{ ifindex }] = JSON.parse(await ip(netns, '-j', 'link', 'show', 'net7'))
    const call = { netns, containerId: a.newId(), config: a.node.config({ attach }) }
    expectError(await a.cni('ADD', { ...call, ifname: 'net7' }), 103, /net7 .* there already/)
    // Nor does the DEL that follows a failed ADD.
    expectSuccess(await a.cni('DEL', { ...call, ifname: 'net7' }))
    expect(JSON.parse(await ip(netns, '-j', 'link', 'show', 'net7'))).toMatchObject([{ ifindex }])
    const { exit, json } = await a.cni('ADD', { ...call, ifname: 'net9' })
    expect(exit).toBe(0)
    expect(await links(netns)).toEqual(['lo', 'net7', 'net8', 'net9'])
    const { interfaces } = json as unknown as Answered
    expect(interfaces.map(each => each.name === 'net9')).toEqual(interfaces.map((_, k) => k === 0))
    const onNode = await links(a.node.netns)
    expect(onNode).not.toContain('eth0')
    for (const { name } of interfaces.slice(1)) expect(onNode).toContain(name)
    expectSuccess(await a.cni('DEL', { ...call, ifname: 'net9' }))
  })

  test('10 the result names the interface with sandbox, MAC and MTU, and each address an interface that is in it', async () => {
    cases.expectPassed(
      '10',
      ...['10-result-indexes', '10-result-interface', '10-result-mtu', '10-result-addresses'],
    )
    const pod = await a.add(attach)
    const { interfaces, ips } = resultOf(pod)
    const [link] = JSON.parse(await ip(pod.netns, '-j', 'link', 'show', 'eth0'))
    // A TUN has none, and runtimes want one.
    const mac = attach !== 'tun' ? link.address : '00:00:00:00:00:00'
    expect(interfaces[0]).toEqual({ name: 'eth0', sandbox: pod.netns, mtu: link.mtu, mac })
    for (const { sandbox } of interfaces.slice(1)) expect(sandbox ?? '').toBe('')
    expect(ips).toHaveLength(2)
    for (const { address, interface: index } of ips) {
      expect(interfaces[index!]).toMatchObject({ name: 'eth0' })
      expect(await ip(pod.netns, '-o', 'addr', 'show', 'dev', 'eth0')).toContain(address)
    }
    // Behind another plugin's two interfaces the index still names ours.
    const before = [{ name: 'br0' }, { name: 'lo', sandbox: pod.netns }]
    const prevResult = { cniVersion: '1.1.0', interfaces: before, ips: [], routes: [], dns: {} }
    const chained = resultOf(await a.add(attach, { prevResult }))
    expect(chained.interfaces.slice(0, 2)).toMatchObject(before)
    expect(chained.ips.map(each => chained.interfaces[each.interface!]?.name)).toEqual([
      ...['eth0', 'eth0'],
    ])
  })

  test('11 an ADD that fails leaves no interface, route, row or address, and the IPAM plugin gets its DEL', async () => {
    cases.expectPassed('11', '11-add-killed-03', '11-del-killed-06')
    const ips = [{ address: '10.244.1.200/24', gateway: '10.244.1.1' }]
    const netns = await a.netns()
    const before = { node: await links(a.node.netns), rows: rows(a.node), pods: await a.attached() }
    // The kernel refuses the device at the last moment: it keeps this name for itself.
    const call = { netns, containerId: a.newId(), ifname: 'all', path: fake.folder }
    expectError(await a.cni('ADD', { ...call, config: a.node.config({ attach }) }), 5)
    fake.asked()
    const ipam = fakeIpam({ ips })
    expectError(await a.cni('ADD', { ...call, config: a.node.config({ attach, ipam }) }), 5)
    const asked = fake.asked()
    expect(asked.map(each => each.env['CNI_COMMAND'])).toEqual(['ADD', 'DEL'])
    for (const { env } of asked) expect(env['CNI_CONTAINERID']).toBe(call.containerId)
    expect(await links(netns)).toEqual(['lo'])
    expect(await ip(netns, 'route')).toBe('')
    const after = { node: await links(a.node.netns), rows: rows(a.node), pods: await a.attached() }
    expect(after).toEqual(before)
    expect(rows(a.node, 'delegations')).toEqual([])
    const words = [CLI, 'ipam', 'check', '--json', '--socket', a.node.socket]
    const { findings } = JSON.parse(await must(process.execPath, words)) as AddressCheck
    expect(findings).toEqual([])
  })

  test('12 the way is open before ADD returns: what is sent at once arrives, IPv6 too', async () => {
    cases.expectPassed('12', '12-no-tentative', '12-pods-talk')
    for (const to of KINDS) {
      const target = await a.add(to)
      const netns = await a.netns()
      const ears = [
        await Ear.at(target.netns, target.ip4, 7000),
        await Ear.at(target.netns, target.ip6, 7000),
      ]
      try {
        const mark = `first of ${netns}`
        const words = [FIRST_PACKET, netns, EXECUTABLE, '7000', mark, target.ip4, target.ip6]
        await must('python3', words, {
          netns: a.node.netns,
          env: {
            PATH: '/usr/sbin:/usr/bin:/sbin:/bin',
            CNI_COMMAND: 'ADD',
            CNI_CONTAINERID: a.newId(),
            CNI_NETNS: netns,
            CNI_IFNAME: 'eth0',
          },
          input: JSON.stringify(a.node.config({ attach })),
        })
        for (const ear of ears) await ear.until(new TextEncoder().encode(mark))
        // Each was sent once, by a kernel that has nothing to try again.
        expect(ears.map(ear => ear.heard.length)).toEqual([1, 1])
        const global = ['-6', 'addr', 'show', 'dev', 'eth0', 'scope', 'global']
        expect(await ip(netns, ...global)).not.toMatch(/tentative/)
      } finally {
        for (const ear of ears) await ear.close()
      }
    }
  })

  test('13 an attachment is known by network, container and interface, not by its pod or its namespace', async () => {
    cases.expectPassed('13', '13-late-del', '13-two-interfaces')
    const args = 'K8S_POD_NAMESPACE=test;K8S_POD_NAME=same'
    const config = a.node.config({ attach })
    const earlier = { containerId: a.newId(), netns: await a.netns(), args, config }
    expect((await a.cni('ADD', earlier)).exit).toBe(0)
    // The kubelet tries again: another id, the same pod, and the same path with another namespace.
    const name = earlier.netns.slice('/run/netns/'.length)
    await must('ip', ['netns', 'delete', name])
    await must('ip', ['netns', 'add', name])
    const later = { ...earlier, containerId: a.newId() }
    const { exit, json } = await a.cni('ADD', later)
    expect(exit).toBe(0)
    const began = performance.now()
    expectSuccess(await a.cni('DEL', earlier))
    expectSuccess(await a.cni('DEL', earlier))
    expect(performance.now() - began).toBeLessThan(5_000)
    expect(await links(earlier.netns)).toContain('eth0')
    expectSuccess(await a.cni('CHECK', { ...later, config: { ...config, prevResult: json } }))
    const other = await a.add('tun')
    const [ip4, ip6] = (json as unknown as Answered).ips.map(each => each.address.split('/')[0]!)
    await expectPing(other, { name: 'later', netns: later.netns, ip4: ip4!, ip6: ip6! })
    // Nor is another network's DEL of the same container and interface about it.
    expectSuccess(await a.cni('DEL', { ...later, config: { ...config, name: 'elsewhere' } }))
    expect((await a.attached()).filter(id => id.includes(later.containerId))).toHaveLength(1)
    expectSuccess(await a.cni('DEL', later))
  })
})

test('14 ADD takes a bounded time and then says "try again"; a burst of a hundred waits its turn', async () => {
  cases.expectPassed('14', '14-frozen-shortly')
  // Different containers side by side, also while one of them waits for an IPAM plugin.
  // Nor does one that waits, for some seconds, for a daemon that is not there.
  const began = performance.now()
  const nobody = a.node.config({ socket: `${a.node.folder}/nobody.sock` })
  const unheard = a.cni('ADD', { netns: await a.netns(), config: nobody })
  const config = a.node.config({ ipam: fakeIpam({}, { ADD: 'wait' }) })
  const slow = { containerId: a.newId(), netns: await a.netns(), path: fake.folder, config }
  let ended = false
  const waiting = a.cni('ADD', slow).finally(() => {
    ended = true
  })
  await until('the plugin is asked', () => fake.asked().length > 0)
  const burst = await Promise.all(Array.from({ length: 100 }, async (_, k) => a.add(KINDS[k % 2]!)))
  expect(ended).toBe(false)
  expect(new Set(burst.flatMap(pod => [pod.ip4, pod.ip6])).size).toBe(200)
  await Promise.all(
    burst.map(async ({ containerId, netns }) => {
      expectSuccess(await a.cni('DEL', { containerId, netns }))
    }),
  )
  writeFileSync(join(fake.folder, 'go'), '')
  expectError(await waiting, 117)
  const gone = { ...slow, config: a.node.config() }
  expectSuccess(await a.cni('DEL', gone))
  expectError(await unheard, 11, /daemon is not running/)
  expect(performance.now() - began).toBeLessThan(60_000)
  await expectSound(a.node)
})
