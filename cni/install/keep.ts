/**
 * The daemon's own installation: it puts executable and network configuration on its node, and sees that
 * they stay as they should be.
 *
 * Theory of operation. A look reads and checks all (place.ts) and puts right what is not as it should be;
 * where all is well it changes nothing. Looks follow changes in the three folders concerned, and a slow clock
 * for those that nobody tells of. The executable is placed at once, the configuration only when the
 * daemon serves, since runtimes then call it; what is there stays when it doesn't. A folder that others may
 * write to, a stranger's file, a list that is broken: nothing is written, the daemon goes on serving, is not
 * ready, and tries again. Somebody who keeps removing our files is answered ever more slowly, so that
 * nobody's log or disk fills. What is installed stays when the daemon ends: pods and a restart need it.
 */
import { basename, join } from 'node:path'
import type { Logger } from '../base/logger.ts'
import { watchFile } from '../fs/watch.ts'
import { PLUGIN } from './conflist.ts'
import {
  type Placed,
  type PlaceOptions,
  type Prepared,
  placeConflist,
  placeExecutable,
  prepare,
  remarksOn,
  stands,
} from './place.ts'

/** Milliseconds between looks while something is amiss. */
export const RETRY_MS = 1_000
/** Milliseconds before the next look after something was mended; doubled each time, up to the second. */
export const FIRST_PAUSE_MS = 1_000
export const LONGEST_PAUSE_MS = 60_000

export interface KeepOptions extends PlaceOptions {
  log: Logger
  /** Why the daemon can't serve now; empty when it can. */
  causes: () => readonly string[]
}

export class Installation {
  /** Why it does not stand; undefined when it does. */
  problem: string | undefined = 'not looked at yet'
  /** What an operator should know of it, a sentence each. */
  remarks: readonly string[] = []
  readonly #options: KeepOptions
  #watches: { close(): void }[] = []
  /** Whether all was in place once: what is changed from then on was mended. */
  #stood = false
  #pauseMs = FIRST_PAUSE_MS
  #notBefore = 0
  #timer: NodeJS.Timeout | undefined
  #closed = false

  constructor(options: KeepOptions) {
    this.#options = options
    this.#look()
  }

  /** Looks no more; what is installed stays. */
  close(): void {
    this.#closed = true
    clearTimeout(this.#timer)
    for (const watch of this.#watches) watch.close()
  }

  #look(): void {
    if (this.#closed) return
    const waitMs = this.#notBefore - performance.now()
    if (waitMs > 0) {
      this.#again(waitMs)
      return
    }
    try {
      const prepared = prepare(this.#options)
      const changed = this.#place(prepared)
      this.#slowDown(changed)
      this.#remark(remarksOn(this.#options, prepared))
      this.#say(undefined)
      if (!this.#stood) this.#watch()
      this.#stood = true
    } catch (error) {
      this.#say((error as Error).message)
      this.#again(RETRY_MS)
    }
  }

  /** Until it stands for the first time, and its folders are there, the clock is enough. */
  #watch(): void {
    const { binDir, confDir, conflist, log } = this.#options
    const files = [join(binDir, PLUGIN), join(confDir, basename(conflist)), conflist]
    const failed = (error: Error): void => log.warn({ cause: error.message }, 'installation')
    this.#watches = files.map(file => watchFile(file, () => this.#look(), failed))
  }

  /** Puts both in place; gives the files that were not. Throws when one can't be. */
  #place({ executable, list }: Prepared): string[] {
    const options = this.#options
    const changed: string[] = []
    const note = ({ file, changed: anew }: Placed): void => {
      if (!anew) return
      changed.push(file)
      if (this.#stood) options.log.warn({ file }, 'it was gone or changed: installed again')
      else options.log.info({ file }, 'installed')
    }
    if (executable) note(placeExecutable(options, executable))
    if (list) {
      const causes = stands(options, list) ? [] : options.causes()
      if (causes.length > 0) throw new Error(`it waits for the daemon: ${causes.join('; ')}`)
      note(placeConflist(options, list))
    }
    return changed
  }

  #slowDown(changed: readonly string[]): void {
    if (!this.#stood) return
    if (changed.length === 0) {
      // Quiet for as long as we would have waited.
      if (performance.now() > this.#notBefore + this.#pauseMs) this.#pauseMs = FIRST_PAUSE_MS
      return
    }
    this.#notBefore = performance.now() + this.#pauseMs
    this.#pauseMs = Math.min(2 * this.#pauseMs, LONGEST_PAUSE_MS)
  }

  #say(problem: string | undefined): void {
    const before = this.problem
    this.problem = problem
    const { log } = this.#options
    if (problem === before) return
    if (problem !== undefined) log.error({ cause: problem }, 'the installation does not stand')
    else log.info('the installation stands')
  }

  #remark(remarks: readonly string[]): void {
    for (const remark of remarks) {
      if (!this.remarks.includes(remark)) this.#options.log.warn({ remark }, 'installation')
    }
    this.remarks = remarks
  }

  #again(ms: number): void {
    clearTimeout(this.#timer)
    this.#timer = setTimeout(() => this.#look(), ms)
  }
}
