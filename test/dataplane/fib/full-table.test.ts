/** The Internet's routes: build, a million lookups against ranges, and half of it taken out again. */
import { beforeAll, describe, expect, test } from 'vitest'
import { fullTable, fullTablePath, prefixOf, type RouteTable } from '../../../bench/data/routes.ts'
import { addressesAnywhere, addressesIn } from '../../../bench/fib/workload.ts'
import { MAX_NEXT_HOP_ID } from '../../../dataplane/fib/fib.ts'
import { fibByName } from '../../../dataplane/fib/index.ts'
import { noData } from '../../harness/needs.ts'
import { rangeOracle } from './range-oracle.ts'
import { GROUPS, lookUp, table, wordsOf } from './tables.ts'

const LOOKUPS = 500_000

interface Task {
  routes: RouteTable
  probes: Uint32Array
  /** With all routes; with every other one gone and a default route in the holes. */
  right: { whole: Uint16Array; half: Uint16Array }
}

/** Made once: the oracle costs as much as a FIB. Undefined when there is no table. */
function taskOf(family: 4 | 6): Task | undefined {
  const routes = fullTable(family)
  if (routes === undefined) return undefined
  const words = wordsOf(family)
  const probes = new Uint32Array(2 * LOOKUPS * words)
  probes.set(addressesIn(routes, LOOKUPS))
  probes.set(addressesAnywhere(family, LOOKUPS), LOOKUPS * words)
  const rest = Array.from({ length: routes.count >>> 1 }, (_, i) => 2 * i + 1)
  const addresses = new Uint32Array((rest.length + 1) * words)
  for (const [at, i] of rest.entries()) addresses.set(prefixOf(routes, i), at * words)
  const half = {
    count: rest.length + 1,
    addresses,
    lengths: [...rest.map(i => routes.lengths[i]!), 0],
    nextHops: [...rest.map(i => routes.nextHops[i]!), MAX_NEXT_HOP_ID],
  }
  const answers = (of: Parameters<typeof rangeOracle>[1]) => rangeOracle(words, of)(probes)
  return { routes, probes, right: { whole: answers(routes), half: answers(half) } }
}

describe.each([4, 6] as const)('IPv%i', family => {
  let task: Task | undefined
  const words = wordsOf(family)

  beforeAll(() => {
    task = taskOf(family)
  })

  const groups = GROUPS.filter(group => group.family === family)
  test.for(groups.filter(({ name }) => !name.startsWith('linear')))(
    'a full Internet table: $names',
    ({ name, names }, context) => {
      if (task === undefined) {
        context.skip(noData(fullTablePath))
        return
      }
      const { routes, probes, right } = task
      const limits = { routes: routes.count + 1 }
      const { memory, writer } = table(name, family, limits.routes)
      const compare = (expected: Uint16Array) => {
        for (const each of names) {
          const reader = fibByName(each, family).reader(memory, limits)
          expect(differences(lookUp(reader, probes, words), expected), each).toEqual([])
        }
      }
      for (let i = 0; i < routes.count; i++) {
        writer.insert(prefixOf(routes, i), routes.lengths[i]!, routes.nextHops[i]!)
      }
      expect(writer.size).toBe(routes.count)
      compare(right.whole)

      for (let i = 0; i < routes.count; i += 2) {
        const gone = writer.remove(prefixOf(routes, i), routes.lengths[i]!)
        if (!gone) throw new Error(`route ${i} is not there`)
      }
      writer.insert(new Uint32Array(words), 0, MAX_NEXT_HOP_ID)
      expect(writer.size).toBe((routes.count >>> 1) + 1)
      compare(right.half)

      function differences(found: Uint16Array, expected: Uint16Array): string[] {
        const wrong: string[] = []
        for (let i = 0; i < found.length && wrong.length < 10; i++) {
          if (found[i] === expected[i]) continue
          const address = probes.subarray(i * words, (i + 1) * words)
          wrong.push(`${address}: ${found[i]}, not ${expected[i]}`)
        }
        return wrong
      }
    },
  )
})
