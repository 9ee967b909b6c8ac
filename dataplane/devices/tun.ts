/** TUN devices: a pod's interface, and the node's own port. */
import { native } from '../../native/native.ts'
import { addAddress } from '../netlink/address.ts'
import { getLink, setLink } from '../netlink/link.ts'
import { addRootQdisc } from '../netlink/qdisc.ts'
import { replaceRoute } from '../netlink/route.ts'
import { Netlink, NetlinkError } from '../netlink/socket.ts'

/** TUN_F_CSUM 1, TSO4 2, TSO6 4 (linux/if_tun.h); USO4 0x20 and USO6 0x40 (kernel 6.2), only together. */
const OFFLOADS = [0x67, 0x07, 0x01] as const

export interface TunDevice {
  fds: readonly number[]
  ifindex: number
  /** The offload mask that the device accepted. */
  offloads: number
}

/**
 * Opens `queues` queues of the persistent TUN device `name` in the namespace of `nl`, made if it is
 * not there. The offload mask belongs to the device and outlives the process that set it: it is
 * cleared, then the largest that the kernel accepts is set.
 */
export function openTun(nl: Netlink, name: string, queues: number): TunDevice {
  return setOffloads(nl, name, native.tunOpen(nl.netns, name, queues, true))
}

/** What every device of ours has, TUN or TAP: the largest offload mask, and no qdisc. */
export function setOffloads(nl: Netlink, name: string, fds: readonly number[]): TunDevice {
  native.tunSetOffload(fds[0]!, 0)
  const offloads = OFFLOADS.find(mask => native.tunSetOffload(fds[0]!, mask) === 0) ?? 0
  const ifindex = nl.interfaceIndex(name)
  leaveQueuesOut(nl, ifindex)
  return { fds, ifindex, offloads }
}

/**
 * A multi-queue TUN has 256 queues (MAX_TAP_QUEUES), and the kernel's default is a qdisc with a ring
 * for each when it goes up: 3 MiB and most of a millisecond. A TUN never stops its queues, so nothing
 * would ever wait in them.
 */
function leaveQueuesOut(nl: Netlink, ifindex: number): void {
  try {
    addRootQdisc(nl, ifindex, 'noqueue')
  } catch (error) {
    // It has one already, or the kernel knows none: it works with any.
    if (!(error instanceof NetlinkError)) throw error
  }
}

/** Removes the device: it ends with its last descriptor once it is no longer persistent. */
export function removeTun(device: TunDevice): void {
  try {
    unkeep(device)
  } finally {
    closeTun(device)
  }
}

/** Lets the device end with its last descriptor. */
function unkeep(device: TunDevice): void {
  try {
    native.tunSetPersistent(device.fds[0]!, false)
  } catch (error) {
    // Its interface is gone already: somebody in its namespace has deleted it.
    if ((error as { code?: string }).code !== 'EBADFD') throw error
  }
}

/**
 * As `removeTun`, without holding up the calling thread: resolves when `name` is no longer in `netns`.
 * What the kernel then still waits for, some 20 ms, holds nobody up.
 */
export async function vanishTun(netns: string, name: string, device: TunDevice): Promise<void> {
  try {
    unkeep(device)
  } finally {
    await native.tunVanish(netns, name, device.ifindex, device.fds)
  }
}

/** Closes the descriptors; a persistent device stays. */
export function closeTun(device: TunDevice): void {
  for (const fd of device.fds) native.close(fd)
}

/** Gives a pod's TUN its addresses and routes: everything goes out of the device. */
export function configurePodTun(
  nl: Netlink,
  device: TunDevice,
  mtu: number,
  ip4: string | undefined,
  ip6: string | undefined,
  label?: string,
): { dst: string; gw?: string }[] {
  const { ifindex } = device
  setLink(nl, ifindex, { mtu, up: true, ...(label === undefined ? {} : { alias: label }) })
  const routes: { dst: string }[] = []
  if (ip4 !== undefined) {
    addAddressOnce(nl, ifindex, ip4, 32)
    replaceRoute(nl, { destination: '0.0.0.0/0', ifindex, scope: 'link' })
    routes.push({ dst: '0.0.0.0/0' })
  }
  if (ip6 !== undefined) {
    addAddressOnce(nl, ifindex, ip6, 128)
    replaceRoute(nl, { destination: '::/0', ifindex })
    routes.push({ dst: '::/0' })
  }
  return routes
}

/** Adds an address unless the interface has it. */
export function addAddressOnce(
  nl: Netlink,
  ifindex: number,
  address: string,
  prefix: number,
): void {
  try {
    addAddress(nl, { ifindex, address, prefix, noDad: true })
  } catch (error) {
    if ((error as { code?: string }).code !== 'EEXIST') throw error
  }
}

/** Whether `name` in `netns` is a device of kind `kind` (`tun`, `veth`). */
export function isDevice(netns: string, name: string, kind: string): boolean {
  const nl = new Netlink(netns)
  try {
    return getLink(nl, name)?.kind === kind
  } finally {
    nl.close()
  }
}
