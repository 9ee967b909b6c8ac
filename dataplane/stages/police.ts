/**
 * police: drops what a pod sends or receives beyond its rate (tables/rates.ts). What a pod sends is
 * charged where it comes in, before anything is done for it; what it receives, ICMP errors included,
 * where its port is known. ARP and neighbour discovery are answered at no charge.
 *
 * A packet counts as on the pod's link: with the Ethernet header if there is one, and a superframe
 * as the segments that it stands for, each with headers of its own. Time is read once a batch.
 */
import { DROP_RATE } from '../drops.ts'
import type { Engine } from '../engine/engine.ts'
import { type Batch, GSO_NONE } from '../packet/batch.ts'
import { transportHeaderLength } from '../packet/transport.ts'
import { bucketAt } from '../tables/ports.ts'
import { charge, EGRESS, earned, INGRESS } from '../tables/rates.ts'

const ETHERNET_BYTES = 14

/** What a pod sends. */
export function policeEgress(e: Engine, b: Batch): void {
  const { rate, burst } = e.records[b.inPort]!.egress
  if (rate === 0) return
  const { words, layout } = e.arena
  const link = linkBytes(e, b.inPort)
  const bucket = bucketAt(layout.ports.offset, b.inPort, EGRESS)
  const now = earned(rate, e.clock())
  for (let i = 0; i < b.n; i++) {
    if (b.drop[i] !== 0) continue
    if (!charge(words, bucket, burst, now, wireBytes(e, b, i, link))) b.drop[i] = DROP_RATE
  }
}

/** What pods receive. */
export function policeIngress(e: Engine, b: Batch): void {
  if (!e.limitsIngress) return
  const { words, layout } = e.arena
  let clock = -1
  for (let i = 0; i < b.n; i++) {
    if (b.drop[i] !== 0) continue
    const out = b.outPort[i]!
    const record = e.records[out]
    if (record === undefined || record.ingress.rate === 0) continue
    if (clock < 0) clock = e.clock()
    const { rate, burst } = record.ingress
    const bytes = wireBytes(e, b, i, linkBytes(e, out))
    const bucket = bucketAt(layout.ports.offset, out, INGRESS)
    if (!charge(words, bucket, burst, earned(rate, clock), bytes)) b.drop[i] = DROP_RATE
  }
}

function linkBytes(e: Engine, port: number): number {
  return e.ports[port]?.ethernet === true ? ETHERNET_BYTES : 0
}

/** `link`: bytes in front of each packet's IP header. */
function wireBytes(e: Engine, b: Batch, i: number, link: number): number {
  const len = b.len[i]!
  if (b.gsoType[i] === GSO_NONE) return len + link
  const l4 = b.l4[i]!
  const headers = l4 - b.l3[i]! + transportHeaderLength(e.view, l4, b.proto[i]!)
  const segments = Math.max(1, Math.ceil((len - headers) / b.gsoSize[i]!))
  return len + (segments - 1) * headers + segments * link
}
