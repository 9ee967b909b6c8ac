/**
 * Memory that goes from chunk to chunk while readers are in it, without `quiesced`: only the lanes
 * say when. Each chunk has next hops of its own, so an answer of another one's shows.
 */
import { once } from 'node:events'
import { Worker } from 'node:worker_threads'
import { expect, test } from 'vitest'
import { seeded } from '../../../dataplane/fib/columns.ts'
import { BASE, BATCHES, CHUNKS, type ReuseTask, STOP } from './dxr_reuse.worker.ts'
import { table } from './tables.ts'

const ROUTES = 8192
const CHANGES = 150_000
/** Changes between two sizes of the table, so that chunks take every form. */
const TIDE = 16_384
const LOW = 200
/** Batches that each reader has done at least at the end, and how long they may take on a busy machine, ms. */
const LEAST_BATCHES = 64
const PATIENCE = 60_000

test.each(['dxr', 'dxr_native'])('%s', async name => {
  const { writer, memory } = table(name, 4, ROUTES + CHUNKS)
  for (let c = 0; c < CHUNKS; c++) writer.insert([BASE + c * 0x1_0000], 16, CHUNKS + c)
  const controls = [0, 1].map(() => new Int32Array(new SharedArrayBuffer(8)))
  const workers = controls.map(control => {
    const workerData: ReuseTask = { name, routes: ROUTES + CHUNKS, memory, control }
    return new Worker(new URL('./dxr_reuse.worker.ts', import.meta.url), { workerData })
  })
  const reports = workers.map(async worker => (await once(worker, 'message'))[0] as number)
  try {
    await Promise.all(workers.map(worker => once(worker, 'online')))
    const random = seeded(99)
    const known: [number, number][] = []
    const change = (most: number) => {
      if (known.length >= most || (known.length > 0 && random() % 3 === 0)) {
        const i = random() % known.length
        const [address, prefix] = known[i]!
        writer.remove([address], prefix)
        known[i] = known.at(-1)!
        known.pop()
        return
      }
      const chunk = random() % CHUNKS
      const prefix = 17 + (random() % (random() % 4 === 0 ? 16 : 8))
      const address = (BASE + chunk * 0x1_0000 + (random() & 0xffff)) & (-1 << (32 - prefix))
      const times = 1 + (random() % (random() % 64 === 0 ? 500 : 2))
      const before = writer.size
      writer.insert([address >>> 0], prefix, chunk + CHUNKS * times)
      if (writer.size > before) known.push([address >>> 0, prefix])
    }
    for (let i = 0; i < CHANGES; i++) change(i % (2 * TIDE) < TIDE ? ROUTES : LOW)
    // The readers were there: a busy machine may have let them wait until now.
    for (const control of controls) {
      for (;;) {
        const done = Atomics.load(control, BATCHES)
        if (done >= LEAST_BATCHES) break
        for (let i = 0; i < 100; i++) change(ROUTES)
        if (Atomics.wait(control, BATCHES, done, PATIENCE) === 'timed-out') {
          throw new Error('a reader does not answer')
        }
      }
    }
  } finally {
    for (const control of controls) Atomics.store(control, STOP, 1)
    await Promise.race([Promise.all(reports), Promise.all(workers.map(w => once(w, 'exit')))])
    await Promise.all(workers.map(worker => worker.terminate()))
  }
  expect(await Promise.all(reports)).toEqual([0, 0])
})
