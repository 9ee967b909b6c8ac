/**
 * The node's own port: a TUN device in the node's namespace. Cluster prefixes are routed to it, with
 * this node's gateway address as the source; what pods send out of the cluster comes out of it and
 * is the kernel's to route.
 */
import { deleteAddress, listAddresses } from '../netlink/address.ts'
import { setLink } from '../netlink/link.ts'
import { deleteRoute, listRoutes, RT_TABLE_MAIN, replaceRoute } from '../netlink/route.ts'
import { Netlink } from '../netlink/socket.ts'
import { addAddressOnce, openTun, type TunDevice } from './tun.ts'

/** What the device has. */
export interface HostRoutes {
  /** Its own addresses; the first one of a family is the source of what the node sends. */
  addresses: readonly string[]
  /** Prefixes that are routed to it. */
  destinations: readonly string[]
}

/** Opens the device, made if it is not there, and sets it up. */
export function openHost(name: string, queues: number, mtu: number): TunDevice {
  const nl = new Netlink('')
  try {
    const device = openTun(nl, name, queues)
    setLink(nl, device.ifindex, { mtu, up: true })
    return device
  } finally {
    nl.close()
  }
}

/**
 * Gives the device what it lacks of its addresses and routes, and returns it in words; there is
 * nothing to do when all are there. With `only` what it has beyond them is removed.
 */
export function routeCluster(
  ifindex: number,
  { addresses, destinations }: HostRoutes,
  only: boolean,
): string[] {
  const nl = new Netlink('')
  const lacking: string[] = []
  try {
    const there = listAddresses(nl, ifindex)
    for (const { address, prefix } of there) {
      if (only && !addresses.includes(address) && !isLinkLocal(address)) {
        deleteAddress(nl, { ifindex, address, prefix })
      }
    }
    for (const address of addresses) {
      if (there.some(each => each.address === address)) continue
      addAddressOnce(nl, ifindex, address, address.includes(':') ? 128 : 32)
      lacking.push(address)
    }
    for (const family of [4, 6] as const) {
      const ofFamily = (text: string): boolean => text.includes(':') === (family === 6)
      const wanted = new Set(destinations.filter(ofFamily))
      const source = addresses.find(ofFamily)
      const routes = listRoutes(nl, { family, ifindex, table: RT_TABLE_MAIN })
      const right = new Set(
        routes.filter(each => each.source === source).map(each => each.destination),
      )
      for (const destination of wanted) {
        if (right.has(destination)) continue
        replaceRoute(nl, {
          destination,
          ifindex,
          ...(family === 4 ? { scope: 'link' as const } : {}),
          ...(source === undefined ? {} : { source }),
        })
        lacking.push(destination)
      }
      if (!only) continue
      for (const { destination } of routes) {
        const kernels = isLinkLocal(destination) || destination.startsWith('ff00')
        const own = addresses.some(address => destination.startsWith(`${address}/`))
        if (!kernels && !own && !wanted.has(destination)) deleteRoute(nl, { destination, ifindex })
      }
    }
    return lacking
  } finally {
    nl.close()
  }
}

function isLinkLocal(address: string): boolean {
  return address.toLowerCase().startsWith('fe80')
}
