/** Flow tables of one size, filled and compared, and the calls that are timed. */
import {
  ENTRY_WORDS,
  type Flow,
  type FlowAnswers,
  type FlowTable,
  FOUND,
} from '../../dataplane/flow/flow.ts'
import { flowByName } from '../../dataplane/flow/index.ts'
import { MapOracle } from '../../dataplane/flow/map-oracle.ts'
import type { Hasher } from '../../dataplane/hash/hash.ts'
import { BATCH_SIZE } from '../../dataplane/limits.ts'
import { fresh } from '../harness/fresh.ts'
import { region, type Trace } from './workload.ts'

const GENERATION = 7
/** Ticks of the timeout, and one at which every flow of tick 0 is old. */
const TIMEOUT = 10
const LATE = 20
/** Flows that are compared with the Map; all are compared with what was inserted. */
const COMPARED = 20_000

export interface Contender {
  name: string
  bytes: number
  flows: FlowTable
  /** Its inserts are another contender's. */
  twin: boolean
  /** One pass over a trace; returns a sum of the answers. */
  hit: () => number
  miss: () => number
  hashAndHit: () => number
  /** Flows a second: an empty table is filled with the trace; a full one ages out. */
  insert: () => number
  age: () => number
}

export interface Workload {
  inside: Trace
  outside: Trace
  hasher: Hasher
  /** What the flows are inserted by: another order than they are probed. */
  filling: Trace
}

function answersFor(n: number): FlowAnswers {
  return { slots: new Int32Array(n), actions: new Uint32Array(n), found: new Uint8Array(n) }
}

/** The action of flow `number`, in the direction of its packet in the traces. */
const actionOf = (number: number) => number + 1

function fill(flows: FlowTable, { batches, order }: Trace, answers: FlowAnswers): number {
  const decisions = {
    forward: new Uint32Array(BATCH_SIZE),
    reverse: new Uint32Array(BATCH_SIZE),
    ports: new Uint16Array(BATCH_SIZE),
    classes: new Uint8Array(BATCH_SIZE),
    labels: new Uint32Array(2 * BATCH_SIZE),
  }
  let inserted = 0
  for (const { keys, n, at } of batches) {
    for (let i = 0; i < n; i++) {
      decisions.forward[i] = actionOf(order[at + i]!)
      decisions.reverse[i] = ~decisions.forward[i]!
    }
    inserted += flows.insert(keys, n, decisions, GENERATION, 0, answers)
  }
  return inserted
}

/** Throws unless each key of `inside` has the action that was inserted for it, and none of `outside` any. */
function compare(name: string, flows: FlowTable, { inside, outside }: Workload): void {
  const answers = answersFor(BATCH_SIZE)
  for (const { keys, n, at } of inside.batches) {
    flows.probe(keys, n, GENERATION, answers)
    for (let i = 0; i < n; i++) {
      const right = actionOf(inside.order[at + i]!)
      if (answers.found[i] !== FOUND.CURRENT || answers.actions[i] !== right) {
        throw new Error(`${name}: flow ${right} has ${answers.actions[i]} (${answers.found[i]})`)
      }
    }
  }
  for (const { keys, n } of outside.batches) {
    flows.probe(keys, n, GENERATION, answers)
    if (answers.found.subarray(0, n).some(found => found !== FOUND.MISS)) {
      throw new Error(`${name}: finds a flow that is not there`)
    }
  }
}

/** Throws unless the first flows fare as in a Map when some of them end. */
function compareWithMap(name: string, { filling, inside }: Workload): void {
  const some = { ...filling, batches: filling.batches.slice(0, COMPARED / BATCH_SIZE) }
  const count = some.batches.reduce((sum, { n }) => sum + n, 0)
  const flow = flowByName(name)
  const limits = { flows: count, ports: 1 }
  const flows = flow.create(region(flow.bytes(limits)), limits)
  const oracle = new MapOracle()
  const [mine, right] = [answersFor(BATCH_SIZE), answersFor(BATCH_SIZE)]
  fill(flows, some, mine)
  fill(oracle as unknown as FlowTable, some, right)
  const ended = new Uint32Array(BATCH_SIZE * ENTRY_WORDS)
  for (const [b, { keys, n }] of some.batches.entries()) {
    if (b % 2 === 0 && flows.remove(keys, n, ended) !== oracle.remove(keys, n)) {
      throw new Error(`${name}: takes out other flows than a Map`)
    }
  }
  for (const { keys, n } of [...some.batches, ...inside.batches.slice(0, COMPARED / BATCH_SIZE)]) {
    flows.probe(keys, n, GENERATION, mine)
    oracle.probe(keys, n, GENERATION, right)
    for (let i = 0; i < n; i++) {
      const same = mine.found[i] === FOUND.MISS || mine.actions[i] === right.actions[i]
      if (mine.found[i] !== right.found[i] || !same)
        throw new Error(`${name}: answers unlike a Map`)
    }
  }
}

/** Everything in it is an argument: each contender gets a copy (harness/fresh.ts). */
function probeAll(
  flows: FlowTable,
  batches: Trace['batches'],
  generation: number,
  answers: FlowAnswers,
): number {
  let sum = 0
  const { actions, found } = answers
  for (const { keys, n } of batches) {
    flows.probe(keys, n, generation, answers)
    for (let i = 0; i < n; i++) if (found[i] !== 0) sum += actions[i]!
  }
  return sum
}

function hashAndProbeAll(
  flows: FlowTable,
  hasher: Hasher,
  batches: Trace['batches'],
  generation: number,
  answers: FlowAnswers,
): number {
  let sum = 0
  const { actions, found } = answers
  for (const { keys, n } of batches) {
    hasher.flows(keys.words, n, keys.hashes)
    flows.probe(keys, n, generation, answers)
    for (let i = 0; i < n; i++) if (found[i] !== 0) sum += actions[i]!
  }
  return sum
}

/**
 * The algorithm in a module of its own for each size (a file of its name has it). A worker has one
 * flow table, and V8 compiles a closure that was made once with what it encloses as constants; where
 * all sizes share a module, the probe would be made several times, and be slower than any worker's.
 */
async function alone(name: string, size: string): Promise<Flow> {
  const module = (await import(`../../dataplane/flow/${name}.ts?${size}`)) as Record<string, Flow>
  return module[name] ?? flowByName(name)
}

/** Fills one table for each region; `_native` reads its twin's. */
export async function build(
  names: readonly string[],
  size: string,
  workload: Workload,
): Promise<Contender[]> {
  const memories = new Map<string, Uint8Array>()
  const count = workload.inside.order.length
  const limits = { flows: count, ports: 1 }
  const found: Contender[] = []
  for (const name of names) {
    const base = name.replace(/_native$/, '')
    const flow = await alone(name, size)
    const bytes = flow.bytes(limits)
    const answers = answersFor(BATCH_SIZE)
    let memory = memories.get(base)
    let flows: FlowTable
    if (memory === undefined) {
      memory = region(bytes)
      memories.set(base, memory)
      flows = flow.create(memory, limits)
      flows.setTimeout(0, TIMEOUT)
      const inserted = fill(flows, workload.filling, answers)
      if (inserted !== count) throw new Error(`${name}: took ${inserted} of ${count} flows`)
    } else {
      flows = flow.open(memory, limits)
    }
    compare(name, flows, workload)
    compareWithMap(name, workload)
    const ended = new Uint32Array(4 * BATCH_SIZE * ENTRY_WORDS)
    const [probe, hashAndProbe] = [fresh(probeAll), fresh(hashAndProbeAll)]
    const { inside, outside, hasher } = workload
    /** Runs `change`, which must concern all flows; returns flows a second. */
    const timed = (what: string, change: () => number) => {
      const started = performance.now()
      const changed = change()
      const seconds = (performance.now() - started) / 1000
      if (changed !== count) throw new Error(`${name}: ${what} ${changed} of ${count} flows`)
      return count / seconds
    }
    found.push({
      name,
      bytes,
      flows,
      twin: base !== name,
      hit: () => probe(flows, inside.batches, GENERATION, answers),
      miss: () => probe(flows, outside.batches, GENERATION, answers),
      hashAndHit: () => hashAndProbe(flows, hasher, inside.batches, GENERATION, answers),
      insert: () => timed('inserted', () => fill(flows, workload.filling, answers)),
      age: () =>
        timed('aged', () => {
          let aged = 0
          for (let place = 0; place < flows.slots; place += 4 * BATCH_SIZE) {
            aged += flows.sweep(Math.min(4 * BATCH_SIZE, flows.slots - place), LATE, ended)
          }
          return aged
        }),
    })
  }
  return found
}
