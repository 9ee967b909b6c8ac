/**
 * The underlay of a node, and its neighbours there:
 *
 *   netns node: under0 192.0.2.1, 2001:db8::1 ───── peer0 192.0.2.2, 2001:db8::2 :netns peer
 */
import { readFileSync } from 'node:fs'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { attachXdp } from '../../../dataplane/bpf/attach.ts'
import { passProgram } from '../../../dataplane/bpf/programs.ts'
import type { RawSockets, UdpSockets, XdpQueues } from '../../../dataplane/devices/underlay.ts'
import type { Way } from '../../../dataplane/devices/ways.ts'
import { UDP_ENTROPY_SOCKETS } from '../../../dataplane/limits.ts'
import type { Link } from '../../../dataplane/netlink/link.ts'
import { native } from '../../../native/native.ts'
import { run } from '../../harness/processes.ts'
import { until } from '../../harness/until.ts'
import { addNamespace, type Namespace, removeNamespaces, track } from '../../native/namespace.ts'
import { link } from './kernel.ts'
import { type Kept, NodeProcess } from './node-process.ts'

const QUEUES = 2
/** The root's place, one a queue, and one for the look behind the last queue. */
const SLOTS = 1 + QUEUES + 1
const FACTS = { vtep: '192.0.2.1', vxlanPort: 4789, vni: 1 }
const PEER_MAC = '02:00:00:00:00:99'

let node: Namespace
let peer: Namespace
let process: NodeProcess
beforeEach(() => {
  node = addNamespace()
  peer = addNamespace()
  for (const { path } of [node, peer]) {
    native.sysctlWrite(path, 'ipv6/conf/default/disable_ipv6', '0')
  }
  const queues = ['numrxqueues', `${QUEUES}`, 'numtxqueues', `${QUEUES}`]
  node.ip(
    'link',
    'add',
    'under0',
    ...queues,
    'type',
    'veth',
    'peer',
    'name',
    'peer0',
    'netns',
    peer.name,
    ...queues,
  )
  peer.ip('link', 'set', 'peer0', 'address', PEER_MAC)
  for (const [namespace, device, last] of [
    [node, 'under0', 1],
    [peer, 'peer0', 2],
  ] as const) {
    namespace.ip('address', 'add', `192.0.2.${last}/24`, 'dev', device)
    namespace.ip('address', 'add', `2001:db8::${last}/64`, 'dev', device, 'nodad')
  }
  node.ip('link', 'set', 'under0', 'up')
  process = new NodeProcess(node.path)
})
afterEach(async () => {
  await process.stop()
  removeNamespaces()
})

describe('the device', () => {
  test('is found by the address, or by its name', async () => {
    const { ifindex } = link(node, 'under0')!
    const found = await process.call<Link>('findUnderlay', '192.0.2.1')
    expect(found.value).toMatchObject({ name: 'under0', index: ifindex, up: true })
    expect((await process.call<Link>('findUnderlay', '2001:db8::1')).value.index).toBe(ifindex)
    const named = await process.call<Link>('findUnderlay', '192.0.2.1', 'lo')
    expect(named.value.name).toBe('lo')
  })

  test('that there is not is named', async () => {
    await expect(process.call('findUnderlay', '192.0.2.77')).rejects.toThrow(
      'VTEP address 192.0.2.77: no interface of this node has it',
    )
    await expect(process.call('findUnderlay', '192.0.2.1', 'eth9')).rejects.toThrow(
      'underlay device eth9: no such interface',
    )
  })
})

describe('UDP sockets', () => {
  /** Ports of the IPv4 UDP sockets of the node. */
  async function ports(): Promise<number[]> {
    const { stdout } = await run('cat', ['/proc/net/udp'], { netns: node.path })
    return stdout
      .trim()
      .split('\n')
      .slice(1)
      .map(line => Number.parseInt(line.trim().split(/\s+/)[1]!.split(':')[1]!, 16))
      .sort((a, b) => a - b)
  }

  test('one a worker on the VXLAN port, and senders with ports of their own', async () => {
    // A port that another program has is left out.
    await process.call('occupy', '192.0.2.1', 49_153)
    const sockets = await process.call<UdpSockets>('openUdpUnderlay', '192.0.2.1', 4789, 3)
    expect(sockets.value.receivers).toHaveLength(3)
    expect(sockets.value.senders).toHaveLength(UDP_ENTROPY_SOCKETS)
    expect(sockets.value.segments).toBe(true)
    const senders = [49_152, 49_154, 49_155, 49_156, 49_157, 49_158, 49_159, 49_160]
    expect(await ports()).toEqual([4789, 4789, 4789, 49_152, 49_153, ...senders.slice(1)])
    await process.method(sockets, 'close')
    expect(await ports()).toEqual([49_153])
  })

  test('an address that the node does not have: nothing is left open', async () => {
    await expect(process.call('openUdpUnderlay', '192.0.2.77', 4789, 2)).rejects.toThrow(
      'UDP socket 192.0.2.77 port 4789',
    )
    expect(await ports()).toEqual([])
  })
})

describe('AF_XDP queues', () => {
  test('one socket a queue behind a program, and nothing of it after closing', async () => {
    const slots = await process.call('slots', SLOTS)
    const umem = await process.call('umem', slots)
    const found = await process.call<Link>('findUnderlay', '192.0.2.1')
    const open = () =>
      process.call<XdpQueues>('openXdpUnderlay', umem, slots, found.value.index, FACTS)
    // Places for rings are given back: a second time there is room.
    for (let twice = 0; twice < 2; twice++) {
      const queues = await open()
      expect(queues.value.sockets).toHaveLength(QUEUES)
      expect(queues.value.link.mode).toBe('native')
      expect(link(node, 'under0')!.xdp?.prog?.id).toBeGreaterThan(0)
      await process.method(queues, 'close')
      expect(link(node, 'under0')!.xdp?.prog).toBeUndefined()
    }
  })

  test('without room for all rings it fails whole', async () => {
    const slots = await process.call('slots', QUEUES)
    const umem = await process.call('umem', slots)
    const found = await process.call<Link>('findUnderlay', '192.0.2.1')
    await expect(
      process.call('openXdpUnderlay', umem, slots, found.value.index, FACTS),
    ).rejects.toThrow('no room for the rings of another AF_XDP socket')
    expect(link(node, 'under0')!.xdp?.prog).toBeUndefined()
  })

  test("another's program is left where it is", async () => {
    const found = await process.call<Link>('findUnderlay', '192.0.2.1')
    const program = track(native.bpfLoadXdp(passProgram(), 'hwt_other'))
    track(attachXdp(node.path, program, found.value.index).linkFd)
    const before = link(node, 'under0')!.xdp?.prog?.id
    expect(before).toBeGreaterThan(0)
    const slots = await process.call('slots', SLOTS)
    const umem = await process.call('umem', slots)
    await expect(
      process.call('openXdpUnderlay', umem, slots, found.value.index, FACTS),
    ).rejects.toMatchObject({
      code: 'EBUSY',
      message: expect.stringContaining('another XDP program'),
    })
    expect(link(node, 'under0')!.xdp?.prog?.id).toBe(before)
  })
})

describe('the way to a peer', () => {
  const up = () => peer.ip('link', 'set', 'peer0', 'up')
  const index = (name = 'under0') => link(node, name)!.ifindex
  const ways = (served: readonly number[]) => process.call('ways', '192.0.2.1', 4789, served)
  const to = async (all: Kept<unknown>, vtep: string): Promise<Way> =>
    (await process.method(all, 'to', vtep)) as Way

  test('has the MAC of its neighbour when that has answered', async () => {
    up()
    const all = await ways([index()])
    await process.method(all, 'follow', ['192.0.2.2'])
    const way = await until('the neighbour answers', async () => {
      await process.method(all, 'lookAtNeighbours')
      const found = await to(all, '192.0.2.2')
      return found.mac != null && found
    })
    expect(way).toMatchObject({ mac: PEER_MAC, neighbour: '192.0.2.2', mtu: 1500 })
    expect(way.device?.name).toBe('under0')
    expect(way.problem ?? undefined).toBeUndefined()
    await process.method(all, 'close')
  })

  test('behind a router has its MAC, and all such ways follow another MAC of it', async () => {
    up()
    const [one, other] = ['02:00:00:00:00:55', '02:00:00:00:00:66']
    node.ip('neigh', 'add', '192.0.2.5', 'lladdr', one, 'dev', 'under0')
    node.ip('route', 'add', '198.51.100.0/24', 'via', '192.0.2.5')
    const all = await ways([index()])
    const peers = ['192.0.2.5', '198.51.100.9', '198.51.100.10']
    await process.method(all, 'follow', peers)
    for (const vtep of peers) expect((await to(all, vtep)).mac).toBe(one)
    node.ip('neigh', 'replace', '192.0.2.5', 'lladdr', other, 'dev', 'under0')
    await process.method(all, 'lookAtNeighbours')
    for (const vtep of peers) expect((await to(all, vtep)).mac).toBe(other)
    // What was set by hand stays so.
    expect(node.ip('neigh', 'show', '192.0.2.5')).toContain('PERMANENT')
    await process.method(all, 'close')
  })

  test('is asked for with source, protocol and port', async () => {
    up()
    node.ip('route', 'add', '198.51.100.0/24', 'via', '192.0.2.5')
    const tables = [
      ['10', '192.0.2.6', ['from', '192.0.2.1']],
      ['11', '192.0.2.7', ['ipproto', 'udp', 'dport', '4789']],
    ] as const
    const all = await ways([])
    await process.method(all, 'follow', ['198.51.100.9'])
    expect((await to(all, '198.51.100.9')).neighbour).toBe('192.0.2.5')
    for (const [table, gateway, selector] of tables) {
      node.ip('route', 'add', 'default', 'via', gateway, 'table', table)
      node.ip('rule', 'add', ...selector, 'table', table)
      await process.method(all, 'look')
      expect((await to(all, '198.51.100.9')).neighbour, selector.join(' ')).toBe(gateway)
      node.ip('rule', 'del', ...selector, 'table', table)
    }
    await process.method(all, 'close')
  })

  test("has the route's MTU when that is less than the device's", async () => {
    up()
    node.ip('route', 'add', '198.51.100.0/24', 'via', '192.0.2.5', 'mtu', '1400')
    const all = await ways([])
    await process.method(all, 'follow', ['198.51.100.9', '192.0.2.2'])
    expect((await to(all, '198.51.100.9')).mtu).toBe(1400)
    expect((await to(all, '192.0.2.2')).mtu).toBe(1500)
    node.ip('link', 'set', 'under0', 'mtu', '1300')
    await process.method(all, 'look')
    expect((await to(all, '192.0.2.2')).mtu).toBe(1300)
    await process.method(all, 'close')
  })

  test('that there is not has a reason', async () => {
    up()
    const all = await ways([])
    await process.method(all, 'follow', ['203.0.113.1', '127.0.0.1', '192.0.2.2'])
    expect((await to(all, '203.0.113.1')).problem).toContain('ENETUNREACH')
    expect((await to(all, '127.0.0.1')).problem).toContain('local')
    peer.ip('link', 'set', 'peer0', 'down')
    await process.method(all, 'look')
    expect((await to(all, '192.0.2.2')).problem).toBe('device under0 has no carrier')
    await process.method(all, 'close')
  })
})

describe("the kernel's way beside AF_XDP", () => {
  test('a raw socket is there for all workers, and leaves the port to others', async () => {
    const sockets = await process.call<RawSockets>('openRawUnderlay', FACTS, 2)
    expect(new Set(sockets.value.receivers).size).toBe(1)
    expect(sockets.value.senders).toHaveLength(UDP_ENTROPY_SOCKETS)
    node.ip('link', 'add', 'vx0', 'up', 'type', 'vxlan', 'id', '77', 'dstport', '4789')
    await process.method(sockets, 'close')
  })
})

test('the processes of these tests are in their namespaces', async () => {
  const own = native.netnsIdentity('').ino
  const inside = await process.call<string>('identity')
  expect(inside.value).toBe(String(native.netnsIdentity(node.path).ino))
  expect(inside.value).not.toBe(String(own))
  expect(readFileSync('/proc/self/net/dev', 'utf8')).not.toContain('under0')
})
