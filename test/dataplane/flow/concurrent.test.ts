/** Threads that insert, remove, move, refresh, age and probe at the same time. */
import { once } from 'node:events'
import { Worker } from 'node:worker_threads'
import { describe, expect, test } from 'vitest'
import { ENTRY, type FlowLimits, type FlowTable, FOUND } from '../../../dataplane/flow/flow.ts'
import { flowNames } from '../../../dataplane/flow/index.ts'
import {
  actionNumber,
  LATE,
  type Outcome,
  READ,
  READY,
  START,
  STOP,
  type Task,
} from './flow.worker.ts'
import { answersFor, decisionsOf, forwardOf, keysOf, range, table } from './tables.ts'

/** Rounds of each reader before writers may end. */
const LEAST_READS = 20
const PATIENCE = 60_000

type Part = Pick<Task, 'role' | 'numbers'> & Partial<Task>

/** Runs all parts at the same time; those that read until STOP are stopped when the others are done. */
async function together(
  name: string,
  memory: Uint8Array,
  limits: FlowLimits,
  parts: readonly Part[],
): Promise<Outcome[]> {
  const control = new Int32Array(new SharedArrayBuffer(64))
  const workers = parts.map((part, seed) => {
    const workerData: Task = { name, memory, limits, control, seed, ...part }
    return new Worker(new URL('./flow.worker.ts', import.meta.url), { workerData })
  })
  const endless = (part: Part) => part.role === 'probe' || part.role === 'sweep'
  const readers = parts.filter(part => part.role === 'probe').length
  try {
    const outcomes = workers.map(worker =>
      Promise.race([
        once(worker, 'message').then(([outcome]) => outcome as Outcome),
        once(worker, 'exit').then(([code]) => {
          throw new Error(`a worker ended early: ${code}`)
        }),
      ]),
    )
    const failure = Promise.all(outcomes)
    failure.catch(() => {})
    while (Atomics.load(control, READY) < parts.length) {
      const waiting = Atomics.waitAsync(control, READY, Atomics.load(control, READY), PATIENCE)
      if (waiting.async) await Promise.race([waiting.value, failure])
    }
    Atomics.store(control, START, 1)
    Atomics.notify(control, START)
    await Promise.all(outcomes.filter((_, i) => !endless(parts[i]!)))
    for (let reads = 0; reads < LEAST_READS * readers; ) {
      reads = Atomics.load(control, READ)
      const waiting = Atomics.waitAsync(control, READ, reads, PATIENCE)
      if (waiting.async && reads < LEAST_READS * readers)
        await Promise.race([waiting.value, failure])
    }
    Atomics.store(control, STOP, 1)
    return await failure
  } finally {
    await Promise.all(workers.map(worker => worker.terminate()))
  }
}

/** Every flow once, and counters that agree with what is there. */
function sound(flows: FlowTable, ports: number): Uint32Array[] {
  const all = [...flows.flows()]
  const keys = all.map(entry => entry.slice(ENTRY.KEY, ENTRY.GENERATION).join())
  expect(new Set(keys).size).toBe(all.length)
  expect(flows.counters().live).toBe(all.length)
  const owned = range(0, ports).map(port => flows.owned(port))
  expect(owned.reduce((sum, each) => sum + each, 0)).toBe(all.length)
  return all
}

/** Puts `numbers` in as the workers do. */
function fill(flows: FlowTable, numbers: readonly number[], port = 0): void {
  const n = numbers.length
  const decisions = decisionsOf(
    numbers.map(number => actionNumber(number, 1)),
    port,
  )
  expect(flows.insert(keysOf(numbers), n, decisions, 1, 0, answersFor(n))).toBe(n)
}

/** How far a table is filled so that inserts move others, where they do: of what it promises. */
const LIMITS = { flows: 3584, ports: 4 }

describe.each(flowNames())('%s', name => {
  test('threads that insert the same keys end with one entry each', async () => {
    const { memory, flows } = table(name, LIMITS)
    const numbers = range(0, 3584)
    const parts = range(0, 3).map(port => ({ role: 'insert' as const, numbers, port }))
    const outcomes = await together(name, memory, LIMITS, parts)
    const total = (found: number) => outcomes.reduce((sum, each) => sum + each.found[found]!, 0)
    expect(total(FOUND.INSERTED)).toBe(3584)
    expect(total(FOUND.CURRENT)).toBe(2 * 3584)
    expect(sound(flows, 4).length).toBe(3584)
    expect(flows.counters()).toMatchObject({
      refusedBusy: total(FOUND.REFUSED_BUSY),
      refusedFull: 0,
    })
    const answers = answersFor(3584)
    flows.probe(keysOf(numbers), 3584, 1, answers)
    expect(answers.found.every(each => each === FOUND.CURRENT)).toBe(true)
  })

  test('what is taken out by a question is all gone, while others come, go and move', async () => {
    const { memory, flows } = table(name, LIMITS)
    const those = range(0, 1000)
    fill(flows, those)
    const wanted = new Set(those.map(number => actionNumber(number, 1)).map(n => forwardOf(n) | 0))
    const others = [range(3000, 4200), range(3600, 4800)]
    let inserted = those.length
    let removed = 0
    const churn = together(name, memory, LIMITS, [
      { role: 'churn', numbers: others[0]!, port: 1, rounds: 60 },
      { role: 'churn', numbers: others[1]!, port: 2, rounds: 60 },
    ])
    const remove = (): number =>
      flows.removeWhere((words, at) => {
        const actions = [words[at + ENTRY.ACTION]!, words[at + ENTRY.ACTION + 1]!]
        return actions.some(action => wanted.has(action))
      })
    for (let round = 0; round < 20; round++) {
      removed += remove()
      const answers = answersFor(those.length)
      flows.probe(keysOf(those), those.length, 1, answers)
      expect(answers.found.every(each => each === FOUND.MISS)).toBe(true)
      // Others may be in the way of one all the time.
      const decisions = decisionsOf(those.map(number => actionNumber(number, 1)))
      inserted += flows.insert(keysOf(those), those.length, decisions, 1, 0, answers)
      await new Promise(resolve => setImmediate(resolve))
    }
    await churn
    removed += remove()
    expect(removed).toBe(inserted)
    sound(flows, 4)
  })

  test('what stays is found at any moment while others come, go, move and grow old', async () => {
    const { memory, flows } = table(name, LIMITS)
    flows.setTimeout(1, LATE)
    const stay = range(0, 2600)
    fill(flows, stay)
    const come = [range(3000, 4200), range(3600, 4800)]
    const others = range(3000, 4800)
    const outcomes = await together(name, memory, LIMITS, [
      { role: 'churn', numbers: come[0]!, port: 1, rounds: 100 },
      { role: 'churn', numbers: come[1]!, port: 2, rounds: 100 },
      { role: 'sweep', numbers: [] },
      { role: 'probe', numbers: stay, others },
      { role: 'probe', numbers: stay.slice(1000, 1300), others },
    ])
    for (const { wrong } of outcomes) expect(wrong).toEqual([])
    const [one, two, sweep, ...readers] = outcomes as [Outcome, Outcome, Outcome, Outcome]
    for (const { found } of readers) {
      expect(found[FOUND.CURRENT]! + found[FOUND.STALE]!).toBeGreaterThan(1000)
    }
    const all = sound(flows, 4)
    const inserted = one.found[FOUND.INSERTED]! + two.found[FOUND.INSERTED]!
    expect(all.length).toBe(stay.length + inserted - one.ended - two.ended - sweep.ended)
    expect(flows.counters()).toMatchObject({
      inserted: stay.length + inserted,
      removed: one.ended + two.ended,
      aged: sweep.ended,
    })
    if (name !== 'linear') expect(flows.counters().moved).toBeGreaterThan(0)
  })

  test('a refresh shows the old actions or the new ones, under their own generation', async () => {
    const { memory, flows } = table(name, LIMITS)
    const numbers = range(0, 64)
    fill(flows, numbers)
    const outcomes = await together(name, memory, LIMITS, [
      { role: 'refresh', numbers, rounds: 800 },
      { role: 'refresh', numbers, rounds: 800 },
      { role: 'probe', numbers },
    ])
    for (const { wrong } of outcomes) expect(wrong).toEqual([])
    const found = outcomes[2]!.found
    expect(found[FOUND.CURRENT]).toBeGreaterThan(0)
    expect(found[FOUND.STALE]).toBeGreaterThan(0)
    expect(sound(flows, 4).length).toBe(64)
  })

  test('a port that inserts in all threads gets its share, not one more', async () => {
    const { memory, flows } = table(name, LIMITS)
    flows.setQuota(1, 500)
    const parts = range(0, 3).map(thread => ({
      role: 'insert' as const,
      numbers: range(thread * 1000, thread * 1000 + 1000),
      port: 1,
    }))
    const outcomes = await together(name, memory, LIMITS, parts)
    const inserted = outcomes.reduce((sum, each) => sum + each.found[FOUND.INSERTED]!, 0)
    expect(inserted).toBe(500)
    expect(flows.owned(1)).toBe(500)
    expect(sound(flows, 4).length).toBe(500)
  })
})
