/**
 * veth pairs of pods:
 *
 *   netns node: hw… (the process that makes it) ───── eth0 :netns pod
 */
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { type VethPair, vethNames } from '../../../dataplane/devices/veth.ts'
import { native } from '../../../native/native.ts'
import { addNamespace, type Namespace, removeNamespaces } from '../../native/namespace.ts'
import { addresses, link, links, routes } from './kernel.ts'
import { NodeProcess } from './node-process.ts'

let node: Namespace
let pod: Namespace
let process: NodeProcess
beforeEach(() => {
  node = addNamespace()
  pod = addNamespace()
  for (const { path } of [node, pod]) {
    native.sysctlWrite(path, 'ipv6/conf/default/disable_ipv6', '0')
  }
  process = new NodeProcess(node.path)
})
afterEach(async () => {
  await process.stop()
  removeNamespaces()
})

const ID = 'k8s_default/pod-a:eth0'
const NAMES = vethNames(ID)

async function open(adopt = false, mtu = 1400): Promise<VethPair> {
  const spec = { id: ID, netns: pod.path, ifname: 'eth0', mtu }
  return (await process.call<VethPair>('openVeth', spec, { queues: 2 }, adopt)).value
}

describe('names', () => {
  test('follow from the id, differ with it, and are the kernel’s to take', () => {
    expect(vethNames(ID)).toEqual(NAMES)
    const many = Array.from({ length: 500 }, (_, i) => vethNames(`pod ${i}`))
    for (const key of ['hostDevice', 'hostMac', 'podMac'] as const) {
      expect(new Set(many.map(each => each[key])).size).toBe(500)
    }
    for (const { hostDevice, hostMac, podMac } of many) {
      expect(hostDevice).toMatch(/^hw[0-9a-f]{12}$/)
      expect(hostDevice.length).toBeLessThanOrEqual(15)
      // Locally administered, of a single station.
      for (const mac of [hostMac, podMac]) expect(mac).toMatch(/^02(:[0-9a-f]{2}){5}$/)
      expect(hostMac).not.toBe(podMac)
    }
  })
})

describe('the pair', () => {
  test('one end here, up and silent, the other in the pod', async () => {
    const pair = await open()
    expect(pair).toEqual({ ...NAMES, hostIndex: link(node, NAMES.hostDevice)!.ifindex })
    const here = link(node, NAMES.hostDevice)!
    const there = link(pod, 'eth0')!
    expect(here).toMatchObject({ address: NAMES.hostMac, mtu: 1400, num_rx_queues: 2 })
    expect(here.flags).toContain('UP')
    expect(there).toMatchObject({ address: NAMES.podMac, mtu: 1400, num_tx_queues: 2 })
    expect(there.linkinfo!.info_kind).toBe('veth')
    const sysctl = (key: string) => native.sysctlRead(node.path, key).trim()
    expect(sysctl(`ipv6/conf/${NAMES.hostDevice}/disable_ipv6`)).toBe('1')
    expect(sysctl(`ipv4/conf/${NAMES.hostDevice}/forwarding`)).toBe('0')
    expect(addresses(node, NAMES.hostDevice)).toEqual([])
  })

  test('is found again when it is to be adopted, else made anew', async () => {
    const first = await open()
    const podIndex = link(pod, 'eth0')!.ifindex
    expect(await open(true)).toEqual(first)
    expect(link(pod, 'eth0')!.ifindex).toBe(podIndex)
    // The pod that had the name is gone: its end is where nobody looks for it.
    pod.ip('link', 'set', 'eth0', 'name', 'old0')
    const second = await open(false, 1300)
    expect(second.hostIndex).not.toBe(first.hostIndex)
    expect(
      links(pod)
        .map(each => each.ifname)
        .sort(),
    ).toEqual(['eth0', 'lo'])
    expect(link(pod, 'eth0')!.mtu).toBe(1300)
  })

  test("a stranger's device of its name is an error, and stays", async () => {
    node.ip('link', 'add', NAMES.hostDevice, 'type', 'veth', 'peer', 'name', 'strange0')
    for (const adopt of [false, true]) {
      await expect(open(adopt)).rejects.toThrow(
        `${NAMES.hostDevice}: a device of that name, not ours`,
      )
    }
    expect(
      links(node)
        .map(each => each.ifname)
        .sort(),
    ).toEqual([NAMES.hostDevice, 'lo', 'strange0'])
    expect(links(pod).map(each => each.ifname)).toEqual(['lo'])
  })

  test('leaves nothing when it is removed, once or twice', async () => {
    await open()
    await process.call('configurePodVeth', pod.path, 'eth0', '10.244.1.3', 'fd44::3')
    await process.call('removeVeth', NAMES.hostDevice)
    await process.call('removeVeth', NAMES.hostDevice)
    for (const each of [node, pod]) expect(links(each).map(({ ifname }) => ifname)).toEqual(['lo'])
  })

  test('a name that the pod has already: nothing is left here', async () => {
    pod.ip('link', 'add', 'eth0', 'type', 'bridge')
    await expect(open()).rejects.toThrow('File exists (EEXIST)')
    expect(links(node).map(each => each.ifname)).toEqual(['lo'])
    expect(link(pod, 'eth0')!.linkinfo!.info_kind).toBe('bridge')
  })
})

describe("the pod's end", () => {
  test('has addresses of a single host and routes through the gateways that we answer for', async () => {
    await open()
    for (let twice = 0; twice < 2; twice++) {
      const made = await process.call('configurePodVeth', pod.path, 'eth0', '10.244.1.3', 'fd44::3')
      expect(made.value).toEqual([
        { dst: '169.254.1.1/32' },
        { dst: '0.0.0.0/0', gw: '169.254.1.1' },
        { dst: '::/0', gw: 'fe80::1' },
      ])
      expect(addresses(pod, 'eth0')).toEqual(['10.244.1.3/32', 'fd44::3/128'])
      expect(routes(pod, 4, 'eth0')).toEqual([
        { dst: '169.254.1.1', scope: 'link' },
        { dst: 'default', gateway: '169.254.1.1' },
      ])
      expect(routes(pod, 6, 'eth0')).toEqual([{ dst: 'default', gateway: 'fe80::1' }])
      expect(link(pod, 'eth0')!.flags).toContain('UP')
    }
  })

  test('that is not there is named', async () => {
    await expect(
      process.call('configurePodVeth', pod.path, 'eth9', '10.244.1.3', undefined),
    ).rejects.toThrow(`eth9 in ${pod.path}: no such interface`)
  })
})
