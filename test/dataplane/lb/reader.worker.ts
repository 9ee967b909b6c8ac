/**
 * A reader in a thread of its own: chooses for the given hashes, again and again. What it got for a
 * batch must be one of the allowed answers as a whole: two sets of backends in one batch would show.
 */
import { parentPort, workerData } from 'node:worker_threads'
import { lbByName } from '../../../dataplane/lb/index.ts'
import type { LbLimits } from '../../../dataplane/lb/lb.ts'

/** Words of the control array. */
export const STOP = 0
export const BATCHES = 1

export interface ReaderTask {
  name: string
  limits: LbLimits
  memory: Uint8Array
  control: Int32Array
  hashes: Uint32Array
  /** By set: the answers as text; or, for balancers that count, the ids that may be. */
  allowed: string[]
  ids: number[][]
}

export interface ReaderReport {
  batches: number
  wrong: number
  seen: string[]
}

function run(task: ReaderTask): ReaderReport {
  const { control, hashes, ids } = task
  const { counts, reader: open } = lbByName(task.name)
  const reader = open(task.memory, task.limits)
  const chosen = new Uint16Array(hashes.length)
  const allowed = new Set(task.allowed)
  const sets = ids.map(each => new Set(each))
  const seen = new Set<string>()
  let wrong = 0
  let batches = 0
  while (Atomics.load(control, STOP) === 0) {
    reader.choose(hashes, hashes.length, chosen)
    if (counts) {
      const fits = sets.findIndex(set => chosen.every(id => set.has(id)))
      if (fits < 0) wrong++
      seen.add(String(fits))
      reader.release(chosen, chosen.length)
    } else {
      const text = chosen.join()
      if (!allowed.has(text)) wrong++
      seen.add(text)
    }
    batches++
    Atomics.add(control, BATCHES, 1)
    Atomics.notify(control, BATCHES)
  }
  return { batches, wrong, seen: [...seen] }
}

if (parentPort !== null && workerData !== null) {
  parentPort.postMessage(run(workerData as ReaderTask))
}
