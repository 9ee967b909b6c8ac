/** The Internet's routes: build, a million lookups against Maps, and half of it taken out again. */
import { describe, expect, test } from 'vitest'
import { fullTable, fullTablePath } from '../../../bench/fib/full-table.ts'
import { addressesAnywhere, addressesIn } from '../../../bench/fib/workload.ts'
import { MAX_NEXT_HOP_ID } from '../../../dataplane/fib/fib.ts'
import { mapOracle } from './map-oracle.ts'
import { ALL, lookUp, table, wordsOf } from './tables.ts'

const LOOKUPS = 500_000

describe.each(ALL.filter(({ name }) => !name.startsWith('linear')))('$name', ({ name, family }) => {
  test('a full Internet table', context => {
    const routes = fullTable(family)
    if (routes === undefined) {
      const reason = `${fullTablePath} is not there (HAWSER_DATA names the folder of outside data)`
      console.warn(`full table in ${name}: skipped: ${reason}`)
      context.skip(reason)
      return
    }
    const words = wordsOf(family)
    const { writer, reader } = table(name, family, routes.count + 1)
    const oracle = mapOracle(words)
    const address = (i: number) => routes.addresses.subarray(i * words, (i + 1) * words)
    for (let i = 0; i < routes.count; i++) {
      writer.insert(address(i), routes.lengths[i]!, routes.nextHops[i]!)
      oracle.insert(address(i), routes.lengths[i]!, routes.nextHops[i]!)
    }
    expect(writer.size).toBe(routes.count)
    const probes = new Uint32Array(2 * LOOKUPS * words)
    probes.set(addressesIn(routes, LOOKUPS))
    probes.set(addressesAnywhere(family, LOOKUPS), LOOKUPS * words)
    expect(differences(lookUp(reader, probes, words), probes)).toEqual([])

    // Every other route goes, and a default route fills the holes.
    for (let i = 0; i < routes.count; i += 2) {
      if (!writer.remove(address(i), routes.lengths[i]!)) throw new Error(`route ${i} is not there`)
      oracle.remove(address(i), routes.lengths[i]!)
    }
    const nowhere = new Uint32Array(words)
    writer.insert(nowhere, 0, MAX_NEXT_HOP_ID)
    oracle.insert(nowhere, 0, MAX_NEXT_HOP_ID)
    expect(writer.size).toBe(Math.floor(routes.count / 2) + 1)
    const some = probes.subarray((LOOKUPS - LOOKUPS / 4) * words, (LOOKUPS + LOOKUPS / 4) * words)
    expect(differences(lookUp(reader, some, words), some)).toEqual([])

    function differences(found: Uint16Array, of: Uint32Array): string[] {
      const wrong: string[] = []
      for (let i = 0; i < found.length && wrong.length < 10; i++) {
        const right = oracle.lookup(of, i * words)
        if (found[i] !== right) {
          wrong.push(`${of.subarray(i * words, (i + 1) * words)}: ${found[i]}, not ${right}`)
        }
      }
      return wrong
    }
  })
})
