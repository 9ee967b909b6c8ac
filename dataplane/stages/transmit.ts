/**
 * transmit: the last stage. Each packet that is left goes to its port, every other one is counted
 * by its reason and gives its frame back. Behind it no frame of the batch is in flight.
 */
import { CONSUMED, DELIVER_AS_IS, DROP_PORT_GONE } from '../drops.ts'
import type { Engine } from '../engine/engine.ts'
import { PORT_COUNTER, portCounters } from '../memory/arena.ts'
import { type Batch, F_CSUM_PARTIAL, F_OUTER } from '../packet/batch.ts'
import { completeChecksum } from './checksums.ts'

export function transmit(e: Engine, b: Batch): void {
  const { ports, frames } = e
  for (let i = 0; i < b.n; i++) {
    let reason = b.drop[i]!
    if (reason === CONSUMED) continue
    if (reason === 0 || reason === DELIVER_AS_IS) {
      const out = b.outPort[i]!
      const port = ports[out]
      if (port === undefined) {
        reason = DROP_PORT_GONE
      } else {
        if (
          (b.flags[i]! & (F_CSUM_PARTIAL | F_OUTER)) === F_CSUM_PARTIAL &&
          !port.partialChecksums
        ) {
          completeChecksum(e, b, i)
        }
        reason = port.send(b, i)
        if (e.isTouched[out] === 0) e.touch(port)
        if (reason === 0) continue
        e.counters[portCounters(out) + PORT_COUNTER.TX_DROPS]!++
      }
    }
    e.countDrop(reason, b.inPort)
    frames.release(b.frame[i]!)
  }
}
