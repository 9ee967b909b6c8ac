// TUN devices of pods: what the kernel has of them afterwards.
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import {
  closeTun,
  configurePodTun,
  isDevice,
  openTun,
  removeTun,
  type TunDevice,
} from '../../../dataplane/devices/tun.ts'
import { Netlink } from '../../../dataplane/netlink/socket.ts'
import { native } from '../../../native/native.ts'
import { addNamespace, type Namespace, removeNamespaces } from '../../native/namespace.ts'
import { addresses, link, links, routes } from './kernel.ts'

let pod: Namespace
let devices: TunDevice[]
let nl: Netlink
beforeEach(() => {
  pod = addNamespace()
  native.sysctlWrite(pod.path, 'ipv6/conf/default/disable_ipv6', '0')
  devices = []
  nl = new Netlink(pod.path)
})
afterEach(() => {
  for (const device of devices) closeTun(device)
  nl.close()
  removeNamespaces()
})

function open(name: string, queues: number): TunDevice {
  const device = openTun(nl, name, queues)
  devices.push(device)
  return device
}

/** The device is closed here and not in `afterEach`. */
function given(device: TunDevice): TunDevice {
  devices = devices.filter(each => each !== device)
  return device
}

describe('the device', () => {
  test('is persistent, with its queues and virtio headers, and takes superframes', () => {
    const device = open('eth0', 3)
    expect(device.fds.length).toBe(3)
    expect(new Set(device.fds).size).toBe(3)
    expect(device.ifindex).toBe(link(pod, 'eth0')!.ifindex)
    expect(link(pod, 'eth0')!.linkinfo).toMatchObject({
      info_kind: 'tun',
      info_data: { type: 'tun', pi: false, vnet_hdr: true, multi_queue: true, persist: true },
    })
    expect(link(pod, 'eth0')!.qdisc).toBe('noqueue')
    // Checksums and TCP of both families; UDP from kernel 6.2 on.
    expect([0x67, 0x07]).toContain(device.offloads)
    expect(isDevice(pod.path, 'eth0', 'tun')).toBe(true)
    expect(isDevice(pod.path, 'eth0', 'veth')).toBe(false)
    expect(isDevice(pod.path, 'eth1', 'tun')).toBe(false)
  })

  test('stays when its process lets go, and is taken over by name', () => {
    const first = given(open('eth0', 2))
    configurePodTun(nl, first, 1400, '10.244.1.2', 'fd44::2')
    closeTun(first)
    expect(link(pod, 'eth0')!.ifindex).toBe(first.ifindex)
    const again = open('eth0', 1)
    expect(again.ifindex).toBe(first.ifindex)
    expect(again.offloads).toBe(first.offloads)
    expect(addresses(pod, 'eth0')).toEqual(['10.244.1.2/32', 'fd44::2/128'])
    expect(link(pod, 'eth0')!.mtu).toBe(1400)
  })

  test('is gone with all that belongs to it when it is removed', () => {
    const device = given(open('eth0', 2))
    configurePodTun(nl, device, 1400, '10.244.1.2', 'fd44::2')
    removeTun(device)
    expect(links(pod).map(each => each.ifname)).toEqual(['lo'])
    expect(routes(pod, 4, 'lo')).toEqual([])
    const next = open('eth0', 1)
    expect(next.ifindex).not.toBe(device.ifindex)
  })

  test('may have been deleted by the pod itself before it is removed', () => {
    const device = given(open('eth0', 2))
    pod.ip('link', 'delete', 'eth0')
    removeTun(device)
    expect(links(pod).map(each => each.ifname)).toEqual(['lo'])
  })

  test('a name that another device has', () => {
    pod.ip('link', 'add', 'br0', 'type', 'bridge')
    expect(() => openTun(nl, 'br0', 1)).toThrow(/TUN br0 in .*/)
    expect(link(pod, 'br0')!.linkinfo!.info_kind).toBe('bridge')
  })
})

describe('its configuration', () => {
  test('addresses of a single host, everything goes out of the device', () => {
    const made = configurePodTun(nl, open('eth0', 1), 1280, '10.244.1.2', 'fd44::2', 'whose')
    expect(made).toEqual([{ dst: '0.0.0.0/0' }, { dst: '::/0' }])
    expect(addresses(pod, 'eth0')).toEqual(['10.244.1.2/32', 'fd44::2/128'])
    expect(routes(pod, 4, 'eth0')).toEqual([{ dst: 'default', scope: 'link' }])
    expect(routes(pod, 6, 'eth0')).toEqual([{ dst: 'default' }])
    expect(link(pod, 'eth0')).toMatchObject({ mtu: 1280, ifalias: 'whose' })
    expect(link(pod, 'eth0')!.flags).toContain('UP')
  })

  test('one family alone, and a second time', () => {
    const device = open('eth0', 1)
    for (let twice = 0; twice < 2; twice++) {
      expect(configurePodTun(nl, device, 1450, '10.244.1.2', undefined)).toEqual([
        { dst: '0.0.0.0/0' },
      ])
      expect(addresses(pod, 'eth0')).toEqual(['10.244.1.2/32'])
      expect(routes(pod, 4, 'eth0')).toHaveLength(1)
      expect(routes(pod, 6, 'eth0')).toEqual([])
    }
    const six = open('eth1', 1)
    expect(configurePodTun(nl, six, 1450, undefined, 'fd44::3')).toEqual([{ dst: '::/0' }])
    expect(addresses(pod, 'eth1')).toEqual(['fd44::3/128'])
    expect(routes(pod, 4, 'eth1')).toEqual([])
  })
})
