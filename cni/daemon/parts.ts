/** What a daemon has started, in order, and how each of it is stopped: in reverse, one after the other. */
import type { Logger } from '../base/logger.ts'

/** Ends something; what it gives back is awaited. */
export type Stop = () => unknown

interface Part {
  /** For people: `the packet engine`. */
  name: string
  stop: Stop
  /** Whether it is waited for only as long as all of them may take together. */
  bounded: boolean
}

/** Milliseconds that what may hang has to end, all of it together; an init system gives a process 15 s. */
export const STOP_MS = 8_000

export class Parts {
  readonly #log: Logger
  readonly #started: Part[] = []

  constructor(log: Logger) {
    this.#log = log
  }

  /** `name` has been started, and `stop` stops it. `bounded`: what it waits for may hang. */
  started(name: string, stop: Stop, bounded = false): void {
    this.#started.push({ name, stop, bounded })
  }

  /** Stops all that has been started, the last first. What fails is logged, and doesn't keep the rest; gives the failures. */
  async stop(): Promise<unknown[]> {
    const failures: unknown[] = []
    const end = performance.now() + STOP_MS
    for (const { name, stop, bounded } of this.#started.splice(0).reverse()) {
      try {
        const work = stop()
        await (bounded ? within(work, Math.max(0, end - performance.now())) : work)
      } catch (error) {
        failures.push(error)
        this.#log.error({ part: name, err: error }, 'stopping: a step failed')
      }
    }
    return failures
  }
}

/** Calls `work` every `ms`, never twice at once; `failed` hears of what it throws. What is returned ends that and awaits it. */
export function every(
  ms: number,
  work: () => Promise<void>,
  failed: (error: Error) => void,
): () => Promise<void> {
  let running: Promise<void> | undefined
  const timer = setInterval(() => {
    running ??= work()
      .catch(failed)
      .finally(() => {
        running = undefined
      })
  }, ms)
  timer.unref()
  return async () => {
    clearInterval(timer)
    await running
  }
}

/** Waits for `work`, but not longer than `ms`. */
export async function within(work: unknown, ms: number): Promise<void> {
  let timer: NodeJS.Timeout | undefined
  const over = new Promise<void>(resolve => {
    timer = setTimeout(resolve, ms)
  })
  try {
    await Promise.race([work, over])
  } finally {
    clearTimeout(timer)
  }
}
