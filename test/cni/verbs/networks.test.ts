// The verbs for pods of a network beside the cluster's own, on a packet engine without packets.

import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { lowNotes } from '../../../cni/ipam/allocator.ts'
import { wholePools } from '../../../cni/ipam/pools.ts'
import { checkAddresses } from '../../../cni/pods/address-check.ts'
import type { Node } from '../../../cni/pods/node.ts'
import type { State } from '../../../cni/state/state.ts'
import { answer } from '../../../cni/verbs/index.ts'
import { Namespaces } from '../../harness/netns.ts'
import { fakeNode } from '../fake-node.ts'
import { FakePlane } from '../fake-plane.ts'
import { type FakeDelegate, fakeDelegate, fakeIpam } from '../invoke/fake-delegate.ts'

const SELF = {
  ...{ name: 'node-a', vtep: '192.0.2.11', podCidrs: ['10.0.0.0/24', 'fd00::/120'] },
  networks: { blue: ['10.60.0.0/29', 'fd60::/120'], red: ['10.70.0.0/24'] },
}
const BLUE = { network: 'blue' }

const namespaces = new Namespaces('networks')
let netns = ''
let folder = ''
let fake: FakeDelegate
let plane: FakePlane
let state: State
let node: Node

beforeAll(async () => {
  netns = await namespaces.add('pod')
})
afterAll(() => namespaces.removeAll())
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'hawser-networks-'))
  fake = fakeDelegate(folder)
  plane = new FakePlane(SELF, {})
  startNode()
})
afterEach(() => {
  state.close()
  rmSync(folder, { recursive: true, force: true })
})

function startNode(): void {
  ;({ state, node } = fakeNode(folder, plane))
}

async function call(command: string, config: object = {}, more: Record<string, string> = {}) {
  const { exit, stdout } = await answer(node, {
    env: {
      ...{ CNI_COMMAND: command, CNI_CONTAINERID: 'c1', CNI_NETNS: netns, CNI_IFNAME: 'net1' },
      ...{ CNI_ARGS: '', CNI_PATH: fake.folder, ...more },
    },
    config: JSON.stringify({ cniVersion: '1.1.0', name: 'n', type: 'hawser', ...config }),
  })
  const json = stdout === '' ? undefined : JSON.parse(stdout)
  expect(exit).toBe(json?.code === undefined ? 0 : 1)
  return json
}

const refused = (msg: string | RegExp) => ({
  code: 7,
  msg: typeof msg === 'string' ? msg : expect.stringMatching(msg),
})

describe('ADD', () => {
  test("takes the network's addresses, and keeps its name", async () => {
    const result = await call('ADD', BLUE)
    expect(result.ips).toEqual([
      { address: '10.60.0.2/32', gateway: '10.60.0.1', interface: 0 },
      { address: 'fd60::2/128', gateway: 'fd60::1', interface: 0 },
    ])
    expect(state.list()).toMatchObject([{ phase: 'attached', overlay: 'blue', ip4: '10.60.0.2' }])
    expect(plane.specs).toMatchObject([{ id: 'n/c1/net1', network: 'blue' }])
    expect(plane.specs[0]).not.toHaveProperty('further')
    // A family that the network lacks.
    const red = await call('ADD', { network: 'red' }, { CNI_IFNAME: 'net2' })
    expect(red.ips).toMatchObject([{ address: '10.70.0.2/32', gateway: '10.70.0.1' }])
    const own = await call('ADD', {}, { CNI_IFNAME: 'eth0' })
    expect(own.ips).toMatchObject([{ address: '10.0.0.2/32' }, { address: 'fd00::2/128' }])
    expect(plane.specs[2]).not.toHaveProperty('network')
    expect(state.list()[2]).not.toHaveProperty('overlay')
  })

  test('an unknown network is refused, with those that there are', async () => {
    const there = 'this node has no pod CIDR in a network of that name, but in'
    expect(await call('ADD', { network: 'green' })).toMatchObject(
      refused(`network configuration: network: green: ${there} blue, red`),
    )
    expect(await call('ADD', { network: '' })).toMatchObject(refused(/network: : /))
    expect(await call('ADD', { network: 'constructor' })).toMatchObject(refused(/constructor/))
    expect(await call('ADD', { network: 7 })).toMatchObject(refused(/network: expected string/))
    plane.self = { ...SELF, networks: {} }
    expect(await call('ADD', BLUE)).toMatchObject(
      refused(`network configuration: network: blue: ${there} none`),
    )
    expect([plane.calls, state.list()]).toEqual([[], []])
    // As if the key were not there.
    expect(await call('ADD', { network: null })).toMatchObject({ ips: [{}, {}] })
  })

  test("ranges lie inside the network's CIDRs", async () => {
    const ranged = (subnet: string) => ({ ipam: { ranges: [[{ subnet }]] }, ...BLUE })
    expect(await call('ADD', ranged('10.0.0.0/26'))).toMatchObject(
      refused(
        /10\.0\.0\.0\/26 is not inside the node's pod CIDRs \(10\.60\.0\.0\/29, fd60::\/120\)/,
      ),
    )
    expect(await call('ADD', ranged('10.60.0.4/30'))).toMatchObject({
      ips: [{ address: '10.60.0.6/32', gateway: '10.60.0.5' }],
    })
  })

  test('an address of another network is refused', async () => {
    const asking = { ...BLUE, runtimeConfig: { ips: ['10.0.0.9'] } }
    expect(await call('ADD', asking)).toMatchObject(refused('10.0.0.9: it is not in 10.60.0.0/29'))
  })

  test('ports of the node are refused, and bandwidth and MAC are not', async () => {
    const portMappings = [{ hostPort: 8080, containerPort: 80, protocol: 'tcp' }]
    expect(await call('ADD', { ...BLUE, runtimeConfig: { portMappings } })).toMatchObject(
      refused(
        "runtimeConfig.portMappings: the node is not in network blue, its ports can't lead there",
      ),
    )
    expect(plane.calls).toEqual([])
    const bandwidth = { ingressRate: 1e6 }
    const mac = '02:00:00:00:00:09'
    await call('ADD', { ...BLUE, attach: 'xdp', runtimeConfig: { bandwidth, mac } })
    expect(plane.specs).toMatchObject([{ network: 'blue', mac, bandwidth: { ingressRate: 1e6 } }])
  })

  test("an IPAM plugin's address must be of the network, and of no other", async () => {
    const giving = (address: string) => ({ ipam: fakeIpam({ ips: [{ address }] }) })
    expect(await call('ADD', { ...BLUE, ...giving('10.0.0.9/24') })).toMatchObject({
      code: 7,
      msg: expect.stringContaining('10.0.0.9: not of network blue on this node'),
    })
    const routes = [{ dst: '0.0.0.0/0' }]
    const stray = { ips: [{ address: '10.60.0.3/29' }], routes }
    expect(await call('ADD', { ipam: fakeIpam(stray) })).toMatchObject({
      code: 7,
      msg: expect.stringContaining('10.60.0.3: it is of network blue on this node'),
    })
    expect([state.list(), state.delegations()]).toEqual([[], []])
    // It needs no default route: the interface has the network's, whatever the plugin says.
    const other = { ips: [{ address: '10.60.0.4/29' }], routes: [{ dst: '10.9.0.0/16' }] }
    expect(await call('ADD', { ...BLUE, ipam: fakeIpam(other) })).toMatchObject({
      ips: [{ address: '10.60.0.4/32' }],
    })
  })
})

test('a further interface of ours may be in a network, without routes of its own', async () => {
  const plugin = { type: 'hawser', ...BLUE }
  const with_ = (extra: object) => ({
    networks: [{ name: 'n2', ifname: 'net2', plugins: [{ ...plugin, ...extra }] }],
  })
  expect(await call('ADD', with_({ routes: [{ dst: '10.9.0.0/16' }] }))).toMatchObject({
    code: 7,
    msg: expect.stringContaining(
      'routes: an interface in network blue leads there and nowhere else',
    ),
  })
  expect(state.list()).toEqual([])
  await call('ADD', with_({}))
  expect(plane.specs.at(-1)).toMatchObject({ id: 'n2/c1/net2', network: 'blue', further: [] })
  expect(state.list()).toMatchObject([{ ip4: '10.0.0.3' }, { overlay: 'blue', ip4: '10.60.0.2' }])
})

test('CHECK notices an attachment that is served in another network', async () => {
  const prevResult = await call('ADD', BLUE)
  expect(await call('CHECK', { ...BLUE, prevResult })).toBeUndefined()
  const row = state.list()[0]!
  state.release(row)
  state.insert({ ...row, overlay: 'red' })
  expect(await call('CHECK', { ...BLUE, prevResult })).toMatchObject({
    code: 104,
    msg: expect.stringContaining('served in network blue, not in red'),
  })
})

test('the next daemon puts it into the network again, also one that this node is not in any more', async () => {
  await call('ADD', BLUE)
  state.close()
  plane = new FakePlane({ ...SELF, networks: {} }, {})
  startNode()
  await node.pods.restoreAll()
  expect(plane.specs).toMatchObject([{ id: 'n/c1/net1', network: 'blue', ip4: '10.60.0.2' }])
  expect(await call('DEL', BLUE)).toBeUndefined()
  expect([plane.pods(), state.list()]).toEqual([[], []])
})

test("STATUS, ranges and notes: the network's addresses are counted apart", async () => {
  for (let k = 0; k < 5; k++) await call('ADD', BLUE, { CNI_IFNAME: `net${k}` })
  expect(await call('STATUS', BLUE)).toBeUndefined()
  expect(await call('STATUS')).toBeUndefined()
  expect(await call('STATUS', { network: 'green' })).toMatchObject(refused(/network: green/))
  expect(await call('ADD', BLUE, { CNI_IFNAME: 'net9' })).toMatchObject({ code: 11 })
  const pools = wholePools(node).flatMap(each => each.pools)
  expect(lowNotes(state, pools)).toEqual(['0 of 5 addresses are left in 10.60.0.0/29'])
  node.ranges = new Map()
  await call('STATUS', { ...BLUE, ipam: { ranges: [[{ subnet: '10.60.0.0/30' }]] } })
  expect(checkAddresses(node).ranges).toMatchObject([
    { range: '10.0.0.0/24', taken: 0 },
    { range: 'fd00::/120', taken: 0 },
    { range: '10.60.0.0/29', overlay: 'blue', taken: 5, free: '0' },
    { range: 'fd60::/120', overlay: 'blue', taken: 5 },
    { range: '10.70.0.0/24', overlay: 'red', taken: 0 },
    { range: '10.60.0.0/30', overlay: 'blue', network: 'n', taken: 1, free: '0' },
  ])
})
