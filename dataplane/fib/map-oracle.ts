/** The second oracle beside the linear FIBs, as unlike the others as can be: one Map a prefix length, asked from the longest to the shortest. For large tables. */
import { wordMask } from './route.ts'

type Words = ArrayLike<number>

export interface MapOracle {
  insert(address: Words, prefix: number, nextHop: number): void
  remove(address: Words, prefix: number): void
  /** Next hop of the address whose words start at `from`. */
  lookup(addresses: Words, from?: number): number
}

export function mapOracle(words: 1 | 4): MapOracle {
  const byLength = new Map<number, Map<number | string, number>>()
  let lengths: number[] = []
  /** The /48s that have, or had, longer routes: their keys are slow text. */
  const deep = new Set<number | string>()

  function key(address: Words, from: number, prefix: number): number | string {
    const word = (w: number) => (address[from + w]! & wordMask(prefix, w)) >>> 0
    if (words === 1) return word(0)
    if (prefix <= 48) return word(0) * 0x1_0000 + (word(1) >>> 16)
    return `${word(0)} ${word(1)} ${word(2)} ${word(3)}`
  }

  return {
    insert(address, prefix, nextHop) {
      let routes = byLength.get(prefix)
      if (routes === undefined) {
        routes = new Map()
        byLength.set(prefix, routes)
        lengths = [...byLength.keys()].sort((a, b) => b - a)
      }
      routes.set(key(address, 0, prefix), nextHop)
      if (prefix > 48) deep.add(key(address, 0, 48))
    },
    remove(address, prefix) {
      byLength.get(prefix)?.delete(key(address, 0, prefix))
    },
    lookup(addresses, from = 0) {
      const shallow = words === 4 && !deep.has(key(addresses, from, 48))
      for (const prefix of lengths) {
        if (shallow && prefix > 48) continue
        const nextHop = byLength.get(prefix)!.get(key(addresses, from, prefix))
        if (nextHop !== undefined) return nextHop
      }
      return 0
    },
  }
}
