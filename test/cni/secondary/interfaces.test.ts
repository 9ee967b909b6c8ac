/**
 * Further interfaces of a pod, on a packet engine without packets, by fake plugins that write down
 * what they are asked and fail where they are told to. Long, because each verb meets each way in which a
 * plugin of a list of lists fails.
 */

import { mkdtempSync, renameSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import type { Node } from '../../../cni/pods/node.ts'
import { LOOKS } from '../../../cni/pods/restore.ts'
import { Turns } from '../../../cni/pods/turns.ts'
import { podFacts, secondaryNotes } from '../../../cni/secondary/verbs.ts'
import type { CniRequest } from '../../../cni/spec/request.ts'
import { type State, State as StateFile } from '../../../cni/state/state.ts'
import { answer } from '../../../cni/verbs/index.ts'
import { ip, Namespaces } from '../../harness/netns.ts'
import { until } from '../../harness/until.ts'
import { fakeNode } from '../fake-node.ts'
import { FakePlane } from '../fake-plane.ts'
import {
  type Asked,
  type Behaviour,
  type FakeDelegate,
  fakeDelegate,
  isRunning,
} from '../invoke/fake-delegate.ts'

const SELF = { name: 'node-a', vtep: '192.0.2.11', podCidrs: ['10.0.0.0/24', 'fd00::/64'] }
const ID = 'hawser/c1/eth0'
const KEY = { network: 'hawser', containerId: 'c1', ifname: 'eth0' }
const NAMES = ['bridge', 'tuning', 'macvlan', 'ptp']
const ANNOTATIONS = 'io.kubernetes.cri.pod-annotations'

const namespaces = new Namespaces('secondaries')
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
  folder = mkdtempSync(join(tmpdir(), 'hawser-secondaries-'))
  fake = fakeDelegate(folder, NAMES)
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
  await node.pods.giveBackOrphans()
}

type Verbs = Readonly<Record<string, Behaviour>>
type PluginSpec = string | [type: string, behaviour: Verbs, more?: object]

/** A network by these plugins. */
function net(name: string, ifname: string, specs: PluginSpec[], more: object = {}) {
  const plugins = specs.map(spec => {
    const [type, behaviour, keys] = typeof spec === 'string' ? [spec, {}] : spec
    return { type, fake: { behaviour }, ...keys }
  })
  return { name, ifname, plugins, ...more }
}

/** Two networks of two plugins and of one, that do as `behaviour` says by position. */
function three(behaviour: readonly Verbs[] = []) {
  const [bridge = {}, tuning = {}, macvlan = {}] = behaviour
  return [
    net('blue', 'net1', [
      ['bridge', bridge],
      ['tuning', tuning],
    ]),
    net('green', 'net2', [['macvlan', macvlan]]),
  ]
}

interface Call {
  id?: string
  netns?: string
  path?: string
  args?: string
  name?: string
  networks?: unknown
  config?: object
  queuedAt?: number
}

async function call(command: string, options: Call = {}) {
  const { networks, name = 'hawser', config } = options
  const plain = command === 'GC' || command === 'STATUS'
  const request: CniRequest = {
    env: {
      CNI_COMMAND: command,
      CNI_CONTAINERID: plain ? '' : (options.id ?? 'c1'),
      CNI_NETNS: plain ? '' : (options.netns ?? netns),
      CNI_IFNAME: plain ? '' : 'eth0',
      CNI_ARGS: options.args ?? 'IgnoreUnknown=1;K8S_POD_NAME=web',
      CNI_PATH: options.path ?? fake.folder,
    },
    config: JSON.stringify({ cniVersion: '1.1.0', name, type: 'hawser', networks, ...config }),
  }
  const { exit, stdout } = await answer(node, request, options.queuedAt)
  const json = stdout === '' ? undefined : JSON.parse(stdout)
  expect(exit).toBe(json?.code === undefined ? 0 : 1)
  return json
}

/** What plugins were asked since the last look, as `VERB plugin interface`. */
const asked = (): string[] => fake.asked().map(describeCall)
const describeCall = ({ env, config }: Asked): string =>
  `${env['CNI_COMMAND']} ${config['type']} ${env['CNI_IFNAME']}`
const ALL_DELS = ['DEL macvlan net2', 'DEL tuning net1', 'DEL bridge net1']

function expectNothing(): void {
  expect(state.list()).toEqual([])
  expect(state.allSecondaries()).toEqual([])
  expect(plane.pods()).toEqual([])
}

describe('ADD', () => {
  test('makes the own interface, then the others in order, and answers with the own one', async () => {
    const result = await call('ADD', { networks: three(), args: 'A=1;IP=10.0.0.9;MAC=;B=2' })
    expect(result.interfaces).toMatchObject([{ name: 'eth0' }])
    expect(result.ips).toMatchObject([{ address: '10.0.0.9/32' }, { address: 'fd00::2/128' }])
    expect(plane.calls).toEqual([`attach ${ID}`])
    const calls = fake.asked()
    expect(calls.map(describeCall)).toEqual([
      'ADD bridge net1',
      'ADD tuning net1',
      'ADD macvlan net2',
    ])
    for (const { env, cwd } of calls) {
      expect(env).toMatchObject({ CNI_CONTAINERID: 'c1', CNI_NETNS: netns, CNI_PATH: fake.folder })
      // What is asked for the first interface is not asked for the others.
      expect([env['CNI_ARGS'], cwd]).toEqual(['A=1;B=2', '/'])
    }
    const bridge = { name: 'bridge', sandbox: netns }
    expect(calls.map(({ config }) => config)).toMatchObject([
      { name: 'blue', cniVersion: '1.1.0' },
      {
        name: 'blue',
        cniVersion: '1.1.0',
        prevResult: { cniVersion: '1.1.0', interfaces: [bridge] },
      },
      { name: 'green', cniVersion: '1.1.0' },
    ])
    expect(calls[2]?.config).not.toHaveProperty('prevResult')
    const kept = state.secondaries(KEY)
    expect(kept).toMatchObject([
      { position: 0, netns, args: 'A=1;B=2', path: fake.folder },
      { position: 1 },
    ])
    expect(JSON.parse(kept[0]!.result!)).toMatchObject({
      interfaces: [bridge, { name: 'tuning', sandbox: netns }],
    })
    expect(podFacts(plane.pods(), state)).toMatchObject([
      {
        id: ID,
        secondaries: [
          { network: 'blue', ifname: 'net1', plugins: ['bridge', 'tuning'] },
          { network: 'green', ifname: 'net2', ips: ['192.0.2.5/24'] },
        ],
      },
    ])
  })

  test('makes what is asked for only when it is', async () => {
    const networks = [
      net('blue', 'net1', ['bridge']),
      net('green', 'net2', ['ptp'], { when: 'asked' }),
    ]
    const config = { runtimeConfig: { [ANNOTATIONS]: { 'hawser.dev/networks': 'green' } } }
    await call('ADD', { networks })
    expect(asked()).toEqual(['ADD bridge net1'])
    await call('ADD', { networks, config, id: 'c2' })
    expect(asked()).toEqual(['ADD bridge net1', 'ADD ptp net2'])
    const [unknown] = [{ runtimeConfig: { [ANNOTATIONS]: { 'hawser.dev/networks': 'red' } } }]
    expect(await call('ADD', { networks, config: unknown, id: 'c3' })).toMatchObject({
      code: 7,
      msg: 'annotation hawser.dev/networks: red: no such network, there are blue, green',
    })
    expect(state.list()).toHaveLength(2)
  })

  const POSITIONS = [
    { fails: 0, asked: ['ADD bridge net1', 'DEL tuning net1', 'DEL bridge net1'], network: 'blue' },
    {
      fails: 1,
      asked: ['ADD bridge net1', 'ADD tuning net1', 'DEL tuning net1', 'DEL bridge net1'],
      network: 'blue',
    },
    {
      fails: 2,
      asked: ['ADD bridge net1', 'ADD tuning net1', 'ADD macvlan net2', ...ALL_DELS],
      network: 'green',
    },
  ]
  test.each(POSITIONS)(
    'undoes all when plugin $fails refuses',
    async ({ fails, network, ...expected }) => {
      const behaviour = [{}, {}, {}].map((_, k): Verbs => (k === fails ? { ADD: 'refuse' } : {}))
      expect(await call('ADD', { networks: three(behaviour) })).toMatchObject({
        code: 117,
        msg: expect.stringMatching(new RegExp(`^network ${network}: plugin .*: ADD is refused$`)),
        details: 'ask again',
      })
      const calls = fake.asked()
      expect(calls.map(describeCall)).toEqual(expected.asked)
      // What was made whole is undone with its result, what was not without one.
      const dels = calls.filter(({ env }) => env['CNI_COMMAND'] === 'DEL')
      expect(dels.map(({ config }) => 'prevResult' in config)).toEqual(
        dels.map(({ config }) => config['name'] !== network),
      )
      expect(plane.calls).toEqual([`attach ${ID}`, `detach ${ID}`])
      expectNothing()
    },
  )

  test.each<[Behaviour, number, RegExp]>([
    ['unknown', 5, /network blue: plugin bridge: who\?/],
    ['fail', 5, /plugin bridge: it ended with 9: out of order/],
    ['junk', 6, /plugin bridge: its answer is not JSON/],
    ['nothing', 6, /plugin bridge: its answer is empty/],
    ['flood', 6, /plugin bridge: it answers more than/],
  ])('fails with a plugin that does: %s', async (behaviour, code, msg) => {
    const networks = [net('blue', 'net1', [['bridge', { ADD: behaviour }]])]
    expect(await call('ADD', { networks })).toMatchObject({ code, msg: expect.stringMatching(msg) })
    expect(asked()).toEqual(['ADD bridge net1', 'DEL bridge net1'])
    expectNothing()
  })

  test('is on disk before a plugin is called, and ends with its time', async () => {
    state.close()
    node = startNode(new Turns(8, 2500))
    const adding = call('ADD', { networks: three([{}, {}, { ADD: 'hang' }]) })
    await until('the plugin hangs', () => fake.pids().length > 0)
    expect(state.get(KEY)).toMatchObject({ phase: 'reserved' })
    const kept = state.secondaries(KEY)
    expect(kept.map(each => each.result !== undefined)).toEqual([true, false])
    expect(await adding).toMatchObject({ code: 11 })
    await node.turns.idle()
    expect(fake.pids().filter(isRunning)).toEqual([])
    expect(asked().slice(-3)).toEqual(ALL_DELS)
    expectNothing()
  })

  test('what can not be undone is undone by and by; the own interface goes at once', async () => {
    const refused = await call('ADD', {
      networks: three([{ DEL: 'refuse' }, {}, { ADD: 'refuse' }]),
    })
    expect(refused).toMatchObject({ msg: 'network green: plugin macvlan: ADD is refused' })
    expect([state.list(), plane.pods()]).toEqual([[], []])
    expect(state.secondaries(KEY)).toMatchObject([{ position: 0 }])
    expect(secondaryNotes(state)).toEqual([
      `${ID} is gone, its net1 of network blue is not undone yet`,
    ])
    asked()
    await node.pods.giveBackOrphans()
    expect(asked()).toEqual(['DEL tuning net1', 'DEL bridge net1'])
    expect(records.at(-1)).toMatchObject({
      level: 'error',
      cause: expect.stringMatching(/DEL is refused/),
    })
    // Another ADD of the same attachment has to undo it first.
    expect(await call('ADD')).toMatchObject({ code: 117 })
    expect(state.list()).toEqual([])
  })

  test('asks nobody when a plugin is missing, or may not be run', async () => {
    const networks = [...three(), net('red', 'net3', ['vlan'])]
    expect(await call('ADD', { networks })).toMatchObject({
      code: 4,
      msg: `network red: plugin vlan: not in ${fake.folder}`,
    })
    expect(asked()).toEqual([])
    expectNothing()
  })

  test('does not touch an interface that is there already', async () => {
    const stranger = await namespaces.add('stranger')
    await ip(stranger, 'link', 'add', 'net2', 'type', 'veth', 'peer', 'name', 'other')
    expect(await call('ADD', { networks: three(), netns: stranger })).toMatchObject({
      code: 103,
      msg: `network green: net2 in ${stranger}: the interface is there already`,
    })
    expect(asked()).toEqual([
      'ADD bridge net1',
      'ADD tuning net1',
      'DEL tuning net1',
      'DEL bridge net1',
    ])
    expectNothing()
  })

  test('of a configuration that can not be makes nothing', async () => {
    for (const networks of [[net('a', 'eth0', ['ptp'])], [net('a', 'net1', ['../ptp'])], 7]) {
      expect(await call('ADD', { networks })).toMatchObject({ code: 7 })
    }
    expect(plane.calls).toEqual([])
    expect(asked()).toEqual([])
  })

  test('a second time undoes what an earlier one left', async () => {
    await call('ADD', { networks: three() })
    await plane.detach(ID)
    // The pod lost its interface, so the runtime tries again.
    expect(await call('ADD', { networks: [net('red', 'net5', ['ptp'])] })).toMatchObject({
      ips: {},
    })
    expect(asked().slice(3)).toEqual([...ALL_DELS, 'ADD ptp net5'])
    expect(state.secondaries(KEY)).toHaveLength(1)
  })
})

describe('DEL', () => {
  test('undoes in reverse what is kept, whatever the configuration says by then', async () => {
    await call('ADD', { networks: three() })
    fake.asked()
    const changed = [net('other', 'net9', ['ptp'])]
    expect(await call('DEL', { networks: changed, netns: '', path: '' })).toBeUndefined()
    const calls = fake.asked()
    expect(calls.map(describeCall)).toEqual(ALL_DELS)
    for (const { env, config } of calls) {
      expect(env).toMatchObject({ CNI_CONTAINERID: 'c1', CNI_NETNS: netns, CNI_PATH: fake.folder })
      expect(config).toMatchObject({ cniVersion: '1.1.0', prevResult: { cniVersion: '1.1.0' } })
    }
    expect(calls[1]?.config['prevResult']).toEqual(calls[2]?.config['prevResult'])
    expect(plane.calls.at(-1)).toBe(`detach ${ID}`)
    expectNothing()
    expect(await call('DEL', { networks: changed })).toBeUndefined()
    expect(asked()).toEqual([])
  })

  test('works after a restart', async () => {
    await call('ADD', { networks: three() })
    await restart()
    expect(plane.pods()).toHaveLength(1)
    expect(asked()).toHaveLength(3)
    expect(await call('DEL', { networks: 'junk' })).toBeUndefined()
    expect(asked()).toEqual(ALL_DELS)
    expectNothing()
  })

  test('goes on behind one that fails, says so, and works at the next attempt', async () => {
    await call('ADD', { networks: three([{}, { DEL: 'refuse' }, { DEL: 'fail' }]) })
    asked()
    expect(await call('DEL')).toMatchObject({
      code: 5,
      msg: expect.stringMatching(/^network green: plugin macvlan/),
    })
    // A network's list ends where it fails, as a runtime has it.
    expect(asked()).toEqual(['DEL macvlan net2', 'DEL tuning net1'])
    expect([state.list(), plane.pods()]).toEqual([[], []])
    const rows = state.secondaries(KEY)
    expect(rows).toHaveLength(2)
    expect(await call('DEL')).toMatchObject({ code: 5 })
    for (const row of rows) {
      state.keepSecondary(KEY, { ...row, config: row.config.replace(/refuse|fail/, 'good') })
    }
    asked()
    expect(await call('DEL')).toBeUndefined()
    expect(asked()).toEqual(ALL_DELS)
    expectNothing()
  })

  test('passes over a plugin that does not speak the version, and waits for one that is missing', async () => {
    await call('ADD', { networks: three([{}, { DEL: 'too-new' }]) })
    asked()
    const [there, elsewhere] = [join(fake.folder, 'macvlan'), join(fake.folder, 'elsewhere')]
    renameSync(there, elsewhere)
    expect(await call('DEL')).toBeUndefined()
    expect(asked()).toEqual(['DEL tuning net1', 'DEL bridge net1'])
    const told = records.filter(each => String(each['msg']).startsWith('a plugin can not undo'))
    expect(told).toMatchObject([
      { plugin: 'macvlan', msg: 'a plugin can not undo its part: tried again later' },
      { plugin: 'tuning', msg: 'a plugin can not undo its part: it is passed over' },
    ])
    expect(state.list()).toEqual([])
    expect(secondaryNotes(state)).toHaveLength(1)
    renameSync(elsewhere, there)
    await node.pods.collect()
    expect(asked()).toEqual(['DEL macvlan net2'])
    expectNothing()
  })

  test('that was queued does it too, unless it means an earlier pod', async () => {
    await call('ADD', { networks: three() })
    asked()
    expect(await call('DEL', { queuedAt: 1 })).toBeUndefined()
    expect(asked()).toEqual([])
    expect(await call('DEL', { queuedAt: Date.now() + 1000 })).toBeUndefined()
    expect(asked()).toEqual(ALL_DELS)
    expectNothing()
  })
})

describe('without a DEL', () => {
  test('a half-made ADD of a dead daemon is undone by the next one', async () => {
    state.close()
    node = startNode(new Turns(8, 2500))
    const adding = call('ADD', { networks: three([{}, {}, { ADD: 'hang' }]) })
    await until('the plugin hangs', () => fake.pids().length > 0)
    const [row, rows] = [state.get(KEY)!, state.secondaries(KEY)]
    await adding
    await node.turns.idle()
    // As if the daemon had died while it hung.
    state.insert(row)
    for (const each of rows) {
      state.keepSecondary(KEY, { ...each, config: each.config.replace('hang', 'good') })
    }
    asked()
    await restart()
    const calls = fake.asked()
    expect(calls.map(describeCall)).toEqual(ALL_DELS)
    expect(calls.map(({ config }) => 'prevResult' in config)).toEqual([false, true, true])
    expectNothing()
  })

  test('a namespace that is gone takes them along', async () => {
    const lost = await namespaces.add('lost')
    await call('ADD', { networks: three(), netns: lost })
    await call('ADD', { networks: three(), id: 'c2' })
    await namespaces.remove(lost)
    asked()
    for (let k = 0; k < LOOKS; k++) await node.pods.collect()
    const calls = fake.asked()
    expect(calls.map(describeCall)).toEqual(ALL_DELS)
    expect(calls.map(({ env }) => [env['CNI_CONTAINERID'], env['CNI_NETNS']])).toEqual(
      Array(3).fill(['c1', '']),
    )
    expect(state.list()).toMatchObject([{ containerId: 'c2' }])
    expect(state.allSecondaries()).toHaveLength(2)
  })

  test('another boot forgets the pod, and its plugins are told', async () => {
    await call('ADD', { networks: three() })
    asked()
    new StateFile(join(folder, 'state.db'), 'another').close()
    await restart()
    expect(asked()).toEqual(ALL_DELS)
    expectNothing()
  })
})

describe('CHECK', () => {
  test('asks each plugin with what was answered, and passes on what it says', async () => {
    const networks = [
      ...three([{}, {}, { CHECK: 'refuse' }]),
      net('old', 'net3', ['ptp'], { cniVersion: '0.3.1' }),
      net('dull', 'net4', ['ptp'], { disableCheck: true }),
    ]
    const prevResult = await call('ADD', { networks })
    fake.asked()
    expect(await call('CHECK', { config: { prevResult } })).toMatchObject({
      code: 117,
      msg: 'network green: plugin macvlan: CHECK is refused',
    })
    const calls = fake.asked()
    expect(calls.map(describeCall)).toEqual([
      'CHECK bridge net1',
      'CHECK tuning net1',
      'CHECK macvlan net2',
    ])
    for (const { config } of calls.slice(0, 2)) {
      expect(config['prevResult']).toMatchObject({
        interfaces: [{ name: 'bridge' }, { name: 'tuning' }],
      })
    }
    expect(await call('DEL')).toBeUndefined()
    // Before 0.4.0 a DEL has no prevResult.
    const dels = fake.asked().map(({ config }) => [config['cniVersion'], 'prevResult' in config])
    expect(dels.slice(0, 2)).toEqual([
      ['1.1.0', true],
      ['0.3.1', false],
    ])
  })
})

describe('STATUS and GC', () => {
  test('STATUS asks the plugins of what every pod gets, in versions that have it', async () => {
    const networks = [
      net('blue', 'net1', ['bridge', ['tuning', { STATUS: 'refuse' }], 'ptp']),
      net('green', 'net2', ['macvlan'], { when: 'asked' }),
      net('old', 'net3', ['macvlan'], { cniVersion: '1.0.0' }),
    ]
    expect(await call('STATUS', { networks })).toBeUndefined()
    expect([...node.remarks!.values()]).toEqual([
      ['network blue: plugin tuning: STATUS is refused'],
    ])
    expect(asked()).toEqual(['STATUS bridge ', 'STATUS tuning '])
    expect(await call('STATUS', { networks: networks.slice(1) })).toBeUndefined()
    expect(await call('STATUS', { networks: [net('a', 'net1', [])] })).toMatchObject({ code: 7 })
    expect(asked()).toEqual([])
  })

  test('GC tells each network what we still have of it', async () => {
    await call('ADD', { networks: three() })
    await call('ADD', { networks: three(), id: 'c2' })
    await call('ADD', { networks: three().slice(1), id: 'c3', name: 'other' })
    asked()
    const valid = [{ containerID: 'c1', ifname: 'eth0' }]
    const config = { 'cni.dev/valid-attachments': valid }
    const networks = [
      ...three([{ GC: 'refuse' }]),
      net('old', 'net3', ['ptp'], { cniVersion: '1.0.0' }),
    ]
    expect(await call('GC', { networks, config })).toMatchObject({
      code: 5,
      msg: 'network blue: plugin bridge: GC is refused',
    })
    const calls = fake.asked()
    expect(calls.map(describeCall)).toEqual([
      ...ALL_DELS,
      'GC bridge ',
      'GC tuning ',
      'GC macvlan ',
    ])
    const lists = calls.slice(3).map(each => each.config['cni.dev/valid-attachments'])
    const blue = [{ containerID: 'c1', ifname: 'net1' }]
    expect(lists).toEqual([
      blue,
      blue,
      [
        { containerID: 'c1', ifname: 'net2' },
        { containerID: 'c3', ifname: 'net2' },
      ],
    ])
    expect(await call('GC', { networks })).toBeUndefined()
    expect(asked()).toEqual([])
  })
})

describe('a further interface of our own', () => {
  const INNER = 'blue/c1/net1'
  const routes = [{ dst: '10.60.0.0/16' }]
  const own = (more: PluginSpec[] = []) => [
    net('blue', 'net1', [['hawser', {}, { mtu: 1400, routes }], ...more]),
  ]

  test('is made in the same turn, with a row of its own, and goes with the pod', async () => {
    state.close()
    node = startNode(new Turns(1))
    const result = await call('ADD', { networks: own(['tuning']) })
    expect(result.ips).toMatchObject([{ address: '10.0.0.2/32' }, { address: 'fd00::2/128' }])
    expect(plane.calls).toEqual([`attach ${ID}`, `attach ${INNER}`])
    expect(plane.specs[0]).not.toHaveProperty('further')
    expect(plane.specs[1]).toMatchObject({
      ...{ ifname: 'net1', netns, mtu: 1400, ip4: '10.0.0.3', further: ['10.60.0.0/16'] },
    })
    expect(state.list()).toMatchObject([{ ifname: 'eth0' }, { network: 'blue', phase: 'attached' }])
    expect(fake.asked()[0]?.config['prevResult']).toMatchObject({
      interfaces: [{ name: 'net1', sandbox: netns }],
      ips: [{ address: '10.0.0.3/32' }, { address: 'fd00::3/128' }],
    })
    expect(podFacts(plane.pods(), state)[0]?.secondaries).toMatchObject([
      { plugins: ['hawser', 'tuning'], ips: ['10.0.0.3/32', 'fd00::3/128', '192.0.2.4/24'] },
    ])
    expect(await call('CHECK', { config: { prevResult: result } })).toBeUndefined()
    expect(asked()).toEqual(['CHECK tuning net1'])
    await plane.detach(INNER)
    expect(await call('CHECK', { config: { prevResult: result } })).toMatchObject({
      code: 104,
      msg: expect.stringMatching(/^network blue: blue\/c1\/net1: /),
    })
    expect(await call('DEL')).toBeUndefined()
    expect(plane.calls.slice(-2)).toEqual([`detach ${INNER}`, `detach ${ID}`])
    expectNothing()
  })

  test('many at once, with more pods than turns', async () => {
    const ids = Array.from({ length: 12 }, (_, k) => `p${k}`)
    const added = await Promise.all(ids.map(id => call('ADD', { id, networks: own() })))
    expect(added.filter(each => each.code !== undefined)).toEqual([])
    expect(plane.pods()).toHaveLength(24)
    await Promise.all(ids.map(id => call('DEL', { id })))
    expectNothing()
  })

  test('is undone when what comes behind it fails', async () => {
    const failed = await call('ADD', { networks: own([['tuning', { ADD: 'fail' }]]) })
    expect(failed).toMatchObject({
      code: 5,
      msg: expect.stringMatching(/^network blue: plugin tuning/),
    })
    expect(plane.calls.slice(-2)).toEqual([`detach ${INNER}`, `detach ${ID}`])
    expectNothing()
  })

  test('that is refused takes the pod along', async () => {
    const wrong = [net('blue', 'net1', [['hawser', {}, { routes: [{ dst: '10.60.0.1/16' }] }]])]
    expect(await call('ADD', { networks: wrong })).toMatchObject({
      code: 7,
      msg: expect.stringMatching(/^network blue: .*routes\[0\]\.dst: 10\.60\.0\.1\/16: /),
    })
    const networks = [net('blue', 'net1', [['hawser', {}, { ipam: { type: 'none' } }]])]
    expect(await call('ADD', { networks })).toMatchObject({
      code: 4,
      msg: `network blue: IPAM plugin none: not in ${fake.folder}`,
    })
    expectNothing()
  })

  test('is no stale attachment, and is not collected by itself', async () => {
    const lost = await namespaces.add('owner')
    await call('ADD', { networks: own(['tuning']), netns: lost })
    const none = { 'cni.dev/valid-attachments': [] }
    expect(await call('GC', { name: 'blue', config: none })).toBeUndefined()
    expect(state.list()).toHaveLength(2)
    await restart()
    expect(plane.specs.map(each => each.further)).toEqual([undefined, ['10.60.0.0/16']])
    await namespaces.remove(lost)
    asked()
    for (let k = 0; k < LOOKS; k++) await node.pods.collect()
    expect(asked()).toEqual(['DEL tuning net1'])
    expect(plane.calls.filter(each => each.startsWith('detach'))).toEqual([
      `detach ${INNER}`,
      `detach ${ID}`,
    ])
    expectNothing()
  })

  test('speaks for itself in STATUS', async () => {
    const ranges = [[{ subnet: '172.16.0.0/24' }]]
    const networks = [net('blue', 'net1', [['hawser', {}, { ipam: { type: 'hawser', ranges } }]])]
    expect(await call('STATUS', { networks })).toMatchObject({
      code: 7,
      msg: expect.stringMatching(/^network blue: /),
    })
    expect(await call('STATUS', { networks: own() })).toBeUndefined()
  })
})
