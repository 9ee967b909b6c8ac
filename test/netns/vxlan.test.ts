// The kernel's vxlan device between two nodes, and what may happen to it:
//
//   node a   a1 (TAP) a2 (TUN) ── hawser-vxlan ── under0 ── under0 ── hawser-vxlan ── b1 (TAP)   node b
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { DataplaneStatus } from '../../dataplane/control.ts'
import { vtepMac } from '../../dataplane/control.ts'
import { TAP_DEVICE, VXLAN_DEVICE } from '../../dataplane/limits.ts'
import { ip } from '../harness/netns.ts'
import { addPod, type TestNode, type TestPod } from '../harness/node.ts'
import { Running } from '../harness/processes.ts'
import { sendUdp } from '../harness/raw.ts'
import { oneNode, type TwoNodes, twoNodes } from '../harness/topology.ts'
import { ping, transfer } from '../harness/traffic.ts'
import { until } from '../harness/until.ts'
import { dropsOf, expectPing, expectSound, expectTraffic, tellLogsOnFailure } from './expect.ts'

const VXLAN_PORT = 4789

interface IpLink {
  ifname: string
  ifindex: number
  mtu: number
  address: string
}

async function linkOf(netns: string, name: string): Promise<IpLink | undefined> {
  const all = JSON.parse(await ip(netns, '-j', 'link')) as IpLink[]
  return all.find(({ ifname }) => ifname === name)
}

describe('two nodes', () => {
  let nodes: TwoNodes
  let a1: TestPod
  let a2: TestPod
  let b1: TestPod
  beforeAll(async () => {
    nodes = await twoNodes('vxlan', { underlayMode: 'vxlan', workers: 2 })
    a1 = await addPod(nodes.namespaces, nodes.a, 'a1', 'tap')
    a2 = await addPod(nodes.namespaces, nodes.a, 'a2', 'tun')
    b1 = await addPod(nodes.namespaces, nodes.b, 'b1', 'tap')
  })
  afterAll(() => nodes?.close())
  tellLogsOnFailure(() => [nodes?.a, nodes?.b])

  const overlay = async (node: TestNode) => {
    const { ports } = await node.ask<DataplaneStatus>('status')
    return ports.find(({ role }) => role === 'underlay')!
  }
  const reached = async (): Promise<boolean> => {
    const { received } = await ping(a1.netns, b1.ip4, { count: 1, timeout: 1 })
    return received === 1
  }

  test('superframes cross it whole, from either kind of pod', async () => {
    for (const from of [a1, a2]) {
      const before = [await overlay(nodes.a), await overlay(nodes.b)]
      const sent = await transfer('tcp', from.netns, b1.netns, b1.ip4, { bytes: 64 << 20 })
      expect(sent.intact).toBe(true)
      const after = [await overlay(nodes.a), await overlay(nodes.b)]
      const txBytes = after[0]!.txBytes - before[0]!.txBytes
      expect(txBytes / (after[0]!.txPackets - before[0]!.txPackets)).toBeGreaterThan(20 * 1024)
      const rxBytes = after[1]!.rxBytes - before[1]!.rxBytes
      expect(rxBytes / (after[1]!.rxPackets - before[1]!.rxPackets)).toBeGreaterThan(20 * 1024)
    }
  })

  test('what comes from nobody, of no network of ours, or for another node is dropped and counted', async () => {
    const inner = (mac: string) => Buffer.from(`${mac.replaceAll(':', '')}0200000000010800`, 'hex')
    const vxlan = (vni: number, mac: string) =>
      Uint8Array.from(
        Buffer.concat([
          Buffer.from([8, 0, 0, 0, 0, 0, vni, 0]),
          inner(mac),
          Buffer.alloc(40, 0x45),
        ]),
      )
    const own = vtepMac('node-a')
    const before = await dropsOf(nodes.a)
    const send = (payload: Uint8Array, to = '192.168.77.1') =>
      sendUdp(nodes.b.netns, to, VXLAN_PORT, payload)
    await send(vxlan(9, own))
    await send(vxlan(1, '02:00:00:00:00:99'))
    await ip(nodes.a.netns, 'addr', 'add', '192.168.77.101/24', 'dev', 'under0')
    await send(vxlan(1, own), '192.168.77.101')
    await until('all are counted', async () => {
      const now = await dropsOf(nodes.a)
      const fresh = (reason: string) => (now[reason] ?? 0) - (before[reason] ?? 0)
      return fresh('vxlan-peer') === 1 && fresh('vxlan-device') === 2
    })
    await ip(nodes.a.netns, 'addr', 'del', '192.168.77.101/24', 'dev', 'under0')
  })

  test('a node takes another VTEP’s place: its packets are its own at once', async () => {
    // Both nodes exchange their pods' CIDRs with a third that has never been there.
    const c = { name: 'node-c', vtep: '192.168.77.3', podCIDRs: ['10.244.3.0/24'] }
    const of = (bVtep: string, cVtep: string) => [
      { name: 'node-a', vtep: '192.168.77.1', podCIDRs: ['10.244.1.0/24', 'fd44:0:0:1::/64'] },
      { name: 'node-b', vtep: bVtep, podCIDRs: ['10.244.2.0/24', 'fd44:0:0:2::/64'] },
      { ...c, vtep: cVtep },
    ]
    nodes.a.writeCluster(of('192.168.77.3', '192.168.77.2'))
    await until('node b is behind another VTEP', async () => !(await reached()))
    nodes.a.writeCluster(of('192.168.77.2', '192.168.77.3'))
    await until('and behind its own again', reached)
  })

  test('the device is deleted, and made anew', async () => {
    await ip(nodes.a.netns, 'link', 'delete', VXLAN_DEVICE)
    await nodes.a.logged(`${VXLAN_DEVICE} was deleted and is made anew`)
    await until('pods talk again', reached)
    await ip(nodes.a.netns, 'link', 'set', VXLAN_DEVICE, 'address', '02:00:00:00:00:77', 'down')
    await until('pods talk again', reached)
    expect((await linkOf(nodes.a.netns, VXLAN_DEVICE))?.address).toBe(vtepMac('node-a'))
    await expectTraffic(a1, b1)
  })

  test('a daemon that is killed leaves the device to the next one', async () => {
    const before = await linkOf(nodes.a.netns, VXLAN_DEVICE)
    await nodes.a.stop('SIGKILL')
    expect(await reached()).toBe(false)
    await nodes.a.start()
    expect(await linkOf(nodes.a.netns, VXLAN_DEVICE)).toEqual(before)
    await expectTraffic(a1, b1)
    await expectTraffic(b1, a2)
  })

  test('a start with another mode removes it, and its UDP port is free', async () => {
    await nodes.a.stop()
    const file = join(nodes.a.folder, 'hawser.json')
    const text = readFileSync(file, 'utf8')
    const underlay = { mode: 'udp' }
    writeFileSync(file, JSON.stringify({ ...(JSON.parse(text) as object), underlay }))
    await nodes.a.start()
    expect(await linkOf(nodes.a.netns, VXLAN_DEVICE)).toBeUndefined()
    await nodes.a.acquainted()
    await expectTraffic(a1, b1)
    await nodes.a.stop()
    writeFileSync(file, text)
    await nodes.a.start()
    await expectTraffic(a1, b1)
  })

  test('no frame is without an owner', async () => {
    for (const node of [nodes.a, nodes.b]) await expectSound(node)
  })
})

describe('large packets', () => {
  let nodes: TwoNodes
  beforeAll(async () => {
    nodes = await twoNodes('vxlanjumbo', { underlayMode: 'vxlan', underlayMtu: 9000 })
  })
  afterAll(() => nodes?.close())
  tellLogsOnFailure(() => [nodes?.a, nodes?.b])

  test('a pod behind the TAP has what the underlay takes, others what fits a small frame', async () => {
    const { a, b, namespaces } = nodes
    const [a1, b1] = [
      await addPod(namespaces, a, 'a1', 'tap'),
      await addPod(namespaces, b, 'b1', 'tap'),
    ]
    const b2 = await addPod(namespaces, b, 'b2', 'tun')
    expect((await linkOf(a1.netns, 'eth0'))?.mtu).toBe(8950)
    expect((await linkOf(b2.netns, 'eth0'))?.mtu).toBe(1700)
    const whole = await ping(a1.netns, b1.ip4, { size: 8950 - 28, dontFragment: true })
    expect(whole).toMatchObject({ received: 3, errors: [] })
    // The sender is told what the other one takes.
    const told = await ping(a1.netns, b2.ip4, { size: 4000, dontFragment: true, count: 1 })
    expect(told.received).toBe(0)
    expect(told.errors).toMatchObject([{ type: 3, code: 4, mtu: 1700 }])
    await expectTraffic(a1, b1)
    await expectTraffic(a1, b2)
    await expectPing(b2, a1)
    for (const node of [a, b]) await expectSound(node)
  })
})

test('a UDP port that is taken: the error says which, and what helps', async () => {
  const one = await oneNode('vxlanport', { underlayMode: 'vxlan' })
  const hold = `import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(('0.0.0.0', ${VXLAN_PORT}))
print('ready', flush=True)
s.recv(1)`
  const holder = new Running('python3', ['-c', hold], { netns: one.node.netns })
  try {
    await holder.until(line => line === 'ready')
    await expect(one.node.start()).rejects.toThrow(
      /hawser-vxlan: UDP port 4789 is in use.*choose another vxlanPort/,
    )
    for (const device of [VXLAN_DEVICE, TAP_DEVICE]) {
      expect(await linkOf(one.node.netns, device)).toBeUndefined()
    }
  } finally {
    await holder.stop('SIGKILL')
    await one.close()
  }
})
