/**
 * The fast lane: packets of flows that are known, allowed by the policy in force, and routed by a next hop that is what
 * it was. One call for a batch (native/addon/lookup/known-flows.cc makes key and hash, and probes); what it doesn't
 * know for certain goes the way of stages/policy, which finds the same flows in TypeScript.
 */
import { type BatchHandle, type KnownFlowsHandle, native } from '../../native/native.ts'
import { layoutOf } from '../flow/region.ts'
import { flowLimits, type PolicyMemory } from './memory.ts'

/**
 * How the node that has sent a packet is known: it is no other node's, by the outer header in front of it, by
 * the column `source`. What comes from another node than the flow's answers go to is not known.
 */
export const SENDER = { NOBODY: 0, OUTER_HEADER: 1, SOURCE_HOP: 2 } as const

export class KnownFlows {
  private readonly handle: KnownFlowsHandle

  /** `slots`: of the table that `memory.flows` is, which is a cuckoo one. */
  constructor({ flows, room, seed }: PolicyMemory, slots: number) {
    const { locks, tags, entries, accounts } = layoutOf(flowLimits(room), slots)
    const table = native.openFlowTable(flows, locks, tags, entries, slots, accounts)
    this.handle = native.openKnownFlows(table, seed[0], seed[1])
  }

  /** Writes `known` of the first `n` packets of a batch, and returns how many are not. `network`: of all of them, or -1, of each its own. `sender`: SENDER. */
  pass(
    batch: BatchHandle,
    n: number,
    network: number,
    epoch: number,
    tick: number,
    sender: number,
  ): number {
    return native.knownFlows(this.handle, batch, n, network, epoch, tick, sender)
  }
}
