/**
 * The folder of policy files as a source: what it says now, or why it can't be used. A folder that is not there and never
 * was is empty; one that has gone is one that can't be used, since what it closed shall not open.
 */
import { statSync } from 'node:fs'
import type { Logger } from '../base/logger.ts'
import { type Manifest, ManifestFolder } from '../base/manifests.ts'
import { watchFolder } from '../fs/watch.ts'
import { type PolicyFiles, policiesIn } from '../policy/files.ts'
import type { LastGoodPolicy } from './last-good.ts'

const EMPTY: PolicyFiles = {
  world: { namespaces: [], nodes: [], pods: [], policies: [] },
  ...{ remarks: [], objects: [] },
}

export interface Problem {
  what: string
  /** ISO 8601, UTC. */
  since: string
}

export class PolicySource {
  readonly folder: string
  /** What the files said when they could be used last, since this daemon's start. */
  newest: PolicyFiles | undefined
  /** What an earlier daemon had in force, where this one has found nothing that can be used. */
  kept: PolicyFiles | undefined
  /** Why the files can't be used now. */
  unreadable: Problem | undefined
  readonly #manifests: ManifestFolder
  readonly #log: Logger
  #read: readonly Manifest[] | undefined

  /** Reads the folder, and what `lastGood` has when that can't be used, or is not there. */
  constructor(folder: string, lastGood: LastGoodPolicy, log: Logger) {
    this.folder = folder
    this.#manifests = new ManifestFolder(folder)
    this.#log = log
    const missing = statSync(folder, { throwIfNoEntry: false }) === undefined
    if (missing) this.kept = lastGood.read()
    if (missing && this.kept === undefined) {
      log.warn({ folder }, 'the folder of policy files is not there: nothing is denied')
      this.newest = EMPTY
      return
    }
    this.look()
    if (this.newest === undefined) this.kept ??= lastGood.read()
  }

  /** Reads the files that have changed. Tells whether they say something else now. */
  look(): boolean {
    const awaited = this.newest === EMPTY
    if (awaited && statSync(this.folder, { throwIfNoEntry: false }) === undefined) return false
    try {
      const manifests = this.#manifests.read()
      const same = this.#read !== undefined && equal(manifests, this.#read)
      if (!same) {
        this.newest = policiesIn(manifests)
        this.#read = manifests
      }
      this.unreadable = undefined
      return !same
    } catch (error) {
      this.#failed((error as Error).message)
      return false
    }
  }

  /** Calls `changed` whenever the files say something else, until it is closed. */
  watch(changed: () => void): { close(): void } {
    const failed = (error: Error): void => this.#log.warn({ cause: error.message }, 'policy files')
    return watchFolder(this.folder, () => this.look() && changed(), failed)
  }

  #failed(what: string): void {
    if (this.unreadable?.what === what) return
    this.unreadable = { what, since: new Date().toISOString() }
    this.#log.error({ cause: what }, 'the policy files can not be used; the last good ones stay')
  }
}

function equal(some: readonly Manifest[], others: readonly Manifest[]): boolean {
  return some.length === others.length && some.every((each, i) => each === others[i])
}
