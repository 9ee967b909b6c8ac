/**
 * How tables change under running workers.
 *
 * Header, port records, next hops, VTEPs and networks lie side by side in the arena and change together. The
 * main thread is the only writer: it makes SEQUENCE odd, writes, makes it even and moves
 * GENERATION. A worker that sees GENERATION move copies the tables into memory of its own, again
 * if SEQUENCE moved meanwhile, and says so in ACKNOWLEDGED. From then on it works by the copy, so
 * no packet ever meets a half-written entry, and once every worker has acknowledged a generation
 * nothing of an earlier one is in use (a quiescent point).
 */
import { native } from '../../native/native.ts'
import { type Arena, HEADER, NEXT_HOP_BYTES, PORT_RECORD_BYTES, WORKER } from '../memory/arena.ts'

export class TableWriter {
  private readonly arena: Arena
  private readonly header: Int32Array

  constructor(arena: Arena) {
    this.arena = arena
    this.header = arena.header()
  }

  /** Of the last change. */
  get generation(): number {
    return Atomics.load(this.header, HEADER.GENERATION)
  }

  /** Makes one change visible to all workers at once; returns its generation. */
  change(write: () => void): number {
    const { header } = this
    Atomics.add(header, HEADER.SEQUENCE, 1)
    try {
      write()
    } finally {
      Atomics.add(header, HEADER.SEQUENCE, 1)
    }
    const generation = (Atomics.add(header, HEADER.GENERATION, 1) + 1) | 0
    this.wake()
    return generation
  }

  /** Wakes every worker that sleeps. */
  wake(): void {
    for (let w = 0; w < this.arena.layout.plan.workers; w++) {
      const control = this.arena.control(w)
      const fd = Atomics.load(control, WORKER.WAKE_FD)
      if (fd > 0) native.eventfdSignal(fd)
    }
  }

  /** Resolves when every running worker works by `generation` or a later one. */
  async acknowledged(generation: number): Promise<void> {
    for (let w = 0; w < this.arena.layout.plan.workers; w++) {
      const control = this.arena.control(w)
      for (;;) {
        if (Atomics.load(control, WORKER.STATE) !== 1) break
        const seen = Atomics.load(control, WORKER.ACKNOWLEDGED)
        if (((seen - generation) | 0) >= 0) break
        const wait = Atomics.waitAsync(control, WORKER.ACKNOWLEDGED, seen, 1000)
        if (wait.async) await wait.value
      }
    }
  }
}

/** A worker's copy of the tables. */
export class TableReader {
  readonly words: Int32Array
  readonly view: DataView
  /** Byte offsets in the copy. */
  readonly portsAt: number
  readonly nextHopsAt: number
  readonly vtepsAt: number
  readonly networksAt: number
  generation = -1
  private readonly shared: Int32Array
  private readonly header: Int32Array
  private readonly arena: Arena

  constructor(arena: Arena) {
    const { layout } = arena
    this.arena = arena
    this.header = arena.header()
    const end = layout.networks.offset + layout.networks.bytes
    this.shared = new Int32Array(arena.buffer, arena.base, end / 4)
    this.words = new Int32Array(end / 4)
    this.view = new DataView(this.words.buffer)
    this.portsAt = layout.ports.offset
    this.nextHopsAt = layout.nextHops.offset
    this.vtepsAt = layout.vteps.offset
    this.networksAt = layout.networks.offset
  }

  /** Whether the tables changed since the last `update`. */
  stale(): boolean {
    return Atomics.load(this.header, HEADER.GENERATION) !== this.generation
  }

  /** Copies the tables; the whole copy is of one moment. */
  update(): void {
    const { header, words, shared } = this
    for (;;) {
      const before = Atomics.load(header, HEADER.SEQUENCE)
      if ((before & 1) === 1) continue
      const generation = Atomics.load(header, HEADER.GENERATION)
      const portWords = (header[HEADER.PORT_COUNT]! * PORT_RECORD_BYTES) / 4
      const hopWords = (header[HEADER.NEXT_HOP_COUNT]! * NEXT_HOP_BYTES) / 4
      words.set(shared.subarray(0, HEADER.WORDS))
      this.copy(this.portsAt / 4, portWords)
      this.copy(this.nextHopsAt / 4, hopWords)
      this.copy(this.vtepsAt / 4, this.arena.layout.vteps.bytes / 4)
      this.copy(this.networksAt / 4, this.arena.layout.networks.bytes / 4)
      if (Atomics.load(header, HEADER.SEQUENCE) === before) {
        this.generation = generation
        return
      }
    }
  }

  private copy(at: number, length: number): void {
    this.words.set(this.shared.subarray(at, at + length), at)
  }
}
