/**
 * Who may work when. Work on one attachment is done one piece after the other, in the order in which
 * it was asked for; work on different ones side by side, MAX_PARALLEL at once, the rest waits.
 *
 * Nobody waits for ever: after LIMIT_MS, of waiting and working together, the caller gets "try again
 * later" (code 11). Work that never began never will. Work under way is told by its signal; it keeps
 * its turn until it has really ended, so that nothing else meets it half way.
 *
 * What the daemon does unasked (collecting, giving back) has at most MAX_UNASKED of these places, so that
 * runtimes find the others free, however many plugins hang. It waits for a place as long as it takes, since
 * nobody waits for it, and has LIMIT_MS once it works.
 */

import { inRequest } from '../invoke/stderr.ts'
import { CniError, CODE } from '../spec/errors.ts'

export const MAX_PARALLEL = 8
export const MAX_UNASKED = 2
/** Milliseconds; runtimes give a sandbox two minutes or more. */
export const LIMIT_MS = 45_000

interface Waiting {
  key: string
  unasked: boolean
  begin: () => void
}

export class Turns {
  readonly #parallel: number
  readonly #limitMs: number
  readonly #waiting = new Set<Waiting>()
  readonly #busy = new Set<string>()
  readonly #working = new Set<Promise<void>>()
  #unasked = 0

  constructor(parallel: number = MAX_PARALLEL, limitMs: number = LIMIT_MS) {
    this.#parallel = parallel
    this.#limitMs = limitMs
  }

  /**
   * Runs `work` when it is the turn of `key`. `late` is aborted when its answer comes too late.
   * `held`: the `late` of a turn that the caller has already and this is a part of; runs at once.
   */
  run<T>(key: string, work: (late: AbortSignal) => Promise<T>, held?: AbortSignal): Promise<T> {
    return held === undefined ? this.#enter(key, work, false) : work(held)
  }

  /** As `run`, for what no request asks for. */
  unasked<T>(key: string, work: (late: AbortSignal) => Promise<T>): Promise<T> {
    return this.#enter(key, work, true)
  }

  #enter<T>(key: string, work: (late: AbortSignal) => Promise<T>, unasked: boolean): Promise<T> {
    const late = new AbortController()
    return new Promise<T>((resolve, reject) => {
      let timer: NodeJS.Timeout | undefined
      const start = (): void => {
        timer = setTimeout(() => {
          const began = !this.#waiting.delete(waiting)
          const what = began ? 'not done' : 'no turn for it'
          const error = new CniError(
            CODE.tryAgain,
            `${key}: ${what} within ${this.#limitMs} ms`,
            'the node is busy; try again later',
          )
          late.abort(error)
          reject(error)
        }, this.#limitMs)
      }
      const begin = inRequest(() => {
        if (unasked) start()
        const done = work(late.signal)
          .then(resolve, reject)
          .finally(() => {
            clearTimeout(timer)
            this.#busy.delete(key)
            if (unasked) this.#unasked--
            this.#working.delete(done)
            this.#next()
          })
        this.#working.add(done)
      })
      const waiting: Waiting = { key, unasked, begin }
      if (!unasked) start()
      this.#waiting.add(waiting)
      this.#next()
    })
  }

  /** Resolves when all work that has begun or waits has ended. */
  async idle(): Promise<void> {
    while (this.#working.size > 0) await Promise.all(this.#working)
  }

  #next(): void {
    for (const waiting of this.#waiting) {
      if (this.#busy.size >= this.#parallel) return
      if (this.#busy.has(waiting.key)) continue
      if (waiting.unasked && this.#unasked >= MAX_UNASKED) continue
      this.#waiting.delete(waiting)
      this.#busy.add(waiting.key)
      if (waiting.unasked) this.#unasked++
      waiting.begin()
    }
  }
}
