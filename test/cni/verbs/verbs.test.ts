/**
 * The verbs on a packet engine without packets, with real network namespaces: what they answer,
 * what they ask of the engine, and what is on disk at every moment. Long, because a verb is mostly
 * tested by what the others see of it.
 */

import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import type { Node } from '../../../cni/pods/node.ts'
import { TRIES } from '../../../cni/pods/troubles.ts'
import { Turns } from '../../../cni/pods/turns.ts'
import type { CniRequest } from '../../../cni/spec/request.ts'
import { CNI_VERSIONS } from '../../../cni/spec/versions.ts'
import type { Attachment, State } from '../../../cni/state/state.ts'
import { answer } from '../../../cni/verbs/index.ts'
import { readiness } from '../../../cni/verbs/status.ts'
import { ip, Namespaces } from '../../harness/netns.ts'
import { fakeNode } from '../fake-node.ts'
import { STATUS as ENGINE, FakePlane } from '../fake-plane.ts'

const SELF = { name: 'node-a', vtep: '192.0.2.11', podCidrs: ['10.0.0.0/28', 'fd00::/120'] }

const namespaces = new Namespaces('verbs')
let netns = ''
let folder = ''
let plane: FakePlane
let state: State
let node: Node
let records: Record<string, unknown>[] = []

beforeAll(async () => {
  netns = await namespaces.add('pod')
})
afterAll(() => namespaces.removeAll())
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'hawser-verbs-'))
  plane = new FakePlane(SELF, {})
  node = startNode()
})
afterEach(() => {
  state.close()
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
}

/** Puts another row in the place of the only one. */
function change(change: Partial<Attachment>): void {
  const row = state.list()[0]!
  state.release(row)
  state.insert({ ...row, ...change })
}

interface Call {
  id?: string
  netns?: string
  ifname?: string
  args?: string
  config?: object
  text?: string
  queuedAt?: number
}

async function call(command: string, options: Call = {}) {
  const config = { cniVersion: '1.1.0', name: 'hawser', type: 'hawser', ...options.config }
  const request: CniRequest = {
    env: {
      CNI_COMMAND: command,
      CNI_CONTAINERID: options.id ?? 'c1',
      CNI_NETNS: options.netns ?? netns,
      CNI_IFNAME: options.ifname ?? 'eth0',
      CNI_ARGS: options.args ?? '',
      CNI_PATH: '/opt/cni/bin',
    },
    config: options.text ?? JSON.stringify(config),
  }
  const { exit, stdout } = await answer(node, request, options.queuedAt)
  const json = stdout === '' ? undefined : JSON.parse(stdout)
  expect(exit).toBe(json?.code === undefined ? 0 : 1)
  return json
}

const ID = 'hawser/c1/eth0'

describe('ADD', () => {
  test('reserves, attaches, answers', async () => {
    let seen: unknown
    const attach = plane.attach.bind(plane)
    plane.attach = (spec, options) => {
      seen = state.get({ network: 'hawser', containerId: 'c1', ifname: 'eth0' })
      return attach(spec, options)
    }
    const result = await call('ADD', {
      args: 'K8S_POD_NAMESPACE=default;K8S_POD_NAME=web',
      config: { attach: 'xdp', mtu: 1400, dns: { nameservers: ['10.96.0.10'] } },
    })
    expect(seen).toMatchObject({ phase: 'reserved', ip4: '10.0.0.2', ip6: 'fd00::2', netns })
    expect(result).toEqual({
      cniVersion: '1.1.0',
      interfaces: [{ name: 'eth0', mac: '00:00:00:00:00:00', mtu: 1400, sandbox: netns }],
      ips: [
        { address: '10.0.0.2/32', gateway: '10.0.0.1', interface: 0 },
        { address: 'fd00::2/128', gateway: 'fd00::1', interface: 0 },
      ],
      routes: [{ dst: '0.0.0.0/0' }, { dst: '::/0' }],
      dns: { nameservers: ['10.96.0.10'] },
    })
    expect(plane.pods()).toMatchObject([{ id: ID, kind: 'xdp', netns, ifname: 'eth0', mtu: 1400 }])
    expect(state.list()).toMatchObject([{ phase: 'attached', mtu: 1400, pod: 'default/web' }])
    expect(records).toMatchObject([
      {
        msg: 'cni',
        verb: 'ADD',
        container: 'c1',
        network: 'hawser',
        ifname: 'eth0',
        pod: 'default/web',
        outcome: 'ok',
        ms: expect.any(Number),
      },
    ])
  })

  test('answers in every version, errors too', async () => {
    for (const [k, cniVersion] of CNI_VERSIONS.entries()) {
      expect(await call('ADD', { id: `v${k}`, config: { cniVersion } })).toMatchObject({
        cniVersion,
      })
      const refused = await call('ADD', { id: `v${k}x`, config: { cniVersion, attach: 'no' } })
      expect(refused).toMatchObject({ cniVersion, code: 7 })
    }
    expect(await call('ADD', { config: { cniVersion: '9.9.9' } })).toMatchObject({
      cniVersion: '1.1.0',
      code: 1,
    })
  })

  test('keeps what came before it in the chain', async () => {
    const prevResult = {
      interfaces: [{ name: 'net1', sandbox: netns }],
      ips: [{ address: '192.0.2.7/24', interface: 0 }],
    }
    expect(await call('ADD', { config: { prevResult } })).toMatchObject({
      interfaces: [{ name: 'net1' }, { name: 'eth0' }],
      ips: [{ interface: 0 }, { interface: 1 }, { interface: 1 }],
    })
  })

  test('refuses a namespace that is none, or its own', async () => {
    expect(await call('ADD', { netns: '/run/netns/hwt-none' })).toMatchObject({
      code: 4,
      msg: expect.stringContaining('/run/netns/hwt-none'),
    })
    expect(await call('ADD', { netns: '/etc/hostname' })).toMatchObject({ code: 4 })
    expect(await call('ADD', { netns: '/proc/self/ns/mnt' })).toMatchObject({ code: 4 })
    expect(await call('ADD', { netns: '/proc/self/ns/net' })).toMatchObject({ code: 8 })
    expect(state.list()).toEqual([])
    expect(plane.calls).toEqual([])
  })

  test('an interface of that name is an error, and stays', async () => {
    await ip(netns, 'link', 'add', 'eth7', 'type', 'bridge')
    expect(await call('ADD', { ifname: 'eth7' })).toMatchObject({
      code: 103,
      msg: expect.stringContaining(`eth7 in ${netns}`),
    })
    expect(await ip(netns, '-br', 'link', 'show', 'eth7')).toContain('eth7')
    expect(plane.pods()).toEqual([])
    expect(state.list()).toEqual([])
    await ip(netns, 'link', 'del', 'eth7')
  })

  test('the same attachment again is an error while it is there, and made anew when it is dead', async () => {
    await call('ADD')
    await ip(netns, 'link', 'add', 'eth0', 'type', 'bridge')
    expect(await call('ADD')).toMatchObject({ code: 103, details: 'DEL it first' })
    expect(plane.calls).toEqual([`attach ${ID}`])
    await ip(netns, 'link', 'del', 'eth0')
    expect(await call('ADD')).toMatchObject({ ips: [{ address: '10.0.0.3/32' }, {}] })
    expect(plane.calls.slice(1)).toEqual([`detach ${ID}`, `attach ${ID}`])
    expect(state.list()).toHaveLength(1)
  })

  test('what fails leaves nothing, and the addresses cool down', async () => {
    plane.refuseAttach = new Error('TUN eth0: Operation not permitted')
    expect(await call('ADD')).toMatchObject({ code: 5, msg: 'TUN eth0: Operation not permitted' })
    plane.refuseAttach = Object.assign(new Error('there already'), { code: 'EEXIST' })
    expect(await call('ADD')).toMatchObject({ code: 103 })
    expect(state.list()).toEqual([])
    expect(plane.pods()).toEqual([])
    expect(state.addressUse(4).cooling.size).toBe(2)
  })

  test('a state file that fails after the interface was made takes it back', async () => {
    const { markAttached } = state
    state.markAttached = () => {
      throw Object.assign(new Error('database or disk is full'), { code: 'ERR_SQLITE_ERROR' })
    }
    expect(await call('ADD')).toMatchObject({
      code: 5,
      msg: `${state.path}: database or disk is full`,
    })
    state.markAttached = markAttached
    expect(plane.calls).toEqual([`attach ${ID}`, `detach ${ID}`])
    expect(state.list()).toEqual([])
  })

  test('what can not be undone stays reserved until a DEL gets it done', async () => {
    plane.refuseDetach = new Error('busy')
    state.markAttached = () => {
      throw new Error('lost')
    }
    expect(await call('ADD')).toMatchObject({ code: 100, msg: 'lost' })
    expect(state.list()).toMatchObject([{ phase: 'reserved' }])
    expect(await call('DEL')).toMatchObject({ code: 5, msg: `${ID}: busy` })
    expect(state.list()).toHaveLength(1)
    plane.refuseDetach = undefined
    expect(await call('DEL')).toBeUndefined()
    expect(state.list()).toEqual([])
  })

  test('without an address left says try again later', async () => {
    plane.self = { ...SELF, podCidrs: ['10.0.0.0/30'] }
    await call('ADD')
    expect(await call('ADD', { id: 'c2' })).toMatchObject({
      code: 11,
      msg: 'no IPv4 address is left in 10.0.0.0/30',
    })
    await call('DEL')
    expect(await call('ADD', { id: 'c2' })).toMatchObject({ ips: [{ address: '10.0.0.2/32' }] })
  })

  test('that takes too long gives up and is undone', async () => {
    state.close()
    node = startNode(new Turns(1, 10))
    const gate = Promise.withResolvers<void>()
    plane.gate = gate.promise
    expect(await call('ADD')).toMatchObject({ code: 11 })
    expect(state.list()).toMatchObject([{ phase: 'reserved' }])
    gate.resolve()
    await node.turns.idle()
    expect(plane.calls).toEqual([`attach ${ID}`, `detach ${ID}`])
    expect(state.list()).toEqual([])
  })

  test('a DEL of the same attachment waits for it, and wins', async () => {
    const gate = Promise.withResolvers<void>()
    plane.gate = gate.promise
    const adding = call('ADD')
    const deleting = call('DEL')
    gate.resolve()
    expect(await adding).toMatchObject({ ips: [{}, {}] })
    expect(await deleting).toBeUndefined()
    expect(plane.calls).toEqual([`attach ${ID}`, `detach ${ID}`])
    expect(state.list()).toEqual([])
  })

  test('a burst gets distinct addresses', async () => {
    plane.self = { ...SELF, podCidrs: ['10.0.0.0/24', 'fd00::/120'] }
    const results = await Promise.all(
      Array.from({ length: 100 }, (_, k) => call('ADD', { id: `b${k}` })),
    )
    const addresses = results.flatMap(result => result.ips.map((each: CniIp) => each.address))
    expect(new Set(addresses).size).toBe(200)
  })
})

interface CniIp {
  address: string
}

describe('DEL', () => {
  test('lets go first and frees the addresses last', async () => {
    await call('ADD')
    const detach = plane.detach.bind(plane)
    let during: unknown
    plane.detach = async id => {
      await detach(id)
      during = state.list().map(each => each.ip4)
    }
    expect(await call('DEL')).toBeUndefined()
    expect(during).toEqual(['10.0.0.2'])
    expect(state.list()).toEqual([])
    expect(plane.pods()).toEqual([])
  })

  test('forgives: twice, never added, no or a dead namespace, another configuration', async () => {
    expect(await call('DEL')).toBeUndefined()
    const cases: Call[] = [
      {},
      { netns: '' },
      { netns: '/run/netns/hwt-gone' },
      { netns: 'not even a path' },
      { config: { cniVersion: '0.1.0', attach: 'other', mtu: -1, prevResult: 7, ipam: 'x' } },
      { config: { cniVersion: '99.0' } },
      { config: { cniVersion: 7 } },
    ]
    for (const each of cases) {
      await call('ADD')
      expect(await call('DEL', each)).toBeUndefined()
      expect(state.list()).toEqual([])
      expect(await call('DEL', each)).toBeUndefined()
    }
  })

  test('means only its own network, container and interface', async () => {
    await call('ADD')
    await call('DEL', { id: 'c2' })
    await call('DEL', { ifname: 'eth1' })
    await call('DEL', { config: { name: 'other' } })
    expect(plane.pods().map(pod => pod.id)).toEqual([ID])
  })

  test('that was queued before the ADD does not mean it', async () => {
    const before = Date.now() - 1
    await call('ADD')
    expect(await call('DEL', { queuedAt: before })).toBeUndefined()
    expect(plane.pods()).toHaveLength(1)
    expect(await call('DEL', { queuedAt: Date.now() + 1 })).toBeUndefined()
    expect(plane.pods()).toHaveLength(0)
  })
})

describe('CHECK', () => {
  const added = async () => ({ prevResult: await call('ADD') })

  test('is content with what ADD answered, also beside what others added', async () => {
    const { prevResult } = await added()
    expect(await call('CHECK', { config: { prevResult } })).toBeUndefined()
    prevResult.interfaces.push({ name: 'net1', sandbox: netns })
    prevResult.ips.unshift({ address: '192.0.2.1/24', interface: 2 })
    expect(await call('CHECK', { config: { prevResult } })).toBeUndefined()
  })

  test('tells what the engine finds, what prevResult lacks, and another namespace', async () => {
    const config = await added()
    plane.problems = ['eth0 has MTU 1300, not 1450']
    expect(await call('CHECK', { config })).toMatchObject({
      code: 104,
      msg: `${ID}: eth0 has MTU 1300, not 1450`,
    })
    plane.problems = []
    const empty = { prevResult: { interfaces: [], ips: [] } }
    expect((await call('CHECK', { config: empty })).msg).toBe(
      `${ID}: prevResult has no interface eth0 of a pod; prevResult lacks 10.0.0.2; prevResult lacks fd00::2`,
    )
    const other = await namespaces.add('other')
    expect((await call('CHECK', { config, netns: other })).msg).toContain(
      `${other}: not the namespace that was attached (${netns})`,
    )
    await namespaces.remove(other)
  })

  test('never says that no DEL is needed', async () => {
    const config = { prevResult: {} }
    expect(await call('CHECK', { config })).toMatchObject({ code: 104 })
    expect(await call('CHECK', { config, netns: '/run/netns/hwt-none' })).toMatchObject({ code: 4 })
    expect(await call('CHECK')).toMatchObject({ code: 7 })
    expect(await call('CHECK', { config: { ...config, cniVersion: '0.3.1' } })).toMatchObject({
      code: 1,
    })
  })
})

describe('STATUS', () => {
  test('is silent when an ADD would be served', async () => {
    expect(await call('STATUS', { id: '', netns: '', ifname: '' })).toBeUndefined()
  })

  /** No worker has a frame to receive into. */
  function withoutFrames(): void {
    const empty = ENGINE.workers.map(worker => ({ ...worker, smallFree: 0 }))
    const status = plane.status.bind(plane)
    plane.status = () => ({ ...status(), workers: empty })
  }

  test('50: no frames; 51: pods are hurt', async () => {
    withoutFrames()
    const msg = 'no packet frame is left'
    expect(await call('STATUS')).toMatchObject({ code: 50, msg })
    plane.ready = false
    expect(await call('STATUS')).toMatchObject({ code: 51 })
    plane.ready = true
    node.pods.troubles.set(ID, 'no device')
    expect(await call('STATUS')).toMatchObject({
      code: 51,
      msg: `pod ${ID} is not restored: no device`,
    })
  })

  test('says what is wrong with the node, and since when; what does not block is no failure', async () => {
    const since = '2026-01-01T00:00:00.000Z'
    const status = plane.status.bind(plane)
    let blocking = false
    plane.status = () => ({
      ...{ ...status(), ready: !blocking },
      troubles: [{ what: 'device eth0 is down', since, blocking }],
    })
    expect(await call('STATUS')).toBeUndefined()
    blocking = true
    const msg = `device eth0 is down (since ${since})`
    expect(await call('STATUS')).toMatchObject({ code: 51, msg })
    expect(readiness(node)).toEqual({ ready: false, causes: [msg] })
  })

  test('names a pod that is hurt as people do', async () => {
    await call('ADD', { args: 'K8S_POD_NAMESPACE=default;K8S_POD_NAME=web' })
    state.close()
    plane = new FakePlane(plane.self, {})
    plane.refuseAttach = new Error('no device')
    node = startNode()
    await node.pods.restoreAll()
    const msg = `pod default/web (${ID}) is not restored: no device`
    expect(await call('STATUS')).toMatchObject({ code: 51, msg })
  })

  test('says which port mappings are not in force, as they are not one pod', async () => {
    node.pods.troubles.failed('port mappings', 'no nft')
    expect(await call('STATUS')).toMatchObject({
      code: 51,
      msg: 'port mappings are not restored: no nft',
    })
  })

  /** A daemon that can't restore what these pods of an earlier one have, and has tried so often. */
  async function hurt(tries: number, ids: string[]): Promise<void> {
    for (const id of ids) await call('ADD', { id })
    state.close()
    plane = new FakePlane(plane.self, {})
    plane.refuseAttach = new Error('no device')
    node = startNode()
    await node.pods.restoreAll()
    for (let k = 1; k < tries; k++) await node.pods.collect()
  }

  test('51 for a pod that is hurt, but not for ever', async () => {
    const told = `pod ${ID} is not restored: no device`
    await hurt(TRIES - 1, ['c1'])
    expect(await call('STATUS')).toMatchObject({ code: 51, msg: told })
    expect(readiness(node)).toEqual({ ready: false, causes: [told] })
    await node.pods.collect()
    expect(await call('STATUS')).toBeUndefined()
    expect(readiness(node)).toEqual({ ready: true, causes: [] })
    expect(node.pods.troubles.sentences()).toEqual([told])
    // What keeps an ADD from being served is the worse for it.
    withoutFrames()
    const msg = `no packet frame is left; ${told}`
    expect(await call('STATUS')).toMatchObject({ code: 51, msg })
    expect(readiness(node).causes).toEqual(['no packet frame is left'])
  })

  test('51 as long as several pods are hurt and none is served', async () => {
    await hurt(TRIES + 1, ['c1', 'c2'])
    expect((await call('STATUS')).msg.split('; ')).toHaveLength(2)
    expect(readiness(node).ready).toBe(false)
    plane.refuseAttach = undefined
    await call('ADD', { id: 'c3' })
    expect(await call('STATUS')).toBeUndefined()
  })

  test('a pod whose namespace is gone is not hurt', async () => {
    await hurt(1, ['c1'])
    expect(await call('STATUS')).toMatchObject({ code: 51 })
    change({ netnsIno: '1' })
    expect(await call('STATUS')).toBeUndefined()
    expect(node.pods.troubles.size).toBe(1)
  })

  test('a node without an address left is full, and no reason to move its pods away', async () => {
    plane.self = { ...SELF, podCidrs: ['10.0.0.0/30'] }
    await call('ADD')
    expect(await call('ADD', { id: 'c2' })).toMatchObject({ code: 11 })
    expect(await call('STATUS')).toBeUndefined()
    expect(readiness(node)).toEqual({ ready: true, causes: [] })
  })
})

describe('GC', () => {
  const VALID = 'cni.dev/valid-attachments'
  const ids = (): string[] => state.list().map(each => each.containerId)

  test('removes what is not in the list, of this network only', async () => {
    for (const id of ['c1', 'c2', 'c3']) await call('ADD', { id })
    await call('ADD', { id: 'c4', config: { name: 'other' } })
    const nothing = { id: '', netns: '', ifname: '' }
    expect(await call('GC', nothing)).toBeUndefined()
    expect(ids()).toEqual(['c1', 'c2', 'c3', 'c4'])
    const valid = [
      { containerID: 'c1', ifname: 'eth0' },
      { containerID: 'c2', ifname: 'eth1' },
    ]
    expect(await call('GC', { ...nothing, config: { [VALID]: valid } })).toBeUndefined()
    expect(ids()).toEqual(['c1', 'c4'])
    expect(await call('GC', { ...nothing, config: { [VALID]: [] } })).toBeUndefined()
    expect(ids()).toEqual(['c4'])
    expect(plane.pods()).toHaveLength(1)
  })

  test('leaves an ADD alone that is not answered yet', async () => {
    const gate = Promise.withResolvers<void>()
    plane.gate = gate.promise
    const adding = call('ADD')
    expect(await call('GC', { config: { [VALID]: [] } })).toBeUndefined()
    gate.resolve()
    expect(await adding).toMatchObject({ ips: [{}, {}] })
    expect(plane.pods()).toHaveLength(1)
  })

  test('tells what it could not remove', async () => {
    await call('ADD')
    plane.refuseDetach = new Error('busy')
    expect(await call('GC', { config: { [VALID]: [] } })).toMatchObject({
      code: 5,
      msg: `1 of 1 stale: ${ID}: busy`,
    })
  })
})

test('VERSION needs nothing', async () => {
  for (const text of ['', ' \n', '{}', '{"cniVersion":"0.4.0"}']) {
    expect(await call('VERSION', { id: '', netns: '', ifname: '', text })).toEqual({
      cniVersion: text.includes('0.4.0') ? '0.4.0' : '1.1.0',
      supportedVersions: [...CNI_VERSIONS],
    })
  }
})

test('what is not JSON, or JSON that is nothing, has a code', async () => {
  for (const verb of ['ADD', 'DEL', 'CHECK', 'STATUS', 'GC']) {
    expect(await call(verb, { text: '{' })).toMatchObject({ code: 6 })
    for (const text of ['null', '7', '[]', '""']) {
      expect(await call(verb, { text })).toMatchObject({ cniVersion: '1.1.0', code: 7 })
    }
  }
})

describe('after a restart', () => {
  test('pods are taken over with the addresses and the MTU that they have', async () => {
    await call('ADD', { config: { mtu: 1400 } })
    await call('ADD', { id: 'c2', config: { attach: 'xdp' } })
    const before = plane.pods().map(({ port: _, ...pod }) => pod)
    await restart()
    expect(plane.calls).toEqual([`attach ${ID} adopt`, 'attach hawser/c2/eth0 adopt'])
    expect(plane.pods()).toMatchObject(before)
    expect((await call('ADD', { id: 'c3' })).ips[0].address).toBe('10.0.0.4/32')
  })

  test('what was reserved and never answered goes, and its interface if there is one', async () => {
    await call('ADD', { ifname: 'eth5' })
    change({ phase: 'reserved' })
    await restart()
    expect(plane.calls).toEqual(['detach hawser/c1/eth5'])
    expect(state.list()).toEqual([])
    await call('ADD', { ifname: 'eth5' })
    change({ phase: 'reserved' })
    await ip(netns, 'link', 'add', 'eth5', 'type', 'bridge')
    await restart()
    expect(plane.calls).toEqual(['attach hawser/c1/eth5 adopt', 'detach hawser/c1/eth5'])
    expect(state.list()).toEqual([])
    expect(state.addressUse(4).cooling.size).toBe(2)
    await ip(netns, 'link', 'del', 'eth5')
  })

  test('a namespace that is gone takes its attachment along', async () => {
    const gone = await namespaces.add('gone')
    await call('ADD', { netns: gone })
    await namespaces.remove(gone)
    await restart()
    // The start is the first look; the second acts.
    expect(state.list()).toHaveLength(1)
    expect(plane.calls).toEqual([])
    expect(node.pods.troubles.size).toBe(0)
    await node.pods.collect()
    expect(state.list()).toEqual([])
    expect(plane.calls).toEqual([`detach ${ID}`])
  })

  test('a namespace that comes back after the start is served again', async () => {
    await call('ADD')
    const { netnsIno } = state.list()[0]!
    change({ netnsIno: '1' })
    await restart()
    expect(plane.pods()).toEqual([])
    change({ netnsIno })
    await node.pods.collect()
    expect(plane.pods().map(pod => pod.id)).toEqual([ID])
    await node.pods.collect()
    expect(plane.calls).toEqual([`attach ${ID} adopt`])
  })

  test('so does one that has made room for another at the same path', async () => {
    await call('ADD')
    change({ netnsIno: '1' })
    await restart()
    expect(state.list()).toHaveLength(1)
    await node.pods.collect()
    expect(state.list()).toEqual([])
    expect(plane.calls).toEqual([`detach ${ID}`])
  })

  test('a pod that can not be restored is kept, told, and goes with its DEL', async () => {
    await call('ADD')
    state.close()
    plane = new FakePlane(SELF, {})
    plane.refuseAttach = new Error('no AF_XDP here')
    node = startNode()
    await node.pods.restoreAll()
    expect([...node.pods.troubles]).toEqual([[ID, 'no AF_XDP here']])
    expect(records).toMatchObject([{ level: 'error', attachment: ID, cause: 'no AF_XDP here' }])
    expect(await call('STATUS')).toMatchObject({ code: 51 })
    expect((await call('ADD', { id: 'c2' })).code).toBe(5)
    plane.refuseAttach = undefined
    await node.pods.collect()
    expect(node.pods.troubles.size).toBe(0)
    expect(plane.pods().map(pod => pod.id)).toEqual([ID])
    node.pods.troubles.set(ID, 'again')
    expect(await call('DEL')).toBeUndefined()
    expect(node.pods.troubles.size).toBe(0)
    expect(state.list()).toEqual([])
  })

  test('a path that can not be told from a missing mount is kept', async () => {
    await call('ADD')
    change({ netns: '/etc/hostname' })
    await restart()
    expect(state.list()).toHaveLength(1)
    expect(node.pods.troubles.get(ID)).toBe('/etc/hostname: not a network namespace now')
  })
})

describe('collection', () => {
  test('takes what lost its namespace, at the second look, and nothing else', async () => {
    const lost = await namespaces.add('lost')
    await call('ADD')
    await call('ADD', { id: 'c2', netns: lost })
    await node.pods.collect()
    await node.pods.collect()
    expect(plane.pods()).toHaveLength(2)
    await namespaces.remove(lost)
    await node.pods.collect()
    expect(plane.pods()).toHaveLength(2)
    await node.pods.collect()
    expect(plane.pods().map(pod => pod.id)).toEqual([ID])
    expect(state.list().map(each => each.containerId)).toEqual(['c1'])
  })
})

describe('what a runtime asks for beside addresses', () => {
  const mappings = [{ hostPort: 8080, containerPort: 80, protocol: 'tcp' }]
  const mapped = (id: string) =>
    call('ADD', { id, config: { runtimeConfig: { portMappings: mappings } } })
  const PORTS = [{ ip4: '10.0.0.2', ip6: 'fd00::2', mappings }]

  test('reaches the engine, is kept, and reaches the next one', async () => {
    const bandwidth = { ingressRate: 1_000_000, ingressBurst: 0 }
    const mac = '02:00:00:00:00:07'
    const runtimeConfig = { portMappings: mappings, bandwidth, mac, aliases: { net: ['x'] } }
    await call('ADD', { config: { attach: 'xdp', runtimeConfig } })
    for (let twice = 0; twice < 2; twice++) {
      expect(plane.specs).toMatchObject([{ id: ID, bandwidth, mac }])
      expect(plane.ports).toEqual(PORTS)
      await restart()
    }
    await call('DEL')
    expect(plane.ports).toEqual([])
    await restart()
    expect(plane.ports).toEqual([])
  })

  test('that the kernel has lost is found by CHECK, and mended by the next look', async () => {
    const result = await mapped('c1')
    const { cniVersion: _, ...prevResult } = result
    const checked = () => call('CHECK', { config: { prevResult } })
    expect(await checked()).toBeUndefined()
    plane.lostPorts = ['port mappings: it is not there']
    const msg = `${ID}: port mappings: it is not there`
    expect(await checked()).toMatchObject({ code: 104, msg })
    plane.ports = []
    await node.pods.collect()
    expect(plane.ports).toEqual(PORTS)
    expect(records.at(-1)).toMatchObject({
      ...{ level: 'warn', lost: ['port mappings: it is not there'], all: 1 },
      msg: 'port mappings were lost; they are put in force again',
    })
    expect(await checked()).toBeUndefined()
  })

  test('a port that another pod has is refused before anything is made', async () => {
    await mapped('c1')
    const { code, msg } = await mapped('c2')
    expect([code, msg]).toEqual([11, expect.stringMatching(/c2.*8080\/tcp is taken.*c1/)])
    expect(state.list().map(each => each.containerId)).toEqual(['c1'])
    expect(plane.ports).toEqual(PORTS)
    await call('DEL', { id: 'c1' })
    expect((await mapped('c2')).code).toBeUndefined()
  })

  test('port mappings that the engine can not make fail their ADD and no other', async () => {
    plane.refusePorts = new Error('port mappings: nft: spawn nft ENOENT (install nftables, or …)')
    const { code, msg } = await mapped('c1')
    expect([code, msg]).toEqual([5, expect.stringMatching(/install nftables/)])
    expect(state.list()).toEqual([])
    expect(plane.pods()).toEqual([])
    expect((await call('ADD', { id: 'c2' })).code).toBeUndefined()
    expect(await call('DEL', { id: 'c2' })).toBeUndefined()
  })

  test('those that a restart can not make again are told, and tried again', async () => {
    await mapped('c1')
    state.close()
    plane = new FakePlane(plane.self, {})
    plane.refusePorts = new Error('nft ended with 1')
    node = startNode()
    await node.pods.restoreAll()
    const { code, msg } = await call('STATUS')
    expect([code, msg]).toEqual([51, expect.stringMatching(/port mappings .*nft ended with 1/)])
    plane.refusePorts = undefined
    await node.pods.collect()
    expect(plane.ports).toEqual(PORTS)
    expect(await call('STATUS')).toBeUndefined()
  })
})
