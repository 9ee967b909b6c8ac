/** A worker that takes from a bucket, at a moment that stands still, until it is empty. */
import { workerData } from 'node:worker_threads'
import { charge } from '../../../dataplane/tables/rates.ts'

export interface Task {
  buffer: SharedArrayBuffer
  burst: number
  now: number
  bytes: number
}

/** Words: the bucket, a gate that opens when it is 1, then what worker 0, 1, … has got. */
const { buffer, burst, now, bytes, me } = workerData as Task & { me: number }
const words = new Int32Array(buffer)
Atomics.wait(words, 1, 0)
let got = 0
while (charge(words, 0, burst, now, bytes)) got += bytes
Atomics.store(words, 2 + me, got)
