/**
 * Every ordered store of a change, one by one: whatever a thread that stands still at any of them
 * has done so far, all others find every flow, each with its own actions.
 */
import { afterEach, describe, expect, test } from 'vitest'
import { ENTRY_WORDS, type FlowTable, FOUND } from '../../../dataplane/flow/flow.ts'
import { flowByName, flowNames } from '../../../dataplane/flow/index.ts'
import {
  answersFor,
  decisionsOf,
  forwardOf,
  keysOf,
  probeAll,
  range,
  reverseOf,
  table,
  turned,
} from './tables.ts'

const LIMITS = { flows: 448, ports: 1 }
const original = { ...pick() }

function pick() {
  const { store, add, sub, compareExchange } = Atomics
  return { store, add, sub, compareExchange }
}

/** Calls `look` behind each ordered store that `change` makes; returns how many those were. */
function stepping(change: () => void, look: () => void): number {
  let inside = false
  let steps = 0
  for (const name of Object.keys(original) as (keyof typeof original)[]) {
    const plain = original[name] as (...args: unknown[]) => unknown
    ;(Atomics as unknown as Record<string, unknown>)[name] = (...args: unknown[]) => {
      const result = plain(...args)
      if (!inside) {
        inside = true
        steps++
        look()
        inside = false
      }
      return result
    }
  }
  try {
    change()
  } finally {
    Object.assign(Atomics, original)
  }
  return steps
}

afterEach(() => Object.assign(Atomics, original))

/** Full enough that the next inserts move others: numbers that are in, and one that isn't yet. */
function crowded(flows: FlowTable): number[] {
  const inside: number[] = []
  flows.setQuota(0, 1000)
  for (const number of range(0, 480)) {
    const answers = answersFor(1)
    flows.insert(keysOf([number]), 1, decisionsOf([number]), 1, 0, answers)
    if (answers.found[0] === FOUND.INSERTED) inside.push(number)
  }
  return inside
}

describe.each(flowNames())('%s', name => {
  const readers = (memory: Uint8Array) =>
    flowNames()
      .filter(each => flowByName(each).places === flowByName(name).places)
      .map(each => flowByName(each).open(memory, LIMITS))

  function everywhere(memory: Uint8Array, inside: readonly number[]): () => void {
    const tables = readers(memory)
    const keys = keysOf(inside)
    const back = turned(keys)
    const answers = answersFor(inside.length)
    return () => {
      for (const flows of tables) {
        flows.probe(keys, inside.length, 1, answers)
        if (answers.found.some(found => found !== FOUND.CURRENT))
          throw new Error('a flow is missed')
        if (inside.some((number, i) => answers.actions[i] !== forwardOf(number))) {
          throw new Error('a flow has another action')
        }
        flows.probe(back, inside.length, 1, answers)
        if (inside.some((number, i) => answers.actions[i] !== reverseOf(number))) {
          throw new Error('a flow has another action on its way back')
        }
      }
    }
  }

  test('inserts, with all the moves that they make', () => {
    const { memory, flows } = table(name, LIMITS)
    const inside = crowded(flows)
    const moved = flows.counters().moved
    const look = everywhere(memory, inside)
    const more = range(1000, 1020)
    const answers = answersFor(20)
    const steps = stepping(
      () => flows.insert(keysOf(more), 20, decisionsOf(more), 1, 0, answers),
      look,
    )
    expect(steps).toBeGreaterThan(80)
    if (name !== 'linear') expect(flows.counters().moved).toBeGreaterThan(moved)
    look()
    const into = more.filter((_, i) => answers.found[i] === FOUND.INSERTED)
    expect([...probeAll(flows, into).actions]).toEqual(into.map(forwardOf))
  })

  test('the ends of other flows', () => {
    const { memory, flows } = table(name, LIMITS)
    const inside = crowded(flows)
    flows.setTimeout(0, 1)
    const gone = inside.filter(number => number % 3 === 0)
    const stay = inside.filter(number => number % 3 !== 0)
    const { slots } = probeAll(flows, stay)
    flows.touch(slots, stay.length, 1)
    const look = everywhere(memory, stay)
    const some = keysOf(gone.slice(0, 20))
    const ended = new Uint32Array(flows.slots * ENTRY_WORDS)
    expect(stepping(() => flows.remove(some, 20, ended), look)).toBeGreaterThan(100)
    stepping(() => flows.sweep(flows.slots, 1, ended), look)
    expect(flows.counters().live).toBe(stay.length)
  })

  test('a refresh: the old actions, or stale, or the new ones', () => {
    const { memory, flows } = table(name, LIMITS)
    const numbers = range(0, 8)
    flows.insert(keysOf(numbers), 8, decisionsOf(numbers), 1, 0, answersFor(8))
    const tables = readers(memory)
    const seen = new Set<number>()
    const look = () => {
      for (const each of tables) {
        for (const generation of [1, 2]) {
          const { found, actions } = probeAll(each, numbers, generation)
          for (const [i, number] of numbers.entries()) {
            seen.add(found[i]!)
            if (found[i] === FOUND.MISS) throw new Error('a flow is missed')
            const right = forwardOf(generation === 1 ? number : number + 100)
            if (found[i] === FOUND.CURRENT && actions[i] !== right)
              throw new Error('a wrong action')
          }
        }
      }
    }
    const again = decisionsOf(numbers.map(number => number + 100))
    expect(
      stepping(() => flows.insert(keysOf(numbers), 8, again, 2, 0, answersFor(8)), look),
    ).toBeGreaterThan(40)
    expect(seen).toEqual(new Set([FOUND.CURRENT, FOUND.STALE]))
  })

  test('a writer whose stripes another one keeps gives up, and nothing has changed', () => {
    const { memory, flows } = table(name, LIMITS)
    const other = flowByName(name).open(memory, LIMITS)
    const numbers = range(0, 64)
    flows.insert(keysOf(numbers), 64, decisionsOf(numbers), 1, 0, answersFor(64))
    const outcomes = new Map<number, number>()
    const answers = answersFor(1)
    // Another thread tries to insert the same key while the first one stands still.
    const steps = stepping(
      () => flows.insert(keysOf([99]), 1, decisionsOf([99]), 1, 0, answersFor(1)),
      () => {
        other.insert(keysOf([99]), 1, decisionsOf([99]), 1, 0, answers)
        outcomes.set(answers.found[0]!, (outcomes.get(answers.found[0]!) ?? 0) + 1)
      },
    )
    expect(steps).toBeGreaterThan(3)
    expect(outcomes.get(FOUND.REFUSED_BUSY)).toBeGreaterThan(2)
    // Behind the unlocking it meets the first one's.
    expect(outcomes.get(FOUND.INSERTED) ?? 0).toBeLessThan(2)
    expect([...flows.flows()].length).toBe(65)
    expect(flows.counters().live).toBe(65)
    expect(flows.owned(0)).toBe(65)
  })
})
