/**
 * What `hawser ipam` finds and mends, on a packet engine without packets, with real namespaces:
 *
 *     a   eth0 10.0.0.2 fd00::2     as the state says
 *     b   eth0 10.0.0.3             and what a test puts there
 */

import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { createLogger } from '../../../cni/base/logger.ts'
import { showAddresses, showCheck } from '../../../cni/cli/ipam.ts'
import { parseExclusion } from '../../../cni/ipam/ranges.ts'
import {
  type AddressCheck,
  checkAddresses,
  type Finding,
  showAddresses as list,
  repairAddresses,
} from '../../../cni/pods/address-check.ts'
import type { Node } from '../../../cni/pods/node.ts'
import { Pods } from '../../../cni/pods/pods.ts'
import { Turns } from '../../../cni/pods/turns.ts'
import { type Attachment, State } from '../../../cni/state/state.ts'
import { netnsIdentity } from '../../../dataplane/netns.ts'
import { ip, Namespaces } from '../../harness/netns.ts'
import { FakePlane } from '../fake-plane.ts'
import { FAKE, type FakeDelegate, fakeDelegate, fakeIpam } from '../invoke/fake-delegate.ts'

const SELF = { name: 'node-a', vtep: '192.0.2.11', podCidrs: ['10.0.0.0/24', 'fd00::/64'] }

const namespaces = new Namespaces('ipamcheck')
let netnsA = ''
let netnsB = ''
let folder = ''
let fake: FakeDelegate
let plane: FakePlane
let state: State
let node: Node

beforeAll(async () => {
  netnsA = await namespaces.add('a')
  netnsB = await namespaces.add('b')
  for (const [netns, ...addresses] of [
    [netnsA, '10.0.0.2/32', 'fd00::2/128'],
    [netnsB, '10.0.0.3/32'],
  ] as const) {
    await ip(netns, 'link', 'add', 'eth0', 'type', 'veth', 'peer', 'name', 'eth1')
    for (const each of addresses) await ip(netns, 'addr', 'add', each, 'dev', 'eth0')
    // Up, so that it has a link-local address as well.
    await ip(netns, 'link', 'set', 'eth0', 'up')
    await ip(netns, 'link', 'set', 'eth1', 'up')
  }
})
afterAll(() => namespaces.removeAll())
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'hawser-ipamcheck-'))
  fake = fakeDelegate(folder)
  plane = new FakePlane(SELF, {})
  const log = createLogger('error', 'node-a', { write: () => {} })
  state = new State(join(folder, 'state.db'), 'boot')
  const podCidrs = (): readonly string[] => SELF.podCidrs
  const turns = new Turns()
  const pods = new Pods({ plane, state, turns, podCidrs, log })
  node = { plane, state, pods, turns, podCidrs, log }
})
afterEach(() => {
  state.close()
  rmSync(folder, { recursive: true, force: true })
})

function attachment(containerId: string, netns: string, more: Partial<Attachment>): Attachment {
  const { dev, ino } = netnsIdentity(netns)
  return {
    ...{ network: 'n', containerId, ifname: 'eth0', phase: 'attached', kind: 'tun' },
    ...{ netns, netnsDev: `${dev}`, netnsIno: `${ino}`, pod: `test/${containerId}`, created: 1000 },
    ...more,
  }
}
const insertA = (): void =>
  state.insert(attachment('a', netnsA, { ip4: '10.0.0.2', ip6: 'fd00::2' }))
const insertB = (): void => state.insert(attachment('b', netnsB, { ip4: '10.0.0.3' }))
const findings = (check: AddressCheck = checkAddresses(node)): Partial<Finding>[] => check.findings

test('numbers of each range, and nothing amiss', () => {
  insertA()
  insertB()
  state.insert(attachment('c', netnsB, { ifname: 'eth9', ip4: '10.0.0.4' }))
  state.release(attachment('c', netnsB, { ifname: 'eth9' }))
  const block = parseExclusion('10.0.0.16/28')
  if ('cause' in block) throw new Error(block.cause)
  node = { ...node, exclude: [block] }
  const check = checkAddresses(node)
  expect(check).toEqual({
    ranges: [
      {
        ...{ range: '10.0.0.0/24', family: 4, size: '256', excluded: '19' },
        ...{ free: '234', taken: 2, cooling: 1 },
      },
      {
        ...{ range: 'fd00::/64', family: 6, size: '18446744073709551616', excluded: '2' },
        ...{ free: '18446744073709551613', taken: 1, cooling: 0 },
      },
    ],
    findings: [],
  })
  const [whole] = check.ranges
  const sets = [[{ subnet: '10.0.0.0/28' }, { subnet: '10.0.0.128/25' }]]
  const ranges = new Map([['n', { sets, overlay: undefined }]])
  expect(checkAddresses({ ...node, ranges }).ranges.slice(2)).toEqual([
    { ...whole, range: '10.0.0.0/28', network: 'n', size: '16', excluded: '3', free: '10' },
    {
      ...{ range: '10.0.0.128/25', network: 'n', family: 4, size: '128', excluded: '3' },
      ...{ free: '125', taken: 0, cooling: 0 },
    },
  ])
  // The node has other pod CIDRs by now.
  const moved = new Map([['n', { sets: [[{ subnet: '10.7.0.0/28' }]], overlay: undefined }]])
  expect(checkAddresses({ ...node, ranges: moved })).toEqual(check)
  expect(showCheck(check)).toMatch(/10\.0\.0\.0\/24 +- +- +234 +2 +1 +19 +256\n/)
  expect(showCheck(check)).toMatch(/\n\nall agrees$/)
})

test('who has what', () => {
  insertA()
  insertB()
  const { created } = attachment('a', netnsA, {})
  const call = { type: FAKE, netns: netnsB, args: '', path: fake.folder, config: '{}', created }
  state.keepDelegation(attachment('b', netnsB, {}), call)
  state.release(attachment('a', netnsA, {}), 5000)
  const found = list(node)
  expect(found).toEqual({
    attachments: [
      {
        ...{ attachment: 'n/b/eth0', pod: 'test/b', ip4: '10.0.0.3' },
        ...{ phase: 'attached', from: FAKE, created: 1000 },
      },
    ],
    cooling: [
      { address: '10.0.0.2', freed: 5000 },
      { address: 'fd00::2', freed: 5000 },
    ],
  })
  const text = showAddresses(found)
  expect(text).toMatch(/^10\.0\.0\.3 +- +test\/b +n\/b\/eth0 +attached +fake-ipam +1970-01-01T/m)
  expect(text).toMatch(/^fd00::2 +1970-01-01T00:00:05/m)
  expect(showAddresses({ attachments: [], cooling: [] })).toBe('no address is held')
})

describe('what is found and mended', () => {
  test('an address reserved without a pod; one whose ADD may be under way is left alone', async () => {
    state.insert(attachment('r', netnsA, { phase: 'reserved', ip4: '10.0.0.9', ip6: 'fd00::9' }))
    const now = Date.now()
    state.insert(attachment('s', netnsA, { phase: 'reserved', ip4: '10.0.0.8', created: now }))
    const text =
      '10.0.0.9 and fd00::9: held by n/r/eth0, which was never attached: its ADD was not answered'
    const expected = { kind: 'reserved', text, attachment: 'n/r/eth0', repairable: true }
    expect(findings()).toEqual([expected])
    expect(state.list()).toHaveLength(2)
    const repaired = await repairAddresses(node)
    expect(findings(repaired)).toEqual([{ ...expected, repair: 'done' }])
    expect(showCheck(repaired)).toContain(`${text}: mended`)
    expect(repaired.ranges[0]).toMatchObject({ taken: 1, cooling: 1 })
    expect(findings()).toEqual([])
  })

  test('a pod whose namespace is gone', async () => {
    const gone = await namespaces.add('gone')
    state.insert(attachment('g', gone, { ip4: '10.0.0.9' }))
    await namespaces.remove(gone)
    expect(findings()).toMatchObject([
      {
        kind: 'namespace',
        attachment: 'n/g/eth0',
        text: `10.0.0.9: held by n/g/eth0, and its namespace ${gone} is gone`,
      },
    ])
    plane.refuseDetach = new Error('busy')
    expect(findings(await repairAddresses(node))).toMatchObject([{ repair: 'n/g/eth0: busy' }])
    plane.refuseDetach = undefined
    expect(findings(await repairAddresses(node))).toMatchObject([{ repair: 'done' }])
    expect(state.list()).toEqual([])
  })

  test('an address that cools down and is in use', async () => {
    insertA()
    // As a file could have it that was put together by hand.
    const database = new DatabaseSync(state.path)
    database.exec("INSERT INTO cooling (family, address, freed) VALUES (4, '10.0.0.2', 5000)")
    database.close()
    const text = '10.0.0.2: it cools down, and is in use'
    const found = { kind: 'taken-and-cooling', text, address: '10.0.0.2', repairable: true }
    expect(findings()).toEqual([found])
    expect(findings(await repairAddresses(node))).toEqual([{ ...found, repair: 'done' }])
    expect(state.addressUse(4).cooling.size).toBe(0)
    expect(findings()).toEqual([])
  })

  test('what an IPAM plugin has not got back', async () => {
    const config = JSON.stringify({ cniVersion: '1.0.0', ipam: fakeIpam({}, { DEL: 'refuse' }) })
    const call = { type: FAKE, netns: '/gone', args: '', path: fake.folder, config, created: 1000 }
    const key = { network: 'n', containerId: 'd', ifname: 'eth0' }
    state.keepDelegation(key, call)
    const found = { kind: 'not-given-back', attachment: 'n/d/eth0', repairable: true }
    expect(findings()).toMatchObject([found])
    const refused = `IPAM plugin ${FAKE}: DEL is refused`
    const failed = await repairAddresses(node)
    expect(findings(failed)).toMatchObject([{ ...found, repair: refused }])
    expect(showCheck(failed)).toContain(`: not mended: ${refused}`)
    state.keepDelegation(key, { ...call, config: config.replace('refuse', 'good') })
    expect(findings(await repairAddresses(node))).toMatchObject([{ ...found, repair: 'done' }])
    expect(fake.asked().map(({ env }) => env['CNI_COMMAND'])).toEqual(['DEL', 'DEL'])
    expect(findings()).toEqual([])
  })
})

describe('what is found and left to a person', () => {
  afterEach(async () => {
    await ip(netnsB, 'addr', 'flush', 'dev', 'eth0', 'scope', 'global')
    await ip(netnsB, 'addr', 'add', '10.0.0.3/32', 'dev', 'eth0')
  })

  test('an address on an interface that the state does not know', async () => {
    insertA()
    insertB()
    await ip(netnsB, 'addr', 'add', '10.0.0.99/32', 'dev', 'eth0')
    const text =
      '10.0.0.99: on eth0 of n/b/eth0, unknown to the state; what it sends from there is dropped'
    const repaired = await repairAddresses(node)
    expect(findings(repaired)).toEqual([
      {
        kind: 'unknown-address',
        text,
        attachment: 'n/b/eth0',
        address: '10.0.0.99',
        repairable: false,
      },
    ])
    expect(showCheck(repaired)).toMatch(/ is dropped$/)
    expect(findings()).toHaveLength(1)
  })

  test('an address that two pods have, and one that its pod lacks', async () => {
    insertA()
    insertB()
    await ip(netnsB, 'addr', 'del', '10.0.0.3/32', 'dev', 'eth0')
    await ip(netnsB, 'addr', 'add', 'fd00::2/128', 'dev', 'eth0', 'nodad')
    expect(findings()).toMatchObject([
      { kind: 'unknown-address', address: 'fd00::2', attachment: 'n/b/eth0' },
      {
        kind: 'missing-address',
        address: '10.0.0.3',
        text: '10.0.0.3: held by n/b/eth0, but not on eth0 of n/b/eth0',
      },
      { kind: 'duplicate', address: 'fd00::2', text: 'fd00::2: n/a/eth0 and n/b/eth0 have it' },
    ])
  })

  test('a pod that the packet engine serves without a row', async () => {
    const id = 'n/z/eth0'
    const spec = { id, kind: 'tun', netns: netnsA, ifname: 'eth0', ip4: '10.0.0.77' } as const
    await plane.attach(spec, { adopt: true })
    const text = '10.0.0.77: the packet engine serves n/z/eth0, unknown to the state'
    expect(findings(await repairAddresses(node))).toEqual([
      { kind: 'unknown-pod', text, attachment: 'n/z/eth0', repairable: false },
    ])
    expect(plane.pods()).toHaveLength(1)
  })
})
