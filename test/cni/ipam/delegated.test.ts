/**
 * The verbs with an IPAM plugin, on a packet engine without packets: a fake one that misbehaves, and
 * those of the containernetworking-plugins package where they are installed. Long, because each verb
 * meets each way in which a plugin fails.
 */

import { mkdtempSync, readdirSync, renameSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import fc from 'fast-check'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { giveBackOrphans } from '../../../cni/ipam/delegations.ts'
import { leaseOf } from '../../../cni/ipam/lease.ts'
import type { Node } from '../../../cni/pods/node.ts'
import { Pods } from '../../../cni/pods/pods.ts'
import { LOOKS } from '../../../cni/pods/restore.ts'
import { Turns } from '../../../cni/pods/turns.ts'
import { CniError } from '../../../cni/spec/errors.ts'
import type { CniRequest } from '../../../cni/spec/request.ts'
import { CNI_VERSIONS } from '../../../cni/spec/versions.ts'
import type { Attachment, Delegation, State } from '../../../cni/state/state.ts'
import { answer } from '../../../cni/verbs/index.ts'
import { noPlugin } from '../../harness/needs.ts'
import { ip, Namespaces } from '../../harness/netns.ts'
import { until } from '../../harness/until.ts'
import { fakeNode } from '../fake-node.ts'
import { FakePlane } from '../fake-plane.ts'
import {
  type Behaviour,
  FAKE,
  type FakeDelegate,
  fakeDelegate,
  fakeIpam,
  isRunning,
} from '../invoke/fake-delegate.ts'

const SELF = { name: 'node-a', vtep: '192.0.2.11', podCidrs: ['10.0.0.0/24', 'fd00::/64'] }
const ID = 'hawser/c1/eth0'
const KEY = { network: 'hawser', containerId: 'c1', ifname: 'eth0' }
/** Where Debian's containernetworking-plugins puts its executables. */
const PLUGINS = '/usr/lib/cni'
const RESULT = {
  ips: [
    { address: '10.0.0.7/24', gateway: '10.0.0.1' },
    { address: 'fd00::7/64', gateway: 'fe80::9' },
  ],
  routes: [{ dst: '0.0.0.0/0' }, { dst: '::/0' }, { dst: '10.9.0.0/16', gw: '10.0.0.1' }],
  dns: { nameservers: ['10.96.0.10'] },
}

const namespaces = new Namespaces('delegated')
let netns = ''
let folder = ''
let fake: FakeDelegate
let plane: FakePlane
let state: State
let node: Node
let records: Record<string, unknown>[] = []

beforeAll(async () => {
  netns = await namespaces.add('pod')
})
afterAll(() => namespaces.removeAll())
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'hawser-delegated-'))
  fake = fakeDelegate(folder)
  plane = new FakePlane(SELF, {})
  node = startNode()
})
afterEach(() => {
  state.close()
  for (const pid of fake.pids()) if (isRunning(pid)) process.kill(pid, 'SIGKILL')
  rmSync(folder, { recursive: true, force: true })
})

function startNode(turns?: Turns): Node {
  const made = fakeNode(folder, plane, turns)
  ;({ state, records } = made)
  return made.node
}

/** The next daemon on the same state file, with an engine that knows nothing. */
async function restart(): Promise<void> {
  state.close()
  plane = new FakePlane(plane.self, {})
  node = startNode()
  await node.pods.restoreAll()
  await giveBackOrphans(node)
}

interface Call {
  id?: string
  netns?: string
  path?: string
  config?: object
  ipam?: object
  queuedAt?: number
}

async function call(command: string, options: Call = {}) {
  const { ipam = fakeIpam(RESULT), config } = options
  const request: CniRequest = {
    env: {
      CNI_COMMAND: command,
      CNI_CONTAINERID: options.id ?? 'c1',
      CNI_NETNS: options.netns ?? netns,
      CNI_IFNAME: 'eth0',
      CNI_ARGS: 'IgnoreUnknown=1;K8S_POD_NAME=web',
      CNI_PATH: options.path ?? fake.folder,
    },
    config: JSON.stringify({
      cniVersion: '1.1.0',
      name: 'hawser',
      type: 'hawser',
      ipam,
      ...config,
    }),
  }
  const { exit, stdout } = await answer(node, request, options.queuedAt)
  const json = stdout === '' ? undefined : JSON.parse(stdout)
  expect(exit).toBe(json?.code === undefined ? 0 : 1)
  return json
}

/** `ipam` for the result above, with this behaviour. */
const behaving = (behaviour: Readonly<Record<string, Behaviour>>): { ipam: object } => ({
  ipam: fakeIpam(RESULT, behaviour),
})
const verbs = (): (string | undefined)[] => fake.asked().map(({ env }) => env['CNI_COMMAND'])

/** Nothing is left of an ADD but what `kept` says. */
function expectNothing(kept: unknown[] = []): void {
  expect(state.list()).toEqual([])
  expect(state.delegations()).toEqual(kept)
  expect(plane.pods()).toEqual([])
}

describe('ADD', () => {
  test('gives the pod what the plugin gives: addresses, gateways and DNS', async () => {
    const result = await call('ADD')
    expect(result).toMatchObject({
      interfaces: [{ name: 'eth0', sandbox: netns }],
      ips: [
        { address: '10.0.0.7/32', gateway: '10.0.0.1', interface: 0 },
        { address: 'fd00::7/128', gateway: 'fe80::9', interface: 0 },
      ],
      routes: [{ dst: '0.0.0.0/0' }, { dst: '::/0' }],
      dns: { nameservers: ['10.96.0.10'] },
    })
    expect(plane.pods()).toMatchObject([{ id: ID, ip4: '10.0.0.7', ip6: 'fd00::7' }])
    expect(state.list()).toMatchObject([{ phase: 'attached', ip4: '10.0.0.7', ip6: 'fd00::7' }])
    const [asked] = fake.asked()
    expect(asked?.env).toMatchObject({
      ...{ CNI_COMMAND: 'ADD', CNI_CONTAINERID: 'c1', CNI_NETNS: netns, CNI_IFNAME: 'eth0' },
      ...{ CNI_ARGS: 'IgnoreUnknown=1;K8S_POD_NAME=web', CNI_PATH: fake.folder },
    })
    expect(asked?.config).toMatchObject({ name: 'hawser', ipam: { type: FAKE } })
    expect(state.delegation(KEY)).toMatchObject({ type: FAKE, netns, path: fake.folder })
  })

  test("keeps the network's own DNS settings", async () => {
    const dns = { nameservers: ['192.0.2.53'] }
    expect(await call('ADD', { config: { dns } })).toMatchObject({ dns })
  })

  test('works in every version, old results too', async () => {
    const [first] = RESULT.ips
    for (const [k, cniVersion] of CNI_VERSIONS.entries()) {
      const old = cniVersion === '0.1.0' || cniVersion === '0.2.0'
      const ip4 = {
        ip: `10.0.0.${20 + k}/24`,
        gateway: first!.gateway,
        routes: [{ dst: '0.0.0.0/0' }],
      }
      const ips = [{ ...first, version: '4', address: ip4.ip }]
      const ipam = fakeIpam(old ? { ip4 } : { ips })
      const result = await call('ADD', { id: `v${k}`, ipam, config: { cniVersion } })
      const text = JSON.stringify(result)
      expect(text).toContain(`10.0.0.${20 + k}/32`)
      expect(text).toContain('"gateway":"10.0.0.1"')
    }
  })

  test('of an address that other nodes have no way to is served, and told', async () => {
    await call('ADD', { ipam: fakeIpam({ ips: [{ address: '172.16.0.9/16' }] }) })
    expect(plane.pods()).toMatchObject([{ ip4: '172.16.0.9' }])
    expect(records).toMatchObject([
      { line: 'ADD is asked' },
      { level: 'warn', address: '172.16.0.9', ipam: FAKE },
      { msg: 'cni', outcome: 'ok' },
    ])
  })

  test.each<[Behaviour, number, RegExp]>([
    ['refuse', 117, /fake-ipam: ADD is refused/],
    ['unknown', 5, /who\?/],
    ['fail', 5, /ended with 9/],
    ['junk', 6, /not JSON/],
    ['nothing', 6, /its answer is empty/],
    ['flood', 6, /more than 1048576 bytes/],
  ])(
    'fails with a plugin that does: %s; its DEL is called and nothing is left',
    async (behaviour, code, msg) => {
      const refused = await call('ADD', behaving({ ADD: behaviour }))
      expect(refused).toMatchObject({ code, msg: expect.stringMatching(msg) })
      expect(verbs()).toEqual(['ADD', 'DEL'])
      expectNothing()
      expect(await call('ADD')).toMatchObject({ ips: [{ address: '10.0.0.7/32' }, {}] })
    },
  )

  test.each<[title: string, result: object, code: number, msg: RegExp]>([
    ['no address', { ips: [] }, 7, /its answer has no address/],
    [
      'an address twice',
      { ips: [RESULT.ips[0], RESULT.ips[0]] },
      7,
      /10\.0\.0\.7 and 10\.0\.0\.7: a pod has one/,
    ],
    [
      'two of a family',
      { ips: [RESULT.ips[0], { address: '10.0.0.8/24' }] },
      7,
      /a pod has one IPv4/,
    ],
    [
      'no prefix',
      { ips: [{ address: '10.0.0.7' }] },
      7,
      /10\.0\.0\.7: not an address with a prefix/,
    ],
    ['a long prefix', { ips: [{ address: '10.0.0.7/33' }] }, 7, /more than 32/],
    ['the gateway', { ips: [{ address: '10.0.0.1/24' }] }, 7, /10\.0\.0\.1: it is the gateway of/],
    [
      'loopback',
      { ips: [{ address: '127.0.0.1/8' }] },
      7,
      /127\.0\.0\.1\/8: the address is loopback/,
    ],
    [
      'a gateway of the other family',
      { ips: [{ address: '10.0.0.7/24', gateway: 'fd00::1' }] },
      7,
      /gateway fd00::1: not IPv4/,
    ],
    [
      'no default route',
      { ...RESULT, routes: [{ dst: '::/0' }, { dst: '10.0.0.0/8' }] },
      7,
      /no default route for 10\.0\.0\.7/,
    ],
    ['ips of another shape', { ips: 'all of them' }, 6, /its answer is not a result: ips: /],
    ['dns of another shape', { ...RESULT, dns: { search: 'x' } }, 6, /not a result: dns\.search: /],
  ])('refuses a result with %s, and gives it back', async (_title, result, code, msg) => {
    const refused = await call('ADD', { ipam: fakeIpam(result) })
    expect(refused).toMatchObject({ code, msg: expect.stringMatching(msg) })
    expect(verbs()).toEqual(['ADD', 'DEL'])
    expectNothing()
  })

  test('refuses an address that another pod has, whoever gave that', async () => {
    await call('ADD')
    expect(await call('ADD', { id: 'c2' })).toMatchObject({
      code: 11,
      msg: expect.stringMatching(/^10\.0\.0\.7: .*hawser\/c1\/eth0 has it$/),
    })
    expect(verbs()).toEqual(['ADD', 'ADD', 'DEL'])
    const own = await call('ADD', { id: 'c3', ipam: {} })
    const taken = own.ips[0].address.replace('/32', '/24')
    const stolen = fakeIpam({ ips: [{ address: taken }] })
    expect(await call('ADD', { id: 'c4', ipam: stolen })).toMatchObject({ code: 11 })
    expect(state.list()).toHaveLength(2)
    expect(state.delegations()).toHaveLength(1)
  })

  test('is undone when the engine refuses: the plugin last', async () => {
    plane.refuseAttach = new Error('no port is left')
    expect(await call('ADD')).toMatchObject({ code: 5, msg: 'no port is left' })
    expect(verbs()).toEqual(['ADD', 'DEL'])
    expectNothing()
  })

  test('is undone by and by when the plugin refuses that too', async () => {
    plane.refuseAttach = new Error('no port is left')
    expect(await call('ADD', behaving({ DEL: 'refuse' }))).toMatchObject({ code: 5 })
    expectNothing([expect.objectContaining({ ...KEY, type: FAKE })])
    await giveBackOrphans(node)
    expect(verbs()).toEqual(['ADD', 'DEL', 'DEL'])
    expect(state.delegations()).toHaveLength(1)
    // Another ADD of the same attachment has to give back first.
    plane.refuseAttach = undefined
    expect(await call('ADD')).toMatchObject({
      code: 117,
      msg: `IPAM plugin ${FAKE}: DEL is refused`,
    })
    expect(verbs()).toEqual(['DEL'])
  })

  test('does not wait for ever: the plugin is ended, and what it may have given is given back', async () => {
    state.close()
    node = startNode(new Turns(8, 1500))
    expect(await call('ADD', behaving({ ADD: 'hang' }))).toMatchObject({ code: 11 })
    await node.turns.idle()
    expectNothing()
    expect(fake.pids().filter(isRunning)).toEqual([])
  })

  test('a plugin that is not there, or that can not be one, gives nothing and keeps nothing', async () => {
    const missing = await call('ADD', { ipam: { type: 'none' } })
    expect(missing).toMatchObject({ code: 4, msg: `IPAM plugin none: not in ${fake.folder}` })
    expect(await call('ADD', { path: '' })).toMatchObject({ code: 4 })
    expect(await call('ADD', { ipam: { type: '../fake-ipam' } })).toMatchObject({ code: 7 })
    expectNothing()
  })

  test('an interface that is there already asks no plugin', async () => {
    const stranger = await namespaces.add('stranger')
    await ip(stranger, 'link', 'add', 'eth0', 'type', 'veth', 'peer', 'name', 'eth1')
    expect(await call('ADD', { netns: stranger })).toMatchObject({ code: 103 })
    expect(await call('ADD', { netns: '/proc/self/ns/net' })).toMatchObject({ code: 8 })
    expectNothing()
    expect(verbs()).toEqual([])
  })
})

describe('DEL', () => {
  test('frees the engine first, calls the plugin last, and does both again', async () => {
    await call('ADD')
    fake.asked()
    expect(await call('DEL')).toBeUndefined()
    expect(plane.calls.at(-1)).toBe(`detach ${ID}`)
    expect(verbs()).toEqual(['DEL'])
    expectNothing()
    expect(await call('DEL')).toBeUndefined()
    expect(verbs()).toEqual(['DEL'])
  })

  test('of what was never added calls the plugin as well', async () => {
    expect(await call('DEL', { id: 'never', netns: '' })).toBeUndefined()
    expect(fake.asked()).toMatchObject([{ env: { CNI_CONTAINERID: 'never', CNI_NETNS: '' } }])
  })

  test.each<[title: string, options: Call]>([
    ['without ipam', { ipam: {} }],
    ['with another plugin', { ipam: { type: 'none' } }],
    ['without CNI_PATH', { path: '' }],
  ])('%s works with what ADD was called with', async (_title, options) => {
    await call('ADD')
    fake.asked()
    expect(await call('DEL', options)).toBeUndefined()
    expect(fake.asked()).toMatchObject([
      { env: { CNI_COMMAND: 'DEL', CNI_PATH: fake.folder }, config: { ipam: { type: FAKE } } },
    ])
    expectNothing()
  })

  test('does not fail for a plugin that was never asked for addresses', async () => {
    expect(await call('DEL', behaving({ DEL: 'refuse' }))).toBeUndefined()
    expect(fake.asked()).toMatchObject([{ env: { CNI_COMMAND: 'DEL' } }])
    expectNothing()
  })

  test('passes on that the plugin refuses, and another one finishes it', async () => {
    await call('ADD')
    const refused = await call('DEL', behaving({ DEL: 'refuse' }))
    expect(refused).toMatchObject({ code: 117, msg: `IPAM plugin ${FAKE}: DEL is refused` })
    expectNothing([expect.objectContaining(KEY)])
    expect(await call('DEL')).toBeUndefined()
    expectNothing()
  })

  test('works when the plugin is missing; the call is kept until it is there again', async () => {
    await call('ADD')
    const [there, elsewhere] = [join(fake.folder, FAKE), join(fake.folder, 'elsewhere')]
    renameSync(there, elsewhere)
    verbs()
    expect(await call('DEL')).toBeUndefined()
    expect(state.list()).toEqual([])
    expect(records).toContainEqual(
      expect.objectContaining({
        ...{ level: 'warn', attachment: ID, ipam: FAKE },
        msg: 'addresses are not given back: tried again later',
      }),
    )
    expect(await call('DEL')).toBeUndefined()
    await node.pods.collect()
    expect(state.delegations()).toMatchObject([{ ...KEY, type: FAKE }])
    renameSync(elsewhere, there)
    await node.pods.collect()
    expect(verbs()).toEqual(['DEL'])
    expectNothing()
  })

  test('of a missing plugin is not kept for the next attachment of that name', async () => {
    await call('ADD')
    const [there, elsewhere] = [join(fake.folder, FAKE), join(fake.folder, 'elsewhere')]
    renameSync(there, elsewhere)
    await call('DEL')
    expect(await call('ADD', { ipam: {} })).toMatchObject({ ips: [{}, {}] })
    expect(state.delegations()).toEqual([])
    expect(await call('DEL', { ipam: {} })).toBeUndefined()
    expectNothing()
  })

  test('works when the plugin does not speak the version: it can not have given anything', async () => {
    const words = behaving({ ADD: 'too-new', DEL: 'too-new' })
    expect(await call('ADD', words)).toMatchObject({ code: 1 })
    expectNothing()
    expect(await call('DEL', words)).toBeUndefined()
    expect(verbs()).toEqual(['ADD', 'DEL', 'DEL'])
  })

  test('that was queued before an ADD is not meant for it', async () => {
    await call('ADD')
    fake.asked()
    expect(await call('DEL', { queuedAt: Date.now() - 60_000 })).toBeUndefined()
    expect(verbs()).toEqual([])
    expect(state.list()).toHaveLength(1)
  })
})

describe('CHECK, STATUS and GC', () => {
  test('CHECK asks the plugin last, with what the runtime sent', async () => {
    const prevResult = await call('ADD')
    fake.asked()
    expect(await call('CHECK', { config: { prevResult } })).toBeUndefined()
    expect(fake.asked()).toMatchObject([{ env: { CNI_COMMAND: 'CHECK' }, config: { prevResult } }])
    const refused = await call('CHECK', {
      ...behaving({ CHECK: 'refuse' }),
      config: { prevResult },
    })
    expect(refused).toMatchObject({ code: 117 })
    fake.asked()
    plane.problems = ['eth0 is down']
    expect(await call('CHECK', { config: { prevResult } })).toMatchObject({ code: 104 })
    expect(verbs()).toEqual([])
  })

  test('CHECK of addresses of our own asks nobody', async () => {
    const prevResult = await call('ADD', { ipam: {} })
    expect(await call('CHECK', { config: { prevResult } })).toBeUndefined()
    expect(verbs()).toEqual([])
  })

  test('STATUS asks the plugin; one that refuses or is missing is remarked, and no reason to fail', async () => {
    expect(await call('STATUS')).toBeUndefined()
    expect(verbs()).toEqual(['STATUS'])
    expect(node.remarks).toEqual(new Map())
    expect(await call('STATUS', behaving({ STATUS: 'refuse' }))).toBeUndefined()
    expect([...node.remarks!.values()]).toEqual([[expect.stringMatching(/STATUS is refused/)]])
    expect(await call('STATUS', { ipam: { type: 'none' } })).toBeUndefined()
    expect([...node.remarks!.values()]).toEqual([[expect.stringMatching(/none: not in /)]])
    expect(await call('STATUS')).toBeUndefined()
    expect(node.remarks).toEqual(new Map())
    expect(await call('STATUS', { ipam: { type: 'a/b' } })).toMatchObject({ code: 7 })
  })

  test('GC gives back what is stale, then asks the plugin with the same list', async () => {
    await call('ADD')
    await call('ADD', { id: 'c2', ipam: fakeIpam({ ips: [{ address: '10.0.0.8/24' }] }) })
    fake.asked()
    expect(await call('GC')).toBeUndefined()
    expect(verbs()).toEqual([])
    const valid = [{ containerID: 'c1', ifname: 'eth0' }]
    expect(await call('GC', { config: { 'cni.dev/valid-attachments': valid } })).toBeUndefined()
    expect(fake.asked()).toMatchObject([
      { env: { CNI_COMMAND: 'DEL', CNI_CONTAINERID: 'c2' } },
      { env: { CNI_COMMAND: 'GC' }, config: { 'cni.dev/valid-attachments': valid } },
    ])
    expect(state.list()).toHaveLength(1)
    const none = { 'cni.dev/valid-attachments': [] }
    expect(await call('GC', { ...behaving({ GC: 'refuse' }), config: none })).toMatchObject({
      code: 117,
    })
    expectNothing()
  })
})

describe('a daemon that starts', () => {
  test('takes pods over with the addresses that the plugin gave', async () => {
    await call('ADD')
    fake.asked()
    await restart()
    expect(plane.pods()).toMatchObject([{ id: ID, ip4: '10.0.0.7', ip6: 'fd00::7' }])
    expect(verbs()).toEqual([])
    await call('DEL', { ipam: {} })
    expect(verbs()).toEqual(['DEL'])
  })

  test.each<[title: string, row: boolean]>([
    ['after the plugin was asked', false],
    ['after its addresses were written down', true],
  ])('gives back what an ADD that died %s has got', async (_title, row) => {
    const config = JSON.stringify({ cniVersion: '1.1.0', name: 'hawser', ipam: fakeIpam(RESULT) })
    const delegation: Delegation = {
      ...{
        type: FAKE,
        netns: '/run/netns/gone',
        args: 'A=B',
        path: fake.folder,
        config,
        created: 1,
      },
    }
    const reserved: Attachment = {
      ...{ ...KEY, phase: 'reserved', netns, netnsDev: '4', netnsIno: '1', kind: 'tun', pod: '' },
      ...{ ip4: '10.0.0.7', created: 1 },
    }
    state.keepDelegation(KEY, delegation)
    if (row) state.insert(reserved)
    await restart()
    expectNothing()
    expect(fake.asked()).toMatchObject([
      {
        env: {
          ...{ CNI_COMMAND: 'DEL', CNI_CONTAINERID: 'c1', CNI_NETNS: '', CNI_IFNAME: 'eth0' },
          ...{ CNI_ARGS: 'A=B', CNI_PATH: fake.folder },
        },
        config: JSON.parse(config),
      },
    ])
  })

  test('tries again at every collection while the plugin refuses, and the pod is no trouble', async () => {
    await call('ADD', behaving({ DEL: 'refuse' }))
    state.release(KEY)
    await restart()
    await node.pods.collect()
    expect(verbs()).toEqual(['ADD', 'DEL', 'DEL'])
    expect(node.pods.troubles.size).toBe(0)
    expect(
      records.filter(each => each['msg'] === 'addresses are not given back; tried again later'),
    ).toHaveLength(2)
    expect(await call('DEL')).toBeUndefined()
    expect(state.delegations()).toEqual([])
  })

  test('collects a pod whose namespace is gone, and the plugin hears of it', async () => {
    const short = await namespaces.add('short')
    await call('ADD', { netns: short })
    fake.asked()
    await namespaces.remove(short)
    for (let look = 0; look < LOOKS; look++) await node.pods.collect()
    expect(fake.asked()).toMatchObject([{ env: { CNI_COMMAND: 'DEL', CNI_NETNS: '' } }])
    expectNothing()
  })
})

test('whatever a plugin answers, it is a lease or refused with a code', () => {
  const text = fc.oneof(fc.string(), fc.constantFrom('10.0.0.7/24', 'fd00::7/64', '0.0.0.0/0'))
  const ip = fc.record({ address: text, gateway: text }, { requiredKeys: [] })
  const result = fc.record(
    {
      cniVersion: fc.oneof(fc.constantFrom(...CNI_VERSIONS), fc.string()),
      ips: fc.oneof(fc.array(ip), fc.jsonValue()),
      routes: fc.oneof(fc.array(fc.record({ dst: text })), fc.jsonValue()),
      ip4: fc.record({ ip: text }),
      dns: fc.jsonValue(),
    },
    { requiredKeys: [] },
  )
  fc.assert(
    fc.property(
      fc.oneof(result, fc.jsonValue()),
      fc.constantFrom(...CNI_VERSIONS),
      (value, version) => {
        try {
          const { addresses } = leaseOf(FAKE, version, value, SELF.podCidrs)
          expect([1, 2]).toContain(addresses.length)
        } catch (error) {
          expect(error).toBeInstanceOf(CniError)
          expect([6, 7]).toContain((error as CniError).code)
        }
      },
    ),
  )
})

describe("Debian's plugins", () => {
  const config = { cniVersion: '1.0.0' }

  test.skipIf(noPlugin('host-local', 'dual stack'))('host-local, dual stack', async () => {
    const dataDir = join(folder, 'data')
    const reserved = (): string[] =>
      readdirSync(join(dataDir, 'hawser')).filter(name => /^[0-9a-f.:]+$/.test(name))
    const ipam = {
      type: 'host-local',
      dataDir,
      ranges: [[{ subnet: '10.0.0.0/24', rangeStart: '10.0.0.50' }], [{ subnet: 'fd00::/64' }]],
      routes: [{ dst: '0.0.0.0/0' }, { dst: '::/0' }],
    }
    const options = { path: PLUGINS, ipam, config }
    const result = await call('ADD', options)
    expect(result.ips).toMatchObject([
      { address: '10.0.0.50/32', gateway: '10.0.0.1' },
      { address: 'fd00::2/128', gateway: 'fd00::1' },
    ])
    const check = { ...options, config: { ...config, prevResult: result } }
    expect(await call('CHECK', check)).toBeUndefined()
    expect(reserved()).toEqual(['10.0.0.50', 'fd00::2'])
    // What it has given to somebody else is refused, and given back.
    plane.refuseAttach = new Error('no port is left')
    expect(await call('ADD', { ...options, id: 'c2' })).toMatchObject({ code: 5 })
    expect(reserved()).toEqual(['10.0.0.50', 'fd00::2'])
    expect(await call('DEL', options)).toBeUndefined()
    expect(reserved()).toEqual([])
    expect(await call('CHECK', check)).toMatchObject({ code: 104 })
    expect(await call('DEL', options)).toBeUndefined()
    expectNothing()
  })

  test.skipIf(noPlugin('static', 'its addresses'))('static', async () => {
    const ipam = {
      type: 'static',
      addresses: [{ address: '10.0.0.77/24', gateway: '10.0.0.1' }],
      routes: [{ dst: '0.0.0.0/0' }],
      dns: { nameservers: ['10.96.0.10'] },
    }
    const options = { path: PLUGINS, ipam, config }
    expect(await call('ADD', options)).toMatchObject({
      ips: [{ address: '10.0.0.77/32', gateway: '10.0.0.1' }],
      dns: { nameservers: ['10.96.0.10'] },
    })
    expect(await call('ADD', { ...options, id: 'c2' })).toMatchObject({ code: 11 })
    expect(await call('DEL', options)).toBeUndefined()
    expectNothing()
  })
})

test('what hangs is ended with the daemon', async () => {
  const stopping = new AbortController()
  const { log, podCidrs, turns } = node
  const pods = new Pods({ plane, state, turns, podCidrs, log, stopping: stopping.signal })
  node = { ...node, pods }
  const hanging = call('ADD', behaving({ ADD: 'hang' }))
  await until('it hangs', () => fake.pids().length === 2)
  stopping.abort(new Error('the daemon stops'))
  expect(await hanging).toMatchObject({ msg: 'the daemon stops' })
  await until('both have ended', () => !fake.pids().some(isRunning))
  // The next daemon gives back what may have been given.
  expect(state.delegations()).toMatchObject([KEY])
  fake.asked()
  await restart()
  expect(verbs()).toEqual(['DEL'])
  expectNothing()
})
