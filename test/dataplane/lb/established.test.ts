/** A balancer and a flow table together: established flows keep their backend, ends give it back. */
import { expect, test } from 'vitest'
import { ENTRY, ENTRY_WORDS, FOUND } from '../../../dataplane/flow/flow.ts'
import { flowNames } from '../../../dataplane/flow/index.ts'
import { answersFor, keysOf, range, table } from '../flow/tables.ts'
import { backendsOf, balancer, tally } from './balancers.ts'

test.each(flowNames())('leastloaded in front of %s', name => {
  const { writer, reader } = balancer('leastloaded', { backends: 8 })
  const { flows } = table(name, { flows: 2000, ports: 1 })
  const backends = backendsOf([1, 1, 1, 1])
  writer.set(backends)
  flows.setTimeout(0, 10)
  const n = 256
  const chosen = new Uint16Array(n)
  const answers = answersFor(n)
  /** The flow's hash serves twice: the place in the table and the backend. */
  const arrive = (numbers: readonly number[], generation: number, tick: number) => {
    const keys = keysOf(numbers)
    const count = numbers.length
    flows.probe(keys, count, generation, answers)
    const fresh = numbers.filter((_, i) => answers.found[i] === FOUND.MISS)
    const stale = numbers.flatMap((_, i) => (answers.found[i] === FOUND.STALE ? [i] : []))
    const kept = Uint32Array.from(stale, i => answers.actions[i]!)
    flows.touch(answers.slots, count, tick)
    const insert = (some: readonly number[], actions: Uint32Array) =>
      flows.insert(
        keysOf(some),
        some.length,
        {
          forward: actions,
          reverse: actions,
          ports: new Uint16Array(some.length),
          classes: new Uint8Array(some.length),
          labels: new Uint32Array(2 * some.length),
        },
        generation,
        tick,
        answers,
      )
    // A stale flow is decided again, and keeps its backend.
    insert(
      stale.map(i => numbers[i]!),
      kept,
    )
    reader.choose(keysOf(fresh).hashes, fresh.length, chosen)
    insert(fresh, Uint32Array.from(chosen.subarray(0, fresh.length)))
    flows.probe(keys, count, generation, answers)
    expect(answers.found.subarray(0, count).every(found => found === FOUND.CURRENT)).toBe(true)
    return Uint16Array.from(answers.actions.subarray(0, count))
  }
  const numbers = range(0, n)
  const first = arrive(numbers, 1, 0)
  const loads = () => backends.map(({ id }) => reader.load(id))
  expect(loads()).toEqual(backends.map(({ id }) => tally(first).get(id)))
  // A backend goes, two come: who is there stays.
  writer.set([...backends.slice(1), { id: 500, weight: 9 }, { id: 501, weight: 9 }])
  expect(arrive(numbers, 2, 5)).toEqual(first)
  expect(loads().reduce((sum, load) => sum + load, 0)).toBe(n)
  expect(new Set(arrive(range(1000, 1100), 2, 5)).has(backends[0]!.id)).toBe(false)
  // The first ones grow old but for some that had a packet.
  arrive(range(0, 16), 2, 12)
  const ended = new Uint32Array(flows.slots * ENTRY_WORDS)
  const gone = flows.sweep(flows.slots, 15, ended)
  expect(gone).toBe(n + 100 - 16)
  const ends = Uint16Array.from({ length: gone }, (_, i) => ended[i * ENTRY_WORDS + ENTRY.ACTION]!)
  reader.release(ends, gone)
  expect(loads()).toEqual(backends.map(({ id }) => tally(first.slice(0, 16)).get(id) ?? 0))
  expect([500, 501].map(id => reader.load(id))).toEqual([0, 0])
})
