// The CNI executable as a runtime calls it, every verb, against one daemon:
//
//   node a ┌─────────────────────────────┐
//          │ daemon ── socket ── hawser ◄┼── CNI_COMMAND=ADD CNI_NETNS=… (stdin: configuration)
//          │ under0 192.168.77.1         │
//          │ pods: one namespace each    │
//          └─────────────────────────────┘
import { DatabaseSync } from 'node:sqlite'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { PodAttachment } from '../../dataplane/control.ts'
import { ip, Namespaces } from '../harness/netns.ts'
import { addPod, type CniAnswer, deletePod, TestNode, type TestPod } from '../harness/node.ts'
import { until } from '../harness/until.ts'
import { expectPing, expectSound, tellLogsOnFailure } from './expect.ts'

const namespaces = new Namespaces('verbs')
let node: TestNode
let serial = 0
const newId = () => `c${process.pid}x${++serial}`

beforeAll(async () => {
  const netns = await namespaces.add('a')
  await ip(netns, 'link', 'add', 'under0', 'type', 'veth', 'peer', 'name', 'under1')
  await ip(netns, 'addr', 'add', '192.168.77.1/24', 'dev', 'under0')
  await ip(netns, 'link', 'set', 'under0', 'up')
  await ip(netns, 'link', 'set', 'under1', 'up')
  node = new TestNode('node-a', netns, {
    cluster: [
      { name: 'node-a', vtep: '192.168.77.1', podCIDRs: ['10.244.1.0/24', 'fd44:0:0:1::/64'] },
    ],
  })
  await node.start()
})
afterAll(async () => {
  await node?.remove()
  await namespaces.removeAll()
})
tellLogsOnFailure(() => [node])

const attached = async () => (await node.ask<PodAttachment[]>('pods')).map(each => each.id)
const rows = () => {
  const database = new DatabaseSync(node.state, { readOnly: true })
  try {
    return database.prepare('SELECT container, phase FROM attachments').all().length
  } finally {
    database.close()
  }
}
const links = async (netns: string) =>
  (JSON.parse(await ip(netns, '-j', 'link')) as { ifname: string }[]).map(each => each.ifname)

function expectError(answer: CniAnswer, code: number, text: RegExp): void {
  expect(answer.exit).not.toBe(0)
  expect(answer.json).toMatchObject({ code, msg: expect.stringMatching(text) })
}

function expectSuccess(answer: CniAnswer): void {
  expect([answer.exit, answer.json]).toEqual([0, {}])
}

/** CHECK of a pod that ADD answered for. */
function check(pod: TestPod, prevResult: unknown = pod.result): Promise<CniAnswer> {
  return node.cni({
    command: 'CHECK',
    containerId: pod.containerId,
    netns: pod.netns,
    config: node.config({ attach: pod.attach, prevResult }),
  })
}

describe('VERSION and STATUS', () => {
  test('VERSION says what is supported', async () => {
    const { exit, json } = await node.cni({ command: 'VERSION', containerId: '' })
    expect(exit).toBe(0)
    expect(json['supportedVersions']).toEqual(expect.arrayContaining(['0.4.0', '1.0.0', '1.1.0']))
  })

  test('STATUS of a daemon that serves', async () => {
    expectSuccess(await node.cni({ command: 'STATUS', containerId: '', ifname: '' }))
  })
})

describe.each(['tun', 'xdp'] as const)('a pod on %s', attach => {
  let pod: TestPod
  let other: TestPod
  beforeAll(async () => {
    pod = await addPod(namespaces, node, `pod-${attach}`, attach)
    other = await addPod(namespaces, node, `other-${attach}`, attach)
  })

  test('ADD answers with interfaces, addresses and routes that are there', async () => {
    const result = pod.result as {
      cniVersion: string
      interfaces: { name: string; sandbox?: string; mtu: number; mac?: string }[]
      ips: { address: string; gateway: string; interface: number }[]
    }
    expect(result.cniVersion).toBe('1.1.0')
    expect(result.interfaces[0]).toMatchObject({ name: 'eth0', sandbox: pod.netns, mtu: 1450 })
    expect(result.ips.map(({ interface: index, gateway }) => [index, gateway])).toEqual([
      [0, '10.244.1.1'],
      [0, 'fd44:0:0:1::1'],
    ])
    const addresses = await ip(pod.netns, '-o', 'addr', 'show', 'dev', 'eth0')
    for (const { address } of result.ips) expect(addresses).toContain(address)
    const [link] = JSON.parse(await ip(pod.netns, '-j', 'link', 'show', 'dev', 'eth0')) as [
      { address?: string; mtu: number; flags: string[] },
    ]
    expect(link.mtu).toBe(1450)
    expect(link.flags).toContain('UP')
    if (attach === 'xdp') expect(result.interfaces[0]!.mac).toBe(link.address)
    for (const family of ['-4', '-6']) {
      expect(await ip(pod.netns, family, 'route', 'show', 'default')).toMatch(/dev eth0/)
    }
    await expectPing(pod, other)
  })

  test('a second ADD is refused and touches nothing', async () => {
    const again = { command: 'ADD', containerId: pod.containerId, netns: pod.netns }
    expectError(await node.cni({ ...again, config: node.config({ attach }) }), 103, /already/)
    expectError(
      await node.cni({ ...again, containerId: newId(), config: node.config({ attach }) }),
      103,
      /already/,
    )
    await expectPing(pod, other)
    expect((await attached()).filter(id => id.includes(pod.containerId))).toHaveLength(1)
  })

  test('CHECK agrees, until something is not as it was answered', async () => {
    expectSuccess(await check(pod))
    expectError(await check(pod, { ...pod.result, ips: [] }), 104, /prevResult lacks/)
    await ip(pod.netns, 'link', 'set', 'eth0', 'mtu', '1500')
    expectError(await check(pod), 104, /MTU 1500, more than 1450/)
    // A plugin behind us in the chain may make it smaller.
    await ip(pod.netns, 'link', 'set', 'eth0', 'mtu', '1400')
    expectSuccess(await check(pod))
    await ip(pod.netns, 'link', 'set', 'eth0', 'mtu', '1450')
    expectSuccess(await check(pod))
    await ip(pod.netns, 'addr', 'del', `${pod.ip6}/128`, 'dev', 'eth0')
    expectError(await check(pod), 104, /lacks the address/)
    await ip(pod.netns, 'addr', 'add', `${pod.ip6}/128`, 'dev', 'eth0', 'nodad')
    expectSuccess(await check(pod))
    await ip(pod.netns, 'route', 'del', 'default')
    expectError(await check(pod), 104, /lacks the route 0\.0\.0\.0\/0/)
  })

  test('DEL, twice; then the interface and the address are gone', async () => {
    const before = rows()
    expectSuccess(await deletePod(pod))
    expect(await links(pod.netns)).toEqual(['lo'])
    expect(rows()).toBe(before - 1)
    expectSuccess(await deletePod(pod))
    expect(rows()).toBe(before - 1)
    expectError(await check(pod), 104, /not attached/)
    await expectSound(node)
  })

  test('DEL without a namespace, and with one that is gone', async () => {
    const call = { command: 'DEL', containerId: other.containerId, config: node.config() }
    expectSuccess(await node.cni(call))
    expect(await links(other.netns)).toEqual(['lo'])
    const short = await addPod(namespaces, node, `short-${attach}`, attach)
    await namespaces.remove(short.netns)
    expectSuccess(await deletePod(short))
    expect(await attached()).toEqual([])
    expect(rows()).toBe(0)
  })
})

test('DEL of what was never there', async () => {
  for (const ifname of ['eth0', 'net1']) {
    expectSuccess(await node.cni({ command: 'DEL', containerId: newId(), ifname }))
  }
})

test('a stranger is not touched by ADD', async () => {
  const netns = await namespaces.add('stranger')
  await ip(netns, 'link', 'add', 'eth0', 'type', 'veth', 'peer', 'name', 'eth1')
  for (const attach of ['tun', 'xdp']) {
    const answer = await node.cni({
      command: 'ADD',
      containerId: newId(),
      netns,
      config: node.config({ attach }),
    })
    expectError(answer, 103, /eth0 .* there already/)
  }
  expect((await links(netns)).sort()).toEqual(['eth0', 'eth1', 'lo'])
  expect(rows()).toBe(0)
})

test('what a runtime can get wrong', async () => {
  const netns = await namespaces.add('wrong')
  const call = { command: 'ADD', containerId: newId(), netns }
  expectError(await node.cni({ ...call, netns: node.netns }), 8, /own namespace/)
  expectError(await node.cni({ ...call, netns: '/run/netns/hwt-none' }), 4, /CNI_NETNS/)
  expectError(await node.cni({ ...call, netns: '/etc/hostname' }), 4, /CNI_NETNS/)
  expectError(await node.cni({ ...call, netns: '' }), 4, /CNI_NETNS/)
  expectError(await node.cni({ ...call, containerId: '../x' }), 4, /CNI_CONTAINERID/)
  expectError(await node.cni({ ...call, ifname: 'much-too-long-a-name' }), 4, /CNI_IFNAME/)
  expectError(await node.cni({ ...call, command: 'REMOVE' }), 4, /CNI_COMMAND/)
  const version = node.config({ cniVersion: '9.9.9' })
  expectError(await node.cni({ ...call, config: version }), 1, /9\.9\.9/)
  expectError(await node.cni({ ...call, config: node.config({ attach: 'x' }) }), 7, /attach/)
  expectError(await node.cni({ ...call, config: node.config({ name: '' }) }), 7, /name/)
  expect(await links(netns)).toEqual(['lo'])
  expect(rows()).toBe(0)
})

test('an older runtime gets an answer of its own version', async () => {
  const pod = await addPod(namespaces, node, 'old', 'xdp', { cniVersion: '0.4.0' })
  expect(pod.result['cniVersion']).toBe('0.4.0')
  expect((pod.result['ips'] as { version: string }[]).map(each => each.version)).toEqual(['4', '6'])
  expect(JSON.stringify(pod.result['interfaces'])).not.toContain('mtu')
  expectSuccess(await deletePod(pod))
})

test('GC removes what the runtime does not name', async () => {
  const [kept, stale] = await Promise.all(
    (['kept', 'stale'] as const).map((name, k) =>
      addPod(namespaces, node, name, k === 0 ? 'tun' : 'xdp'),
    ),
  )
  const collect = (extra: Record<string, unknown>) =>
    node.cni({ command: 'GC', containerId: '', ifname: '', config: node.config(extra) })
  // Without the list nothing is stale; another network's list is not about ours.
  expectSuccess(await collect({}))
  expectSuccess(await collect({ name: 'elsewhere', 'cni.dev/valid-attachments': [] }))
  expect(await attached()).toHaveLength(2)
  const valid = [{ containerID: kept!.containerId, ifname: 'eth0' }]
  expectSuccess(await collect({ 'cni.dev/valid-attachments': valid }))
  expect(await attached()).toEqual([`hawser/${kept!.containerId}/eth0`])
  expect(await links(stale!.netns)).toEqual(['lo'])
  expectSuccess(await check(kept!))
  expectSuccess(await collect({ 'cni.dev/valid-attachments': [] }))
  expect(await attached()).toEqual([])
})

test('without a daemon: ADD asks to try again, STATUS says so, DEL waits for the next one', async () => {
  const pod = await addPod(namespaces, node, 'orphan', 'xdp')
  await node.stop()
  const netns = await namespaces.add('early')
  expectError(
    await node.cni({ command: 'ADD', containerId: newId(), netns }),
    11,
    /daemon is not running/,
  )
  expectError(
    await node.cni({ command: 'STATUS', containerId: '', ifname: '' }),
    50,
    /daemon is not running/,
  )
  expectSuccess(await deletePod(pod))
  await node.start()
  await until('the queued DEL is done', async () => (await attached()).length === 0)
  expect(await links(pod.netns)).toEqual(['lo'])
  expect(rows()).toBe(0)
  await expectSound(node)
})
