/** Worker thread of umem.test.ts: sends one frame through rings that another thread mapped. */
import { parentPort, workerData } from 'node:worker_threads'
import { TxRing } from '../../../dataplane/afxdp/rings.ts'
import { Arena, type ArenaHandle } from '../../../dataplane/memory/arena.ts'
import { native, type XskOffsets } from '../../../native/native.ts'

interface Task {
  handle: ArenaHandle
  fd: number
  ringsOffset: number
  offsets: XskOffsets
  size: number
  at: number
}

const task: Task = workerData
const arena = Arena.open(task.handle)
const tx = new TxRing(arena, task.ringsOffset, task.size, task.offsets.tx)
tx.put(task.at, 60, 0)
tx.submit()
const result = tx.needWakeup() ? native.xskKick(task.fd) : 0
parentPort?.postMessage(result === 0 && tx.queued() === 0 ? 'sent' : `errno ${-result}`)
