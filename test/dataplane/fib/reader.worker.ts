/**
 * A reader in a thread of its own: looks the given addresses up, again and again, and counts every
 * answer that is not among the allowed ones of its address. At the end it posts what it saw, and waits for the
 * next task.
 */
import { parentPort } from 'node:worker_threads'
import { fibByName } from '../../../dataplane/fib/index.ts'

/** Words of the control array. `CHANGED` is the writer's, `SEEN` the reader's last one. */
export const CHANGED = 0
export const SEEN = 1
export const STOP = 2

export interface ReaderTask {
  name: string
  family: 4 | 6
  routes: number
  memory: Uint8Array
  control: Int32Array
  addresses: Uint32Array
  /** By address. */
  allowed: readonly (readonly number[])[]
}

export interface ReaderReport {
  lookups: number
  wrong: { address: number; nextHop: number }[]
  /** By address: the answers that it got. */
  seen: number[][]
}

const BATCH = 64

function run(task: ReaderTask): ReaderReport {
  const { control, addresses, allowed } = task
  const words = task.family === 4 ? 1 : 4
  const reader = fibByName(task.name, task.family).reader(task.memory, { routes: task.routes })
  const count = allowed.length
  // Every address in every batch, in turn.
  const repeated = new Uint32Array(BATCH * words)
  for (let i = 0; i < BATCH; i++) {
    const from = (i % count) * words
    repeated.set(addresses.subarray(from, from + words), i * words)
  }
  const found = new Uint16Array(BATCH)
  const good = allowed.map(hops => new Set(hops))
  const seen = allowed.map(() => new Set<number>())
  const wrong: ReaderReport['wrong'] = []
  let lookups = 0
  while (Atomics.load(control, STOP) === 0) {
    const change = Atomics.load(control, CHANGED)
    for (let batch = 0; batch < 4; batch++) {
      const n = 1 + ((lookups * 7 + batch) % BATCH)
      reader.lookup(repeated, n, found)
      lookups += n
      for (let i = 0; i < n; i++) {
        const nextHop = found[i]!
        seen[i % count]!.add(nextHop)
        if (!good[i % count]!.has(nextHop) && wrong.length < 10) {
          wrong.push({ address: i % count, nextHop })
        }
      }
    }
    // A whole batch, so that each address was asked since the change.
    reader.lookup(repeated, BATCH, found)
    for (let i = 0; i < BATCH; i++) seen[i % count]!.add(found[i]!)
    if (Atomics.exchange(control, SEEN, change) !== change) Atomics.notify(control, SEEN)
  }
  return { lookups, wrong, seen: seen.map(hops => [...hops].sort((a, b) => a - b)) }
}

parentPort?.on('message', (task: ReaderTask) => parentPort?.postMessage(run(task)))
