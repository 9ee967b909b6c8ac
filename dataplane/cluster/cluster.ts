/**
 * What the engine knows of the cluster, changed as one: what is wanted is in force, or nothing has
 * changed.
 *
 *   1. check: limits, addresses, room in every table. Nothing is touched.
 *   2. the kernel follows (underlay, routes of the node, nftables), one step after the other. When one
 *      fails, it and those before it go back.
 *   3. new next hops; when every worker has them, all routes. When the FIB refuses one, its routes and
 *      the next hops go back, then the kernel.
 *   4. nothing fails any more: VTEPs, networks, facts of this node, next hops that have changed.
 *   5. when no worker uses what is gone, it is free.
 *
 * What the kernel is asked is asked outside of a change of the tables, in which workers wait.
 */
import { cidrsIn, joinedBy, type NetworkSpec, type NodeSpec } from '../control.ts'
import { checkNetworks, checkRoom, hostPrefixesOf, prefixesOf, vtepsOf } from '../manage/cluster.ts'
import type { Networks, Target } from '../manage/networks.ts'
import type { Parts } from '../manage/parts.ts'
import type { Fresh, Peers } from '../manage/peers.ts'
import type { Routes } from '../manage/routes.ts'
import { HEADER } from '../memory/arena.ts'
import { vtepTable, writeVteps } from '../tables/vteps.ts'

export interface ClusterSpec {
  readonly self: NodeSpec
  readonly peers: readonly NodeSpec[]
  /** Beside the cluster's own. */
  readonly networks: readonly NetworkSpec[]
}

/** Has something of the kernel follow the cluster; may be half done when it fails, and is then asked to follow the one before. */
export type Follower = (cluster: ClusterSpec) => unknown

export interface ClusterParts {
  readonly parts: Pick<Parts, 'arena' | 'tables' | 'hops' | 'log'>
  readonly routing: Routes
  readonly networks: Networks
  readonly peers: Peers
  /** Pods of this node, which need routes and next hops, too. */
  readonly pods: () => number
  /** Next hop of the node itself. */
  readonly hostHop: () => number
  /** What else leads to the node, when the kernel follows. */
  readonly hostPrefixes: () => readonly string[]
  readonly kernel: readonly Follower[]
  /** Inside a change of the tables: what is said of this node. */
  readonly writeSelf: () => void
  /** Most peers, and most routes of a family. */
  readonly limits: { readonly peers: number; readonly routes: number }
}

export class Cluster {
  /** This node as it is in force. */
  self: NodeSpec
  private readonly of: ClusterParts
  /** In force; undefined until the first one is. */
  private current: ClusterSpec | undefined
  /** Routes of the one in force. */
  private routes: ReadonlyMap<string, number> = new Map()
  private turn: Promise<void> = Promise.resolve()

  constructor(self: NodeSpec, of: ClusterParts) {
    this.self = self
    this.of = of
  }

  /** Puts `next` in force. Rejects, and what was in force still is, with what is wrong. */
  set(next: ClusterSpec): Promise<void> {
    const mine = this.turn.then(() => this.change(next))
    this.turn = mine.catch(() => {})
    return mine
  }

  private async change(next: ClusterSpec): Promise<void> {
    const { parts, networks, routing } = this.of
    const { hops, tables } = parts
    const vteps = this.check(next)
    const done = await this.kernelFollows(next)
    let stale: readonly number[]
    try {
      stale = await this.takeOver(next, vteps)
    } catch (error) {
      await this.kernelGoesBack(done)
      throw error
    }
    await routing.quiesce(tables)
    tables.change(() => {
      for (const hop of stale) hops.free(hop)
      networks.forget()
    })
  }

  /** Throws when anything of it can't be. Returns the table of its VTEPs. */
  private check(next: ClusterSpec): Int32Array {
    const { limits, networks, pods } = this.of
    const { self, peers, networks: specs } = next
    if (self.vtep !== this.self.vtep) {
      throw new Error(`node ${self.name}: its VTEP address can't change while it runs; restart`)
    }
    if (peers.length > limits.peers) {
      throw new RangeError(`${peers.length} peers: this engine takes ${limits.peers} (peers)`)
    }
    const vteps = vtepsOf(self, peers)
    checkNetworks(specs, networks.own.vni)
    checkRoom(prefixesOf(self, peers, specs), pods(), limits.routes)
    this.checkNextHops(next)
    return vtepTable(vteps)
  }

  private checkNextHops({ self, peers, networks: specs }: ClusterSpec): void {
    const { networks, peers: known, parts } = this.of
    const names = joinedBy(self, specs).map(({ name }) => name)
    const missing = networks.missing(self, specs) + known.missing(peers, names)
    if (missing <= parts.hops.room) return
    throw new RangeError(
      `${peers.length} nodes in ${names.length + 1} networks: ${missing} more next hops are needed, ${parts.hops.room} are free (MAX_NEXT_HOPS)`,
    )
  }

  private async kernelFollows(next: ClusterSpec): Promise<readonly Follower[]> {
    const begun: Follower[] = []
    try {
      for (const follow of this.of.kernel) {
        begun.push(follow)
        await follow(next)
      }
      return begun
    } catch (error) {
      await this.kernelGoesBack(begun)
      throw error
    }
  }

  /** Before the first cluster there is nothing to go back to: what an earlier process left serves its pods. */
  private async kernelGoesBack(begun: readonly Follower[]): Promise<void> {
    if (this.current === undefined) return
    for (const follow of begun.toReversed()) {
      try {
        await follow(this.current)
      } catch (error) {
        this.of.parts.log('error', 'the kernel does not go back to the cluster in force', {
          cause: error instanceof Error ? error.message : String(error),
        })
      }
    }
  }

  /** Returns the next hops that are gone. Throws when the FIB refuses a route; then nothing has changed. */
  private async takeOver(next: ClusterSpec, vteps: Int32Array): Promise<readonly number[]> {
    const { parts, networks, peers, routing, writeSelf } = this.of
    const { arena, hops, tables } = parts
    // Pods may have come since the first check.
    this.checkNextHops(next)
    const targets = networks.plan(next.self, next.networks)
    const fresh = peers.plan(next.peers, targets)
    const known = tables.change(() => {
      networks.prepare(targets)
      peers.prepare(fresh)
    })
    const routes = this.routesOf(next, targets, fresh)
    try {
      // A worker must have the next hops before a lookup can name them.
      await tables.acknowledged(known)
      routing.replace(this.routes, routes)
    } catch (error) {
      await routing.quiesce(tables)
      tables.change(() => {
        for (const { id } of fresh) hops.free(id)
        networks.forget()
      })
      throw error
    }
    this.routes = routes
    this.current = next
    this.self = next.self
    networks.follow(next.self, next.peers, next.networks)
    const { writes, stale } = peers.follow(next.peers, networks.joined(), fresh)
    tables.change(() => {
      arena.header()[HEADER.VTEP_COUNT] = next.peers.length
      writeVteps(arena, vteps)
      writeSelf()
      networks.write()
      for (const [id, hop] of writes) hops.update(id, hop)
    })
    return stale
  }

  /** Prefix and next hop of all that a node routes, but of pods. */
  private routesOf(
    { self, peers }: ClusterSpec,
    targets: readonly Target[],
    fresh: readonly Fresh[],
  ): Map<string, number> {
    const routes = new Map<string, number>()
    const toHost = [...hostPrefixesOf(self), ...this.of.hostPrefixes()]
    for (const prefix of toHost) routes.set(prefix, this.of.hostHop())
    for (const { network } of targets) {
      for (const cidr of cidrsIn(self, network.name)) routes.set(cidr, network.reject)
    }
    for (const { spec, network, hop } of this.of.peers.hopsOf(peers, targets, fresh)) {
      for (const cidr of cidrsIn(spec, network.name)) routes.set(cidr, hop)
    }
    return routes
  }
}
