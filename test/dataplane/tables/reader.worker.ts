/**
 * A reader of the tables: copies them as often as they change, until HEADER.STOP, acknowledges as a
 * worker does, and says how many copies it made and how many of them were not of one moment.
 *
 * The writer puts one number into every record that it writes (tables.test.ts).
 */
import { parentPort, workerData } from 'node:worker_threads'
import {
  Arena,
  type ArenaHandle,
  HEADER,
  NEXT_HOP_BYTES,
  WORKER,
} from '../../../dataplane/memory/arena.ts'
import { HOP_MTU } from '../../../dataplane/tables/next-hops.ts'
import { readPort } from '../../../dataplane/tables/ports.ts'
import { TableReader } from '../../../dataplane/tables/tables.ts'
import { knowsVtep } from '../../../dataplane/tables/vteps.ts'

const { handle, ports, hops } = workerData as { handle: ArenaHandle; ports: number; hops: number }
const arena = Arena.open(handle)
const reader = new TableReader(arena)
const header = arena.header()
const control = arena.control(0)
let copies = 0
let torn = 0
let last = 0

/** Whether all of the copy carries the same number, and one that is not older than the last. */
function isWhole(): boolean {
  const stamp = reader.words[HEADER.VNI]!
  if (stamp < last) return false
  last = stamp
  for (let port = 0; port < ports; port++) {
    const { mtu, moreFds } = readPort(reader.words, reader.portsAt, port)
    if (mtu !== stamp || moreFds[7] !== stamp) return false
  }
  for (let id = 1; id <= hops; id++) {
    if (reader.view.getUint32(reader.nextHopsAt + id * NEXT_HOP_BYTES + HOP_MTU, true) !== stamp) {
      return false
    }
  }
  return stamp === 0 || knowsVtep(reader.words, reader.vtepsAt / 4, 4, stamp, 0, 0, 0)
}

Atomics.store(control, WORKER.STATE, 1)
parentPort!.postMessage('ready')
while (Atomics.load(header, HEADER.STOP) === 0) {
  if (!reader.stale()) continue
  reader.update()
  copies++
  if (!isWhole()) torn++
  Atomics.store(control, WORKER.ACKNOWLEDGED, reader.generation)
  Atomics.notify(control, WORKER.ACKNOWLEDGED)
}
Atomics.store(control, WORKER.STATE, 2)
parentPort!.postMessage({ copies, torn })
parentPort!.close()
