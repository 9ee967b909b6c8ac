import type { Clock } from '../../../dataplane/weather/clock.ts'

/** Time that passes when the test says so; it begins with 1970. */
export class TestClock implements Clock {
  private time = 0
  private readonly due: { at: number; what: () => void }[] = []

  now(): number {
    return this.time
  }

  after(ms: number, what: () => void): () => void {
    const entry = { at: this.time + ms, what }
    this.due.push(entry)
    return () => {
      const at = this.due.indexOf(entry)
      if (at >= 0) this.due.splice(at, 1)
    }
  }

  /** Milliseconds until each call that is waited for, the next one first. */
  get waiting(): number[] {
    return this.due.map(({ at }) => at - this.time).sort((a, b) => a - b)
  }

  advance(ms: number): void {
    this.time += ms
    for (const entry of this.due.filter(({ at }) => at <= this.time)) {
      this.due.splice(this.due.indexOf(entry), 1)
      entry.what()
    }
  }
}
