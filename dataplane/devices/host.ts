/**
 * The node's own port: a TUN device in the node's namespace. Cluster prefixes are routed to it, with
 * this node's gateway address as the source; what pods send out of the cluster comes out of it and
 * is the kernel's to route.
 */

import { native } from '../../native/native.ts'
import { gatewayOf, parseCidr } from '../addresses.ts'
import { deleteAddress, listAddresses } from '../netlink/address.ts'
import { setLink } from '../netlink/link.ts'
import { deleteRoute, listRoutes, replaceRoute } from '../netlink/route.ts'
import { Netlink } from '../netlink/socket.ts'
import { addAddressOnce, openTun, type TunDevice } from './tun.ts'

/** Opens the device and makes the node a router. */
export function openHost(name: string, queues: number, mtu: number): TunDevice {
  for (const [key, value] of [
    ['ipv4/ip_forward', '1'],
    ['ipv6/conf/all/forwarding', '1'],
  ] as const) {
    // Writing it again would reset the per-device switches of pods' links.
    if (native.sysctlRead('', key).trim() !== value) native.sysctlWrite('', key, value)
  }
  const nl = new Netlink('')
  try {
    const device = openTun(nl, name, queues)
    setLink(nl, device.ifindex, { mtu, up: true })
    return device
  } finally {
    nl.close()
  }
}

/** Routes the cluster's prefixes to the device and removes what it had beyond them. */
export function routeCluster(
  ifindex: number,
  ownCidrs: readonly string[],
  clusterCidrs: readonly string[],
): void {
  const nl = new Netlink('')
  try {
    const own = ownCidrs.map(parseCidr)
    const gateways = own.map(gatewayOf)
    for (const { address } of listAddresses(nl, ifindex)) {
      if (!gateways.includes(address) && !address.toLowerCase().startsWith('fe80')) {
        deleteAddress(nl, { ifindex, address, prefix: address.includes(':') ? 128 : 32 })
      }
    }
    for (const [i, cidr] of own.entries()) {
      addAddressOnce(nl, ifindex, gateways[i]!, cidr.family === 4 ? 32 : 128)
    }
    for (const family of [4, 6] as const) {
      const source = gateways.find((_, i) => own[i]!.family === family)
      const wanted = clusterCidrs.filter(text => parseCidr(text).family === family)
      for (const destination of wanted) {
        replaceRoute(nl, {
          destination,
          ifindex,
          ...(family === 4 ? { scope: 'link' as const } : {}),
          ...(source === undefined ? {} : { source }),
        })
      }
      for (const { destination, table } of listRoutes(nl, { family, ifindex })) {
        const kernels = destination.startsWith('fe80') || destination.startsWith('ff00')
        const gateway = gateways.some(
          address => destination === `${address}/${family === 4 ? 32 : 128}`,
        )
        if (table === 254 && !kernels && !gateway && !wanted.includes(destination)) {
          deleteRoute(nl, { destination, ifindex })
        }
      }
    }
  } finally {
    nl.close()
  }
}
