/** Work that is done again for whoever asks: one round at a time, and one serves all who asked before it began. */
export class Rounds {
  readonly #work: () => Promise<void>
  #now: Promise<void> = Promise.resolve()
  #next: Promise<void> | undefined
  #closed = false

  constructor(work: () => Promise<void>) {
    this.#work = work
  }

  /** Settles as the round does that begins when the one under way is over. After `close` nothing begins. */
  next(): Promise<void> {
    this.#next ??= this.#now
      .catch(() => {})
      .then(() => {
        this.#next = undefined
        if (this.#closed) return
        this.#now = this.#work()
        return this.#now
      })
    return this.#next
  }

  /** Resolves when no round is under way any more. */
  async close(): Promise<void> {
    this.#closed = true
    await (this.#next ?? this.#now).catch(() => {})
  }
}
