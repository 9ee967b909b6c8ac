/** The other nodes as the main thread keeps them: one next hop for each in each network. */
import { cidrsIn, type NodeSpec } from '../control.ts'
import type { NextHop } from '../tables/next-hops.ts'
import type { Network } from './networks.ts'
import type { NextHopSlots } from './next-hop-slots.ts'

interface Peer {
  spec: NodeSpec
  /** By network. */
  hops: Map<Network, number>
}

export class Peers {
  private readonly hops: NextHopSlots
  private readonly hopTo: (peer: NodeSpec, network: Network) => NextHop
  private readonly byName = new Map<string, Peer>()

  /** `hopTo`: how a node is reached in a network, as is known now. */
  constructor(hops: NextHopSlots, hopTo: (peer: NodeSpec, network: Network) => NextHop) {
    this.hops = hops
    this.hopTo = hopTo
  }

  get specs(): NodeSpec[] {
    return [...this.byName.values()].map(({ spec }) => spec)
  }

  /**
   * Inside a change of the tables: these are the peers now, and these the networks of this node.
   * Returns the next hops of what is gone: to be freed when no route names them any more.
   */
  follow(peers: readonly NodeSpec[], networks: readonly Network[]): number[] {
    const stale: number[] = []
    const wanted = new Set(peers.map(({ name }) => name))
    for (const [name, { hops }] of this.byName) {
      if (wanted.has(name)) continue
      stale.push(...hops.values())
      this.byName.delete(name)
    }
    for (const spec of peers) {
      const before = this.byName.get(spec.name)?.hops
      const hops = new Map<Network, number>()
      for (const network of networksOf(spec, networks)) {
        const hop = this.hopTo(spec, network)
        const there = before?.get(network)
        if (there !== undefined) this.hops.update(there, hop)
        hops.set(network, there ?? this.hops.add(hop))
      }
      for (const [network, hop] of before ?? []) if (!hops.has(network)) stale.push(hop)
      this.byName.set(spec.name, { spec, hops })
    }
    return stale
  }

  /** Next hops that `follow` will need beside those that are there. `names`: of this node's networks but the cluster's own. */
  missing(peers: readonly NodeSpec[], names: readonly string[]): number {
    return peers.reduce((sum, peer) => {
      const hops = [...(this.byName.get(peer.name)?.hops.keys() ?? [])].map(({ name }) => name)
      const wanted = [undefined, ...names.filter(name => cidrsIn(peer, name).length > 0)]
      return sum + wanted.filter(name => !hops.includes(name)).length
    }, 0)
  }

  /** Inside a change of the tables: the ways to these VTEPs have changed. */
  refresh(vteps: ReadonlySet<string>): void {
    for (const { spec, hops } of this.byName.values()) {
      if (!vteps.has(spec.vtep)) continue
      for (const [network, hop] of hops) this.hops.update(hop, this.hopTo(spec, network))
    }
  }

  /** Every peer's next hops, and what is routed to them. */
  *ways(): Iterable<{ spec: NodeSpec; network: Network; hop: number; cidrs: readonly string[] }> {
    for (const { spec, hops } of this.byName.values()) {
      for (const [network, hop] of hops) {
        yield { spec, network, hop, cidrs: cidrsIn(spec, network.name) }
      }
    }
  }
}

/** Those that a peer has CIDRs in; the cluster's own in any case: its next hop tells whether the peer is reached. */
function networksOf(peer: NodeSpec, networks: readonly Network[]): Network[] {
  return networks.filter(({ name }) => name === undefined || cidrsIn(peer, name).length > 0)
}
