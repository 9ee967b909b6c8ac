/** One of several threads that count in memory that a lock guards. */
import { parentPort, workerData } from 'node:worker_threads'
import { lock, unlock } from '../../../dataplane/memory/mutex.ts'

const { words, rounds } = workerData as { words: Int32Array; rounds: number }
let had = 0
for (let round = 0; round < rounds; round++) {
  if (!lock(words, 0)) continue
  had++
  // No atomics: only the lock keeps both words in step.
  const value = words[1]!
  words[2] = value + 1
  words[1] = words[2]!
  unlock(words, 0)
}
parentPort!.postMessage(had)
