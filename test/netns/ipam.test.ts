// Addresses on a real node: those that a pod asks for, those of IPAM plugins, and what is mended.
//
//   node a ┌─────────────────────────────────────┐
//          │ daemon ── socket ── hawser ◄── CNI_PATH=plugins, /usr/lib/cni
//          │ under0 192.168.77.1                 │
//          │ pods: one namespace each            │
//          └─────────────────────────────────────┘
import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import type { AddressCheck, AddressList } from '../../cni/pods/address-check.ts'
import type { DataplaneStatus, PodAttachment } from '../../dataplane/control.ts'
import { FAKE, type FakeDelegate, fakeDelegate, fakeIpam } from '../cni/invoke/fake-delegate.ts'
import { CNI_PLUGINS, noPlugin } from '../harness/needs.ts'
import { ip, Namespaces } from '../harness/netns.ts'
import { addPod, CLI, type CniAnswer, deletePod, EXECUTABLE, TestNode } from '../harness/node.ts'
import { run } from '../harness/processes.ts'
import { until } from '../harness/until.ts'
import { expectPing, expectSound, tellLogsOnFailure } from './expect.ts'

const missing = ['host-local', 'static'].filter(name => noPlugin(name, `addresses by ${name}`))

const namespaces = new Namespaces('ipam')
let node: TestNode
let fake: FakeDelegate
let serial = 0

beforeAll(async () => {
  const netns = await namespaces.add('a')
  await ip(netns, 'link', 'add', 'under0', 'type', 'veth', 'peer', 'name', 'under1')
  await ip(netns, 'addr', 'add', '192.168.77.1/24', 'dev', 'under0')
  await ip(netns, 'link', 'set', 'under0', 'up')
  await ip(netns, 'link', 'set', 'under1', 'up')
  node = new TestNode('node-a', netns, {
    cluster: [
      { name: 'node-a', vtep: '192.168.77.1', podCIDRs: ['10.244.1.0/27', 'fd44:0:0:1::/64'] },
    ],
    config: { ipam: { exclude: ['10.244.1.8/30', 'fd44:0:0:1::40'] } },
  })
  fake = fakeDelegate(node.folder)
  await node.start()
})
afterAll(async () => {
  await node?.remove()
  await namespaces.removeAll()
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

/** The executable with a CNI_PATH of the test's. */
async function cni(
  command: string,
  containerId: string,
  netns: string,
  config: Record<string, unknown>,
  args = '',
): Promise<CniAnswer> {
  const { code, stdout, stderr } = await run(EXECUTABLE, [], {
    netns: node.netns,
    env: {
      CNI_COMMAND: command,
      CNI_CONTAINERID: containerId,
      CNI_NETNS: netns,
      CNI_IFNAME: 'eth0',
      CNI_ARGS: args,
      CNI_PATH: `${fake.folder}:${CNI_PLUGINS}`,
    },
    input: JSON.stringify(node.config({ cniVersion: '1.0.0', ...config })),
  })
  return { exit: code ?? -1, json: stdout.trim() === '' ? {} : JSON.parse(stdout), stderr }
}

async function ipam<T>(
  ...words: string[]
): Promise<{ code: number | null; answer: T; text: string }> {
  const args = [CLI, 'ipam', ...words, '--json', '--socket', node.socket]
  const { code, stdout, stderr } = await run(process.execPath, args, { netns: node.netns })
  return { code, answer: JSON.parse(stdout) as T, text: `${stdout}${stderr}` }
}

describe('addresses that a pod asks for', () => {
  test.each(['tun', 'xdp'] as const)('are on its interface, and answer (%s)', async attach => {
    const other = await addPod(namespaces, node, `o-${attach}`, attach)
    const annotations = { 'hawser.dev/ips': '["10.244.1.20", "fd44:0:0:1::20"]' }
    const pod = await addPod(namespaces, node, `s-${attach}`, attach, {
      'io.kubernetes.cri.pod-annotations': annotations,
    })
    expect([pod.ip4, pod.ip6]).toEqual(['10.244.1.20', 'fd44:0:0:1::20'])
    expect(await ip(pod.netns, '-o', 'addr', 'show', 'dev', 'eth0')).toContain('10.244.1.20/32')
    await expectPing(other, pod)
    const taken = addPod(namespaces, node, `t-${attach}`, attach, {
      runtimeConfig: { ips: ['10.244.1.20/27'] },
    })
    await expect(taken).rejects.toThrow(
      /"code":11,"msg":"10\.244\.1\.20: taken by hawser\/.*\/eth0"/,
    )
    await deletePod(pod)
    const cooling = addPod(namespaces, node, `c-${attach}`, attach, {
      runtimeConfig: { ips: ['10.244.1.20'] },
    })
    await expect(cooling).rejects.toThrow(/"code":11,"msg":"10\.244\.1\.20: .*cools down"/)
    await deletePod(other)
    // For the other kind: its rest is over.
    const database = new DatabaseSync(node.state)
    database.exec('UPDATE cooling SET freed = 0')
    database.close()
    expect(rows('attachments')).toEqual([])
  })

  test('that can not be had are refused by name, and nothing is left', async () => {
    const netns = await newPod()
    for (const [address, text] of [
      ['10.244.1.9', /10\.244\.1\.9: it is excluded \(10\.244\.1\.8\/30\)/],
      ['fd44:0:0:1::40', /fd44:0:0:1::40: it is excluded/],
      ['10.244.1.1', /10\.244\.1\.1: it is the gateway of/],
      ['10.244.1.31', /10\.244\.1\.31: it is the broadcast address/],
      ['10.244.2.5', /10\.244\.2\.5: it is not in 10\.244\.1\.0\/27/],
    ] as const) {
      const answer = await cni('ADD', 'refused', netns, {}, `IgnoreUnknown=1;IP=${address}`)
      expect(answer.json).toMatchObject({ code: 7, msg: expect.stringMatching(text) })
    }
    expect(await links(netns)).toEqual(['lo'])
    expect(rows('attachments')).toEqual([])
  })

  test('come from the ranges of the network, and these run out', async () => {
    const ranges = [
      [
        {
          subnet: '10.244.1.0/27',
          rangeStart: '10.244.1.7',
          rangeEnd: '10.244.1.13',
          exclude: ['10.244.1.12'],
        },
      ],
    ]
    const config = { ipam: { type: 'hawser', ranges } }
    const given: string[] = []
    for (const id of ['r1', 'r2']) {
      const { json } = await cni('ADD', id, await newPod(), config)
      given.push(...(json['ips'] as { address: string }[]).map(each => each.address))
    }
    expect(given.sort()).toEqual(['10.244.1.13/32', '10.244.1.7/32'])
    const { answer } = await ipam<AddressCheck>('check')
    expect(answer.ranges.find(each => each.network === 'hawser')).toMatchObject({
      ...{ range: '10.244.1.7 .. 10.244.1.13', free: '0', taken: 2, excluded: '5', size: '7' },
    })
    const netns = await newPod()
    expect((await cni('ADD', 'r3', netns, config)).json).toMatchObject({
      code: 11,
      msg: expect.stringContaining('no IPv4 address is left in 10.244.1.7 .. 10.244.1.13'),
    })
    const status = { ...config, cniVersion: '1.1.0' }
    // Not 50: a full node would be NotReady to containerd 2, and its pods evicted.
    expect((await cni('STATUS', '', '', status)).exit).toBe(0)
    for (const id of ['r1', 'r2']) expect((await cni('DEL', id, '', config)).exit).toBe(0)
    expect((await cni('STATUS', '', '', status)).exit).toBe(0)
  })

  test('status says when few are left', async () => {
    const notes = async () => (await node.ask<DataplaneStatus>('status')).notes.join('\n')
    expect(await notes()).not.toContain('addresses are left')
    const ids = Array.from({ length: 23 }, (_, k) => `full${k}`)
    for (const id of ids) expect((await cni('ADD', id, await newPod(), {})).exit).toBe(0)
    expect(await notes()).toContain('2 of 25 addresses are left in 10.244.1.0/27')
    for (const id of ids) expect((await cni('DEL', id, '', {})).exit).toBe(0)
    expect(await notes()).not.toContain('addresses are left')
  })
})

describe('addresses of an IPAM plugin', () => {
  test.skipIf(missing.includes('host-local'))(
    'host-local, dual stack, over a restart',
    async () => {
      const dataDir = join(node.folder, 'host-local')
      const reserved = () =>
        readdirSync(join(dataDir, 'hawser')).filter(name => /^[0-9a-f.:]+$/.test(name))
      const config = {
        attach: 'tun',
        ipam: {
          type: 'host-local',
          dataDir,
          ranges: [
            [{ subnet: '10.244.1.0/27', rangeStart: '10.244.1.16' }],
            [{ subnet: 'fd44:0:0:1::/64' }],
          ],
          routes: [{ dst: '0.0.0.0/0' }, { dst: '::/0' }],
        },
      }
      const netns = await newPod()
      const added = await cni('ADD', 'hl', netns, config)
      expect(added.json).toMatchObject({
        ips: [
          { address: '10.244.1.16/32', gateway: '10.244.1.1', interface: 0 },
          { address: 'fd44:0:0:1::2/128', gateway: 'fd44:0:0:1::1', interface: 0 },
        ],
      })
      const pod = { name: 'hl', netns, ip4: '10.244.1.16', ip6: 'fd44:0:0:1::2' }
      const other = await addPod(namespaces, node, 'hl-other', 'xdp')
      expect(other.ip6).not.toBe(pod.ip6)
      await expectPing(other, pod)
      const check = { ...config, prevResult: added.json }
      expect((await cni('CHECK', 'hl', netns, check)).json).toEqual({})
      expect(reserved()).toEqual(['10.244.1.16', 'fd44:0:0:1::2'])
      const { answer } = await ipam<AddressList>('show')
      expect(answer.attachments).toMatchObject([
        { attachment: 'hawser/hl/eth0', from: 'host-local', ip4: '10.244.1.16' },
        { from: 'hawser', ip4: other.ip4 },
      ])

      await node.stop('SIGKILL')
      await node.start()
      const { answer: after } = await ipam<AddressList>('show')
      expect(after.attachments).toEqual(answer.attachments)
      await expectPing(other, pod)
      expect((await cni('CHECK', 'hl', netns, check)).json).toEqual({})

      expect((await cni('DEL', 'hl', netns, config)).json).toEqual({})
      expect(await links(netns)).toEqual(['lo'])
      expect(reserved()).toEqual([])
      expect((await cni('DEL', 'hl', '', config)).json).toEqual({})
      await deletePod(other)
      await expectSound(node)
    },
  )

  test.skipIf(missing.includes('static'))('static', async () => {
    const ipamConfig = { type: 'static', addresses: [{ address: '10.244.1.30/27' }] }
    const netns = await newPod()
    const added = await cni('ADD', 'st', netns, { ipam: ipamConfig })
    expect(added.json).toMatchObject({ ips: [{ address: '10.244.1.30/32' }] })
    const second = await cni('ADD', 'st2', await newPod(), { ipam: ipamConfig })
    expect(second.json).toMatchObject({ code: 11, msg: expect.stringContaining('10.244.1.30') })
    expect((await cni('DEL', 'st', netns, { ipam: ipamConfig })).json).toEqual({})
    expect(rows('delegations')).toEqual([])
  })

  test.each(['refuse', 'fail', 'junk', 'flood'] as const)(
    'a plugin that does "%s" leaves nothing',
    async behaviour => {
      const netns = await newPod()
      const config = { ipam: fakeIpam({}, { ADD: behaviour }) }
      const answer = await cni('ADD', `bad-${behaviour}`, netns, config)
      expect(answer.exit).not.toBe(0)
      expect(answer.json).toMatchObject({ msg: expect.stringContaining(`IPAM plugin ${FAKE}: `) })
      expect(fake.asked().map(({ env }) => env['CNI_COMMAND'])).toEqual(['ADD', 'DEL'])
      expect(await links(netns)).toEqual(['lo'])
      expect([rows('attachments'), rows('delegations')]).toEqual([[], []])
    },
  )

  test('what it says is in the log of the daemon', async () => {
    await cni('DEL', 'never-there', '', { ipam: fakeIpam({}) })
    const said = await node.logged('an IPAM plugin says')
    expect(said).toMatchObject({ ipam: FAKE, line: expect.stringContaining('is asked') })
  })

  test.each(['tun', 'xdp'])(
    'an ADD that the engine refuses gives back what it got (%s)',
    async attach => {
      const netns = await newPod()
      // The interface is made and has its addresses by then.
      await node.stop()
      await node.start({ HAWSER_FAULT: 'attach.configured:throw' })
      const ips = [{ address: '10.244.1.29/27' }, { address: 'fd44:0:0:1::29/64' }]
      const config = { ipam: fakeIpam({ ips }), attach }
      const before = await links(node.netns)
      const refused = await cni('ADD', `undone-${attach}`, netns, config)
      expect(refused.json).toMatchObject({
        code: 5,
        msg: expect.stringContaining('attach.configured'),
      })
      expect(fake.asked().map(({ env }) => env['CNI_COMMAND'])).toEqual(['ADD', 'DEL'])
      expect([await links(netns), await links(node.netns)]).toEqual([['lo'], before])
      expect([rows('attachments'), rows('delegations')]).toEqual([[], []])
    },
  )
})

describe('hawser ipam check', () => {
  test('finds nothing on a sound node, and counts', async () => {
    const { code, answer } = await ipam<AddressCheck>('check')
    expect({ code, findings: answer.findings }).toEqual({ code: 0, findings: [] })
    expect(answer.ranges).toMatchObject([
      { range: '10.244.1.0/27', size: '32', excluded: '7', taken: 0 },
      { range: 'fd44:0:0:1::/64', excluded: '3', taken: 0 },
    ])
  })

  test('tells what is amiss, and --repair mends what nobody uses', async () => {
    const kept = await addPod(namespaces, node, 'kept', 'tun')
    const lost = await addPod(namespaces, node, 'lost', 'xdp')
    const delegated = await newPod()
    const config = { ipam: fakeIpam({ ips: [{ address: '10.244.1.28/27' }] }) }
    expect((await cni('ADD', 'dg', delegated, config)).exit).toBe(0)
    await namespaces.remove(lost.netns)
    await namespaces.remove(delegated)
    await ip(kept.netns, 'addr', 'add', '10.244.1.27/32', 'dev', 'eth0')
    const database = new DatabaseSync(node.state)
    database.exec('DELETE FROM cooling')
    database.exec(
      `INSERT INTO attachments (network, container, ifname, phase, netns, netnsDev, netnsIno, kind, ip4, pod, created)
       VALUES ('hawser', 'ghost', 'eth0', 'reserved', '/run/netns/ghost', '1', '1', 'tun', '10.244.1.26', '', 1)`,
    )
    database.close()
    fake.asked()
    const found = await ipam<AddressCheck>('check')
    expect(found.code).toBe(1)
    const summary = ({ findings }: AddressCheck) =>
      findings.map(each => [each.kind, each.attachment?.split('/')[1], each.repair])
    expect(summary(found.answer)).toEqual([
      ['reserved', 'ghost', undefined],
      ['namespace', lost.containerId, undefined],
      ['namespace', 'dg', undefined],
      ['unknown-address', kept.containerId, undefined],
    ])
    const repaired = await ipam<AddressCheck>('check', '--repair')
    expect(repaired.code).toBe(1)
    expect(summary(repaired.answer)).toEqual([
      ['reserved', 'ghost', 'done'],
      ['namespace', lost.containerId, 'done'],
      ['namespace', 'dg', 'done'],
      ['unknown-address', kept.containerId, undefined],
    ])
    expect(fake.asked()).toMatchObject([{ env: { CNI_COMMAND: 'DEL', CNI_CONTAINERID: 'dg' } }])
    expect(rows('attachments')).toEqual([{ container: kept.containerId }])
    expect(rows('delegations')).toEqual([])
    const pods = await node.ask<PodAttachment[]>('pods')
    expect(pods.map(each => each.id)).toEqual([`hawser/${kept.containerId}/eth0`])
    await ip(kept.netns, 'addr', 'del', '10.244.1.27/32', 'dev', 'eth0')
    expect((await ipam<AddressCheck>('check')).code).toBe(0)
    await deletePod(kept)
    await expectSound(node)
  })

  test('for people', async () => {
    const args = [CLI, 'ipam', 'check', '--socket', node.socket]
    const { code, stdout } = await run(process.execPath, args, { netns: node.netns })
    expect(code).toBe(0)
    expect(stdout).toMatch(
      /^RANGE +NETWORK +OVERLAY +FREE +TAKEN +COOLING +EXCLUDED +ALL\n10\.244\.1\.0\/27 /,
    )
    expect(stdout).toMatch(/\nall agrees\n$/)
  })
})

test('a daemon that starts gives back what belongs to nobody', async () => {
  await node.stop()
  const config = JSON.stringify(node.config({ cniVersion: '1.0.0', ipam: fakeIpam({}) }))
  const database = new DatabaseSync(node.state)
  database
    .prepare('INSERT INTO delegations VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)')
    .run('hawser', 'dead', 'eth0', FAKE, '/gone', 'A=B', fake.folder, config, 1)
  database.close()
  await node.start()
  await until('the plugin has them back', () => rows('delegations').length === 0)
  expect(fake.asked()).toMatchObject([
    { env: { CNI_COMMAND: 'DEL', CNI_CONTAINERID: 'dead', CNI_ARGS: 'A=B', CNI_NETNS: '' } },
  ])
})
