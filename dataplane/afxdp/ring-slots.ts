/** Places for the rings of AF_XDP sockets in the arena; the UMEM's root socket has the first one. */
import { XDP_RING_SIZE } from '../limits.ts'
import type { Arena } from '../memory/arena.ts'
import { ROOT_RING_BYTES, ringBytes } from './umem.ts'

/** Bytes of one place. */
export const RING_SLOT_BYTES = Math.max(ringBytes(XDP_RING_SIZE), ROOT_RING_BYTES)

export class RingSlots {
  readonly root: number
  private readonly free: number[] = []
  /** Sockets of one worker. */
  private readonly limit: number

  constructor(arena: Arena) {
    const { offset } = arena.layout.rings
    const { xdpSockets, workers } = arena.layout.plan
    this.root = offset
    this.limit = Math.floor((xdpSockets - 1) / workers)
    for (let k = xdpSockets - 1; k >= 1; k--) {
      this.free.push(offset + k * RING_SLOT_BYTES)
    }
  }

  /** Arena offset for the rings of a socket. Throws RangeError when all are taken. */
  take(): number {
    const at = this.free.pop()
    if (at === undefined) {
      throw new RangeError(
        `no room for the rings of another AF_XDP socket: a worker has ${this.limit} (raise xdpSockets, or attach by TUN)`,
      )
    }
    return at
  }

  release(at: number): void {
    this.free.push(at)
  }
}
