/**
 * flow: which packets belong to flows that are known. Behind it, what is decided once for a flow (its route, what policy
 * says of it) is looked up for the others alone; what is done to every packet (TTL, MTU, errors, the outer header) is
 * done to all. Where no policy is in force nobody keeps flows, and every packet is looked up.
 */
import type { Engine } from '../engine/engine.ts'
import type { Batch } from '../packet/batch.ts'
import { PORT_ROLE } from '../ports/port.ts'

export function flow(e: Engine, b: Batch): void {
  const { judge } = e
  if (judge === undefined || !e.policed) return
  const { role, network } = e.records[b.inPort]!
  judge.begin(e.clock())
  judge.pass(b, e.handleOf(b), role === PORT_ROLE.UNDERLAY ? -1 : network)
}
