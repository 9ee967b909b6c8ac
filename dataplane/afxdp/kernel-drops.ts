/**
 * What the kernel dropped before an AF_XDP port saw it: it counts by socket (XDP_STATISTICS), and
 * nobody but the main thread asks. What is new since the last look goes into the counters of the
 * worker that the socket is of, under reasons and fields that no worker writes.
 */
import { native, type XskStatistics } from '../../native/native.ts'
import { DROP_DESCRIPTOR, DROP_FILL_EMPTY, DROP_RX_FULL, DROP_RX_LONG } from '../drops.ts'
import { type Arena, COUNTER, PORT_COUNTER, portCounters } from '../memory/arena.ts'

/** Reason, whether it is of a packet that came, and its count since the socket was opened. */
const REASONS: readonly [drop: number, received: boolean, of: (s: XskStatistics) => number][] = [
  [DROP_FILL_EMPTY, true, s => s.rxFillRingEmpty],
  [DROP_RX_FULL, true, s => s.rxRingFull],
  // Dropped without the ring being empty: no frame holds it (xsk_rcv_check in net/xdp/xsk.c).
  [DROP_RX_LONG, true, s => Math.max(0, s.rxDropped - s.rxFillRingEmpty)],
  [DROP_DESCRIPTOR, false, s => s.rxInvalidDescs + s.txInvalidDescs],
]

export class KernelDrops {
  private readonly arena: Arena
  /** Counts by port, worker and reason, at the last look. */
  private readonly seen = new Map<number, number[][]>()

  constructor(arena: Arena) {
    this.arena = arena
  }

  /** `sockets`: descriptors of the port's queues, by worker. */
  look(port: number, sockets: readonly number[]): void {
    const before = this.seen.get(port) ?? []
    this.seen.set(
      port,
      sockets.map((fd, worker) => this.count(port, worker, fd, before[worker] ?? [])),
    )
  }

  /** Another port will have the number. */
  forget(port: number): void {
    this.seen.delete(port)
  }

  private count(port: number, worker: number, fd: number, before: readonly number[]): number[] {
    const counters = this.arena.counters(worker)
    let statistics: XskStatistics
    try {
      statistics = native.xskStatistics(fd)
    } catch {
      // The engine has stopped, and its sockets are closed.
      return [...before]
    }
    return REASONS.map(([drop, received, of], k) => {
      const now = of(statistics)
      const fresh = now - (before[k] ?? 0)
      counters[COUNTER.DROPS + drop]! += fresh
      if (received) counters[portCounters(port) + PORT_COUNTER.KERNEL_DROPS]! += fresh
      return now
    })
  }
}
