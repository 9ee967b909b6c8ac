/**
 * Keeps what the engine believes equal to what the kernel has.
 *
 * A *look* compares one thing with the kernel and mends it, or raises a trouble (conditions.ts). It is
 * called when something has happened to one of its topics, and every PASS_MS whatever happens, so that
 * a lost event and what tells nobody (a sysctl) are found, too. A look is never run twice at once: what
 * happens while it runs is looked at behind it. What takes long is not done often: between two runs
 * a look rests a multiple of the time that it took, so all looks together take a bounded share of the
 * main thread whatever others do to this node.
 *
 * A look that throws is a trouble of its own, which doesn't block, until it runs through.
 */
import type { DataplaneOptions } from '../control.ts'
import type { Topic } from '../netlink/watch.ts'
import { type Clock, REAL_CLOCK } from './clock.ts'
import { Conditions } from './conditions.ts'

/** Milliseconds between two looks at everything. */
export const PASS_MS = 120_000
/** A look that took one millisecond rests so many. */
const REST = 5
/** Milliseconds of the longest rest; setting the clock back must not draw it out, either. */
const MAX_REST_MS = 1000

/** Why a look is called; all topics in a pass. */
export type Why = ReadonlySet<Topic> | 'pass'
export type Look = (why: Why) => void | Promise<void>

interface Entry {
  name: string
  topics: ReadonlySet<Topic>
  look: Look
  /** Resolves when the run that is under way, and the one that is wanted behind it, are over. */
  running: Promise<void> | undefined
  /** What has happened since the last run began. */
  pending: Set<Topic> | 'pass' | undefined
  /** As the clock says. */
  restUntil: number
  /** Ends the rest. */
  wake: (() => void) | undefined
}

/** What tells of events: netlink/watch.ts. */
export interface Listener {
  close(): Promise<void>
}

export interface WeatherOptions {
  log: NonNullable<DataplaneOptions['log']>
  clock?: Clock
  /** Begins to listen; `look` is called with what has happened. Absent: nobody tells of anything. */
  listen?: (look: (topics: ReadonlySet<Topic>) => void) => Listener
}

export class Weather {
  readonly conditions: Conditions
  private readonly options: WeatherOptions
  private readonly clock: Clock
  private readonly entries: Entry[] = []
  private listener: Listener | undefined
  private cancelPass: (() => void) | undefined
  private closed = false

  constructor(options: WeatherOptions) {
    this.options = options
    this.clock = options.clock ?? REAL_CLOCK
    this.conditions = new Conditions(options.log, this.clock)
  }

  /** From now on `look` is called when something happens to `topics`, and in each pass. */
  add(name: string, topics: readonly Topic[], look: Look): void {
    this.entries.push({
      ...{ name, look, topics: new Set(topics) },
      ...{ running: undefined, pending: undefined, restUntil: 0, wake: undefined },
    })
  }

  /** Begins to listen; the first pass is run at once, and resolves this. */
  async start(): Promise<void> {
    this.listener = this.options.listen?.(topics => this.happened(topics))
    await this.pass()
    this.schedule()
  }

  /** Something has happened to `topics`. */
  happened(topics: ReadonlySet<Topic>): void {
    for (const entry of this.entries) {
      const concern = [...topics].filter(topic => entry.topics.has(topic))
      if (concern.length > 0) void this.want(entry, new Set(concern))
    }
  }

  /** Looks at everything, without rests; resolves when all have looked. */
  async pass(): Promise<void> {
    await Promise.all(
      this.entries.map(entry => {
        const done = this.want(entry, 'pass')
        entry.wake?.()
        return done
      }),
    )
  }

  /** Has the look called `name` run soon, as if something had happened. */
  poke(name: string): void {
    for (const entry of this.entries) if (entry.name === name) void this.want(entry, 'pass')
  }

  /** Resolves when no look runs any more and none will. */
  async close(): Promise<void> {
    this.closed = true
    this.cancelPass?.()
    await this.listener?.close()
    for (const { wake } of this.entries) wake?.()
    await Promise.all(this.entries.map(({ running }) => running))
  }

  private schedule(): void {
    if (this.closed) return
    this.cancelPass = this.clock.after(PASS_MS, () => {
      void this.pass().finally(() => this.schedule())
    })
  }

  private want(entry: Entry, why: Why): Promise<void> {
    if (this.closed) return Promise.resolve()
    const { pending } = entry
    if (why === 'pass' || pending === 'pass') entry.pending = 'pass'
    else entry.pending = new Set([...(pending ?? []), ...why])
    entry.running ??= this.run(entry)
    return entry.running
  }

  private async run(entry: Entry): Promise<void> {
    while (entry.pending !== undefined && !this.closed) {
      if (entry.pending !== 'pass') await this.rest(entry)
      const why = entry.pending
      entry.pending = undefined
      const began = this.clock.now()
      if (!this.closed) await this.lookOnce(entry, why)
      entry.restUntil = this.clock.now() + (this.clock.now() - began) * REST
    }
    entry.running = undefined
  }

  private async lookOnce({ name, look }: Entry, why: Why): Promise<void> {
    const key = `look ${name}`
    try {
      await look(why)
      this.conditions.clear(key)
    } catch (error) {
      const cause = error instanceof Error ? error.message : String(error)
      this.conditions.raise(key, `could not look after ${name}: ${cause}`, { blocking: false })
    }
  }

  private async rest(entry: Entry): Promise<void> {
    const ms = entry.restUntil - this.clock.now()
    if (ms <= 0) return
    await new Promise<void>(resolve => {
      const cancel = this.clock.after(Math.min(ms, MAX_REST_MS), () => entry.wake?.())
      entry.wake = () => {
        cancel()
        entry.wake = undefined
        resolve()
      }
    })
  }
}
