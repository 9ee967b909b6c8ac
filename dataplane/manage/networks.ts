/**
 * The networks of a node as the main thread keeps them: which index each has in the tables, and what
 * this node has in it. Index 0 is the cluster's own.
 *
 * A network that the cluster has no more, or that this node has no CIDR in any more, is over: its VNI
 * is refused and its peers are gone. Pods that are still in it keep their interfaces and reach each
 * other on this node; when the last one has gone, `forget` frees the index.
 */
import { gatewayOf, ipWords, parseCidr } from '../addresses.ts'
import {
  cidrsIn,
  joinedBy,
  type NetworkSpec,
  type NetworkStatus,
  type NodeSpec,
} from '../control.ts'
import { type Arena, HEADER } from '../memory/arena.ts'
import { MAX_NETWORK, type NetworkEntry, writeNetworks } from '../tables/networks.ts'
import { HOP } from '../tables/next-hops.ts'
import { type NextHopSlots, NO_HOP } from './next-hop-slots.ts'

export interface Network {
  readonly index: number
  /** Absent: the cluster's own. */
  readonly name?: string
  /** 0: it is over. */
  vni: number
  /** This node's. */
  podCidrs: readonly string[]
  /** Where its pods' interfaces lead. */
  cidrs: readonly string[]
  /** Next hop of what no pod has; 0: none yet. */
  reject: number
  /** Pods of this node that are in it. */
  pods: number
}

/** A network that this node will be in. */
export interface Target {
  network: Network
  vni: number
}

export class Networks {
  readonly own: Network
  private readonly arena: Arena
  private readonly hops: NextHopSlots
  private readonly mtu: number
  private readonly further = new Map<string, Network>()

  /** `vni`: of the cluster's own. */
  constructor(arena: Arena, hops: NextHopSlots, mtu: number, vni: number) {
    this.arena = arena
    this.hops = hops
    this.mtu = mtu
    this.own = { index: 0, vni, podCidrs: [], cidrs: [], reject: 0, pods: 0 }
  }

  /** Name of the network with this index; undefined for the cluster's own, and one that is not there. */
  nameOf(index: number): string | undefined {
    return [...this.further.values()].find(network => network.index === index)?.name
  }

  /**
   * The networks that this node will be in, with the VNIs that they will have. Those that it comes into
   * have their index from now on, and are not in force: `follow` puts them in, `forget` takes them back.
   */
  plan(self: NodeSpec, specs: readonly NetworkSpec[]): Target[] {
    const further = joinedBy(self, specs).map(({ name, vni }) => {
      return { network: this.further.get(name) ?? this.add(name), vni }
    })
    return [{ network: this.own, vni: this.own.vni }, ...further]
  }

  /** Inside a change of the tables: next hops for what no pod of them has. */
  prepare(targets: readonly Target[]): void {
    for (const { network } of targets) {
      if (network.reject !== 0) continue
      const { index } = network
      network.reject = this.hops.add({ ...NO_HOP, kind: HOP.REJECT, network: index, mtu: this.mtu })
    }
  }

  /** Takes over what the cluster, which has been checked, says. `write` puts it into the tables. */
  follow(self: NodeSpec, peers: readonly NodeSpec[], specs: readonly NetworkSpec[]): void {
    for (const network of this.further.values()) {
      Object.assign(network, { vni: 0, podCidrs: [], cidrs: [] })
    }
    this.own.podCidrs = self.podCidrs
    for (const { name, vni, cidrs } of joinedBy(self, specs)) {
      const network = this.further.get(name)!
      network.vni = vni
      network.podCidrs = cidrsIn(self, name)
      network.cidrs = cidrs ?? [self, ...peers].flatMap(node => cidrsIn(node, name))
    }
  }

  /** Inside a change of the tables. */
  write(): void {
    const entries = this.joined().slice(1).map(entryOf)
    this.arena.header()[HEADER.NETWORK_COUNT] = entries.length
    writeNetworks(this.arena, entries)
  }

  /** Those that this node is in, the cluster's own first. */
  joined(): Network[] {
    return [this.own, ...[...this.further.values()].filter(({ vni }) => vni !== 0)]
  }

  /** Next hops that `follow` will need beside those that are there. Throws RangeError when there is no index for all. */
  missing(self: NodeSpec, specs: readonly NetworkSpec[]): number {
    const names = joinedBy(self, specs).map(({ name }) => name)
    const all = new Set([...this.further.keys(), ...names])
    if (all.size > MAX_NETWORK) {
      throw new RangeError(`${all.size} networks: a node has ${MAX_NETWORK} (MAX_NETWORK)`)
    }
    const rejects = [this.own, ...names.map(name => this.further.get(name))]
    return rejects.filter(network => !network?.reject).length
  }

  /**
   * A pod comes into a network; `leave` must follow. Throws RangeError when this node is not in it,
   * unless `adopt`: the pod was in it when it still was.
   */
  enter(name: string | undefined, adopt: boolean): Network {
    const network = name === undefined ? this.own : this.further.get(name)
    if ((network === undefined || network.vni === 0) && !adopt) {
      const names = this.joined().flatMap(each => each.name ?? [])
      const there = names.length === 0 ? 'in none' : `in ${names.join(', ')}`
      throw new RangeError(`network ${name}: this node is not in it, but ${there}`)
    }
    const entered = network ?? this.add(name!)
    entered.pods++
    return entered
  }

  leave(network: Network): void {
    network.pods--
  }

  /** Inside a change of the tables, when no worker uses what is over: frees what has no pods any more. */
  forget(): void {
    for (const [name, { vni, pods, reject }] of this.further) {
      if (vni !== 0 || pods > 0) continue
      if (reject !== 0) this.hops.free(reject)
      this.further.delete(name)
    }
  }

  status(): NetworkStatus[] {
    return [...this.further].flatMap(([name, { vni, podCidrs, pods }]) =>
      vni === 0 && pods === 0 ? [] : [{ name, vni, podCidrs, pods }],
    )
  }

  /** A sentence for each network that is over and has pods. */
  notes(): string[] {
    return this.status()
      .filter(({ vni }) => vni === 0)
      .map(({ name, pods }) => {
        const which = `network ${name}: this node is not in it any more`
        return `${which}; pods that still are (${pods}) reach nobody on other nodes`
      })
  }

  private add(name: string): Network {
    const used = new Set([...this.further.values()].map(({ index }) => index))
    let index = 1
    while (used.has(index)) index++
    if (index > MAX_NETWORK) {
      throw new RangeError(`network ${name}: a node has ${MAX_NETWORK} (MAX_NETWORK)`)
    }
    const network = { index, name, vni: 0, podCidrs: [], cidrs: [], reject: 0, pods: 0 }
    this.further.set(name, network)
    return network
  }
}

function entryOf({ vni, index, podCidrs }: Network): NetworkEntry {
  const entry: NetworkEntry = { vni, index }
  for (const cidr of podCidrs.map(parseCidr)) {
    const gateway = ipWords(gatewayOf(cidr))
    if (cidr.family === 4) entry.gateway4 = gateway[0]!
    else entry.gateway6 = gateway
  }
  return entry
}
