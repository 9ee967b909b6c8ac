/**
 * A pod's interface that is not its first: the first one keeps the pod's default route. By this one
 * leaves what is sent from its own addresses, and what goes to the networks that it is for:
 *
 *     rule   from ADDRESS    table 4096 + index of the interface
 *     table                  default by the interface
 *     main   each network    by the interface
 *
 * Routes go with the interface, rules don't: they are taken away when that is removed.
 */
import { native } from '../../native/native.ts'
import type { PodSpec } from '../control.ts'
import { addAddress } from '../netlink/address.ts'
import { setLink } from '../netlink/link.ts'
import {
  addRoute,
  listRoutes,
  RT_TABLE_MAIN,
  RTPROT_STATIC,
  replaceRoute,
} from '../netlink/route.ts'
import { addSourceRule, deleteSourceRule } from '../netlink/rule.ts'
import { Netlink } from '../netlink/socket.ts'
import { GATEWAY_IPV4, GATEWAY_IPV6 } from './veth.ts'

/** Tables of further interfaces begin behind this one; rules have it as their priority. */
const FIRST_TABLE = 4096

/**
 * Gives a further interface its addresses, routes and rules, and sets it up; what is there already
 * stays. Returns the routes of the main table.
 */
export function configureFurther(
  pod: PodSpec & { mtu: number },
  further: readonly string[],
): { dst: string; gw?: string }[] {
  const { netns, ifname, mtu, label } = pod
  return within(netns, nl => {
    const index = nl.interfaceIndex(ifname)
    if (index === 0) throw new Error(`${ifname} in ${netns}: no such interface`)
    setLink(nl, index, { mtu, up: true, ...(label === undefined ? {} : { alias: label }) })
    acceptReturns(netns, ifname)
    return addressesOf(pod).flatMap(address => {
      const six = address.includes(':')
      once('EEXIST', () =>
        addAddress(nl, { ifindex: index, address, prefix: six ? 128 : 32, noDad: true }),
      )
      const gateway = pod.kind === 'tun' ? undefined : six ? GATEWAY_IPV6 : GATEWAY_IPV4
      const out = { ifindex: index, ...(gateway === undefined ? {} : { gateway, onlink: true }) }
      const table = FIRST_TABLE + index
      replaceRoute(nl, { ...out, destination: six ? '::/0' : '0.0.0.0/0', table })
      once('EEXIST', () => addSourceRule(nl, { source: address, table, priority: FIRST_TABLE }))
      const own = further.filter(each => each.includes(':') === six)
      const there = listRoutes(nl, { family: six ? 6 : 4, ifindex: index })
      for (const destination of own) {
        // One that leads by another interface is not taken away: EEXIST.
        if (there.some(each => each.destination === destination)) continue
        addRoute(nl, { ...out, destination })
      }
      return own.map(dst => (gateway === undefined ? { dst } : { dst, gw: gateway }))
    })
  })
}

/** Removes what doesn't go with a further interface. Never throws for what is gone. */
export function removeRules(pod: PodSpec): void {
  try {
    within(pod.netns, nl => {
      for (const source of addressesOf(pod)) {
        once('ENOENT', () => deleteSourceRule(nl, { source, priority: FIRST_TABLE }))
      }
    })
  } catch (error) {
    // The namespace has gone, and its rules with it.
    if (!['ENOENT', 'EINVAL'].includes((error as { code?: string }).code ?? '')) throw error
  }
}

/**
 * The networks that an earlier process has made the interface the way to, as the kernel has them;
 * undefined when it is no further interface: it has no table of its own.
 */
export function readFurther(nl: Netlink, ifindex: number): string[] | undefined {
  const routes = ([4, 6] as const).flatMap(family => listRoutes(nl, { family, ifindex }))
  if (!routes.some(each => each.table === FIRST_TABLE + ifindex)) return undefined
  return routes
    .filter(each => each.table === RT_TABLE_MAIN && each.protocol === RTPROT_STATIC)
    .map(each => each.destination)
}

/** Replies to what came by it may leave by another interface, and the reverse. */
function acceptReturns(netns: string, ifname: string): void {
  native.sysctlWrite(netns, `ipv4/conf/${ifname}/rp_filter`, '2')
}

function addressesOf({ ip4, ip6 }: PodSpec): string[] {
  return [ip4, ip6].filter(ip => ip !== undefined)
}

/** Does it, unless it is done: the error of that code says so. */
function once(code: string, work: () => void): void {
  try {
    work()
  } catch (error) {
    if ((error as { code?: string }).code !== code) throw error
  }
}

function within<T>(netns: string, work: (nl: Netlink) => T): T {
  const nl = new Netlink(netns)
  try {
    return work(nl)
  } finally {
    nl.close()
  }
}
