/** What a packet costs in each stage of the pipeline, and in all of them, without any device. */
import { BATCH_SIZE } from '../../dataplane/limits.ts'
import type { Batch } from '../../dataplane/packet/batch.ts'
import { native } from '../../native/native.ts'
import { callsPerSecond } from '../harness/micro.ts'
import type { Quantity } from '../harness/quantity.ts'
import { alternate } from '../harness/rounds.ts'
import { median, pairedRatio, significant } from '../harness/statistics.ts'
import { type Options, progress, type Report, type Suite, selected } from '../harness/suite.ts'
import { grouped, type Table } from '../harness/table.ts'
import { type Case, cases } from './cases.ts'
import type { Protocol } from './packets.ts'

const ROUNDS = 5
const LEAST_ROUNDS = 3
const SECONDS = 0.03
const QUICK_SECONDS = 0.003

/** Rows of the table, and names for `--only`. */
const STAGES = [
  'parse',
  'parse in TypeScript',
  'antiSpoof',
  'route',
  'encap in IPv4',
  'encap in IPv4 in TypeScript',
  'encap in IPv6',
  'decap in IPv4',
  'decap in IPv6',
  'pod to IPv4',
  'pod to IPv6',
  'IPv4 to pod',
  'IPv6 to pod',
] as const
/** Columns: the packet that the pod sends or gets. */
const PACKETS: readonly [4 | 6, Protocol][] = [
  [4, 'UDP'],
  [4, 'TCP'],
  [6, 'UDP'],
  [6, 'TCP'],
]

export const wire: Suite = {
  name: 'wire',
  about: 'ns a packet: parse, VXLAN encap and decap, the whole pipeline',
  run,
}

async function run(options: Options): Promise<Report> {
  const stages: readonly string[] = selected(STAGES, options)
  const quick = options.quick === true
  const rounds = Math.max(LEAST_ROUNDS, options.rounds ?? (quick ? LEAST_ROUNDS : ROUNDS))
  const seconds = options.seconds ?? (quick ? QUICK_SECONDS : SECONDS)
  const samples: Record<string, Record<string, number[]>> = {}
  for (const [family, protocol] of PACKETS) {
    const packet = `IPv${family} ${protocol}`
    progress(`wire ${packet}`)
    const byStage = new Map<string, Case>()
    for (const underlay of [4, 6] as const) {
      for (const each of cases(underlay, family, protocol)) {
        if (stages.includes(each.stage) && !byStage.has(each.stage)) byStage.set(each.stage, each)
      }
    }
    samples[packet] = await alternate([...byStage.keys()], rounds, stage =>
      nanoseconds(`${stage} ${packet}`, byStage.get(stage)!, seconds),
    )
  }
  return report(samples, stages, rounds)
}

/** ns a packet: the stage with what restores the batch, less the latter. */
async function nanoseconds(name: string, of: Case, seconds: number): Promise<number> {
  const { batch, engine, restore, run } = of
  native.bind(engine.bytes)
  const whole = () => {
    restore()
    run()
    return sum(batch)
  }
  const without = () => {
    restore()
    return sum(batch)
  }
  const expected = whole()
  if (batch.drop.some(reason => reason !== 0)) throw new Error(`${name}: a packet was dropped`)
  const rate = await callsPerSecond(name, seconds, expected, whole)
  const idle = await callsPerSecond(`${name}, restoring`, seconds, without(), without)
  return (1 / rate - 1 / idle) * (1e9 / BATCH_SIZE)
}

/** How much faster a stage is with its native twin; nothing where either was not measured. */
function twin(
  samples: Record<string, Record<string, number[]>>,
  stage: string,
  key: string,
): Record<string, number> {
  const ratios = Object.values(samples).flatMap(of => {
    const [twinned, without] = [of[stage], of[`${stage} in TypeScript`]]
    return twinned === undefined || without === undefined ? [] : [pairedRatio(without, twinned)]
  })
  return ratios.length === 0 ? {} : { [key]: significant(median(ratios)) }
}

/** What stages write, folded. */
function sum(b: Batch): number {
  let total = 0
  for (let i = 0; i < b.n; i++) {
    total = (total + b.l3[i]! + b.len[i]! + b.l4[i]! + b.drop[i]! + b.nextHop[i]!) | 0
  }
  return total
}

function report(
  samples: Record<string, Record<string, number[]>>,
  stages: readonly string[],
  rounds: number,
): Report {
  const packets = Object.keys(samples)
  const quantities: Record<string, Quantity> = {}
  for (const packet of packets) {
    for (const [stage, ns] of Object.entries(samples[packet]!)) {
      const which = { contender: packet, workload: stage }
      quantities[`${stage} ${packet}`] = { unit: 'ns', better: 'lower', samples: ns, ...which }
    }
  }
  const table: Table = {
    title: `wire: ns a packet, batches of ${BATCH_SIZE}, medians of ${rounds} rounds`,
    head: ['stage', ...packets],
    rows: stages.map(stage => [
      stage,
      ...packets.map(packet => grouped(median(samples[packet]![stage]!), 1)),
    ]),
  }
  return {
    samples,
    quantities,
    ratios: {
      ...twin(samples, 'parse', 'parse_twin_vs_typescript'),
      ...twin(samples, 'encap in IPv4', 'encap_twin_vs_typescript'),
    },
    tables: [table],
    notes: [
      'small packets (22 bytes of data), each of another flow, warm in the cache; no device: ports take ' +
        'what is sent and leave it',
      'parse and encap in IPv4 have native twins; a twin ratio is the median over all packets and rounds of what ' +
        'TypeScript takes, divided by what they take together',
      'what makes the batch again between two calls was measured beside and is taken off',
      '"pod to", "to pod": all stages of that way; decap parses the inner packet, over IPv6 encap and ' +
        'decap sum it too',
    ],
  }
}
