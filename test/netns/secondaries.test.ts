// Further interfaces of pods on a real node, by Debian's plugins and by ourselves.
//
//   node a ┌──────────────────────────────────────────────────────────┐
//          │ daemon ── socket ── hawser ◄── CNI_PATH=plugins, /usr/lib/cni
//          │   ├── eth0  hawser (tun, xdp)                            │
//          │   ├── net1  bridge + host-local, then tuning             │
//          │   ├── net2  hawser once more                             │
//          │   └── net3  macvlan + static, for pods that ask for it   │
//          └──────────────────────────────────────────────────────────┘
import { existsSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import type { PodFacts } from '../../cni/secondary/verbs.ts'
import { type FakeDelegate, fakeDelegate, isRunning } from '../cni/invoke/fake-delegate.ts'
import { CNI_PLUGINS, noPlugin } from '../harness/needs.ts'
import { ip, type Namespaces } from '../harness/netns.ts'
import { CLI, type CniAnswer, type TestNode } from '../harness/node.ts'
import { must, run } from '../harness/processes.ts'
import { oneNode } from '../harness/topology.ts'
import { ping } from '../harness/traffic.ts'
import { until } from '../harness/until.ts'
import { expectPing, expectSound, tellLogsOnFailure } from './expect.ts'

const missing = ['bridge', 'host-local', 'macvlan', 'static', 'tuning'].filter(name =>
  noPlugin(name, 'further interfaces by it'),
)
const ANNOTATIONS = 'io.kubernetes.cri.pod-annotations'
const OWN = ['lo', 'eth0']

let namespaces: Namespaces
let node: TestNode
let close: () => Promise<void>
let fake: FakeDelegate
let serial = 0

beforeAll(async () => {
  ;({ namespaces, node, close } = await oneNode('further'))
  fake = fakeDelegate(node.folder, ['pause'])
  await node.start()
})
afterAll(async () => {
  for (const pid of fake?.pids() ?? []) if (isRunning(pid)) process.kill(pid, 'SIGKILL')
  await close?.()
})
beforeEach(() => void fake.asked())
tellLogsOnFailure(() => [node])

const newPod = () => namespaces.add(`p${++serial}`)
const links = async (netns: string) =>
  (JSON.parse(await ip(netns, '-j', 'link')) as { ifname: string }[]).map(each => each.ifname)
const rows = (table: string): unknown[] => {
  const database = new DatabaseSync(node.state, { readOnly: true })
  try {
    return database.prepare(`SELECT container FROM ${table}`).all()
  } finally {
    database.close()
  }
}

/** Addresses of the bridge's network that host-local has given out. */
const leases = (): string[] => {
  const folder = join(node.folder, 'host-local/blue')
  return existsSync(folder) ? readdirSync(folder).filter(name => /^[0-9.]+$/.test(name)) : []
}

function blue(more: object[] = []) {
  const ranges = [[{ subnet: '10.99.0.0/24', rangeStart: '10.99.0.10' }]]
  const dataDir = join(node.folder, 'host-local')
  const bridge = { type: 'bridge', bridge: 'blue0', ipam: { type: 'host-local', ranges, dataDir } }
  return { name: 'blue', ifname: 'net1', cniVersion: '1.0.0', plugins: [bridge, ...more] }
}
const tuning = { type: 'tuning', mtu: 1300, sysctl: { 'net.ipv4.conf.net1.forwarding': '1' } }
const second = (attach: string) => ({
  ...{ name: 'again', ifname: 'net2' },
  plugins: [{ type: 'hawser', attach, mtu: 1380, routes: [{ dst: '10.60.0.0/16' }] }],
})
const lan = (address: string) => ({
  ...{ name: 'lan', ifname: 'net3', cniVersion: '0.4.0', when: 'asked' },
  plugins: [
    { type: 'macvlan', master: 'under1', ipam: { type: 'static', addresses: [{ address }] } },
  ],
})
const asking = { runtimeConfig: { [ANNOTATIONS]: { 'hawser.dev/networks': 'lan' } } }

/** The executable, with the plugins of this test. */
const cni = (command: string, containerId: string, netns: string, config: object) =>
  node.cni({
    ...{ command, containerId, netns, path: `${fake.folder}:${CNI_PLUGINS}` },
    config: node.config(config as Record<string, unknown>),
  })

interface Pod {
  id: string
  netns: string
  added: CniAnswer
  name: string
  ip4: string
  ip6: string
  /** By interface. */
  addresses: Record<string, string>
}

async function addPod(id: string, config: object): Promise<Pod> {
  const netns = await newPod()
  const added = await cni('ADD', id, netns, config)
  expect(added.json).not.toHaveProperty('code')
  const json = JSON.parse(await ip(netns, '-j', '-4', 'addr')) as {
    ifname: string
    addr_info: { local: string }[]
  }[]
  const addresses = Object.fromEntries(json.map(each => [each.ifname, each.addr_info[0]!.local]))
  const [ip4, ip6] = (added.json['ips'] as { address: string }[]).map(
    each => each.address.split('/')[0]!,
  )
  return { id, netns, added, name: id, ip4: ip4!, ip6: ip6!, addresses }
}

/** One ping, from the address of an interface; the first may wait for its neighbour. */
async function reaches(from: Pod, ifname: string, address: string): Promise<boolean> {
  const { received } = await ping(from.netns, address, { source: from.addresses[ifname]! })
  return received > 0
}

async function expectNothing(netns: string, before: readonly string[]): Promise<void> {
  expect(await links(netns)).toEqual(['lo'])
  expect(await links(node.netns)).toEqual(before)
  expect(leases()).toEqual([])
  expect([rows('attachments'), rows('secondaries')]).toEqual([[], []])
  for (const family of ['-4', '-6']) {
    expect(await ip(netns, family, 'rule')).not.toContain('4096')
  }
}

describe.skipIf(missing.length > 0)('with the plugins of the reference', () => {
  let before: string[] = []
  beforeAll(async () => {
    // It stays when its last pod has gone.
    const mac = '02:00:00:00:00:01' // Without one it changes with the ports, and CHECK minds.
    await ip(node.netns, 'link', 'add', 'blue0', 'address', mac, 'type', 'bridge')
    await ip(node.netns, 'link', 'set', 'blue0', 'up')
    before = await links(node.netns)
  })

  test.each(['tun', 'xdp'] as const)('all of them are there, serve, and go (%s)', async attach => {
    const networks = (address: string) => [blue([tuning]), second(attach), lan(address)]
    const config = { attach, networks: networks('10.98.0.1/24'), ...asking }
    const a = await addPod(`a-${attach}`, config)
    const b = await addPod(`b-${attach}`, { ...config, networks: networks('10.98.0.2/24') })
    // Only the first interface is answered.
    expect(a.added.json['ips']).toMatchObject([{ address: `${a.ip4}/32` }, {}])
    expect(JSON.stringify(a.added.json)).not.toMatch(/net[123]/)
    expect((await links(a.netns)).sort()).toEqual([...OWN, 'net1', 'net2', 'net3'].sort())
    expect(await ip(a.netns, 'link', 'show', 'net1')).toContain('mtu 1300')
    expect(await ip(a.netns, 'link', 'show', 'net2')).toContain('mtu 1380')
    expect(a.addresses['net1']).toMatch(/^10\.99\.0\.1[0-9]$/)

    await expectPing(a, b)
    for (const ifname of ['net1', 'net2', 'net3']) {
      const to = b.addresses[ifname]!
      expect([ifname, to, await reaches(a, ifname, to)]).toEqual([ifname, to, true])
    }
    // The first interface keeps the default route; the second is the way to what it is for.
    expect(await ip(a.netns, 'route', 'get', '192.0.2.1')).toContain('dev eth0')
    expect(await ip(a.netns, 'route', 'get', '10.60.1.1')).toContain('dev net2')

    const check = { ...config, prevResult: a.added.json }
    expect((await cni('CHECK', a.id, a.netns, check)).json).toEqual({})
    const pods = await node.ask<PodFacts[]>('pods')
    expect(pods.find(each => each.id === `hawser/${a.id}/eth0`)?.secondaries).toMatchObject([
      {
        network: 'blue',
        ifname: 'net1',
        plugins: ['bridge', 'tuning'],
        ips: [`${a.addresses['net1']}/24`],
      },
      { network: 'again', ips: [`${a.addresses['net2']}/32`, expect.stringContaining('/128')] },
      { network: 'lan', ifname: 'net3', ips: ['10.98.0.1/24'] },
    ])
    const shown = await must(process.execPath, [CLI, 'pods', '--socket', node.socket], {
      netns: node.netns,
    })
    expect(shown).toMatch(new RegExp(`hawser/${a.id}/eth0 +net1 +blue +bridge tuning +10\\.99`))

    await ip(a.netns, 'link', 'delete', 'net3')
    expect((await cni('CHECK', a.id, a.netns, check)).json).toMatchObject({
      msg: expect.stringMatching(/^network lan: plugin macvlan: /),
    })
    for (const { id, netns } of [a, b]) expect((await cni('DEL', id, netns, {})).json).toEqual({})
    for (const { netns } of [a, b]) await expectNothing(netns, before)
    expect((await cni('DEL', a.id, '', {})).json).toEqual({})
    await expectSound(node)
  })

  test('one that fails in the middle undoes all', async () => {
    const netns = await newPod()
    const refuse = { type: 'pause', fake: { behaviour: { ADD: 'refuse' } } }
    const networks = [
      second('xdp'),
      blue([refuse]),
      { name: 'last', ifname: 'net4', plugins: [{ type: 'pause' }] },
    ]
    const refused = await cni('ADD', 'middle', netns, { networks })
    expect(refused.json).toMatchObject({
      code: 117,
      msg: 'network blue: plugin pause: ADD is refused',
    })
    const asked = fake.asked().map(({ env }) => `${env['CNI_COMMAND']} ${env['CNI_IFNAME']}`)
    expect(asked).toEqual(['ADD net1', 'DEL net1'])
    await expectNothing(netns, before)
  })

  test('kill -9: what was whole serves on, what was begun is undone', async () => {
    const whole = { attach: 'tun', networks: [blue(), second('tun')] }
    const a = await addPod('whole-a', whole)
    const b = await addPod('whole-b', whole)
    const netns = await newPod()
    const hang = { type: 'pause', fake: { behaviour: { ADD: 'hang' } } }
    const half = {
      networks: [second('xdp'), blue(), { name: 'last', ifname: 'net4', plugins: [hang] }],
    }
    const adding = cni('ADD', 'half', netns, half)
    await until('the last plugin is called', () => fake.pids().length > 0)
    expect((await links(netns)).sort()).toEqual([...OWN, 'net1', 'net2'].sort())
    expect(leases()).toHaveLength(3)
    await node.stop('SIGKILL')
    await adding
    for (const pid of fake.pids()) if (isRunning(pid)) process.kill(pid, 'SIGKILL')
    fake.asked()

    await node.start()
    await until('it is undone', () => rows('secondaries').length === 4)
    expect(fake.asked().map(({ env }) => env['CNI_COMMAND'])).toEqual(['DEL'])
    expect(await links(netns)).toEqual(['lo'])
    expect(leases()).toHaveLength(2)
    await expectPing(a, b)
    for (const ifname of ['net1', 'net2']) {
      expect(await reaches(a, ifname, b.addresses[ifname]!)).toBe(true)
    }
    expect(
      (await cni('CHECK', a.id, a.netns, { ...whole, prevResult: a.added.json })).json,
    ).toEqual({})

    // A pod that goes while there is no daemon, and one that loses its namespace.
    await node.stop()
    expect((await cni('DEL', a.id, a.netns, {})).exit).toBe(0)
    expect(leases()).toHaveLength(2)
    await node.start()
    // Plugins are called when the socket is open, so that a hung one doesn't keep it shut.
    await until('the plugins of the queued DEL have been called', () => leases().length === 1)
    await until('its interfaces are gone', async () => (await links(a.netns)).length === 1)
    expect([await links(a.netns), leases()]).toEqual([['lo'], [b.addresses['net1']]])
    await namespaces.remove(b.netns)
    const args = [CLI, 'ipam', 'check', '--repair', '--socket', node.socket]
    const repaired = await run(process.execPath, args, { netns: node.netns })
    expect(repaired.stdout).toContain('whole-b/eth0, and its namespace')
    await expectNothing(a.netns, before)
    await expectSound(node)
  })
})
