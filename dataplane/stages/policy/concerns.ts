/** Which packets policy has to do with, and which never: those of the node itself (stage.ts, rule `node`). */
import type { Engine } from '../../engine/engine.ts'
import { type Batch, F_IPV6 } from '../../packet/batch.ts'
import { PORT_ROLE } from '../../ports/port.ts'
import { PORT_FLAG } from '../../tables/ports.ts'

/** Whether either end of packet `i` is a pod whose flows are kept, and neither is the node itself. */
export function concerns(e: Engine, b: Batch, i: number): boolean {
  const from = e.records[b.inPort]!
  const to = e.records[b.outPort[i]!]
  if (to === undefined || ((from.flags | to.flags) & PORT_FLAG.POLICED) === 0) return false
  if (from.role === PORT_ROLE.HOST) return !isOwn(e, b, i, true, to.network)
  return to.role !== PORT_ROLE.HOST || !isOwn(e, b, i, false, from.network)
}

/** Whether the source, or the destination, is an address of the node itself. */
function isOwn(e: Engine, b: Batch, i: number, source: boolean, network: number): boolean {
  if ((b.flags[i]! & F_IPV6) === 0) {
    const address = source ? b.src4[i]! : b.dst4[i]!
    return address === e.gateway4[network] || address === e.vtep4
  }
  const { view, gateway6, vtep6 } = e
  const at = b.l3[i]! + (source ? 8 : 24)
  let gateway = true
  let vtep = true
  for (let w = 0; w < 4; w++) {
    const word = view.getUint32(at + w * 4)
    gateway &&= word === gateway6[network * 4 + w]
    vtep &&= word === vtep6[w]
  }
  return gateway || vtep
}

export function networkOf(e: Engine, b: Batch, i: number): number {
  const { role, network } = e.records[b.inPort]!
  return role === PORT_ROLE.UNDERLAY ? b.network[i]! : network
}
