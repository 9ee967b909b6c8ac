/**
 * The rings that a worker shares with the kernel, without the kernel: what the bench puts into a TX
 * ring comes out of an RX ring on the same memory, and what goes into a fill ring comes out of a
 * completion ring. Both are then what they are in hawser, one end each of a ring with one producer
 * and one consumer.
 */

import {
  CompletionRing,
  FillRing,
  RxRing,
  ringBytes,
  ringLayout,
  TxRing,
} from '../../dataplane/afxdp/rings.ts'
import { Arena, type ArenaHandle, PAGE, planArena } from '../../dataplane/memory/arena.ts'

/** Entries, as of the sockets of a daemon. */
export const RING_SIZE = 2048
/** Where the kernel puts the fields of a ring (kernel 6.18): each index in a cache line of its own. */
const OFFSETS = { producer: 0, consumer: 64, flags: 128, desc: 320 }
/** A page for what two threads tell each other. */
const CONTROL_BYTES = PAGE

/** Words of the control page. */
export const CONTROL = { STATE: 0, TAKEN: 16, SUM: 17 } as const
/** Values of STATE: the other thread sleeps, takes, or ends. */
export const STATE = { REST: 0, TAKE: 1, END: 2 } as const

export function makeArena(): Arena {
  const fib = PAGE
  return Arena.create(
    planArena({
      workers: 1,
      smallFrames: 2 * RING_SIZE,
      largeFrames: 1,
      xdpSockets: 1,
      xdpSocketBytes: ringBytes(RING_SIZE) + CONTROL_BYTES,
      fib4Bytes: fib,
      fib6Bytes: fib,
    }),
  )
}

export function control(arena: Arena): Int32Array {
  const at = arena.base + arena.layout.rings.offset + ringBytes(RING_SIZE)
  return new Int32Array(arena.buffer, at, CONTROL_BYTES / 4)
}

export function txRing(arena: Arena): TxRing {
  return new TxRing(arena, arena.layout.rings.offset, RING_SIZE, OFFSETS)
}

/** The other end of `txRing`. */
export function txTaker(arena: Arena): RxRing {
  const at = arena.layout.rings.offset
  const { rx, tx } = ringLayout(at, RING_SIZE)
  return new RxRing(arena, at + tx - rx, RING_SIZE, OFFSETS)
}

export function fillRing(arena: Arena): FillRing {
  return new FillRing(arena, arena.layout.rings.offset, RING_SIZE, OFFSETS)
}

/** The other end of `fillRing`. */
export function fillTaker(arena: Arena): CompletionRing {
  const at = arena.layout.rings.offset
  const { completion, fill } = ringLayout(at, RING_SIZE)
  return new CompletionRing(arena, at + fill - completion, RING_SIZE, OFFSETS)
}

export interface TakerTask {
  arena: ArenaHandle
}
