/** The other nodes as the main thread keeps them: one next hop for each in each network. */
import { cidrsIn, type NodeSpec } from '../control.ts'
import type { NextHop } from '../tables/next-hops.ts'
import type { Network, Target } from './networks.ts'
import type { NextHopSlots } from './next-hop-slots.ts'

interface Peer {
  spec: NodeSpec
  /** By network. */
  hops: Map<Network, number>
}

/** A next hop that a peer has not had. */
export interface Fresh {
  name: string
  network: Network
  hop: NextHop
  /** 0 until `prepare`. */
  id: number
}

export interface Way {
  spec: NodeSpec
  network: Network
  hop: number
}

export class Peers {
  private readonly hops: NextHopSlots
  private readonly hopTo: (peer: NodeSpec, network: { index: number; vni: number }) => NextHop
  private readonly byName = new Map<string, Peer>()

  /** `hopTo`: how a node is reached in a network, as is known now; never asked inside a change of the tables. */
  constructor(
    hops: NextHopSlots,
    hopTo: (peer: NodeSpec, network: { index: number; vni: number }) => NextHop,
  ) {
    this.hops = hops
    this.hopTo = hopTo
  }

  /** The next hops that these peers will need beside those that are there. Nothing is changed. */
  plan(peers: readonly NodeSpec[], targets: readonly Target[]): Fresh[] {
    const fresh: Fresh[] = []
    for (const spec of peers) {
      const there = this.byName.get(spec.name)?.hops
      for (const { network, vni } of targets) {
        if (there?.has(network) || !isIn(spec, network)) continue
        const hop = this.hopTo(spec, { index: network.index, vni })
        fresh.push({ name: spec.name, network, hop, id: 0 })
      }
    }
    return fresh
  }

  /** Inside a change of the tables: writes them. Nobody's yet: `follow` gives them to the peers, or the caller frees them. */
  prepare(fresh: readonly Fresh[]): void {
    for (const each of fresh) each.id = this.hops.add(each.hop)
  }

  /** What will lead to these peers in these networks. */
  *hopsOf(
    peers: readonly NodeSpec[],
    targets: readonly Target[],
    fresh: readonly Fresh[],
  ): Iterable<Way> {
    const ids = byPeer(fresh)
    for (const spec of peers) {
      const there = this.byName.get(spec.name)?.hops
      for (const { network } of targets) {
        if (!isIn(spec, network)) continue
        yield { spec, network, hop: (there?.get(network) ?? ids.get(spec.name)?.get(network))! }
      }
    }
  }

  /**
   * These are the peers now, and these the networks of this node. Returns what their next hops must be,
   * to be written in a change of the tables, and those of what is gone, to be freed when no route names
   * them any more.
   */
  follow(
    peers: readonly NodeSpec[],
    networks: readonly Network[],
    fresh: readonly Fresh[],
  ): { writes: [number, NextHop][]; stale: number[] } {
    const stale: number[] = []
    const writes: [number, NextHop][] = []
    const ids = byPeer(fresh)
    const wanted = new Set(peers.map(({ name }) => name))
    for (const [name, { hops }] of this.byName) {
      if (wanted.has(name)) continue
      stale.push(...hops.values())
      this.byName.delete(name)
    }
    for (const spec of peers) {
      const before = this.byName.get(spec.name)?.hops
      const hops = new Map<Network, number>()
      for (const network of networks) {
        if (!isIn(spec, network)) continue
        const id = (before?.get(network) ?? ids.get(spec.name)?.get(network))!
        hops.set(network, id)
        writes.push([id, this.hopTo(spec, network)])
      }
      for (const [network, hop] of before ?? []) if (!hops.has(network)) stale.push(hop)
      this.byName.set(spec.name, { spec, hops })
    }
    return { writes, stale }
  }

  /** Next hops that `follow` will need beside those that are there. `names`: of this node's networks but the cluster's own. */
  missing(peers: readonly NodeSpec[], names: readonly string[]): number {
    let missing = 0
    for (const peer of peers) {
      const there = new Set<string | undefined>()
      for (const { name } of this.byName.get(peer.name)?.hops.keys() ?? []) there.add(name)
      if (!there.has(undefined)) missing++
      for (const name of names) if (!there.has(name) && cidrsIn(peer, name).length > 0) missing++
    }
    return missing
  }

  /** What the next hops to these VTEPs are now; to be written in a change of the tables. */
  refreshed(vteps: ReadonlySet<string>): [number, NextHop][] {
    const writes: [number, NextHop][] = []
    for (const { spec, hops } of this.byName.values()) {
      if (!vteps.has(spec.vtep)) continue
      for (const [network, hop] of hops) writes.push([hop, this.hopTo(spec, network)])
    }
    return writes
  }

  /** Every peer's next hops, and what is routed to them. */
  *ways(): Iterable<Way & { cidrs: readonly string[] }> {
    for (const { spec, hops } of this.byName.values()) {
      for (const [network, hop] of hops) {
        yield { spec, network, hop, cidrs: cidrsIn(spec, network.name) }
      }
    }
  }
}

/** A peer is in those that it has CIDRs in; in the cluster's own in any case: its next hop tells whether the peer is reached. */
function isIn(peer: NodeSpec, { name }: Network): boolean {
  return name === undefined || cidrsIn(peer, name).length > 0
}

function byPeer(fresh: readonly Fresh[]): Map<string, Map<Network, number>> {
  const found = new Map<string, Map<Network, number>>()
  for (const { name, network, id } of fresh) {
    const of = found.get(name) ?? new Map<Network, number>()
    found.set(name, of.set(network, id))
  }
  return found
}
