/**
 * Completing partial checksums. A partial checksum field holds the folded pseudo-header sum P; the
 * sum of the whole transport segment, field included, is therefore P + data, and its complement is
 * what belongs into the field (RFC 1071; UDP writes 0xffff for 0, RFC 768).
 */
import { native } from '../../native/native.ts'
import type { Engine } from '../engine/engine.ts'
import { COUNTER } from '../memory/arena.ts'
import { type Batch, F_CSUM_PARTIAL } from '../packet/batch.ts'
import { checksumOffset } from '../packet/transport.ts'

/**
 * Sum of the transport segment of packet `i`, whose checksum is partial, as it is once that has been
 * completed: the complement of what the field holds now, whatever the data are. So an outer checksum
 * that covers the segment is written, and verified, without its bytes (checksum-offloads.rst, "LCO").
 */
export function sumOnceCompleted(e: Engine, b: Batch, i: number): number {
  return ~e.view.getUint16(b.l4[i]! + checksumOffset(b.proto[i]!)) & 0xffff
}

/** Completes the checksum of packet `i`. True before and after `encap`: the segment ends where the packet ends. */
export function completeChecksum(e: Engine, b: Batch, i: number): void {
  const l4 = b.l4[i]!
  const end = b.l3[i]! + b.len[i]!
  const sum = ~native.checksum(l4, end - l4, 0) & 0xffff
  e.view.setUint16(l4 + checksumOffset(b.proto[i]!), sum === 0 ? 0xffff : sum)
  b.flags[i]! &= ~F_CSUM_PARTIAL
  e.counters[COUNTER.CHECKSUMS]!++
}
