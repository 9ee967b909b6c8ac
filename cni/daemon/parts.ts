/** What a daemon has started, in order, and how each of it is stopped: in reverse, one after the other. */
import type { Logger } from '../base/logger.ts'

/** Ends something; what it gives back is awaited. */
export type Stop = () => unknown

interface Part {
  /** For people: `the packet engine`. */
  name: string
  stop: Stop
  /** Milliseconds that it is waited for; absent: as long as it takes. */
  limitMs: number | undefined
}

export class Parts {
  readonly #log: Logger
  readonly #started: Part[] = []

  constructor(log: Logger) {
    this.#log = log
  }

  /** `name` has been started; `stop` stops it, and is not waited for longer than `limitMs`. */
  started(name: string, stop: Stop, limitMs?: number): void {
    this.#started.push({ name, stop, limitMs })
  }

  /** Stops all that has been started, the last first. What fails is logged, and doesn't keep the rest; gives the failures. */
  async stop(): Promise<unknown[]> {
    const failures: unknown[] = []
    for (const { name, stop, limitMs } of this.#started.splice(0).reverse()) {
      try {
        await within(stop(), limitMs)
      } catch (error) {
        failures.push(error)
        this.#log.error({ part: name, err: error }, 'stopping: a step failed')
      }
    }
    return failures
  }
}

/** Calls `work` every `ms`, never twice at once; what is returned ends that and awaits it. */
export function every(ms: number, work: () => Promise<void>): () => Promise<void> {
  let running: Promise<void> | undefined
  const timer = setInterval(() => {
    running ??= work().finally(() => {
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
async function within(work: unknown, ms: number | undefined): Promise<void> {
  if (ms === undefined) return void (await work)
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
