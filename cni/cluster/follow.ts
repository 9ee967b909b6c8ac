/**
 * Keeps the packet engine in step with the cluster file. Views are applied one at a time, and of
 * those that come meanwhile only the newest. A file that can't be used and a view that the engine
 * refuses change nothing for whoever asks: the last good view stays in force. The engine is asked
 * again after a pause that grows.
 */

import type { ControlPlane } from '../../dataplane/control.ts'
import type { Logger } from '../base/logger.ts'
import type { ClusterFile } from './file.ts'
import type { Closer, ClusterView } from './view.ts'

/** Milliseconds before the engine is asked again; doubled each time, up to the second. */
export const FIRST_PAUSE_MS = 1_000
export const LONGEST_PAUSE_MS = 30_000

export class ClusterFollower {
  /** The view in force. */
  view: ClusterView
  /** Why the file can't be used; undefined while it can. */
  unreadable: string | undefined
  /** Why the engine refuses the newest view; undefined when that one is in force. */
  refused: string | undefined
  readonly #plane: ControlPlane
  readonly #log: Logger
  readonly #watch: Closer
  readonly #taken: (view: ClusterView) => void
  #wanted: ClusterView
  #applying: Promise<void> | undefined
  #timer: NodeJS.Timeout | undefined
  #pauseMs = FIRST_PAUSE_MS
  #closed = false
  readonly #fail: (error: Error) => void

  /**
   * `view` is what `plane` was given already. `fail` is called once, when this daemon can't follow any more and has to
   * end; `taken` is told of each view that the engine takes.
   */
  constructor(
    plane: ControlPlane,
    file: ClusterFile,
    view: ClusterView,
    log: Logger,
    fail: (error: Error) => void,
    taken: (view: ClusterView) => void = () => {},
  ) {
    this.#taken = taken
    this.#plane = plane
    this.#fail = fail
    this.#log = log
    this.view = view
    this.#wanted = view
    this.#watch = file.watch(
      view,
      next => {
        this.unreadable = undefined
        this.#wanted = next
        this.#pauseMs = FIRST_PAUSE_MS
        this.#apply()
      },
      error => {
        this.unreadable = error.message
        log.error(
          { cause: error.message },
          'the cluster file can not be used; the last good one stays',
        )
      },
    )
  }

  /** Whether the view in force is what the file says now. */
  get inSync(): boolean {
    return this.unreadable === undefined && this.refused === undefined
  }

  /** For an operator; empty while all is well. */
  notes(): string[] {
    const notes: string[] = []
    if (this.unreadable !== undefined) notes.push(`cluster file: ${this.unreadable}`)
    if (this.refused !== undefined) notes.push(`cluster: ${this.refused}`)
    return notes
  }

  /** Resolves when nothing is being applied any more, and nothing will be. */
  async close(): Promise<void> {
    this.#closed = true
    this.#watch.close()
    clearTimeout(this.#timer)
    await this.#applying
  }

  #apply(): void {
    clearTimeout(this.#timer)
    if (this.#closed || this.#applying !== undefined) return
    this.#applying = this.#work().finally(() => {
      this.#applying = undefined
    })
  }

  /** Nothing of a running engine can take another VTEP: all that it has told its peers is of the old one. */
  #moved(vtep: string): void {
    const { self } = this.view
    this.refused = `the VTEP of ${self.name} is ${vtep} in the cluster file, and ${self.vtep} in this daemon: it has to start anew`
    this.#closed = true
    this.#fail(new Error(this.refused))
  }

  async #work(): Promise<void> {
    while (this.view !== this.#wanted && !this.#closed) {
      const next = this.#wanted
      if (next.self.vtep !== this.view.self.vtep) return this.#moved(next.self.vtep)
      try {
        await this.#plane.setCluster(next.self, next.peers, next.networks)
        this.view = next
        this.refused = undefined
        this.#taken(next)
        const facts = { peers: next.peers.length, podCidrs: next.self.podCidrs }
        this.#log.info(facts, 'the cluster file has changed')
      } catch (error) {
        const { message } = error as Error
        if (this.refused !== message) {
          this.#log.error({ cause: message }, 'the engine refuses the cluster file; tried again')
        }
        this.refused = message
        if (this.#wanted !== next) continue
        this.#timer = setTimeout(() => this.#apply(), this.#pauseMs)
        this.#pauseMs = Math.min(this.#pauseMs * 2, LONGEST_PAUSE_MS)
        return
      }
    }
  }
}
