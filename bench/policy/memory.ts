/**
 * What policy costs: packets of flows that are known, flows that begin, many flows at once, and a change of one
 * policy. The whole path of a pod's packets into VXLAN, without devices, and the compiler before it.
 */

import { Compiler } from '../../cni/policy/compile.ts'
import { Identities } from '../../cni/policy/identities.ts'
import type { PolicyWorld as Cluster } from '../../cni/policy/sources.ts'
import { BATCH_SIZE } from '../../dataplane/limits.ts'
import { native } from '../../native/native.ts'
import { alternate } from '../harness/rounds.ts'
import { median, pairedRatio, quantile, significant } from '../harness/statistics.ts'
import { type Options, progress, type Report } from '../harness/suite.ts'
import { grouped, type Table } from '../harness/table.ts'
import { cluster } from './cluster.ts'
import { PolicyWorld } from './world.ts'

const ROUNDS = 9
const SECONDS = 0.4
const QUICK_SECONDS = 0.02
/** Flows that go on, in the worlds that compare rules. */
const FLOWS = 1024
const MILLION = 1_000_000
/** Flows that begin between two clean tables. */
const FRESH = 65_536
/** A stride that visits all flows, and never neighbours: prime. */
const STRIDE = 7919
const CHANGES = 100

type Rates = Record<string, number[]>

export async function inMemory(options: Options): Promise<Report> {
  const quick = options.quick === true
  const rounds = options.rounds ?? (quick ? 1 : ROUNDS)
  const seconds = options.seconds ?? (quick ? QUICK_SECONDS : SECONDS)
  progress('policy established')
  const established = await rates(rounds, {
    off: await steady(undefined, 0, FLOWS, seconds),
    '0 rules': await steady(2 * FLOWS, 0, FLOWS, seconds),
    '12,500 rules': await steady(2 * FLOWS, 12_500, FLOWS, seconds),
  })
  progress('policy new flows')
  const fresh = await rates(rounds, {
    '10 rules': await beginning(10, seconds),
    '12,500 rules': await beginning(12_500, seconds),
  })
  progress('policy a million flows')
  const million = await PolicyWorld.make(MILLION, 10)
  const many = await rates(rounds, {
    '1,000 flows': await steady(MILLION, 10, 1000, seconds),
    '1,000,000 flows': await steadyOf(million, MILLION, seconds),
  })
  const memory = million.enforcement!.memory.flows.byteLength / 2 ** 20
  progress('policy compile')
  const { cold, changes } = await compileAndChange(quick ? 5 : CHANGES)
  const ratio = (of: Rates, a: string, b: string): number =>
    significant(pairedRatio(of[a]!, of[b]!))
  const table = (title: string, of: Rates): Table => ({
    title: `policy: ${title}, ${rounds} rounds, medians`,
    head: ['', 'packets/s', 'ns'],
    rows: Object.entries(of).map(([name, each]) => [
      name,
      grouped(median(each)),
      grouped(1e9 / median(each), 1),
    ]),
  })
  return {
    samples: { established, fresh, many, changes },
    ratios: {
      established_12500_vs_0: ratio(established, '12,500 rules', '0 rules'),
      flow_table_vs_none: ratio(established, '0 rules', 'off'),
      new_12500_vs_10: ratio(fresh, '12,500 rules', '10 rules'),
      flows_1m_vs_1k: ratio(many, '1,000,000 flows', '1,000 flows'),
    },
    figures: {
      flow_memory_1m: { value: significant(memory), unit: 'MiB' },
      compile_12500_rules: { value: significant(cold), unit: 'ms' },
      change_of_1000_p99: { value: significant(quantile(changes, 0.99)), unit: 'ms' },
    },
    tables: [
      table('packets of known flows', established),
      table('packets that begin flows', fresh),
      table('packets of known flows, of many', many),
    ],
    notes: [
      'a pod sends 64-byte frames into VXLAN: all stages of one worker, no device',
      'a change: one of 1,000 policies is replaced, compiled, and in force',
    ],
  }
}

type Contender = () => number

function rates(rounds: number, contenders: Record<string, Contender>): Promise<Rates> {
  return alternate(Object.keys(contenders), rounds, name => contenders[name]!())
}

/** Packets a second of `flows` flows that are known. */
async function steady(
  room: number | undefined,
  rules: number,
  flows: number,
  seconds: number,
): Promise<Contender> {
  return steadyOf(await PolicyWorld.make(room, rules), flows, seconds)
}

async function steadyOf(world: PolicyWorld, flows: number, seconds: number): Promise<Contender> {
  for (let flow = 0; flow < flows; flow += BATCH_SIZE) world.send(flow, 1, flows)
  const live = world.engine.judge?.table.counters().live
  if (live !== undefined && live < flows * 0.99) {
    throw new Error(`${live} of ${flows} flows are known`)
  }
  let at = 0
  return () =>
    timed(seconds, () => {
      world.send(at, STRIDE, flows)
      at = (at + BATCH_SIZE * STRIDE) % flows
      return BATCH_SIZE
    })
}

/** Flows a second that begin; the table is emptied between, which doesn't count. */
async function beginning(rules: number, seconds: number): Promise<Contender> {
  const world = await PolicyWorld.make(2 * FRESH, rules)
  const one = (): number => {
    const began = native.monotonic()
    for (let flow = 0; flow < FRESH; flow += BATCH_SIZE) world.send(flow, 1, FRESH)
    const ns = native.monotonic() - began
    world.enforcement!.forgetAll()
    return ns
  }
  one()
  return () => {
    let ns = 0
    let flows = 0
    while (ns < seconds * 1e9) {
      ns += one()
      flows += FRESH
    }
    return flows / (ns / 1e9)
  }
}

function timed(seconds: number, work: () => number): number {
  const began = native.monotonic()
  const end = began + seconds * 1e9
  let done = 0
  let now = began
  while (now < end) {
    for (let k = 0; k < 16; k++) done += work()
    now = native.monotonic()
  }
  return done / ((now - began) / 1e9)
}

/** Milliseconds: 12,500 rules from nothing; and of each of `changes` changes of one policy until it is in force on the pod. */
async function compileAndChange(changes: number): Promise<{ cold: number; changes: number[] }> {
  const world = await PolicyWorld.make(2 * FLOWS, 0)
  const identities = new Identities()
  const programOf = (of: Cluster, kinds: number) => {
    identities.follow(of.namespaces, of.pods)
    const compiler = new Compiler(of, identities)
    return identities.kinds.slice(0, kinds).map(kind => compiler.programs(kind).egress)
  }
  const first = cluster(0)
  const began = performance.now()
  // All kinds of the cluster: as if each had a pod on this node.
  programOf(first, identities.kinds.length || 400)
  const cold = performance.now() - began
  const took: number[] = []
  for (let k = 1; k <= changes; k++) {
    const next = cluster(k)
    const start = performance.now()
    const [egress] = programOf(next, 1)
    await world.set(egress!)
    took.push(performance.now() - start)
  }
  return { cold, changes: took }
}
