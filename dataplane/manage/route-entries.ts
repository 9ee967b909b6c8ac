/** The routes of a node in words: what each next hop id stands for. */
import type { RouteEntry } from '../control.ts'
import type { Network, Networks } from './networks.ts'
import type { Peers } from './peers.ts'
import type { Pods } from './pods.ts'
import type { Routes } from './routes.ts'

export interface RouteSources {
  routing: Routes
  networks: Networks
  peers: Peers
  pods: Pods
  /** Next hop, name and MTU of the node's own port. */
  host: { hop: number; name: string; mtu: number }
}

export function routeEntries(from: RouteSources): RouteEntry[] {
  const { host } = from
  const { mtu } = host
  const via = new Map<number, Omit<RouteEntry, 'prefix'>>()
  via.set(host.hop, { kind: 'host', via: host.name, mtu })
  const of = ({ name }: Network) => (name === undefined ? {} : { network: name })
  for (const network of from.networks.joined()) {
    via.set(network.reject, { kind: 'reject', via: '', mtu, ...of(network) })
  }
  for (const { spec, hop, network } of from.peers.ways()) {
    via.set(hop, { kind: 'vxlan', via: `${spec.name} ${spec.vtep}`, mtu, ...of(network) })
  }
  for (const { hop, attachment, network } of from.pods.all()) {
    via.set(hop, { kind: 'pod', via: attachment.id, mtu: attachment.mtu, ...of(network) })
  }
  return [...from.routing.list()].flatMap(({ prefix, hop }) => {
    const target = via.get(hop)
    return target === undefined ? [] : [{ prefix, ...target }]
  })
}
