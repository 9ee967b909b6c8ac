/** Readers in threads of their own while the backends change: each batch is answered by one set. */
import { once } from 'node:events'
import { Worker } from 'node:worker_threads'
import { describe, expect, test } from 'vitest'
import { lbByName, lbNames } from '../../../dataplane/lb/index.ts'
import { backendsOf, balancer, chooseAll, hashesOf } from './balancers.ts'
import { BATCHES, type ReaderReport, type ReaderTask, STOP } from './reader.worker.ts'

const READERS = 2
const CHANGES = 3000
const LEAST_BATCHES = 60
const PATIENCE = 60_000

/** No id is in two of them, and their sizes differ. */
const SETS = [3, 40, 17].map((size, s) =>
  backendsOf(new Array<number>(size).fill(1 + s)).map(({ weight }, i) => ({
    id: 1000 * (s + 1) + i,
    weight: s === 2 ? 1 + (i % 5) : weight,
  })),
)

describe.each(lbNames())('%s', name => {
  test('no batch mixes two sets of backends', async () => {
    const limits = { backends: 40 }
    const hashes = hashesOf(256)
    const { memory, writer, reader } = balancer(name, limits)
    const allowed = SETS.map(set => {
      writer.set(set)
      return chooseAll(reader, hashes).join()
    })
    const control = new Int32Array(new SharedArrayBuffer(64))
    const workerData: ReaderTask = {
      name,
      limits,
      memory: memory,
      control,
      hashes,
      allowed,
      ids: SETS.map(set => set.map(({ id }) => id)),
    }
    if (lbByName(name).counts) {
      for (const set of SETS) {
        for (const { id } of set) reader.release(new Uint16Array(1000).fill(id), reader.load(id))
      }
    }
    const workers = Array.from(
      { length: READERS },
      () => new Worker(new URL('./reader.worker.ts', import.meta.url), { workerData }),
    )
    const reports = workers.map(async worker => (await once(worker, 'message'))[0] as ReaderReport)
    try {
      await Promise.all(workers.map(worker => once(worker, 'online')))
      for (let change = 0; change < CHANGES; change++) writer.set(SETS[change % SETS.length]!)
      // Then each set alone, until whole batches have been answered by it.
      for (const set of [...SETS, ...SETS]) {
        writer.set(set)
        const goal = Atomics.load(control, BATCHES) + LEAST_BATCHES
        for (let done = 0; done < goal; ) {
          done = Atomics.load(control, BATCHES)
          if (done < goal && Atomics.wait(control, BATCHES, done, PATIENCE) === 'timed-out') {
            throw new Error('a reader does not answer')
          }
        }
      }
    } finally {
      Atomics.store(control, STOP, 1)
      await Promise.all(reports)
      await Promise.all(workers.map(worker => worker.terminate()))
    }
    const seen = new Set<string>()
    for (const report of await Promise.all(reports)) {
      expect(report.wrong).toBe(0)
      for (const each of report.seen) seen.add(each)
    }
    expect(seen.size).toBe(SETS.length)
    for (const set of SETS) {
      for (const { id } of set) expect(reader.load(id)).toBe(0)
    }
  })
})
