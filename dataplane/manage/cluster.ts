/** What a cluster must be before anything of it is put in force. */
import { ipWords } from '../addresses.ts'
import type { NodeSpec } from '../control.ts'
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

/** Throws RangeError when a family of the cluster and `pods` pods has more routes than `most`. */
export function checkRoom(
  self: NodeSpec,
  peers: readonly NodeSpec[],
  pods: number,
  most: number,
): void {
  for (const family of [4, 6] as const) {
    const of = (node: NodeSpec) =>
      node.podCidrs.filter(cidr => cidr.includes(':') === (family === 6)).length
    // The default route; this node's prefixes and their gateways; the peers'; the pods.
    const routes = peers.reduce((sum, peer) => sum + of(peer), 1 + of(self) * 2)
    if (routes + pods > most) {
      throw new RangeError(
        `${routes} IPv${family} routes and ${pods} pods: the FIB takes ${most} (routes)`,
      )
    }
  }
}
