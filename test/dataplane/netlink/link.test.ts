// Interfaces: what is made, compared with what `ip -json` says.
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import {
  createBridge,
  createDevice,
  createVeth,
  createVxlan,
  deleteLink,
  getLink,
  type Link,
  listLinks,
  setLink,
  setMaster,
} from '../../../dataplane/netlink/link.ts'
import { Netlink, NetlinkError } from '../../../dataplane/netlink/socket.ts'
import { addNamespace, removeNamespaces } from '../../native/namespace.ts'
import { type Place, place } from './kernel.ts'

let here: Place
beforeEach(() => {
  here = place()
})
afterEach(() => {
  here?.nl.close()
  removeNamespaces()
})

/** What `ip` says of a link, under our names. */
function asIp(name: string): Partial<Link> {
  const [link] = here.json('link', 'show', 'dev', name) as [Record<string, never>]
  const info = link['linkinfo'] as { info_kind?: string } | undefined
  const flags = link['flags'] as string[]
  return {
    index: link['ifindex'],
    name: link['ifname'],
    mac: link['link_type'] === 'none' ? undefined : link['address'],
    mtu: link['mtu'],
    up: flags.includes('UP'),
    running: flags.includes('LOWER_UP') && flags.includes('UP'),
    kind: info?.info_kind,
    numTxQueues: link['num_tx_queues'],
    numRxQueues: link['num_rx_queues'],
    gsoMaxSize: link['gso_max_size'],
  }
}

describe('veth', () => {
  test('both ends with their names, MACs, MTUs and queues', () => {
    createVeth(here.nl, {
      name: 'va',
      mac: '02:00:00:00:00:0a',
      mtu: 1400,
      queues: 3,
      gsoMaxSize: 40_000,
      peer: { name: 'vb', mac: '02:00:00:00:00:0b', mtu: 1300, queues: 2 },
    })
    const [a, b] = ['va', 'vb'].map(name => getLink(here.nl, name)!) as [Link, Link]
    expect(a).toMatchObject({ mac: '02:00:00:00:00:0a', mtu: 1400, numTxQueues: 3, numRxQueues: 3 })
    expect(a).toMatchObject({ kind: 'veth', up: false, gsoMaxSize: 40_000 })
    expect(b).toMatchObject({ mac: '02:00:00:00:00:0b', mtu: 1300, numTxQueues: 2 })
    expect([a.peerIndex, b.peerIndex]).toEqual([b.index, a.index])
    expect(a).toMatchObject(asIp('va'))
    expect(b).toMatchObject(asIp('vb'))
    expect(getLink(here.nl, a.index)).toEqual(a)
  })

  test('the peer is born in its namespace', () => {
    const other = addNamespace()
    createVeth(here.nl, { name: 'va', peer: { name: 'eth0', netnsPath: other.path } })
    expect(listLinks(here.nl).map(each => each.name)).toEqual(['lo', 'va'])
    const there = new Netlink(other.path)
    try {
      const peer = getLink(there, 'eth0')!
      expect(getLink(here.nl, 'va')).toMatchObject({ peerIndex: peer.index, kind: 'veth' })
      expect(getLink(here.nl, 'va')!.linkNetnsid).toBeGreaterThanOrEqual(0)
      // One end takes the other with it.
      deleteLink(here.nl, getLink(here.nl, 'va')!.index)
      expect(getLink(there, 'eth0')).toBeUndefined()
    } finally {
      there.close()
    }
  })

  test('a name that is taken at either end, and nothing is left', () => {
    createVeth(here.nl, { name: 'va', peer: { name: 'vb' } })
    for (const [name, peer] of [
      ['va', 'vc'],
      ['vc', 'vb'],
    ] as const) {
      expect(() => createVeth(here.nl, { name, peer: { name: peer } })).toThrow(
        `create veth ${name} in ${here.namespace.path} with peer ${peer}: File exists (EEXIST)`,
      )
    }
    expect(
      listLinks(here.nl)
        .map(each => each.name)
        .sort(),
    ).toEqual(['lo', 'va', 'vb'])
  })

  test('a namespace that is none', () => {
    for (const netnsPath of ['/run/netns/hwt-none', '/dev/null']) {
      expect(() => createVeth(here.nl, { name: 'va', peer: { name: 'vb', netnsPath } })).toThrow(
        netnsPath,
      )
    }
    expect(getLink(here.nl, 'va')).toBeUndefined()
  })
})

describe('other devices', () => {
  test('bridge, its ports, VXLAN', () => {
    createBridge(here.nl, { name: 'br0', mac: '02:00:00:00:00:01', mtu: 1450 })
    createVxlan(here.nl, { name: 'vx4', vni: 0xffffff, local: '192.0.2.1', port: 8472, mtu: 1450 })
    createVxlan(here.nl, { name: 'vx6', vni: 0, local: '2001:db8::1' })
    const bridge = getLink(here.nl, 'br0')!
    const vxlan = getLink(here.nl, 'vx4')!
    setMaster(here.nl, vxlan.index, bridge.index)
    expect(getLink(here.nl, 'vx4')!.master).toBe(bridge.index)
    for (const name of ['br0', 'vx4', 'vx6'])
      expect(getLink(here.nl, name)).toMatchObject(asIp(name))
    const data = (name: string) =>
      (here.json('link', 'show', 'dev', name)[0]!['linkinfo'] as { info_data: object }).info_data
    expect(data('vx4')).toMatchObject({
      id: 0xffffff,
      local: '192.0.2.1',
      port: 8472,
      learning: false,
    })
    expect(data('vx6')).toMatchObject({ id: 0, local6: '2001:db8::1', port: 4789 })
    setMaster(here.nl, vxlan.index, 0)
    expect(getLink(here.nl, 'vx4')!.master).toBeUndefined()
    expect(() => createVxlan(here.nl, { name: 'v', vni: 2 ** 24, local: '192.0.2.1' })).toThrow(
      RangeError,
    )
  })

  test('a device over another one', () => {
    createVeth(here.nl, { name: 'va', peer: { name: 'vb' } })
    const dev = getLink(here.nl, 'va')!.index
    createVxlan(here.nl, { name: 'vx', vni: 5, local: '192.0.2.1', dev, learning: true })
    const [link] = here.json('link', 'show', 'dev', 'vx')
    expect(link!['linkinfo']).toMatchObject({ info_data: { link: 'va' } })
  })

  test('a kind that the kernel does not know', () => {
    expect(() => createDevice(here.nl, 'nonsense', { name: 'x' })).toThrow(
      `create nonsense x in ${here.namespace.path}: Operation not supported (EOPNOTSUPP): Unknown device type`,
    )
  })
})

describe('changes', () => {
  test('each alone and together', () => {
    createVeth(here.nl, { name: 'va', peer: { name: 'vb' } })
    const { index } = getLink(here.nl, 'va')!
    setLink(here.nl, index, { mtu: 1280, mac: '02:00:00:00:00:33', gsoMaxSize: 20_000 })
    expect(getLink(here.nl, 'va')).toMatchObject({ ...asIp('va'), mtu: 1280, up: false })
    setLink(here.nl, index, { name: 'renamed', up: true })
    setLink(here.nl, getLink(here.nl, 'vb')!.index, { up: true })
    expect(getLink(here.nl, 'va')).toBeUndefined()
    const link = getLink(here.nl, 'renamed')!
    expect(link).toMatchObject({ ...asIp('renamed'), up: true, running: true })
    expect(link).toMatchObject({ mac: '02:00:00:00:00:33', gsoMaxSize: 20_000 })
    setLink(here.nl, index, { up: false })
    expect(getLink(here.nl, index)!.up).toBe(false)
    for (const alias of ['hawser/1//n/c/eth0/10.0.0.2/', 'é'.repeat(127), 'x'.repeat(255)]) {
      setLink(here.nl, index, { alias })
      expect(getLink(here.nl, index)!.alias).toBe(alias)
      expect(here.json('link', 'show', 'renamed')[0]).toMatchObject({ ifalias: alias })
    }
    for (const alias of ['', 'x'.repeat(256), 'a\0b']) {
      expect(() => setLink(here.nl, index, { alias })).toThrow(/1 \.\. 255 without NUL/)
    }
  })

  test('errors name the interface, the value and the namespace', () => {
    createVeth(here.nl, { name: 'va', peer: { name: 'vb' } })
    const { index } = getLink(here.nl, 'va')!
    expect(() => setLink(here.nl, index, { mtu: 1 })).toThrow(
      `set va mtu 1 in ${here.namespace.path}: Invalid argument (EINVAL): mtu less than device minimum`,
    )
    expect(() => setLink(here.nl, 999, { up: true })).toThrow(
      `set interface 999 up true in ${here.namespace.path}: No such device (ENODEV)`,
    )
    expect(() => deleteLink(here.nl, 999)).toThrow(NetlinkError)
  })

  test('names that are none are refused before the kernel sees them', () => {
    for (const name of [
      '',
      '.',
      '..',
      'a b',
      'a/b',
      'a:b',
      'eth%d',
      'x'.repeat(16),
      'ä'.repeat(8),
    ]) {
      expect(() => createBridge(here.nl, { name }), name).toThrow(/is no interface name/)
      expect(getLink(here.nl, name)).toBeUndefined()
    }
    const longest = 'x'.repeat(15)
    createBridge(here.nl, { name: longest })
    expect(getLink(here.nl, longest)!.name).toBe(longest)
    expect(getLink(here.nl, 0)).toBeUndefined()
    expect(getLink(here.nl, 4_000_000)).toBeUndefined()
  })
})

test('many interfaces are all listed', () => {
  for (let i = 0; i < 60; i++) createBridge(here.nl, { name: `br${i}` })
  const names = listLinks(here.nl).map(each => each.name)
  expect(names).toEqual(here.json('link', 'show').map(each => each['ifname']))
  expect(names.length).toBe(61)
})
