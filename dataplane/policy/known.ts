/**
 * The fast lane: packets of flows that are known, allowed by the policy in force, and routed by a next hop that is what
 * it was. One call for a batch (native/addon/lookup/known-flows.cc makes key and hash, and probes); what it doesn't
 * know for certain goes the way of stages/policy, which finds the same flows in TypeScript.
 */
import { type FlowTableHandle, type KnownFlowsHandle, native } from '../../native/native.ts'
import { layoutOf } from '../flow/region.ts'
import type { HashSeed } from '../hash/hash.ts'
import { MAX_NEXT_HOPS } from '../limits.ts'
import { NEXT_HOP_BYTES } from '../memory/arena.ts'
import type { Batch } from '../packet/batch.ts'
import type { TableReader } from '../tables/tables.ts'
import { flowLimits, type PolicyMemory } from './memory.ts'

export class KnownFlows {
  private readonly table: FlowTableHandle
  private readonly seed: HashSeed
  /** A worker has one batch, a test some. */
  private readonly handles = new WeakMap<Batch, KnownFlowsHandle>()

  /** `slots`: of the table that `memory.flows` is, which is a cuckoo one. */
  constructor({ flows, room, seed }: PolicyMemory, slots: number) {
    const { locks, tags, entries, accounts } = layoutOf(flowLimits(room), slots)
    this.table = native.openFlowTable(flows, locks, tags, entries, slots, accounts)
    this.seed = seed
  }

  /** Writes `known` and `unknown` of `b`, whose packets lie in `arena`. `network`: of all of them, or -1, of each its own. */
  pass(
    b: Batch,
    arena: Uint8Array,
    tables: TableReader,
    network: number,
    epoch: number,
    tick: number,
  ): void {
    let handle = this.handles.get(b)
    if (handle === undefined) {
      handle = this.open(b, arena, tables)
      this.handles.set(b, handle)
    }
    b.unknown = native.knownFlows(handle, b.n, network, epoch, tick)
  }

  private open(b: Batch, arena: Uint8Array, { words, nextHopsAt }: TableReader): KnownFlowsHandle {
    const hops = new Uint8Array(words.buffer, nextHopsAt, MAX_NEXT_HOPS * NEXT_HOP_BYTES)
    const { drop, flags, proto, l3, l4, len, src4, dst4, network, known } = b
    const columns = [drop, flags, proto, l3, l4, len, src4, dst4, network, known]
    return native.openKnownFlows(this.table, arena, this.seed[0], this.seed[1], hops, columns)
  }
}
