/** Sleeps in epollWait for ever on the epoll of `workerData`, then says what woke it. */
import { parentPort, workerData } from 'node:worker_threads'
import { native } from '../../native/native.ts'
import { Arena } from './arena.ts'

const arena = new Arena(4096)
parentPort!.postMessage('waiting')
const ready = native.epollWait(workerData.epfd, 0, 8, -1)
parentPort!.postMessage({ ready, data: arena.words[0] })
