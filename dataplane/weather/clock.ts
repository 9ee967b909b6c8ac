/** Time, as a test may give it. */
export interface Clock {
  /** Milliseconds since 1970. */
  now(): number
  /** Calls `what` once after `ms`, unless the returned function is called before. Doesn't keep a process. */
  after(ms: number, what: () => void): () => void
}

export const REAL_CLOCK: Clock = {
  now: () => Date.now(),
  after: (ms, what) => {
    const timer = setTimeout(what, ms)
    timer.unref()
    return () => clearTimeout(timer)
  },
}
