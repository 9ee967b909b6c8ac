/**
 * What of an earlier daemon's could not be put in force again, and why: attachments by their id, and
 * port mappings, which are not one pod's. It is tried again every few minutes (pods.ts, `collect`), and
 * told to an operator until it succeeds or its DEL comes. How long it speaks against the whole node, that is,
 * makes STATUS fail, verbs/status.ts says.
 */
import { type Attachment, attachmentId } from '../state/state.ts'

/** What stands in the place of an id, which has slashes. */
export const PORTS = 'port mappings'
/** Failures in a row, the one at the start counts, after which a trouble is not expected to pass by itself. */
export const TRIES = 3

export class Troubles extends Map<string, string> {
  readonly #tries = new Map<string, number>()
  readonly #pods = new Map<string, string>()

  /** It failed once more; `pod`: its namespace and name, if known. Tells whether that, or its cause, is new. */
  failed(id: string, cause: string, pod = ''): boolean {
    this.#pods.set(id, pod)
    const news = this.get(id) !== cause
    this.set(id, cause)
    this.#tries.set(id, (this.#tries.get(id) ?? 0) + 1)
    return news
  }

  override delete(id: string): boolean {
    this.#tries.delete(id)
    this.#pods.delete(id)
    return super.delete(id)
  }

  /** A sentence for each. */
  sentences(): string[] {
    return [...this].map(([id, cause]) => this.#sentence(id, cause))
  }

  /**
   * Sentences of those that hurt pods which run: `passing` may come right by itself, `lasting` has
   * failed TRIES times. `attachments`: all that there are; `gone`: whether one's namespace is, so
   * that there is nobody to be hurt.
   */
  hurting(
    attachments: readonly Attachment[],
    gone: (attachment: Attachment) => boolean,
  ): { passing: string[]; lasting: string[] } {
    const found: { passing: string[]; lasting: string[] } = { passing: [], lasting: [] }
    const known = new Map(attachments.map(each => [attachmentId(each), each]))
    for (const [id, cause] of this) {
      const attachment = known.get(id)
      if (attachment !== undefined && gone(attachment)) continue
      const passing = (this.#tries.get(id) ?? 0) < TRIES
      found[passing ? 'passing' : 'lasting'].push(this.#sentence(id, cause))
    }
    return found
  }

  #sentence(id: string, cause: string): string {
    const pod = this.#pods.get(id) ?? ''
    const name = pod === '' ? id : `${pod} (${id})`
    return `${id === PORTS ? 'port mappings are' : `pod ${name} is`} not restored: ${cause}`
  }
}
