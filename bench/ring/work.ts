/** The work of each contender: it moves so many entries, and returns a sum of what came out. */
import { once } from 'node:events'
import { Worker } from 'node:worker_threads'
import type { TxRing } from '../../dataplane/afxdp/rings.ts'
import { BATCH_SIZE, FRAME_BYTES } from '../../dataplane/limits.ts'
import type { Arena } from '../../dataplane/memory/arena.ts'
import { Frames } from '../../dataplane/memory/frames.ts'
import {
  CONTROL,
  control,
  fillRing,
  fillTaker,
  makeArena,
  RING_SIZE,
  STATE,
  type TakerTask,
  txRing,
  txTaker,
} from './rings.ts'

/** Entries that one call moves. */
export const ENTRIES = 16 * RING_SIZE
/** Looks at the other thread's index in one call before it is given up: some ten seconds of them. */
const PATIENCE = 2 ** 30

export interface Work {
  /** Moves ENTRIES entries; the same sum each time. */
  call(): number
  /** The sum that is right. */
  expected: number
  /** Before calls, and after them: another thread works only between. */
  begin(): void
  end(): void
  close(): Promise<void>
}

const alone = { begin: () => {}, end: () => {}, close: async () => {} }

/** Entry `k` of a call: a frame's offset and a length. */
const address = (arena: Arena, k: number): number =>
  arena.layout.small.offset + (k & (RING_SIZE - 1)) * FRAME_BYTES
const length = (k: number): number => 60 + (k & 1023)

/** The same sum as the takers make. */
function sumOf(arena: Arena, lengths: boolean): number {
  let sum = 0
  for (let k = 0; k < ENTRIES; k++) sum = (sum + address(arena, k) + (lengths ? length(k) : 0)) | 0
  return sum
}

/** TX ring to RX ring, a batch in, a batch out. */
export function descriptors(): Work {
  const arena = makeArena()
  const tx = txRing(arena)
  const rx = txTaker(arena)
  const call = () => {
    let sum = 0
    for (let k = 0; k < ENTRIES; ) {
      for (const end = k + BATCH_SIZE; k < end && !tx.full(); k++) {
        tx.put(address(arena, k), length(k), 0)
      }
      tx.submit()
      const n = rx.available()
      for (let i = 0; i < n; i++) sum = (sum + rx.addr(i) + rx.len(i)) | 0
      rx.release(n)
    }
    return sum
  }
  return { call, expected: sumOf(arena, true), ...alone }
}

/** Fill ring to completion ring, a batch in, a batch out. */
export function addresses(): Work {
  const arena = makeArena()
  const fill = fillRing(arena)
  const completion = fillTaker(arena)
  const call = () => {
    let sum = 0
    for (let k = 0; k < ENTRIES; ) {
      const end = k + Math.min(BATCH_SIZE, fill.free())
      for (; k < end; k++) fill.put(address(arena, k))
      fill.submit()
      const n = completion.available()
      for (let i = 0; i < n; i++) sum = (sum + completion.peek(i)) | 0
      completion.release(n)
    }
    return sum
  }
  return { call, expected: sumOf(arena, false), ...alone }
}

/** Puts ENTRIES entries, as fast as they are taken. */
function putAll(arena: Arena, tx: TxRing): void {
  for (let k = 0; k < ENTRIES; k++) {
    if (tx.full()) {
      tx.submit()
      untilRoom(tx)
    }
    tx.put(address(arena, k), length(k), 0)
    if (k % BATCH_SIZE === BATCH_SIZE - 1) tx.submit()
  }
}

function untilRoom(tx: TxRing): void {
  for (let looks = 0; tx.full(); looks++) {
    if (looks > PATIENCE) throw new Error('the other thread takes nothing')
  }
}

function untilTaken(words: Int32Array, put: number): void {
  for (let looks = 0; Atomics.load(words, CONTROL.TAKEN) !== put; looks++) {
    if (looks > PATIENCE) throw new Error('the other thread has stopped taking')
  }
}

/** As `descriptors`, but another thread takes. */
export async function acrossThreads(): Promise<Work> {
  const arena = makeArena()
  const tx = txRing(arena)
  const words = control(arena)
  const task: TakerTask = { arena: arena.handle() }
  const taker = new Worker(new URL('./taker.worker.ts', import.meta.url), { workerData: task })
  await once(taker, 'online')
  let put = 0
  const call = () => {
    const before = Atomics.load(words, CONTROL.SUM)
    putAll(arena, tx)
    put = (put + ENTRIES) | 0
    untilTaken(words, put)
    return (Atomics.load(words, CONTROL.SUM) - before) | 0
  }
  const tell = (state: number) => {
    Atomics.store(words, CONTROL.STATE, state)
    Atomics.notify(words, CONTROL.STATE)
  }
  return {
    call,
    expected: sumOf(arena, true),
    begin: () => tell(STATE.TAKE),
    end: () => tell(STATE.REST),
    async close() {
      const exited = once(taker, 'exit')
      tell(STATE.END)
      await exited
    },
  }
}

/** Frames from the free list and back, a batch at a time. */
export function frames(): Work {
  const arena = makeArena()
  const { small } = new Frames(arena, 0)
  const call = () => {
    let sum = 0
    for (let k = 0; k < ENTRIES; k += BATCH_SIZE) {
      for (let i = 0; i < BATCH_SIZE; i++) taken[i] = small.take()
      for (let i = 0; i < BATCH_SIZE; i++) {
        sum = (sum + taken[i]!) | 0
        small.release(taken[i]!)
      }
    }
    return sum
  }
  const taken = new Uint32Array(BATCH_SIZE)
  return { call, expected: frameSum(arena), ...alone }
}

/** Frames as a port uses them: taken, held while the kernel has them, unheld, released. */
export function ownedFrames(): Work {
  const arena = makeArena()
  const all = new Frames(arena, 0)
  const { small } = all
  const taken = new Uint32Array(BATCH_SIZE)
  const PORT = 1
  const call = () => {
    let sum = 0
    for (let k = 0; k < ENTRIES; k += BATCH_SIZE) {
      for (let i = 0; i < BATCH_SIZE; i++) {
        taken[i] = small.takeFor(PORT)
        small.unhold(taken[i]!)
      }
      for (let i = 0; i < BATCH_SIZE; i++) small.hold(taken[i]!, PORT)
      for (let i = 0; i < BATCH_SIZE; i++) {
        sum = (sum + taken[i]!) | 0
        all.releaseHeld(taken[i]!, PORT)
      }
    }
    return sum
  }
  return { call, expected: frameSum(arena), ...alone }
}

/** The free list gives out its lowest frames: the same ones, in one order or the other. */
function frameSum(arena: Arena): number {
  let sum = 0
  for (let k = 0; k < ENTRIES; k++) {
    sum = (sum + arena.layout.small.offset + (k % BATCH_SIZE) * FRAME_BYTES) | 0
  }
  return sum
}
