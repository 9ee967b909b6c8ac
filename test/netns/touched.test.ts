// Others touch what is the node's own: its port, its rules, its switches, its firewall, pods' links. It
// comes back by itself, is counted, and says what it was.
//
//   node a ┌──────────────────────────────────┐
//          │ pods ── daemon ── hawser0        │  under0 ── veth ── (no peer)
//          │ t1 (TUN)  x1 (AF_XDP)            │  world0 198.51.100.1 ── veth ── 198.51.100.2
//          └──────────────────────────────────┘  2001:db8::1                    2001:db8::2  world
import { readFileSync } from 'node:fs'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { DataplaneStatus } from '../../dataplane/control.ts'
import { connect, ip } from '../harness/netns.ts'
import { addPod, deletePod, type TestPod } from '../harness/node.ts'
import { must } from '../harness/processes.ts'
import { NODE_A, type OneNode, oneNode } from '../harness/topology.ts'
import { until } from '../harness/until.ts'
import { type Endpoint, expectPing, expectSound, tellLogsOnFailure } from './expect.ts'

let here: OneNode | undefined
let netns: string
let world: Endpoint
let host: Endpoint
const pods: TestPod[] = []

beforeAll(async () => {
  here = await oneNode('touched', { masquerade: true })
  const { namespaces, node } = here
  netns = node.netns
  const far = await namespaces.add('world')
  await connect(
    { netns, device: 'world0', addresses: ['198.51.100.1/24', '2001:db8::1/64'] },
    { netns: far, device: 'world0', addresses: ['198.51.100.2/24', '2001:db8::2/64'] },
  )
  // The kernel's own iptables tell nobody of a change: what is there at the start is seen.
  for (const program of ['iptables-legacy', 'ip6tables-legacy'])
    await must(program, ['-P', 'FORWARD', 'DROP'], { netns })
  world = { name: 'world', netns: far, ip4: '198.51.100.2', ip6: '2001:db8::2' }
  host = { name: 'node', netns, ip4: '10.244.1.1', ip6: 'fd44:0:0:1::1' }
  await node.start()
  pods.push(
    await addPod(namespaces, node, 't1', 'tun'),
    await addPod(namespaces, node, 'x1', 'xdp'),
  )
})
afterAll(() => here?.close())
tellLogsOnFailure(() => [here?.node])

const processStatus = (pid: number): string => readFileSync(`/proc/${pid}/status`, 'utf8')
const status = (): Promise<DataplaneStatus> => here!.node.ask<DataplaneStatus>('status')

async function mended(what: string): Promise<number> {
  return (await status()).mended.find(each => each.what === what)?.count ?? 0
}

/** Does it, and resolves when that has been put right. */
async function mends(what: string, touch: () => Promise<unknown>): Promise<void> {
  const before = await mended(what)
  await touch()
  await until(`${what} is put right`, async () => (await mended(what)) > before)
  await until('the node is ready', async () => (await status()).ready)
}

/** Pods reach the node and the world, and are reached. */
async function works(): Promise<void> {
  for (const pod of pods) {
    await expectPing(pod, world)
    await expectPing(pod, host)
    await expectPing(host, pod)
  }
  await expectPing(pods[0]!, pods[1]!)
}

test('the firewall of the kernel’s own iptables lets pods through', async () => {
  await works()
  for (const program of ['iptables-legacy', 'ip6tables-legacy']) {
    const rules = (await must(program, ['-S', 'FORWARD'], { netns })).split('\n')
    expect(rules.filter(rule => rule.includes('hawser0'))).toEqual([
      '-A FORWARD -i hawser0 -m comment --comment hawser -j ACCEPT',
      '-A FORWARD -o hawser0 -m comment --comment hawser -j ACCEPT',
    ])
  }
})

describe("the node's own port", () => {
  const device = (...args: string[]) => ip(netns, ...args)
  test.each([
    [
      'down and up',
      [
        ['link', 'set', 'hawser0', 'down'],
        ['link', 'set', 'hawser0', 'up'],
      ],
    ],
    ['down', [['link', 'set', 'hawser0', 'down']]],
    ['without its addresses', [['addr', 'flush', 'dev', 'hawser0']]],
    [
      'without its routes',
      [
        ['route', 'flush', 'dev', 'hawser0'],
        ['-6', 'route', 'flush', 'dev', 'hawser0'],
      ],
    ],
    ['with another MTU', [['link', 'set', 'hawser0', 'mtu', '1280']]],
    [
      'with another name',
      [
        ['link', 'set', 'hawser0', 'down'],
        ['link', 'set', 'hawser0', 'name', 'other0'],
      ],
    ],
    ['deleted', [['link', 'del', 'hawser0']]],
    ['deleted again', [['link', 'del', 'hawser0']]],
  ])('%s', async (_, touches) => {
    await mends('host device', async () => {
      for (const touch of touches) await device(...touch)
    })
    await works()
    expect((await status()).ports.filter(({ role }) => role === 'host')).toHaveLength(1)
    expect(JSON.parse(await device('-j', 'link', 'show', 'hawser0'))[0]).toMatchObject({
      mtu: 1450,
    })
  })

  test('somebody takes its name: not ready, and says why, until it is free', async () => {
    const { node } = here!
    // Held, so that it can't make its own again between the two.
    process.kill(node.pid, 'SIGSTOP')
    try {
      await until('the daemon stands still', async () =>
        /^State:\tT/m.test(processStatus(node.pid)),
      )
      await device('link', 'del', 'hawser0')
      await device('link', 'add', 'hawser0', 'type', 'veth', 'peer', 'name', 'taken0')
    } finally {
      process.kill(node.pid, 'SIGCONT')
    }
    const { troubles } = await until('it is not ready', async () => {
      const found = await status()
      return found.ready ? false : found
    })
    expect(troubles[0]).toMatchObject({
      what: expect.stringContaining("hawser0, the node's own port"),
      since: expect.stringMatching(/^\d{4}-/),
      blocking: true,
    })
    const { exit, json } = await node.cni({ command: 'STATUS', containerId: '', ifname: '' })
    expect([exit, json['code']]).toEqual([1, 51])
    expect(json['msg']).toContain('hawser0')
    // The cluster may change meanwhile, and is in force when the device is back.
    node.writeCluster([
      NODE_A,
      { name: 'node-c', vtep: '192.168.77.3', podCIDRs: ['10.244.3.0/24'] },
    ])
    await node.logged('the cluster file has changed')
    await device('link', 'del', 'hawser0')
    await until('the node is ready', async () => (await status()).ready)
    await works()
    expect(await device('route', 'show', '10.244.3.0/24')).toContain('dev hawser0')
  })
})

describe("the node's rules and switches", () => {
  test('nftables is flushed: masquerading comes back', async () => {
    await mends('nft', () => must('nft', ['flush', 'ruleset'], { netns }))
    await works()
    expect(here!.node.log.some(line => line.includes('masquerading rules were lost'))).toBe(true)
  })

  test.each([
    ['ipv4/ip_forward', '0'],
    ['ipv4/conf/hawser0/forwarding', '0'],
    ['ipv4/conf/hawser0/rp_filter', '1'],
    ['ipv6/conf/all/forwarding', '0'],
    ['ipv6/conf/hawser0/disable_ipv6', '1'],
    ['ipv6/conf/all/disable_ipv6', '1'],
  ])('%s becomes %s', async (key, value) => {
    await mends('switches', () =>
      must('sysctl', ['-qw', `net.${key.replaceAll('/', '.')}=${value}`], { netns }),
    )
    if (key.startsWith('ipv6/conf/all/dis')) {
      // That one is the operator's, but for our device.
      await must('sysctl', ['-qw', `net.ipv6.conf.all.disable_ipv6=0`], { netns })
      await ip(netns, 'addr', 'replace', '2001:db8::1/64', 'dev', 'world0', 'nodad')
    }
    await until('all works', () => works().then(() => true))
    const end = String(pods[1]!.result['interfaces'] && ends()[0])
    expect(await sysctl(`ipv4.conf.${end}.forwarding`)).toBe('0')
  })

  const ends = (): string[] =>
    (pods[1]!.result['interfaces'] as { name: string; sandbox?: string }[])
      .filter(({ sandbox }) => sandbox === undefined)
      .map(({ name }) => name)
  const sysctl = async (key: string): Promise<string> =>
    (await must('sysctl', ['-n', `net.${key}`], { netns })).trim()

  test("the node's end of a pod's link is down", async () => {
    await mends('pod links', () => ip(netns, 'link', 'set', ends()[0]!, 'down'))
    await until('all works', () => works().then(() => true))
  })
})

describe("the node's firewall by nf_tables", () => {
  const FORWARD = ['filter', 'FORWARD']
  const rules = async (): Promise<string[]> =>
    (await must('iptables-nft', ['-S', 'FORWARD'], { netns })).trim().split('\n')

  test('drops what it does not know: an accept is put before it, once', async () => {
    await mends('firewall', () => must('iptables-nft', ['-P', 'FORWARD', 'DROP'], { netns }))
    await must('ip6tables-nft', ['-P', 'FORWARD', 'DROP'], { netns })
    await until('all works', () => works().then(() => true))
    expect((await rules()).filter(rule => rule.includes('hawser0'))).toHaveLength(2)
  })

  test('is flushed: it comes back', async () => {
    await mends('firewall', () => must('iptables-nft', ['-F', 'FORWARD'], { netns }))
    await works()
  })

  test('ends every packet by a rule, in itself or in a chain: the accept stands before it and behind conditions', async () => {
    await must('iptables-nft', ['-F', 'FORWARD'], { netns })
    await must('iptables-nft', ['-N', 'ends'], { netns })
    await must('iptables-nft', ['-A', 'ends', '-j', 'REJECT'], { netns })
    await must('iptables-nft', ['-I', 'FORWARD', '-d', '198.51.100.77', '-j', 'DROP'], { netns })
    await must('iptables-nft', ['-I', 'FORWARD', '2', '-j', 'ends'], { netns })
    const kinds = async () =>
      (await rules())
        .slice(1)
        .map(rule => (rule.includes('hawser0') ? 'ours' : rule.split(' ').at(-1)))
    await until('the accepts are in their place', async () => {
      return JSON.stringify(await kinds()) === '["DROP","ours","ours","ends"]'
    })
    await works()
    await must('iptables-nft', ['-F'], { netns })
    await must('iptables-nft', ['-P', 'FORWARD', 'ACCEPT'], { netns })
  })

  test('a chain that somebody has made by nft is told of while it drops', async () => {
    await must('nft', ['add', 'table', 'inet', ...FORWARD.slice(0, 1)], { netns })
    const chain = 'inet filter mine { type filter hook forward priority 0 ; policy drop ; }'
    await must('nft', ['add', 'chain', ...chain.split(' ')], { netns })
    const { ready } = await until('it is told', async () => {
      const found = await status()
      return found.troubles.some(({ what }) => what.includes('inet filter mine')) ? found : false
    })
    expect(ready).toBe(true)
    await must('nft', ['delete', 'table', 'inet', 'filter'], { netns })
    await until('it is over', async () => (await status()).troubles.length === 0)
    await works()
  })
})

describe('a plugin behind us', () => {
  const check = async (pod: TestPod, prevResult: unknown): Promise<unknown> => {
    const { node, containerId, netns: inside, attach } = pod
    const config = node.config({ attach, prevResult })
    return (await node.cni({ command: 'CHECK', containerId, netns: inside, config })).json
  }

  test('has given a pod another MAC: it is followed, over a restart too', async () => {
    const [, pod] = pods
    const mac = '02:11:22:33:44:55'
    await ip(pod!.netns, 'link', 'set', 'eth0', 'address', mac)
    await until('its MAC is followed', () => works().then(() => true))
    // What the plugin answers.
    for (const each of pod!.result['interfaces'] as { mac?: string; sandbox?: string }[]) {
      if (each.sandbox !== undefined) each.mac = mac
    }
    expect(await check(pod!, pod!.result)).toEqual({})
    await here!.node.stop('SIGKILL')
    await here!.node.start()
    await works()
    expect(await check(pod!, pod!.result)).toEqual({})
  })

  test('has given a pod a smaller MTU: CHECK takes it', async () => {
    for (const pod of pods) {
      await ip(pod.netns, 'link', 'set', 'eth0', 'mtu', '1400')
      expect(await check(pod, pod.result)).toEqual({})
    }
  })
})

test('all of it is sound, and goes', async () => {
  await expectSound(here!.node)
  for (const pod of pods) expect((await deletePod(pod)).exit).toBe(0)
})
