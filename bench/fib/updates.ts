/**
 * Changes a second while another thread looks up. Half of them give a route another next hop; the
 * others take a route out and put it back (two changes). All are of routes that are there, chosen
 * evenly, so that the table stays what it is.
 *
 * The writer says `quiesced` as the engine does: after at most GRACE changes it waits until the
 * reader has passed a point between two batches that lies behind the last change. The wait is part
 * of the time.
 */
import { once } from 'node:events'
import { Worker } from 'node:worker_threads'
import { seeded } from '../../dataplane/fib/columns.ts'
import type { FibTable } from '../../dataplane/fib/table.ts'
import { MAX_NEXT_HOPS } from '../../dataplane/limits.ts'
import { prefixOf, type RouteTable } from '../data/routes.ts'
import { noteDisturbance, Watch } from '../harness/watch.ts'
import type { Built } from './contenders.ts'

/** Words that both threads use. */
export const CONTROL = { STOP: 0, ASKED: 1, SEEN: 2, BATCHES: 3, WRONG: 4, WORDS: 5 } as const

export interface ReaderTask {
  table: FibTable
  control: Int32Array
  addresses: Uint32Array
  /** Largest next hop id that the table can have. */
  nextHops: number
}

/** Changes after which the writer waits for the reader. */
const GRACE = 1024
/** Changes between two looks at the clock. */
const BURST = 64
/** Batches that the reader has done before anything counts: its code is optimised then. */
const READER_WARM_UP = 2000
/** Longest wait for the reader, ms. */
const PATIENCE_MS = 20_000

/** Measures `samples` times for `seconds`; leaves the table as it was. Throws when the reader saw a next hop that no route has. */
export async function updatesPerSecond(
  label: string,
  built: Built,
  table: RouteTable,
  addresses: Uint32Array,
  samples: number,
  seconds: number,
): Promise<number[]> {
  const control = new Int32Array(new SharedArrayBuffer(4 * CONTROL.WORDS))
  const nextHops = table.nextHops.reduce((most, hop) => Math.max(most, hop), 0)
  const task: ReaderTask = { table: built.memory, control, addresses, nextHops }
  const reader = new Worker(new URL('./updates.worker.ts', import.meta.url), { workerData: task })
  const failed = once(reader, 'error').then(([error]) => {
    throw error
  })
  failed.catch(() => {})
  try {
    await Promise.race([failed, warm(control, READER_WARM_UP)])
    const changes = new Changes(built, table, nextHops, control)
    changes.benchChanges(seconds)
    const watch = new Watch()
    const rates: number[] = []
    for (let i = 0; i < samples; i++) {
      watch.openWindow()
      rates.push(changes.benchChanges(seconds))
      watch.closeWindow()
    }
    noteDisturbance(label, await watch.done())
    changes.restore()
    const wrong = Atomics.load(control, CONTROL.WRONG)
    if (wrong > 0) throw new Error(`${label}: the reader saw ${wrong} next hops that are none`)
    return rates
  } finally {
    Atomics.store(control, CONTROL.STOP, 1)
    await reader.terminate()
  }
}

async function warm(control: Int32Array, batches: number): Promise<void> {
  const end = performance.now() + PATIENCE_MS
  while (Atomics.load(control, CONTROL.BATCHES) < batches && performance.now() < end) {
    await new Promise(resolve => setImmediate(resolve))
  }
  if (Atomics.load(control, CONTROL.BATCHES) === 0) throw new Error('the reader does not read')
}

class Changes {
  private readonly built: Built
  private readonly table: RouteTable
  private readonly most: number
  private readonly control: Int32Array
  private readonly hops: Uint16Array
  private readonly random = seeded(0x0005_0001)
  private readonly grace: number
  private since = 0

  constructor(built: Built, table: RouteTable, most: number, control: Int32Array) {
    this.built = built
    this.table = table
    this.most = Math.min(most, MAX_NEXT_HOPS - 1)
    this.control = control
    this.hops = table.nextHops.slice()
    this.grace = Math.min(GRACE, table.count)
  }

  /** Changes a second. */
  benchChanges(seconds: number): number {
    const started = performance.now()
    let done = 0
    let elapsed = 0
    while (elapsed < seconds * 1000) {
      for (let i = 0; i < BURST; i++) done += this.change()
      elapsed = performance.now() - started
    }
    return (done * 1000) / elapsed
  }

  /** Every next hop as it was. */
  restore(): void {
    const { table, hops, built } = this
    for (let i = 0; i < table.count; i++) {
      if (hops[i] === table.nextHops[i]) continue
      built.writer.insert(prefixOf(table, i), table.lengths[i]!, table.nextHops[i]!)
      if (++this.since >= this.grace) this.quiesce()
    }
    this.quiesce()
  }

  /** One or two changes; returns how many. */
  private change(): number {
    const { built, hops, random, table } = this
    const i = random() % table.count
    const prefix = prefixOf(table, i)
    const length = table.lengths[i]!
    const swap = (random() & 0x100) !== 0
    if (swap) {
      if (!built.writer.remove(prefix, length)) throw new Error(`${prefix}/${length} was not there`)
    } else {
      hops[i] = 1 + (random() % this.most)
    }
    built.writer.insert(prefix, length, hops[i]!)
    const done = swap ? 2 : 1
    this.since += done
    if (this.since >= this.grace) this.quiesce()
    return done
  }

  /** Waits for a point between two of the reader's batches that lies behind the last change. */
  private quiesce(): void {
    const { control } = this
    const asked = Atomics.add(control, CONTROL.ASKED, 1) + 1
    const end = performance.now() + PATIENCE_MS
    for (let seen = Atomics.load(control, CONTROL.SEEN); seen !== asked; ) {
      Atomics.wait(control, CONTROL.SEEN, seen, 10)
      seen = Atomics.load(control, CONTROL.SEEN)
      if (performance.now() > end) throw new Error('the reader has stopped reading')
    }
    this.built.writer.quiesced()
    this.since = 0
  }
}
