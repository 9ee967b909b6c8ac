/**
 * Numbers for what a program's rules came from. A rule keeps its number from one world to the next, so that a program
 * that says the same is the same, and what the engine counts by number is a rule's own.
 */
import type { Origin } from './sources.ts'

/** Numbers that are given out; the engine counts no more (dataplane/control.ts, `policyHits`). */
export const MAX_ORIGINS = 65_536

export class Origins {
  readonly #numbers = new Map<string, number>()
  readonly #origins: Origin[] = []

  /** The number of a rule; of a policy's isolation in a direction without one. */
  number({ policy, direction, rule, name }: Origin): number {
    const key = JSON.stringify([policy, direction, rule, name])
    const known = this.#numbers.get(key)
    if (known !== undefined) return known
    const number = this.#origins.length
    this.#numbers.set(key, number)
    this.#origins.push({
      policy,
      direction,
      ...(rule === undefined ? {} : { rule }),
      ...(name === undefined ? {} : { name }),
    })
    return number
  }

  /** Whose word the number in a program's rules is. */
  of(number: number): Origin | undefined {
    return this.#origins[number]
  }

  /** All that have a number, in its order. */
  all(): readonly Origin[] {
    return this.#origins
  }

  /** Policies have come and gone so often that numbers should begin anew. */
  get full(): boolean {
    return this.#origins.length >= MAX_ORIGINS
  }
}
