/** From a port record to the object that a worker serves: what each kind of port needs. */

import { CompletionRing, FillRing, RxRing, TxRing } from '../afxdp/rings.ts'
import type { Engine } from '../engine/engine.ts'
import { XDP_RING_SIZE } from '../limits.ts'
import { HEADER } from '../memory/arena.ts'
import { PORT_KIND, type Port } from '../ports/port.ts'
import type { Scratch } from '../ports/scratch.ts'
import { TunPort } from '../ports/tun.ts'
import { UdpPort } from '../ports/udp.ts'
import { XdpPort } from '../ports/xdp.ts'
import type { PortRecord } from '../tables/ports.ts'

/** The port of `worker`; undefined when that worker has no queue of it. */
export function createPort(
  index: number,
  record: PortRecord,
  worker: number,
  e: Engine,
  scratch: Scratch,
): Port | undefined {
  const fd = record.fds[worker]!
  if (fd < 0) return undefined
  if (record.kind === PORT_KIND.TUN) {
    return new TunPort(index, record, fd, e.arena, e.frames, scratch, e.counters)
  }
  if (record.kind === PORT_KIND.UDP) {
    return new UdpPort(index, record, fd, e, e.arena, e.frames, scratch, e.counters)
  }
  if (record.kind !== PORT_KIND.XDP) return undefined
  const at = record.rings[worker]!
  const field = (ring: number) => ({
    producer: e.tables.words[HEADER.XSK_OFFSETS + ring * 4]!,
    consumer: e.tables.words[HEADER.XSK_OFFSETS + ring * 4 + 1]!,
    desc: e.tables.words[HEADER.XSK_OFFSETS + ring * 4 + 2]!,
    flags: e.tables.words[HEADER.XSK_OFFSETS + ring * 4 + 3]!,
  })
  const rings = {
    rx: new RxRing(e.arena, at, XDP_RING_SIZE, field(0)),
    tx: new TxRing(e.arena, at, XDP_RING_SIZE, field(1)),
    fill: new FillRing(e.arena, at, XDP_RING_SIZE, field(2)),
    completion: new CompletionRing(e.arena, at, XDP_RING_SIZE, field(3)),
  }
  return new XdpPort(index, record, fd, rings, e.arena, e.frames, e.tables, e.counters)
}
