/** The FIBs by name. To add one: a file beside this one, and a line in FIBS. */
import { binary4, binary6 } from './binary.ts'
import { dir24_8 } from './dir24_8/dir24_8.ts'
import { dir24_8_native } from './dir24_8/dir24_8_native.ts'
import { dxr } from './dxr/dxr.ts'
import { dxr_native } from './dxr/dxr_native.ts'
import type { Fib } from './fib.ts'
import { linear4, linear6 } from './linear.ts'
import { planb6 } from './planb/planb6.ts'
import { planb6_native } from './planb/planb6_native.ts'
import { poptrie4, poptrie6 } from './poptrie/poptrie.ts'
import { poptrie4_native, poptrie6_native } from './poptrie/poptrie_native.ts'
import { trie6 } from './trie6/trie6.ts'
import { trie6_native } from './trie6/trie6_native.ts'

/** Of each family, the first one is what an engine takes when nobody says otherwise. */
const FIBS: readonly Fib[] = [
  dir24_8,
  dir24_8_native,
  dxr,
  dxr_native,
  trie6,
  trie6_native,
  planb6,
  planb6_native,
  poptrie4,
  poptrie4_native,
  poptrie6,
  poptrie6_native,
  binary4,
  binary6,
  linear4,
  linear6,
]

/** Names of the FIBs of a family; the default one is the first. */
export function fibNames(family: 4 | 6): string[] {
  return FIBS.filter(fib => fib.family === family).map(fib => fib.name)
}

/** Name of the FIB that serves a family by default. */
export function defaultFib(family: 4 | 6): string {
  return fibNames(family)[0]!
}

/** The FIB of that name; throws RangeError, with the names that there are, for another one. */
export function fibByName(name: string, family: 4 | 6): Fib {
  const fib = FIBS.find(each => each.name === name && each.family === family)
  if (fib === undefined) {
    throw new RangeError(
      `FIB ${JSON.stringify(name)}: there is none for IPv${family} (${fibNames(family).join(', ')})`,
    )
  }
  return fib
}
