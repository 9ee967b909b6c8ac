/**
 * veth pods: the pod's end in its namespace, the node's end here, with an XDP program and AF_XDP sockets
 * (`xdp`) or a tc program (`tap`). The pod's routes point at 169.254.1.1 and fe80::1, which `neighbour` answers for.
 */
import { createHash } from 'node:crypto'
import { native } from '../../native/native.ts'
import type { PodSpec } from '../control.ts'
import {
  createVeth,
  deleteLink,
  deleteLinkInBackground,
  getLink,
  listLinks,
  setLink,
} from '../netlink/link.ts'
import { replaceRoute } from '../netlink/route.ts'
import { Netlink } from '../netlink/socket.ts'
import { setSwitch } from '../switches.ts'
import { POD_UP } from '../tc/programs.ts'
import { addAddressOnce } from './tun.ts'

export const GATEWAY_IPV4 = '169.254.1.1'
export const GATEWAY_IPV6 = 'fe80::1'

export interface VethPair {
  hostDevice: string
  hostIndex: number
  hostMac: string
  podMac: string
}

/** Names and MACs of a pod's pair, from its id and the MAC that it asked for: a later process knows them as ours. */
export function vethNames(id: string, podMac?: string): Omit<VethPair, 'hostIndex'> {
  const digest = createHash('sha256').update(id).digest()
  const mac = (from: number) =>
    [
      '02',
      ...Array.from(digest.subarray(from, from + 5), b => b.toString(16).padStart(2, '0')),
    ].join(':')
  return {
    hostDevice: `hw${digest.toString('hex', 0, 6)}`,
    hostMac: mac(8),
    podMac: podMac ?? mac(16),
  }
}

/** Makes the pair, or finds the one that an earlier process made for the pod when `adopt`. `peer`: of the pod's end alone. */
export function openVeth(
  { id, netns, ifname, mtu, mac, label }: PodSpec & { mtu: number },
  { queues, peer = {} }: { queues: number; peer?: { gsoMaxSize?: number } },
  adopt: boolean,
): VethPair {
  const names = vethNames(id, mac)
  if (names.podMac === names.hostMac) {
    throw new RangeError(`pod ${id}: MAC ${mac} is that of the node's end of its link`)
  }
  const host = new Netlink('')
  try {
    let link = getLink(host, names.hostDevice)
    if (link !== undefined && (link.kind !== 'veth' || link.mac !== names.hostMac)) {
      throw Object.assign(
        new Error(`${names.hostDevice}: a device of that name, not ours, is on this node`),
        { code: 'EBUSY' },
      )
    }
    if (link !== undefined && !adopt) {
      // The pod that had it is gone (its interface would have been found); so is its use.
      deleteLink(host, link.index)
      link = undefined
    }
    if (link === undefined) {
      createVeth(host, {
        name: names.hostDevice,
        mac: names.hostMac,
        mtu,
        queues,
        peer: { name: ifname, mac: names.podMac, mtu, netnsPath: netns, ...peer },
      })
      link = getLink(host, names.hostDevice)
      if (link === undefined) throw new Error(`veth ${names.hostDevice}: it vanished at once`)
    }
    quiet(names.hostDevice)
    setLink(host, link.index, { up: true, ...(label === undefined ? {} : { alias: label }) })
    return { ...names, hostIndex: link.index }
  } finally {
    host.close()
  }
}

/**
 * The node's own stack neither speaks on the pod's link nor forwards from it, also when no program is
 * attached. Returns whether it did: switching the node's forwarding on again does that to every device.
 */
export function quiet(device: string): boolean {
  const spoke = setSwitch('', `ipv6/conf/${device}/disable_ipv6`, '1') !== undefined
  return setSwitch('', `ipv4/conf/${device}/forwarding`, '0') !== undefined || spoke
}

/** Whether the node's end of a veth, by its index, is that of a pod of kind `tap`: our tc program is on it. */
export function leadsToTap(hostIndex: number): boolean {
  try {
    return native.bpfTcxNames('', hostIndex).includes(POD_UP)
  } catch {
    // Kernels before 6.6 don't tell.
    return false
  }
}

/** Of links' ends on this node, by their names, sets up those that are down; returns their names. What is gone is left out. */
export function setUp(devices: ReadonlySet<string>): string[] {
  const host = new Netlink('')
  try {
    const down = listLinks(host).filter(({ name, up }) => !up && devices.has(name))
    for (const { index } of down) setLink(host, index, { up: true })
    return down.map(({ name }) => name)
  } finally {
    host.close()
  }
}

/** Of links' ends on this node, by their names, those that are gone: a pod may have deleted its own. */
export function gone(devices: ReadonlySet<string>): Set<string> {
  const host = new Netlink('')
  try {
    const there = new Set(listLinks(host).map(({ name }) => name))
    return new Set([...devices].filter(name => !there.has(name)))
  } finally {
    host.close()
  }
}

/** Without holding up the calling thread: the kernel takes some 20 ms for it. */
export async function removeVeth(hostDevice: string): Promise<void> {
  const host = new Netlink('')
  try {
    const link = getLink(host, hostDevice)
    if (link !== undefined) await deleteLinkInBackground(host, link.index)
  } finally {
    host.close()
  }
}

/** Addresses and routes of the pod's end. */
export function configurePodVeth(
  netns: string,
  ifname: string,
  ip4: string | undefined,
  ip6: string | undefined,
  label?: string,
): { dst: string; gw?: string }[] {
  const nl = new Netlink(netns)
  try {
    const link = getLink(nl, ifname)
    if (link === undefined) throw new Error(`${ifname} in ${netns}: no such interface`)
    const ifindex = link.index
    setLink(nl, ifindex, { up: true, ...(label === undefined ? {} : { alias: label }) })
    const routes: { dst: string; gw?: string }[] = []
    if (ip4 !== undefined) {
      addAddressOnce(nl, ifindex, ip4, 32)
      replaceRoute(nl, { destination: `${GATEWAY_IPV4}/32`, ifindex, scope: 'link' })
      replaceRoute(nl, { destination: '0.0.0.0/0', gateway: GATEWAY_IPV4, ifindex })
      routes.push({ dst: `${GATEWAY_IPV4}/32` }, { dst: '0.0.0.0/0', gw: GATEWAY_IPV4 })
    }
    if (ip6 !== undefined) {
      addAddressOnce(nl, ifindex, ip6, 128)
      replaceRoute(nl, { destination: '::/0', gateway: GATEWAY_IPV6, ifindex })
      routes.push({ dst: '::/0', gw: GATEWAY_IPV6 })
    }
    return routes
  } finally {
    nl.close()
  }
}
