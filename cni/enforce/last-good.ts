/**
 * The last policy files that the engine took, on disk beside the state: a daemon that starts beside files that can't be
 * used enforces these. Their objects are written, whole and durably, and are checked as those of any file when they are
 * read. Written behind what is waited for: it is only missed at such a start.
 */
import { open, rename } from 'node:fs/promises'
import { dirname } from 'node:path'
import { readBounded } from '../base/document.ts'
import type { Logger } from '../base/logger.ts'
import type { Manifest } from '../base/manifests.ts'
import { syncFolder } from '../fs/folder.ts'
import { type PolicyFiles, policiesIn } from '../policy/files.ts'

/** Largest one that is read. */
const MAX_KEPT_BYTES = 256 * 1024 * 1024

export class LastGoodPolicy {
  readonly path: string
  readonly #log: Logger
  #next: readonly unknown[] | undefined
  #writing: Promise<void> | undefined

  constructor(path: string, log: Logger) {
    this.path = path
    this.#log = log
  }

  /** Keeps the objects, unless others come before it is their turn. What can't be written is logged. */
  keep(objects: readonly unknown[]): void {
    this.#next = objects
    this.#writing ??= this.#write().finally(() => {
      this.#writing = undefined
    })
  }

  /** What was kept; undefined when there is nothing that can be used. */
  read(): PolicyFiles | undefined {
    try {
      const { items } = JSON.parse(readBounded(this.path, MAX_KEPT_BYTES)) as { items: unknown[] }
      const line = (): number => 1
      return policiesIn(items.map((object): Manifest => ({ file: this.path, object, line })))
    } catch {
      return undefined
    }
  }

  /** Resolves when all that was to be kept is. */
  async close(): Promise<void> {
    await this.#writing
  }

  async #write(): Promise<void> {
    for (let items = this.#next; items !== undefined; items = this.#next) {
      this.#next = undefined
      try {
        const each = items.map(textOf)
        await this.#replace(`{"apiVersion":"v1","kind":"List","items":[${each.join()}]}`)
      } catch (error) {
        const cause = (error as Error).message
        this.#log.warn({ file: this.path, cause }, 'the last good policy files are not kept')
      }
    }
  }

  async #replace(text: string): Promise<void> {
    const beside = `${this.path}.new`
    const file = await open(beside, 'w', 0o600)
    try {
      await file.writeFile(text)
      await file.sync()
    } finally {
      await file.close()
    }
    await rename(beside, this.path)
    syncFolder(dirname(this.path))
  }
}

const texts = new WeakMap<object, string>()

/** As JSON; of an object that a change has left alone it is there already. */
function textOf(item: unknown): string {
  const object = item as object
  const known = texts.get(object)
  if (known !== undefined) return known
  const text = JSON.stringify(object)
  texts.set(object, text)
  return text
}
