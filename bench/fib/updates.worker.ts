/** The reader of the update bench: looks up batch after batch, with a quiescent point behind each. */
import { workerData } from 'node:worker_threads'
import { openFib } from '../../dataplane/fib/load.ts'
import { memoryOf } from '../../dataplane/fib/table.ts'
import { BATCH_SIZE } from '../../dataplane/limits.ts'
import { CONTROL, type ReaderTask } from './updates.ts'

const { table, control, addresses, nextHops } = workerData as ReaderTask
const fib = await openFib(table.source)
const reader = fib.reader(memoryOf(table), table.limits)
const words = fib.family === 4 ? 1 : 4
const found = new Uint16Array(BATCH_SIZE)
const batch = new Uint32Array(BATCH_SIZE * words)
const n = Math.min(BATCH_SIZE, addresses.length / words)

for (let at = 0; Atomics.load(control, CONTROL.STOP) === 0; at += n) {
  if (at + n > addresses.length / words) at = 0
  batch.set(addresses.subarray(at * words, (at + n) * words))
  reader.lookup(batch, n, found)
  for (let i = 0; i < n; i++) {
    if (found[i]! > nextHops) Atomics.add(control, CONTROL.WRONG, 1)
  }
  // Only what was asked before this point is answered: changes after it may meet the next batch.
  const asked = Atomics.load(control, CONTROL.ASKED)
  if (Atomics.exchange(control, CONTROL.SEEN, asked) !== asked) {
    Atomics.notify(control, CONTROL.SEEN)
  }
  Atomics.add(control, CONTROL.BATCHES, 1)
}
