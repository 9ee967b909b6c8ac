/** From a port record to the object that a worker serves: what each kind of port needs. */

import { CompletionRing, FillRing, RxRing, TxRing } from '../afxdp/rings.ts'
import { XDP_RING_SIZE } from '../limits.ts'
import { HEADER } from '../memory/arena.ts'
import type { PortContext, WorkerContext } from '../ports/context.ts'
import { PORT_KIND, type Port } from '../ports/port.ts'
import { TapPort } from '../ports/tap.ts'
import { TapTrunk } from '../ports/trunk.ts'
import { TunPort } from '../ports/tun.ts'
import { UdpPort } from '../ports/udp.ts'
import { XdpPort, type XdpRings } from '../ports/xdp.ts'
import type { PortRecord } from '../tables/ports.ts'

/** The port of `worker`; undefined when that worker has no queue of it. */
export function createPort(
  index: number,
  record: PortRecord,
  worker: number,
  shared: WorkerContext,
): Port | undefined {
  const fd = record.fds[worker]!
  const context: PortContext = { ...shared, index, record, fd }
  // The trunk has the descriptors for these.
  if (record.kind === PORT_KIND.TAP || record.kind === PORT_KIND.VXLAN) return new TapPort(context)
  if (fd < 0) return undefined
  if (record.kind === PORT_KIND.TRUNK) return new TapTrunk(context)
  if (record.kind === PORT_KIND.TUN) return new TunPort(context)
  if (record.kind === PORT_KIND.UDP) return new UdpPort(context)
  if (record.kind === PORT_KIND.XDP) {
    return new XdpPort(context, ringsAt(context, record.rings[worker]!))
  }
  return undefined
}

/** The rings of the socket whose part of the arena begins at `at`. */
function ringsAt({ arena, tables }: PortContext, at: number): XdpRings {
  const field = (ring: number) => ({
    producer: tables.words[HEADER.XSK_OFFSETS + ring * 4]!,
    consumer: tables.words[HEADER.XSK_OFFSETS + ring * 4 + 1]!,
    desc: tables.words[HEADER.XSK_OFFSETS + ring * 4 + 2]!,
    flags: tables.words[HEADER.XSK_OFFSETS + ring * 4 + 3]!,
  })
  return {
    rx: new RxRing(arena, at, XDP_RING_SIZE, field(0)),
    tx: new TxRing(arena, at, XDP_RING_SIZE, field(1)),
    fill: new FillRing(arena, at, XDP_RING_SIZE, field(2)),
    completion: new CompletionRing(arena, at, XDP_RING_SIZE, field(3)),
  }
}
