/** The hashes by name. To add one: a file beside this one, and a line in HASHES. */
import { halfsip13 } from './halfsip13.ts'
import type { Hash } from './hash.ts'
import { murmur3 } from './murmur3.ts'

/** The first one is what an engine takes when nobody says otherwise. */
const HASHES: readonly Hash[] = [halfsip13, murmur3]

/** Names of the hashes; the default one is the first. */
export function hashNames(): string[] {
  return HASHES.map(hash => hash.name)
}

/** The hash of that name; throws RangeError, with the names that there are, for another one. */
export function hashByName(name: string): Hash {
  const hash = HASHES.find(each => each.name === name)
  if (hash === undefined) {
    throw new RangeError(`hash ${JSON.stringify(name)}: there is none (${hashNames().join(', ')})`)
  }
  return hash
}
