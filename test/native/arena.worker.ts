/** Binds the arena and the CPU of `workerData`; after a message says what it sees of them. */
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { parentPort, workerData } from 'node:worker_threads'
import { native } from '../../native/native.ts'

const { arena, cpu } = workerData as { arena: SharedArrayBuffer; cpu: number }
native.bind(new Uint8Array(arena))
const pinned = native.pinThread(cpu)
parentPort!.postMessage('ready')
await once(parentPort!, 'message')

// Long enough that the threads run side by side.
const sums = new Set<number>()
for (let i = 0; i < 100_000; i++) sums.add(native.checksum(0, arena.byteLength, 0))
const status = readFileSync('/proc/thread-self/status', 'utf8')
parentPort!.postMessage({
  cpu,
  pinned,
  cpus: /^Cpus_allowed_list:\s*(\S+)$/m.exec(status)![1],
  sum: sums.size === 1 ? [...sums][0] : -1,
  outside: native.checksum(0, arena.byteLength + 1, 0),
  netns: native.netnsIdentity('').ino,
})
parentPort!.close()
