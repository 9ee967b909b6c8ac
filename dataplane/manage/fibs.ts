/** Which FIBs an engine starts with. */

import { isFibFile } from '../control.ts'
import { defaultFib, fibNames } from '../fib/index.ts'
import { fibSource, openFib } from '../fib/load.ts'
import { vetFib } from '../fib/vet/vet.ts'
import type { Fibs, OpenFib } from './routes.ts'

/**
 * One FIB of each family: what `wanted` (names, or absolute paths of files) says, else the default.
 * A file is looked at first (fib/vet.ts). Throws an Error that names what is refused, and why.
 */
export async function chooseFibs(wanted: readonly string[], routes: number): Promise<Fibs> {
  const chosen = new Map<4 | 6, OpenFib>()
  for (const text of wanted) {
    if (!isFibFile(text) && ![...fibNames(4), ...fibNames(6)].includes(text)) {
      const all = [...fibNames(4), ...fibNames(6)].join(', ')
      throw new RangeError(`FIB ${JSON.stringify(text)}: there is none of that name (${all})`)
    }
    const source = isFibFile(text)
      ? await vetFib(text, { limits: { routes } })
      : await fibSource(text)
    const other = chosen.get(source.family)?.source.name
    if (other !== undefined) {
      throw new RangeError(`FIBs ${other} and ${source.name}: both are for IPv${source.family}`)
    }
    chosen.set(source.family, { source, fib: await openFib(source) })
  }
  const of = async (family: 4 | 6): Promise<OpenFib> => {
    const found = chosen.get(family)
    if (found !== undefined) return found
    const source = await fibSource(defaultFib(family), family)
    return { source, fib: await openFib(source) }
  }
  return { ipv4: await of(4), ipv6: await of(6) }
}
