/** The other thread of the ring bench: takes whatever is there, sums it, says how far it is. */
import { workerData } from 'node:worker_threads'
import { BATCH_SIZE } from '../../dataplane/limits.ts'
import { Arena } from '../../dataplane/memory/arena.ts'
import { CONTROL, control, STATE, type TakerTask, txTaker } from './rings.ts'

const arena = Arena.open((workerData as TakerTask).arena)
const words = control(arena)
const ring = txTaker(arena)
let taken = 0
let sum = 0

for (let state = 0; state !== STATE.END; state = Atomics.load(words, CONTROL.STATE)) {
  if (state === STATE.REST) Atomics.wait(words, CONTROL.STATE, STATE.REST)
  const n = Math.min(ring.available(), BATCH_SIZE)
  if (n === 0) continue
  for (let k = 0; k < n; k++) sum = (sum + ring.addr(k) + ring.len(k)) | 0
  ring.release(n)
  taken = (taken + n) | 0
  Atomics.store(words, CONTROL.SUM, sum)
  Atomics.store(words, CONTROL.TAKEN, taken)
}
