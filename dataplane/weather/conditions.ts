/**
 * What is wrong with this node, and since when; and how often something has been mended.
 *
 * A trouble has a key, so that the same one is not told twice: raising it again keeps its time, and
 * only a new sentence is news. A blocking one keeps the node from being ready. What has been mended is
 * one line in the log and a counter; it was never a trouble for longer than it took to see it.
 */
import type { DataplaneOptions, Mended, Trouble } from '../control.ts'
import { type Clock, REAL_CLOCK } from './clock.ts'

type Log = NonNullable<DataplaneOptions['log']>

interface Standing {
  sentence: string
  since: number
  blocking: boolean
}

export class Conditions {
  private readonly log: Log
  private readonly clock: Clock
  private readonly standing = new Map<string, Standing>()
  private readonly counts = new Map<string, number>()

  constructor(log: Log, clock: Clock = REAL_CLOCK) {
    this.log = log
    this.clock = clock
  }

  /**
   * Something is wrong. `key` names it (`underlay`, `route to node-b`); `sentence` says object, cause
   * and, if there is one, remedy. `blocking`: the node can't do its work with it.
   */
  raise(key: string, sentence: string, { blocking }: { blocking: boolean }): void {
    const before = this.standing.get(key)
    const since = before?.since ?? this.clock.now()
    this.standing.set(key, { sentence, since, blocking })
    if (before?.sentence === sentence && before.blocking === blocking) return
    this.log(blocking ? 'error' : 'warn', sentence, { trouble: key, blocking })
  }

  /** It is well again. Nothing happens when it never was wrong. */
  clear(key: string): void {
    const before = this.standing.get(key)
    if (before === undefined) return
    this.standing.delete(key)
    const ms = this.clock.now() - before.since
    this.log('info', `over: ${before.sentence}`, { trouble: key, ms })
  }

  /** `raise` with a sentence, `clear` without one. */
  set(key: string, sentence: string | undefined, options: { blocking: boolean }): void {
    if (sentence === undefined) this.clear(key)
    else this.raise(key, sentence, options)
  }

  /** Clears every trouble whose key begins with `prefix` and that `keep` doesn't name. */
  clearOthers(prefix: string, keep: ReadonlySet<string>): void {
    for (const key of [...this.standing.keys()]) {
      if (key.startsWith(prefix) && !keep.has(key)) this.clear(key)
    }
  }

  /** Something that was not as it should be is again. `what`: one of a few words that are counted by (`underlay`, `nft`). */
  mended(what: string, sentence: string): void {
    const count = (this.counts.get(what) ?? 0) + 1
    this.counts.set(what, count)
    this.log('info', sentence, { mended: what, count })
  }

  has(key: string): boolean {
    return this.standing.has(key)
  }

  /** Whether a blocking trouble stands. */
  get blocked(): boolean {
    return [...this.standing.values()].some(({ blocking }) => blocking)
  }

  /** Those that block come first, then the oldest. */
  troubles(): Trouble[] {
    return [...this.standing.values()]
      .sort((a, b) => Number(b.blocking) - Number(a.blocking) || a.since - b.since)
      .map(({ sentence, since, blocking }) => ({
        what: sentence,
        since: new Date(since).toISOString(),
        blocking,
      }))
  }

  mendings(): Mended[] {
    return [...this.counts].map(([what, count]) => ({ what, count }))
  }
}
