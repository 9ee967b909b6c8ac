/** Balancers: every algorithm of dataplane/lb, choosing and rebuilding, for few and many backends. */
import { lbByName, lbNames } from '../../dataplane/lb/index.ts'
import type { Backend, LbReader } from '../../dataplane/lb/lb.ts'
import { placesFor } from '../../dataplane/lb/maglev.ts'
import { ORACLES } from '../../dataplane/lb/oracles.ts'
import { BATCH_SIZE } from '../../dataplane/limits.ts'
import { sharedPages } from '../../dataplane/memory/pages.ts'
import { fresh } from '../harness/fresh.ts'
import { callsPerSecond } from '../harness/micro.ts'
import type { Quantity } from '../harness/quantity.ts'
import { alternate } from '../harness/rounds.ts'
import { median, pairedRatio, significant } from '../harness/statistics.ts'
import { type Options, progress, type Report, type Suite, selected } from '../harness/suite.ts'
import { grouped, type Table } from '../harness/table.ts'

const SIZES = [3, 100, 1000]
/** All the same, or from 1 to this one in turn. */
const WEIGHTS = { equal: 1, weighted: 10 }
const LEAST_ROUNDS = 3
const NORMAL = { rounds: 5, seconds: 0.1, flows: 256 * BATCH_SIZE, steps: 2 ** 22 }
const QUICK = { rounds: LEAST_ROUNDS, seconds: 0.01, flows: 4 * BATCH_SIZE, steps: 2 ** 16 }
/** Choices that are compared with the naive balancer's. */
const COMPARED = 2 * BATCH_SIZE

export const lb: Suite = {
  name: 'lb',
  about: 'load balancing: every algorithm of dataplane/lb',
  run,
}

interface Contender {
  flows: number
  expected: number
  choose: () => number
  /** Milliseconds of one rebuild. */
  rebuild: () => number
  bytes: number
}

interface Row {
  contender: string
  backends: number
  weights: string
  bytes: number
  flowsPerSecond: number[]
  rebuildMs: number[]
}

async function run(options: Options): Promise<Report> {
  const base = options.quick ? QUICK : NORMAL
  const rounds = Math.max(LEAST_ROUNDS, options.rounds ?? base.rounds)
  const seconds = options.seconds ?? base.seconds
  const names = selected(lbNames(), options)
  const rows: Row[] = []
  for (const backends of SIZES) {
    for (const [weights, most] of Object.entries(WEIGHTS)) {
      progress(`lb ${backends} backends, ${weights}`)
      const set = backendsOf(backends, most)
      const contenders = new Map(names.map(name => [name, build(name, set, base)]))
      const samples = await alternate(names, rounds, async name => {
        const { flows, expected, choose, rebuild } = contenders.get(name)!
        const label = `${name} ${backends} ${weights}`
        const perSecond = flows * (await callsPerSecond(label, seconds, expected, choose))
        return { perSecond, rebuildMs: rebuild() }
      })
      for (const name of names) {
        rows.push({
          contender: name,
          backends,
          weights,
          bytes: contenders.get(name)!.bytes,
          flowsPerSecond: samples[name]!.map(({ perSecond }) => perSecond),
          rebuildMs: samples[name]!.map(({ rebuildMs }) => rebuildMs),
        })
      }
    }
  }
  return report(rows, rounds)
}

function backendsOf(n: number, most: number): Backend[] {
  return Array.from({ length: n }, (_, i) => ({ id: i + 1, weight: 1 + (i % most) }))
}

/** Builds the balancer, and compares what it chooses. */
function build(name: string, set: readonly Backend[], { flows, steps }: typeof NORMAL): Contender {
  const algorithm = lbByName(name)
  const limits = { backends: set.length }
  const bytes = algorithm.bytes(limits)
  const memory = sharedPages(bytes)
  const writer = algorithm.writer(memory, limits)
  const reader = algorithm.reader(memory, limits)
  writer.set(set)
  compare(name, set, reader)
  // Fewer for the one that looks at all backends each time.
  const batches = Math.ceil(Math.min(flows, steps / set.length) / BATCH_SIZE)
  const hashes = Array.from({ length: batches }, (_, b) => hashesOf(b))
  const call = fresh(chooseAll)
  const chosen = new Uint16Array(BATCH_SIZE)
  const choose = () => call(reader, hashes, chosen)
  const rebuild = () => {
    const started = performance.now()
    writer.set(set)
    return performance.now() - started
  }
  return { flows: batches * BATCH_SIZE, expected: choose(), choose, rebuild, bytes }
}

function hashesOf(batch: number): Uint32Array {
  let state = batch
  return Uint32Array.from({ length: BATCH_SIZE }, () => {
    state = (state + 0x9e37_79b9) | 0
    const word = Math.imul(state ^ (state >>> 16), 0x21f0_aaad)
    return Math.imul(word ^ (word >>> 15), 0x735a_2d97) >>> 0
  })
}

/** Throws unless the first choices are the naive balancer's. */
function compare(name: string, set: readonly Backend[], reader: LbReader): void {
  const oracle = ORACLES[name]!(set, placesFor({ backends: set.length }))
  const chosen = new Uint16Array(BATCH_SIZE)
  for (let batch = 0; batch < COMPARED / BATCH_SIZE; batch++) {
    const hashes = hashesOf(batch)
    reader.choose(hashes, BATCH_SIZE, chosen)
    for (const [i, hash] of hashes.entries()) {
      const right = oracle.choose(hash)
      if (chosen[i] !== right) {
        throw new Error(`${name}, ${set.length} backends: ${hash} gets ${chosen[i]}, not ${right}`)
      }
    }
    reader.release(chosen, BATCH_SIZE)
    for (const backend of chosen) oracle.release(backend)
  }
}

/** A batch ends before the next one begins, so that each call meets the same counts. */
function chooseAll(reader: LbReader, batches: readonly Uint32Array[], chosen: Uint16Array): number {
  let sum = 0
  const n = chosen.length
  for (const hashes of batches) {
    reader.choose(hashes, n, chosen)
    for (let i = 0; i < n; i++) sum += chosen[i]!
    reader.release(chosen, n)
  }
  return sum
}

function report(rows: readonly Row[], rounds: number): Report {
  const quantities: Record<string, Quantity> = {}
  const ratios: Record<string, number> = {}
  for (const { contender, backends, weights, bytes, flowsPerSecond, rebuildMs } of rows) {
    const workload = `${backends} ${weights}`
    const put = (what: string, quantity: Quantity) => {
      const full = `${workload} ${what}`
      quantities[`${contender} ${full}`] = { ...quantity, contender, workload: full }
    }
    put('choose', { unit: 'flows/s', better: 'higher', samples: flowsPerSecond })
    put('rebuild', { unit: 'ms', better: 'lower', samples: rebuildMs })
    put('memory', { unit: 'bytes', better: 'lower', samples: [bytes], exact: true })
    const other = rows.find(
      row => row.contender === 'rendezvous' && row.backends === backends && row.weights === weights,
    )
    if (other !== undefined && contender !== 'rendezvous' && weights === 'equal') {
      ratios[`lb_${contender}_vs_rendezvous_${backends}`] = significant(
        pairedRatio(flowsPerSecond, other.flowsPerSecond),
      )
    }
  }
  const table: Table = {
    title: 'lb: new flows',
    head: ['balancer, backends', 'M flows/s', 'ns', 'rebuild ms', 'KiB'],
    rows: rows.map(({ contender, backends, weights, bytes, flowsPerSecond, rebuildMs }) => [
      `${contender} ${backends} ${weights}`,
      grouped(median(flowsPerSecond) / 1e6, 2),
      grouped(1e9 / median(flowsPerSecond), 1),
      grouped(median(rebuildMs), 3),
      grouped(bytes / 1024, 1),
    ]),
  }
  const notes = [
    `medians of ${rounds} rounds, order rotated; batches of ${BATCH_SIZE}; "weighted": weights 1 to ` +
      `${WEIGHTS.weighted} in turn`,
    'leastloaded is asked with nothing else under way, and gives each batch back: both are in its time',
    `the first ${COMPARED} choices were compared with the naive balancers, the sum of all in each call`,
  ]
  return { samples: { rows }, quantities, ratios, tables: [table], notes }
}
