/** The balancers by name. To add one: a file beside this one, and a line in BALANCERS. */
import type { Lb } from './lb.ts'
import { leastloaded } from './leastloaded.ts'
import { maglev } from './maglev.ts'
import { rendezvous } from './rendezvous.ts'

/** The first one is what an engine takes when nobody says otherwise. */
const BALANCERS: readonly Lb[] = [maglev, rendezvous, leastloaded]

/** Names of the balancers; the default one is the first. */
export function lbNames(): string[] {
  return BALANCERS.map(lb => lb.name)
}

/** The balancer of that name; throws RangeError, with the names that there are, for another one. */
export function lbByName(name: string): Lb {
  const lb = BALANCERS.find(each => each.name === name)
  if (lb === undefined) {
    throw new RangeError(
      `balancer ${JSON.stringify(name)}: there is none (${lbNames().join(', ')})`,
    )
  }
  return lb
}
