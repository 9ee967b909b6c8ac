/** What `ip -json` says of a namespace. */
import type { Namespace } from '../../native/namespace.ts'

export interface IpLink {
  ifindex: number
  ifname: string
  flags: string[]
  mtu: number
  address: string
  num_tx_queues: number
  num_rx_queues: number
  qdisc?: string
  linkinfo?: { info_kind: string; info_data?: Record<string, unknown> }
  gso_max_size?: number
  xdp?: { prog?: { id: number; name?: string } }
}

export function json<T>(namespace: Namespace, ...args: string[]): T[] {
  return JSON.parse(namespace.ip('-json', '-details', ...args) || '[]')
}

export function links(namespace: Namespace): IpLink[] {
  return json<IpLink>(namespace, 'link', 'show')
}

export function link(namespace: Namespace, name: string): IpLink | undefined {
  return links(namespace).find(each => each.ifname === name)
}

/** `10.0.0.1/32`, those of the kernel's own making (fe80::) left out. */
export function addresses(namespace: Namespace, device: string): string[] {
  type Info = { local: string; prefixlen: number }
  const [found] = json<{ addr_info: Info[] }>(namespace, 'address', 'show', 'dev', device)
  return found!.addr_info
    .map(each => `${each.local}/${each.prefixlen}`)
    .filter(each => !each.startsWith('fe80'))
    .sort()
}

export interface IpRoute {
  dst: string
  gateway?: string
  dev?: string
  scope?: string
  prefsrc?: string
}

/** Routes of the main table by a device, those of the kernel's own making left out. */
export function routes(namespace: Namespace, family: 4 | 6, device: string): IpRoute[] {
  return json<IpRoute & { protocol?: string }>(
    namespace,
    `-${family}`,
    'route',
    'show',
    'dev',
    device,
  )
    .filter(each => each.protocol !== 'kernel')
    .map(({ dst, gateway, scope, prefsrc }) => ({
      dst,
      ...(gateway === undefined ? {} : { gateway }),
      ...(scope === undefined || scope === 'global' ? {} : { scope }),
      ...(prefsrc === undefined ? {} : { prefsrc }),
    }))
    .sort((a, b) => (a.dst < b.dst ? -1 : 1))
}
