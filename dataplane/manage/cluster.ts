/** What a cluster must be before anything of it is put in force. */
import { gatewayOf, ipWords, parseCidr } from '../addresses.ts'
import { cidrsIn, joinedBy, type NetworkSpec, type NodeSpec } from '../control.ts'
import { MAX_NETWORKS, MAX_VNI } from '../limits.ts'
import type { VtepAddress } from '../tables/vteps.ts'

/** The peers' VTEPs for the table. Throws RangeError when one is not of this node's family. */
export function vtepsOf(self: NodeSpec, peers: readonly NodeSpec[]): VtepAddress[] {
  const own = ipWords(self.vtep).length
  return peers.map(peer => {
    const vtep = ipWords(peer.vtep)
    if (vtep.length !== own) {
      throw new RangeError(`node ${peer.name}: VTEP ${peer.vtep} is not of this node's family`)
    }
    const words = new Uint32Array(4)
    words.set(vtep)
    return { family: vtep.length === 1 ? 4 : 6, words }
  })
}

/** Throws RangeError unless names and VNIs are single ones, and the VNIs in range. `vni`: the cluster's own. */
export function checkNetworks(networks: readonly NetworkSpec[], vni: number): void {
  if (networks.length > MAX_NETWORKS) {
    throw new RangeError(
      `${networks.length} networks: a cluster has ${MAX_NETWORKS} (MAX_NETWORKS)`,
    )
  }
  const names = new Set<string>()
  const vnis = new Set([vni])
  for (const each of networks) {
    if (names.has(each.name)) throw new RangeError(`network ${each.name}: it is there twice`)
    if (!(Number.isInteger(each.vni) && each.vni >= 1 && each.vni <= MAX_VNI)) {
      throw new RangeError(`network ${each.name}: VNI ${each.vni} is not in 1..${MAX_VNI}`)
    }
    if (vnis.has(each.vni)) {
      throw new RangeError(`network ${each.name}: another one has VNI ${each.vni}`)
    }
    names.add(each.name)
    vnis.add(each.vni)
  }
}

/** What is the node's own: the way out of the cluster, and its addresses among its pods. */
export function hostPrefixesOf({ podCidrs }: NodeSpec): string[] {
  const gateways = podCidrs.map(cidr => hostPrefix(gatewayOf(parseCidr(cidr))))
  return ['0.0.0.0/0', '::/0', ...gateways]
}

/** Every prefix that a node routes, but those of pods: its own, and the CIDRs of the networks that it is in. */
export function prefixesOf(
  self: NodeSpec,
  peers: readonly NodeSpec[],
  networks: readonly NetworkSpec[],
): string[] {
  const names = [undefined, ...joinedBy(self, networks).map(({ name }) => name)]
  const cidrs = [self, ...peers].flatMap(node => names.flatMap(name => cidrsIn(node, name)))
  return [...hostPrefixesOf(self), ...cidrs]
}

/** Throws RangeError when a family of a cluster's `prefixes` and `pods` pods has more routes than `most`. */
export function checkRoom(prefixes: readonly string[], pods: number, most: number): void {
  for (const family of [4, 6] as const) {
    const routes = prefixes.filter(prefix => prefix.includes(':') === (family === 6)).length
    if (routes + pods > most) {
      throw new RangeError(
        `${routes} IPv${family} routes and ${pods} pods: the FIB takes ${most} (routes)`,
      )
    }
  }
}

/** The prefix of one address. */
export function hostPrefix(ip: string): string {
  return `${ip}/${ip.includes(':') ? 128 : 32}`
}
