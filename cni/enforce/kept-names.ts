/**
 * What pods have learned of domain names, on disk beside the state, so that a restart of the daemon cuts nobody off: the next
 * one gives it back to the pods that it takes over. Written again and again, and at the end; what was learned in the last
 * moments before a kill is missed.
 *
 * Connections that were open are judged anew behind a restart, so an address counts for a while then, whatever its time.
 */
import { readFileSync } from 'node:fs'
import { rename, writeFile } from 'node:fs/promises'
import { z } from 'zod'
import type { ControlPlane, LearnedName } from '../../dataplane/control.ts'
import type { Logger } from '../base/logger.ts'

/** Milliseconds between two writes. */
const KEEP_MS = 10_000
/** Seconds that an address counts for behind a restart, at the least. */
export const RESTORED_SECONDS = 60
/** Far above what all pods of a node may learn. */
const MOST = 2_000_000

const fileSchema = z
  .array(
    z.strictObject({
      pod: z.string().max(512),
      name: z.string().max(1024),
      address: z.union([z.ipv4(), z.ipv6()]),
      /** Milliseconds since 1970. */
      until: z.number(),
    }),
  )
  .max(MOST)

export class KeptNames {
  readonly path: string
  readonly #plane: Pick<ControlPlane, 'learnedNames' | 'namesStatus'>
  readonly #log: Logger
  readonly #before = new Map<string, LearnedName[]>()
  #timer: NodeJS.Timeout | undefined
  #learned = 0

  /** Reads what an earlier daemon has kept; nothing, where that can't be used. */
  constructor(
    path: string,
    plane: Pick<ControlPlane, 'learnedNames' | 'namesStatus'>,
    log: Logger,
    now = Date.now(),
  ) {
    this.path = path
    this.#plane = plane
    this.#log = log
    if (plane.namesStatus() === undefined) return
    for (const { until, ...each } of read(path)) {
      const seconds = Math.max(RESTORED_SECONDS, Math.floor((until - now) / 1000))
      const names = this.#before.get(each.pod) ?? []
      this.#before.set(each.pod, [...names, { ...each, seconds }])
    }
    this.#timer = setInterval(() => void this.#keep(), KEEP_MS)
    this.#timer.unref()
  }

  /** What a pod (PodSpec.id) had learned; given once. */
  take(pod: string): readonly LearnedName[] {
    const names = this.#before.get(pod) ?? []
    this.#before.delete(pod)
    return names
  }

  /** Resolves when all that is known is kept. */
  async close(): Promise<void> {
    if (this.#timer === undefined) return
    clearInterval(this.#timer)
    this.#learned = -1
    await this.#keep()
  }

  /** Writes what is known, unless nothing was learned since. */
  async #keep(): Promise<void> {
    const { learned } = this.#plane.namesStatus()!
    if (learned === this.#learned) return
    this.#learned = learned
    const now = Date.now()
    // Of pods that are not taken over yet, too.
    const all = [...this.#plane.learnedNames(), ...[...this.#before.values()].flat()]
    const names = all.map(({ pod, name, address, seconds }) => ({
      ...{ pod, name, address },
      until: now + seconds * 1000,
    }))
    try {
      await writeFile(`${this.path}.new`, JSON.stringify(names), { mode: 0o600 })
      await rename(`${this.path}.new`, this.path)
    } catch (error) {
      const cause = (error as Error).message
      this.#log.warn({ file: this.path, cause }, 'what pods have learned of names is not kept')
    }
  }
}

function read(path: string): z.output<typeof fileSchema> {
  try {
    return fileSchema.parse(JSON.parse(readFileSync(path, 'utf8')))
  } catch {
    return []
  }
}
