/**
 * flow: which packets belong to flows that are known. Behind it, what is decided once for a flow (its route, what policy
 * says of it) is looked up for the others alone; what is done to every packet (TTL, MTU, errors, the outer header) is
 * done to all. Where no policy is in force nobody keeps flows, and every packet is looked up.
 */
import type { Engine } from '../engine/engine.ts'
import type { Batch } from '../packet/batch.ts'
import { SENDER } from '../policy/known.ts'
import { PORT_KIND, PORT_ROLE } from '../ports/port.ts'

export function flow(e: Engine, b: Batch): void {
  const { judge } = e
  if (judge === undefined || !e.policed) return
  const { role, kind, network } = e.records[b.inPort]!
  judge.begin(e.clock())
  const batch = e.handleOf(b)
  if (role !== PORT_ROLE.UNDERLAY) judge.pass(b, batch, network, SENDER.NOBODY)
  else judge.pass(b, batch, -1, kind === PORT_KIND.VXLAN ? SENDER.SOURCE_HOP : SENDER.OUTER_HEADER)
}
