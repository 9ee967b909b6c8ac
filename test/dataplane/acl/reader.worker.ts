/**
 * A reader in a thread of its own: classifies the given headers, again and again, and counts every
 * answer that is not among the allowed ones of its header. At the end it posts what it saw, and waits
 * for another task.
 */
import { parentPort } from 'node:worker_threads'
import { HEADER_WORDS } from '../../../dataplane/acl/acl.ts'
import { aclByName } from '../../../dataplane/acl/index.ts'

/** Words of the control array. `CHANGED` is the writer's, `SEEN` the reader's last one. */
export const CHANGED = 0
export const SEEN = 1
export const STOP = 2

export interface ReaderTask {
  name: string
  family: 4 | 6
  rules: number
  memory: Uint8Array
  control: Int32Array
  headers: Uint32Array
  /** By header. */
  allowed: readonly (readonly number[])[]
}

export interface ReaderReport {
  classified: number
  wrong: { header: number; rule: number }[]
  /** By header: the answers that it got. */
  seen: number[][]
}

const BATCH = 64

function run(task: ReaderTask): ReaderReport {
  const { control, headers, allowed } = task
  const words = HEADER_WORDS[task.family]
  const reader = aclByName(task.name, task.family).reader(task.memory, { rules: task.rules })
  const count = allowed.length
  // Every header in every batch, in turn.
  const repeated = new Uint32Array(BATCH * words)
  for (let i = 0; i < BATCH; i++) {
    const from = (i % count) * words
    repeated.set(headers.subarray(from, from + words), i * words)
  }
  const found = new Uint16Array(BATCH)
  const good = allowed.map(ids => new Set(ids))
  const seen = allowed.map(() => new Set<number>())
  const wrong: ReaderReport['wrong'] = []
  let classified = 0
  while (Atomics.load(control, STOP) === 0) {
    const change = Atomics.load(control, CHANGED)
    for (let batch = 0; batch < 4; batch++) {
      // Of the last turn, a whole one: each header was asked since the change.
      const n = batch === 3 ? BATCH : 1 + ((classified * 7 + batch) % BATCH)
      reader.classify(repeated, n, found)
      classified += n
      for (let i = 0; i < n; i++) {
        const rule = found[i]!
        seen[i % count]!.add(rule)
        if (!good[i % count]!.has(rule) && wrong.length < 10) {
          wrong.push({ header: i % count, rule })
        }
      }
    }
    if (Atomics.exchange(control, SEEN, change) !== change) Atomics.notify(control, SEEN)
  }
  return { classified, wrong, seen: seen.map(ids => [...ids].sort((a, b) => a - b)) }
}

parentPort?.on('message', (task: ReaderTask) => {
  parentPort!.postMessage(run(task))
})
