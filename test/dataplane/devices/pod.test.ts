/**
 * A pod's interface of either kind, made by a process in the node's namespace:
 *
 *   netns node: the process, hw… for veth ───── eth0 :netns pod
 */
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import type { PodAttachment, PodSpec } from '../../../dataplane/control.ts'
import { type PodDevice, verifyPod } from '../../../dataplane/devices/pod.ts'
import { vethNames } from '../../../dataplane/devices/veth.ts'
import { POD_FILL_FRAMES, POD_GSO_BYTES, TAP_DEVICE } from '../../../dataplane/limits.ts'
import { PORT_KIND } from '../../../dataplane/ports/port.ts'
import { macWords } from '../../../dataplane/tables/ports.ts'
import { POD_UP } from '../../../dataplane/tc/programs.ts'
import { native } from '../../../native/native.ts'
import { addNamespace, type Namespace, removeNamespaces } from '../../native/namespace.ts'
import { addresses, link, links, routes } from './kernel.ts'
import { type Kept, NodeProcess } from './node-process.ts'

const QUEUES = 2

let node: Namespace
let pod: Namespace
let process: NodeProcess
let slots: Kept<unknown>
let umem: Kept<unknown>
beforeEach(async () => {
  node = addNamespace()
  pod = addNamespace()
  for (const { path } of [node, pod]) {
    native.sysctlWrite(path, 'ipv6/conf/default/disable_ipv6', '0')
  }
  await start()
})
afterEach(async () => {
  await process.stop()
  removeNamespaces()
})

async function start(): Promise<void> {
  process = new NodeProcess(node.path)
  slots = await process.call('slots', 1 + QUEUES)
  umem = await process.call('umem', slots)
}

type Kind = PodSpec['kind']
const KINDS: readonly Kind[] = ['tun', 'xdp', 'tap']

/** The node's devices, but for its TAP, which stays. */
function nodeLinks(): string[] {
  return links(node).flatMap(({ ifname }) => (ifname === TAP_DEVICE ? [] : ifname))
}

function spec(kind: Kind, change: Partial<PodSpec> = {}): PodSpec & { mtu: number } {
  const ip = { ip4: '10.244.1.2', ip6: 'fd44:0:0:1::2' }
  return { id: `pod-${kind}`, kind, netns: pod.path, ifname: 'eth0', ...ip, mtu: 1400, ...change }
}

function open(kind: Kind, change: Partial<PodSpec> = {}, adopt = false): Promise<Kept<PodDevice>> {
  return process.call<PodDevice>('openPod', spec(kind, change), QUEUES, adopt, umem, slots)
}

function attachment(kind: Kind, device: PodDevice): PodAttachment {
  return { ...spec(kind), port: 1, routes: device.routes, ...device.link }
}

describe.each(KINDS)('%s', kind => {
  test('the interface, and the record that a worker serves it by', async () => {
    const { value } = await open(kind)
    expect(addresses(pod, 'eth0')).toEqual(['10.244.1.2/32', 'fd44:0:0:1::2/128'])
    expect(link(pod, 'eth0')).toMatchObject({ mtu: 1400 })
    expect(link(pod, 'eth0')!.flags).toContain('UP')
    expect(routes(pod, 4, 'eth0').map(each => each.dst)).toContain('default')
    expect(routes(pod, 6, 'eth0').map(each => each.dst)).toContain('default')
    expect(value.record.fds).toHaveLength(kind === 'tap' ? 0 : QUEUES)
    expect(value.record.mtu).toBe(1400)
    if (kind === 'tun') {
      expect(value.record).toMatchObject({
        kind: PORT_KIND.TUN,
        ifindex: link(pod, 'eth0')!.ifindex,
      })
      expect(value.link).toEqual({})
      expect(links(node).map(each => each.ifname)).toEqual(['lo'])
    } else {
      const names = vethNames(`pod-${kind}`)
      const here = link(node, names.hostDevice)!
      expect(value.link).toEqual({
        mac: names.podMac,
        hostDevice: names.hostDevice,
        hostMac: names.hostMac,
      })
      expect(value.record).toMatchObject({
        kind: kind === 'tap' ? PORT_KIND.TAP : PORT_KIND.XDP,
        ifindex: here.ifindex,
        macHigh: macWords(names.hostMac).high,
        peerMacLow: macWords(names.podMac).low,
        fillFrames: kind === 'tap' ? 0 : POD_FILL_FRAMES,
      })
      if (kind === 'xdp') {
        expect(value.record.rings).toHaveLength(QUEUES)
        expect(here.xdp?.prog?.id).toBeGreaterThan(0)
      } else {
        expect(native.bpfTcxNames(node.path, here.ifindex)).toEqual([POD_UP])
        expect(link(pod, 'eth0')!.gso_max_size).toBe(POD_GSO_BYTES)
      }
    }
    expect(verifyPod(spec(kind), attachment(kind, value))).toEqual([])
  })

  test('what is changed behind our back is told', async () => {
    const { value } = await open(kind)
    const problems = () => verifyPod(spec(kind), attachment(kind, value))
    // Smaller is what a plugin behind us may have been asked for.
    pod.ip('link', 'set', 'eth0', 'mtu', '1300')
    expect(problems()).toEqual([])
    pod.ip('link', 'set', 'eth0', 'mtu', '1420')
    expect(problems()).toEqual([`eth0 in ${pod.path} has MTU 1420, more than 1400`])
    pod.ip('link', 'set', 'eth0', 'mtu', '1400')
    pod.ip('address', 'delete', '10.244.1.2/32', 'dev', 'eth0')
    expect(problems()).toContain(`eth0 in ${pod.path} lacks the address 10.244.1.2`)
    pod.ip('-6', 'route', 'delete', 'default', 'dev', 'eth0')
    expect(problems()).toContain(`${pod.path} lacks the route ::/0 by eth0`)
    pod.ip('link', 'set', 'eth0', 'down')
    expect(problems()).toContain(`eth0 in ${pod.path} is down`)
    if (kind !== 'tun') {
      pod.ip('link', 'set', 'eth0', 'address', '02:00:00:00:00:01')
      const { podMac } = vethNames(`pod-${kind}`)
      expect(problems()).toContain(`eth0 in ${pod.path} has MAC 02:00:00:00:00:01, not ${podMac}`)
    }
    pod.ip('link', 'delete', 'eth0')
    expect(problems()).toEqual([`eth0 in ${pod.path} is not there`])
    const nowhere = { ...spec(kind), netns: '/run/netns/hwt-none' }
    expect(verifyPod(nowhere, attachment(kind, value))).toEqual([
      expect.stringContaining('/run/netns/hwt-none'),
    ])
  })

  test('removal leaves nothing, closing leaves the interface; each happens once', async () => {
    const kept = await open(kind)
    await process.method(kept, 'close')
    await process.method(kept, 'close')
    // Descriptors are closed: whatever removes it now is a later life of it.
    await process.method(kept, 'remove')
    expect(link(pod, 'eth0')).toBeDefined()
    const again = await open(kind, {}, true)
    expect(again.value.record.ifindex).toBe(kept.value.record.ifindex)
    await process.method(again, 'remove')
    await process.method(again, 'remove')
    expect([nodeLinks(), links(pod).map(({ ifname }) => ifname)]).toEqual([['lo'], ['lo']])
  })

  test('a pod that deletes its interface itself leaves nothing to remove', async () => {
    const kept = await open(kind)
    pod.ip('link', 'delete', 'eth0')
    await process.method(kept, 'remove')
    expect([nodeLinks(), links(pod).map(({ ifname }) => ifname)]).toEqual([['lo'], ['lo']])
  })

  test('a later process takes over what an earlier one left', async () => {
    await open(kind)
    const { ifindex } = link(pod, 'eth0')!
    await process.stop()
    expect(link(pod, 'eth0')!.ifindex).toBe(ifindex)
    await start()
    await expect(open(kind)).rejects.toMatchObject({ code: 'EEXIST' })
    const { value } = await open(kind, {}, true)
    expect(link(pod, 'eth0')!.ifindex).toBe(ifindex)
    expect(value.record.fds).toHaveLength(kind === 'tap' ? 0 : QUEUES)
    expect(verifyPod(spec(kind), attachment(kind, value))).toEqual([])
  })

  test('a sandbox with IPv6 switched off gets it for this interface and loopback', async () => {
    for (const key of ['all', 'default'])
      native.sysctlWrite(pod.path, `ipv6/conf/${key}/disable_ipv6`, '1')
    await open(kind)
    expect(addresses(pod, 'eth0')).toEqual(['10.244.1.2/32', 'fd44:0:0:1::2/128'])
    expect(routes(pod, 6, 'eth0').map(each => each.dst)).toContain('default')
    expect(native.sysctlRead(pod.path, 'ipv6/conf/lo/disable_ipv6').trim()).toBe('0')
  })

  test('an interface of somebody else is an error, and is not touched', async () => {
    pod.ip('link', 'add', 'eth0', 'type', 'bridge')
    for (const adopt of [false, true]) {
      await expect(open(kind, {}, adopt)).rejects.toMatchObject({
        code: 'EEXIST',
        message: `eth0 in ${pod.path}: the interface is there already`,
      })
    }
    expect(link(pod, 'eth0')!.linkinfo!.info_kind).toBe('bridge')
    expect(nodeLinks()).toEqual(['lo'])
  })

  test('a failure half way leaves nothing of a new interface, and an adopted one as it was', async () => {
    // No interface takes such an address.
    const bad = { ip6: 'ff02::5' }
    await expect(open(kind, bad)).rejects.toThrow('add address ff02::5/128 on eth0')
    expect([nodeLinks(), links(pod).map(({ ifname }) => ifname)]).toEqual([['lo'], ['lo']])
    const kept = await open(kind)
    await process.method(kept, 'close')
    await expect(open(kind, bad, true)).rejects.toThrow('add address ff02::5/128 on eth0')
    expect(link(pod, 'eth0')!.ifindex).toBe(ifindexOf(kept))
    expect(addresses(pod, 'eth0')).toEqual(['10.244.1.2/32', 'fd44:0:0:1::2/128'])
    const again = await open(kind, {}, true)
    expect(ifindexOf(again)).toBe(ifindexOf(kept))
    expect(addresses(pod, 'eth0')).toEqual(['10.244.1.2/32', 'fd44:0:0:1::2/128'])
  })

  /** Of the pod's end. */
  function ifindexOf(kept: Kept<PodDevice>): number {
    if (kind === 'tun') return kept.value.record.ifindex
    expect(link(node, vethNames(`pod-${kind}`).hostDevice)!.ifindex).toBe(kept.value.record.ifindex)
    return link(pod, 'eth0')!.ifindex
  }
})

test("a veth pod's interface is known by its other end, whatever MAC it has got", async () => {
  const first = await open('xdp')
  await process.method(first, 'close')
  pod.ip('link', 'set', 'eth0', 'address', '02:11:22:33:44:55')
  const { value } = await open('xdp', {}, true)
  expect(value.link.mac).toBe('02:11:22:33:44:55')
  expect(value.record.peerMacLow).toBe(macWords('02:11:22:33:44:55').low)
})

test('without a UMEM a veth pod says what helps', async () => {
  await expect(
    process.call('openPod', spec('xdp'), QUEUES, false, undefined, slots),
  ).rejects.toThrow(
    'pod pod-xdp: attach "xdp" needs AF_XDP, which is not available here; use "tun"',
  )
  expect(links(pod).map(each => each.ifname)).toEqual(['lo'])
})
