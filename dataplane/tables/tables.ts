/**
 * How tables change under running workers.
 *
 * Header, port records, next hops, VTEPs and networks lie side by side in the arena and change
 * together. The main thread is the only writer: it makes SEQUENCE odd, writes, makes it even and moves
 * GENERATION. A worker that sees GENERATION move copies what has changed (blocks.ts) into memory of
 * its own, again if SEQUENCE moved meanwhile, and says so in ACKNOWLEDGED. From then on it works by the
 * copy, so no packet ever meets a half-written entry, and once every worker has acknowledged a
 * generation nothing of an earlier one is in use (a quiescent point).
 *
 * Workers that look meanwhile wait for the end of a change: it writes memory and does nothing else.
 * What it writes is worked out before, and what has to be asked of the kernel is asked before.
 */
import { native } from '../../native/native.ts'
import { MAX_PORTS } from '../limits.ts'
import { type Arena, HEADER, WORKER } from '../memory/arena.ts'
import { fence } from '../memory/fence.ts'
import { type Blocks, blocksOf } from './blocks.ts'

export class TableWriter {
  /** What is to be done behind each change: whoever keeps a copy of the tables brings it up to date. */
  readonly behind: (() => void)[] = []
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

  /** Makes one change visible to all workers at once; returns its generation. `write` writes memory and does nothing else. */
  change(write: () => void): number {
    const { header } = this
    Atomics.add(header, HEADER.SEQUENCE, 1)
    fence()
    try {
      write()
    } finally {
      Atomics.add(header, HEADER.SEQUENCE, 1)
    }
    const generation = (Atomics.add(header, HEADER.GENERATION, 1) + 1) | 0
    this.wake()
    for (const follow of this.behind) follow()
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
  /** Ports whose records the last `update` found changed: `moved[0 .. movedCount)`, by index. */
  readonly moved = new Uint16Array(MAX_PORTS)
  movedCount = 0
  /** Whether it found the table of networks changed. */
  networksMoved = false
  /** Blocks that were copied in all: what changes have cost. */
  copied = 0
  private readonly shared: Int32Array
  private readonly header: Int32Array
  private readonly ports: Blocks
  private readonly nextHops: Blocks
  private readonly vteps: Blocks
  private readonly networks: Blocks
  /** HEADER.SEQUENCE of the copy. */
  private sequence = 0

  constructor(arena: Arena) {
    const { layout } = arena
    const end = layout.networks.offset + layout.networks.bytes
    this.header = arena.header()
    this.shared = arena.words
    this.words = new Int32Array(end / 4)
    this.view = new DataView(this.words.buffer)
    this.portsAt = layout.ports.offset
    this.nextHopsAt = layout.nextHops.offset
    this.vtepsAt = layout.vteps.offset
    this.networksAt = layout.networks.offset
    this.ports = blocksOf(layout, 'ports')
    this.nextHops = blocksOf(layout, 'nextHops')
    this.vteps = blocksOf(layout, 'vteps')
    this.networks = blocksOf(layout, 'networks')
  }

  /** Whether the tables changed since the last `update`. */
  stale(): boolean {
    return Atomics.load(this.header, HEADER.GENERATION) !== this.generation
  }

  /** Copies what has changed; then the whole copy is of one moment. */
  update(): void {
    const { header, words } = this
    for (;;) {
      const before = Atomics.load(header, HEADER.SEQUENCE)
      if ((before & 1) === 1) continue
      const generation = Atomics.load(header, HEADER.GENERATION)
      for (let w = 0; w < HEADER.WORDS; w++) words[w] = header[w]!
      this.movedCount = 0
      this.copy(this.ports, this.moved)
      this.copy(this.nextHops)
      this.copy(this.vteps)
      this.networksMoved = this.copy(this.networks) > 0
      fence()
      if (Atomics.load(header, HEADER.SEQUENCE) === before) {
        this.generation = generation
        this.sequence = before
        return
      }
    }
  }

  /** Copies the blocks that are later than the copy, and says which, by index, in `moved`. Returns how many. */
  private copy({ at, words: size, movedAt, count }: Blocks, moved?: Uint16Array): number {
    const { shared, words, sequence } = this
    let n = 0
    for (let block = 0; block < count; block++) {
      if (((shared[movedAt + block]! - sequence) | 0) <= 0) continue
      const start = at + block * size
      for (let w = start; w < start + size; w++) words[w] = shared[w]!
      if (moved !== undefined) moved[this.movedCount++] = block
      n++
    }
    this.copied += n
    return n
  }
}
