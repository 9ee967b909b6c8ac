/**
 * Looks at a FIB before it may touch a packet. All of it happens in a thread of its own, so that a
 * file that never answers can be ended: it is loaded there for the first time, filled with the
 * node's routes, asked, emptied by half, asked, filled again and asked; each answer is compared with
 * the oracle's (map-oracle.ts). What it is refused for names the file and, for a wrong answer, the
 * address.
 */
import { once } from 'node:events'
import { Worker } from 'node:worker_threads'
import type { RouteColumns } from '../columns.ts'
import type { FibLimits } from '../fib.ts'
import type { FibSource } from '../load.ts'

/** Milliseconds that all of it may take. */
export const VET_MS = 60_000

/** The thread is given this, then `RouteColumns` when it has said the source. */
export interface VetTask {
  readonly text: string
  readonly family: 4 | 6 | undefined
  readonly limits: FibLimits
}

/** What the thread says: which FIB it is, then that it is good, or why it is refused. */
export type VetMessage = { source: FibSource } | { good: true } | { refused: string }

export interface VetOptions {
  /** Which one, where a file or a name has both. */
  family?: 4 | 6
  limits: FibLimits
  /** The routes to try it with. Undefined or empty: seeded ones. */
  routes?: (family: 4 | 6) => RouteColumns
  timeoutMs?: number
}

/**
 * The source of the FIB that `text` (a name or an absolute path) means. Throws an Error with the
 * cause when there is none, or when it is refused; nothing of a file has then run in this thread.
 */
export async function vetFib(text: string, options: VetOptions): Promise<FibSource> {
  const { family, limits, routes, timeoutMs = VET_MS } = options
  const task: VetTask = { text, family, limits }
  const worker = new Worker(new URL('./vet.worker.ts', import.meta.url), { workerData: task })
  const timeout = AbortSignal.timeout(timeoutMs)
  const next = async (): Promise<VetMessage> => {
    const done = new AbortController()
    const signal = AbortSignal.any([timeout, done.signal])
    try {
      const said = once(worker, 'message', { signal }).then(([message]) => message as VetMessage)
      const ended = once(worker, 'exit', { signal }).then(
        (): VetMessage => ({ refused: `${text}: it ended the thread that it was tried in` }),
      )
      return await Promise.race([said, ended])
    } catch (error) {
      if (timeout.aborted) return { refused: `${text}: no answer within ${timeoutMs / 1000} s` }
      return { refused: `${text}: ${error instanceof Error ? error.message : String(error)}` }
    } finally {
      done.abort()
    }
  }
  try {
    const first = await next()
    if ('refused' in first) throw new Error(first.refused)
    if (!('source' in first)) throw new Error(`${text}: it speaks for its own vetting`)
    worker.postMessage(routes?.(first.source.family))
    const second = await next()
    if ('refused' in second) throw new Error(second.refused)
    return first.source
  } finally {
    await worker.terminate()
  }
}
