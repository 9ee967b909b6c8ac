/** TUN devices: a pod's interface, and the node's own port. */
import { close } from 'node:fs'
import { setTimeout as delay } from 'node:timers/promises'
import { native } from '../../native/native.ts'
import { addAddress } from '../netlink/address.ts'
import { getLink, setLink } from '../netlink/link.ts'
import { replaceRoute } from '../netlink/route.ts'
import { Netlink } from '../netlink/socket.ts'

/** TUN_F_CSUM 1, TSO4 2, TSO6 4 (linux/if_tun.h); USO4 0x20 and USO6 0x40 (kernel 6.2), only together. */
const OFFLOADS = [0x67, 0x07, 0x01] as const

export interface TunDevice {
  fds: readonly number[]
  ifindex: number
  /** The offload mask that the device accepted. */
  offloads: number
}

/**
 * Opens `queues` queues of the persistent TUN device `name` in `netns`, made if it is not there. The
 * offload mask belongs to the device and outlives the process that set it: it is cleared, then the
 * largest that the kernel accepts is set.
 */
export function openTun(netns: string, name: string, queues: number): TunDevice {
  const fds = native.tunOpen(netns, name, queues, true)
  native.tunSetOffload(fds[0]!, 0)
  const offloads = OFFLOADS.find(mask => native.tunSetOffload(fds[0]!, mask) === 0) ?? 0
  return { fds, ifindex: native.interfaceIndex(netns, name), offloads }
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

/** Milliseconds between two looks whether a device has left its namespace. */
const LOOK_MS = 1

/**
 * As `removeTun`, without holding up the calling thread: resolves when `name` is no longer in `netns`.
 * The kernel takes the name away at once and then waits some 20 ms for its own readers
 * (netdev_run_todo in net/core/dev.c) before close(2) returns; that happens on a thread of Node's
 * pool, and nobody waits for it.
 */
export async function vanishTun(netns: string, name: string, device: TunDevice): Promise<void> {
  let open = device.fds.length
  try {
    unkeep(device)
  } finally {
    for (const fd of device.fds) close(fd, () => open--)
  }
  let nl: Netlink
  try {
    nl = new Netlink(netns)
  } catch {
    // The namespace itself is gone.
    return
  }
  try {
    while (open > 0 && getLink(nl, name)?.index === device.ifindex) await delay(LOOK_MS)
  } finally {
    nl.close()
  }
}

/** Closes the descriptors; a persistent device stays. */
export function closeTun(device: TunDevice): void {
  for (const fd of device.fds) native.close(fd)
}

/** Gives a pod's TUN its addresses and routes: everything goes out of the device. */
export function configurePodTun(
  netns: string,
  device: TunDevice,
  mtu: number,
  ip4: string | undefined,
  ip6: string | undefined,
): { dst: string; gw?: string }[] {
  const nl = new Netlink(netns)
  try {
    const { ifindex } = device
    setLink(nl, ifindex, { mtu, up: true })
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
  } finally {
    nl.close()
  }
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
