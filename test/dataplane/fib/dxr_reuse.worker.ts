/** A reader of dxr_reuse.test.ts: random addresses, until it is told to stop; posts what it saw. */
import { parentPort, workerData } from 'node:worker_threads'
import { seeded } from '../../../dataplane/fib/columns.ts'
import { fibByName } from '../../../dataplane/fib/index.ts'

/** Chunks with routes: 10.0.0.0/16 and on. The next hops of chunk c are c more than a multiple of them. */
export const CHUNKS = 64
export const BASE = 0x0a00_0000

/** Words of the control array. */
export const BATCHES = 0
export const STOP = 1

export interface ReuseTask {
  name: string
  routes: number
  memory: Uint8Array
  control: Int32Array
}

const BATCH = 256

function run({ name, routes, memory, control }: ReuseTask): number {
  const reader = fibByName(name, 4).reader(memory, { routes })
  const random = seeded(7)
  const addresses = new Uint32Array(BATCH)
  const found = new Uint16Array(BATCH)
  let wrong = 0
  while (Atomics.load(control, STOP) === 0) {
    for (let i = 0; i < BATCH; i++) addresses[i] = BASE | (random() % (CHUNKS << 16))
    for (let again = 0; again < 16; again++) {
      reader.lookup(addresses, BATCH, found)
      for (let i = 0; i < BATCH; i++) {
        const chunk = (addresses[i]! - BASE) >>> 16
        if (found[i] === 0 || found[i]! % CHUNKS !== chunk) wrong++
      }
      Atomics.add(control, BATCHES, 1)
      Atomics.notify(control, BATCHES)
    }
  }
  return wrong
}

if (parentPort !== null && workerData !== null) {
  parentPort.postMessage(run(workerData as ReuseTask))
}
