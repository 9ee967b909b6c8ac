// Neighbours and forwarding tables: what is made, compared with what `ip -json` and `bridge` say.
import { execFileSync } from 'node:child_process'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { addAddress } from '../../../dataplane/netlink/address.ts'
import {
  createBridge,
  createVeth,
  createVxlan,
  getLink,
  setLink,
  setMaster,
} from '../../../dataplane/netlink/link.ts'
import {
  appendFdb,
  deleteFdb,
  deleteNeighbour,
  FDB_DEFAULT_MAC,
  getNeighbour,
  listFdb,
  listNeighbours,
  setFdb,
  setNeighbour,
  useNeighbour,
} from '../../../dataplane/netlink/neighbour.ts'
import { Netlink } from '../../../dataplane/netlink/socket.ts'
import { addNamespace, removeNamespaces } from '../../native/namespace.ts'
import { type Place, place } from './kernel.ts'

let here: Place
let va: number
beforeEach(() => {
  here = place()
  createVeth(here.nl, { name: 'va', peer: { name: 'vb' } })
  va = getLink(here.nl, 'va')!.index
  for (const name of ['va', 'vb']) setLink(here.nl, getLink(here.nl, name)!.index, { up: true })
  addAddress(here.nl, { ifindex: va, address: '10.1.0.1', prefix: 24 })
  addAddress(here.nl, { ifindex: va, address: 'fd01::1', prefix: 64, noDad: true })
})
afterEach(() => {
  here?.nl.close()
  removeNamespaces()
})

interface IpNeighbour {
  dst: string
  lladdr?: string
  state: string[]
}

function asIp(address: string): IpNeighbour | undefined {
  const all = here.json('neighbour', 'show', 'dev', 'va') as unknown as IpNeighbour[]
  return all.find(each => each.dst === address)
}

describe('neighbours', () => {
  test('of both families, for good or until the kernel finds them silent', () => {
    const mac = '02:00:00:00:00:09'
    setNeighbour(here.nl, { ifindex: va, address: '10.1.0.9', mac, permanent: true })
    setNeighbour(here.nl, { ifindex: va, address: 'fd01::9', mac, permanent: false })
    expect(asIp('10.1.0.9')).toMatchObject({ lladdr: mac, state: ['PERMANENT'] })
    expect(asIp('fd01::9')).toMatchObject({ lladdr: mac, state: ['REACHABLE'] })
    expect(getNeighbour(here.nl, va, '10.1.0.9')).toMatchObject({
      ifindex: va,
      family: 4,
      address: '10.1.0.9',
      mac,
      state: 'permanent',
      valid: true,
    })
    expect(getNeighbour(here.nl, va, 'fd01::9')).toMatchObject({ state: 'reachable', valid: true })
    setNeighbour(here.nl, {
      ifindex: va,
      address: '10.1.0.9',
      mac: '02:00:00:00:00:0a',
      permanent: true,
    })
    expect(asIp('10.1.0.9')?.lladdr).toBe('02:00:00:00:00:0a')
    expect(listNeighbours(here.nl, { family: 4 }).map(each => each.address)).toEqual(['10.1.0.9'])
    expect(listNeighbours(here.nl, { ifindex: va, family: 6 }).map(each => each.address)).toContain(
      'fd01::9',
    )
    deleteNeighbour(here.nl, { ifindex: va, address: '10.1.0.9' })
    expect(() => deleteNeighbour(here.nl, { ifindex: va, address: '10.1.0.8' })).toThrow(
      `delete neighbour 10.1.0.8 on va in ${here.namespace.path}: No such file or directory (ENOENT)`,
    )
    expect(getNeighbour(here.nl, va, '10.1.0.8')).toBeUndefined()
  })

  test('one that is used is asked for; one that was set by hand stays as it is', () => {
    useNeighbour(here.nl, { ifindex: va, address: '10.1.0.8' })
    expect(getNeighbour(here.nl, va, '10.1.0.8')).toMatchObject({
      state: 'incomplete',
      valid: false,
    })
    expect(getNeighbour(here.nl, va, '10.1.0.8')!.mac).toBeUndefined()
    expect(asIp('10.1.0.8')).toMatchObject({ state: ['INCOMPLETE'] })
    const mac = '02:00:00:00:00:09'
    setNeighbour(here.nl, { ifindex: va, address: '10.1.0.9', mac, permanent: true })
    useNeighbour(here.nl, { ifindex: va, address: '10.1.0.9' })
    expect(asIp('10.1.0.9')?.state).toEqual(['PERMANENT'])
  })

  test('a real neighbour answers', async () => {
    const other = addNamespace()
    const path = {
      name: 'vc',
      peer: { name: 'vd', mac: '02:00:00:00:00:dd', netnsPath: other.path },
    }
    createVeth(here.nl, path)
    const vc = getLink(here.nl, 'vc')!.index
    setLink(here.nl, vc, { up: true })
    addAddress(here.nl, { ifindex: vc, address: '10.2.0.1', prefix: 24 })
    const there = new Netlink(other.path)
    try {
      const vd = getLink(there, 'vd')!.index
      setLink(there, vd, { up: true })
      addAddress(there, { ifindex: vd, address: '10.2.0.2', prefix: 24 })
    } finally {
      there.close()
    }
    useNeighbour(here.nl, { ifindex: vc, address: '10.2.0.2' })
    const deadline = performance.now() + 5000
    let found = getNeighbour(here.nl, vc, '10.2.0.2')
    while (!found?.valid && performance.now() < deadline) {
      found = getNeighbour(here.nl, vc, '10.2.0.2')
    }
    expect(found).toMatchObject({ mac: '02:00:00:00:00:dd', state: 'reachable', valid: true })
  })
})

describe('forwarding tables', () => {
  interface BridgeEntry {
    mac: string
    dst?: string
    flags: string[]
    state: string
    master?: string
  }
  const asBridge = (device: string): BridgeEntry[] => {
    const args = ['-n', here.namespace.name, '-json', 'fdb', 'show', 'dev', device]
    return JSON.parse(execFileSync('bridge', args, { encoding: 'utf8' }))
  }

  test('of VXLAN: one destination of a MAC, many of the default one', () => {
    createVxlan(here.nl, { name: 'vx', vni: 7, local: '10.1.0.1' })
    const vx = getLink(here.nl, 'vx')!.index
    for (const destination of ['10.1.0.8', '10.1.0.9'])
      appendFdb(here.nl, { ifindex: vx, destination })
    const mac = '02:00:00:00:00:77'
    setFdb(here.nl, { ifindex: vx, mac, destination: '10.1.0.8' })
    setFdb(here.nl, { ifindex: vx, mac, destination: '10.1.0.9' })
    expect(asBridge('vx').map(each => [each.mac, each.dst, each.state])).toEqual(
      expect.arrayContaining([
        [FDB_DEFAULT_MAC, '10.1.0.8', 'permanent'],
        [FDB_DEFAULT_MAC, '10.1.0.9', 'permanent'],
        [mac, '10.1.0.9', 'permanent'],
      ]),
    )
    const entries = listFdb(here.nl, vx)
    expect(entries).toHaveLength(3)
    expect(entries.find(each => each.mac === mac)).toEqual({
      ifindex: vx,
      mac,
      destination: '10.1.0.9',
      vni: undefined,
      vlan: undefined,
      self: true,
      permanent: true,
    })
    appendFdb(here.nl, { ifindex: vx, destination: '10.1.0.8' })
    expect(listFdb(here.nl, vx)).toHaveLength(3)
    deleteFdb(here.nl, { ifindex: vx, destination: '10.1.0.8' })
    deleteFdb(here.nl, { ifindex: vx, mac })
    expect(asBridge('vx').map(each => each.dst)).toEqual(['10.1.0.9'])
    expect(() => deleteFdb(here.nl, { ifindex: vx, mac })).toThrow(
      `delete FDB entry ${mac} on vx in ${here.namespace.path}: No such file or directory (ENOENT)`,
    )
  })

  test("of a bridge's port", () => {
    createBridge(here.nl, { name: 'br0' })
    setMaster(here.nl, va, getLink(here.nl, 'br0')!.index)
    const mac = '02:00:00:00:00:78'
    setFdb(here.nl, { ifindex: va, mac, table: 'master' })
    expect(asBridge('va').find(each => each.mac === mac)).toMatchObject({ master: 'br0' })
    expect(listFdb(here.nl, va).find(each => each.mac === mac)).toMatchObject({ self: false })
  })
})
