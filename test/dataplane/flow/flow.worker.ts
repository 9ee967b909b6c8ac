/**
 * One thread of the concurrent tests. It waits until all are there, does its part, and posts what it
 * saw. Actions tell key and generation, so that an answer that is another key's shows.
 */
import { parentPort, workerData } from 'node:worker_threads'
import {
  ENTRY_WORDS,
  type FlowLimits,
  type FlowTable,
  FOUND,
} from '../../../dataplane/flow/flow.ts'
import { flowByName } from '../../../dataplane/flow/index.ts'
import { random } from '../hash/random.ts'
import { answersFor, decisionsOf, forwardOf, keysOf } from './tables.ts'

/** Words of the control array. */
export const READY = 0
export const START = 1
export const STOP = 2
/** Rounds that readers have done, all together. */
export const READ = 3

export interface Task {
  name: string
  memory: Uint8Array
  limits: FlowLimits
  control: Int32Array
  seed: number
  /**
   * insert: all of `numbers` in an order of its own, until none was refused for others in the way. churn: `rounds` times some of `numbers` in and
   * out. refresh: `rounds` generations of `numbers`. probe: `numbers`, which are always there, and
   * `others`, which come and go, until STOP. sweep: with a tick that makes everything of class 1
   * old, until STOP.
   */
  role: 'insert' | 'churn' | 'refresh' | 'probe' | 'sweep'
  numbers: number[]
  others?: number[]
  port?: number
  rounds?: number
}

export interface Outcome {
  /** By FOUND. */
  found: number[]
  /** What must not be. */
  wrong: string[]
  /** What `remove` and `sweep` took out. */
  ended: number
}

const BATCH = 64
/** Tick at which flows of class 1 are old, and those of class 0 are not. */
export const LATE = 100

function shuffled(numbers: readonly number[], draw: () => number): number[] {
  const mixed = [...numbers]
  for (let i = mixed.length - 1; i > 0; i--) {
    const j = draw() % (i + 1)
    ;[mixed[i], mixed[j]] = [mixed[j]!, mixed[i]!]
  }
  return mixed
}

/** Actions of generation `generation`. */
export const actionNumber = (number: number, generation: number) => number * 1024 + generation

function run(task: Task): Outcome {
  const { control, numbers, others = [], port = 0, rounds = 1 } = task
  const flows: FlowTable = flowByName(task.name).open(task.memory, task.limits)
  const draw = random(task.seed)
  const outcome: Outcome = { found: new Array(8).fill(0), wrong: [], ended: 0 }
  const answers = answersFor(Math.max(BATCH, numbers.length, others.length))
  const ended = new Uint32Array(512 * ENTRY_WORDS)
  const bad = (text: string) => {
    if (outcome.wrong.length < 10) outcome.wrong.push(text)
  }
  /** Flows that other threads kept out for now. */
  const busy: number[] = []
  const stopped = () => Atomics.load(control, STOP) !== 0

  function insert(some: readonly number[], generation: number, timeoutClass: number): void {
    for (let at = 0; at < some.length; at += BATCH) {
      const batch = some.slice(at, at + BATCH)
      const actions = batch.map(number => actionNumber(number, generation))
      const decisions = decisionsOf(actions, port, timeoutClass)
      flows.insert(keysOf(batch), batch.length, decisions, generation, 0, answers)
      for (let i = 0; i < batch.length; i++) outcome.found[answers.found[i]!]!++
      for (let i = 0; i < batch.length; i++) {
        if (answers.found[i] === FOUND.REFUSED_BUSY) busy.push(batch[i]!)
      }
    }
  }

  /** Probes; each key must be there, or may be missed, and no answer may be another key's. */
  function probe(keys: ReturnType<typeof keysOf>, some: readonly number[], always: boolean): void {
    const generation = 1 + (draw() & 3)
    flows.probe(keys, some.length, generation, answers)
    for (const [i, number] of some.entries()) {
      const found = answers.found[i]!
      outcome.found[found]!++
      if (found === FOUND.MISS) {
        if (always) bad(`${number} missed`)
        if (answers.slots[i] !== -1) bad(`${number} missed with a slot`)
        continue
      }
      const action = answers.actions[i]!
      const of = ((action - 1) % 0x8000_0000) / 2
      if (action !== forwardOf(of)) bad(`${number}: action ${action} is of another direction`)
      if (Math.floor(of / 1024) !== number) bad(`${number}: action of ${Math.floor(of / 1024)}`)
      if (found === FOUND.CURRENT && of % 1024 !== generation) {
        bad(`${number}: generation ${generation} has action of ${of % 1024}`)
      }
    }
  }

  Atomics.add(control, READY, 1)
  Atomics.notify(control, READY)
  Atomics.wait(control, START, 0)
  if (task.role === 'insert') {
    insert(shuffled(numbers, draw), 1, 0)
    // The next packet of such a flow.
    while (busy.length > 0) insert(busy.splice(0), 1, 0)
  }
  if (task.role === 'churn') {
    for (let round = 0; round < rounds; round++) {
      const some = shuffled(numbers, draw).slice(0, BATCH * 4)
      insert(some, 1 + (round & 3), 1)
      const out = shuffled(some, draw).slice(0, BATCH * 3)
      outcome.ended += flows.remove(keysOf(out), out.length, ended)
    }
  }
  if (task.role === 'refresh') {
    for (let round = 0; round < rounds; round++) insert(numbers, 1 + (round & 3), 0)
  }
  if (task.role === 'probe') {
    const keys = keysOf(numbers)
    const more = keysOf(others)
    while (!stopped()) {
      probe(keys, numbers, true)
      probe(more, others, false)
      Atomics.add(control, READ, 1)
      Atomics.notify(control, READ)
    }
  }
  if (task.role === 'sweep') {
    while (!stopped()) outcome.ended += flows.sweep(256, LATE, ended)
  }
  return outcome
}

if (parentPort !== null && workerData !== null) {
  parentPort.postMessage(run(workerData as Task))
}
