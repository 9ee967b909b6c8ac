/** The Internet checksum: the native loops by kind, alone and behind Node-API, and one in TypeScript. */
import { BATCH_SIZE } from '../../dataplane/limits.ts'
import { native } from '../../native/native.ts'
import type { Quantity } from '../harness/quantity.ts'
import { alternate } from '../harness/rounds.ts'
import { median, pairedRatio, significant } from '../harness/statistics.ts'
import {
  type Figure,
  type Options,
  type Report,
  Skipped,
  type Suite,
  selected,
} from '../harness/suite.ts'
import { grouped, type Table } from '../harness/table.ts'
import {
  CALL_BYTES,
  type Contender,
  contender,
  newArena,
  typescript,
  WAYS,
  type Way,
} from './contenders.ts'

const ROUNDS = 5
const LEAST_ROUNDS = 3
const SECONDS = 0.05
const QUICK_SECONDS = 0.01
/** A small packet, a middling one, a full one, a jumbo frame, a superframe. */
const SIZES = [64, 256, 1500, 9000, 65_536]
const QUICK_SIZES = [64, 1500]
/** The packet that figures are about. */
const RATED_SIZE = 1500
const TYPESCRIPT = 'typescript'

export const checksum: Suite = {
  name: 'checksum',
  about: 'Internet checksum: AVX-512, AVX2 and scalar; alone, in batches, call by call; TypeScript',
  run,
}

type Samples = ReadonlyMap<number, Record<string, number[]>>

async function run(options: Options): Promise<Report> {
  const { quick = false } = options
  const kinds = native.checksumKinds()
  const ways = quick ? WAYS.filter(way => way !== 'kernel') : WAYS
  const all = kinds.flatMap(kind => ways.map(way => `${kind} ${way}`))
  const rounds = Math.max(LEAST_ROUNDS, options.rounds ?? (quick ? LEAST_ROUNDS : ROUNDS))
  const seconds = options.seconds ?? (quick ? QUICK_SECONDS : SECONDS)
  const notes = notesOf(rounds)
  const contenders = made(selected([...all, TYPESCRIPT], options), notes)
  const samples = new Map<number, Record<string, number[]>>()
  const usual = native.checksumKind()
  try {
    for (const each of contenders.values()) each.compare()
    for (const size of quick ? QUICK_SIZES : SIZES) {
      const names = [...contenders.keys()]
      const rate = (name: string) => contenders.get(name)!.rate(size, seconds)
      samples.set(size, await alternate(names, rounds, rate))
    }
  } finally {
    native.checksumForce(usual)
  }
  return report([...contenders.keys()], kinds[0]!, samples, notes)
}

function made(names: readonly string[], notes: string[]): Map<string, Contender> {
  const bytes = newArena()
  const found = new Map<string, Contender>()
  for (const name of names) {
    const [kind, way] = name.split(' ') as [string, Way]
    try {
      found.set(name, name === TYPESCRIPT ? typescript(bytes) : contender(kind, way, bytes))
    } catch (error) {
      if (!(error instanceof Skipped)) throw error
      notes.push(`${name} is left out: ${error.message}`)
    }
  }
  return found
}

function report(names: readonly string[], best: string, samples: Samples, notes: string[]): Report {
  const sizes = [...samples.keys()]
  const of = (name: string, size: number) => samples.get(size)?.[name]
  const table: Table = {
    title: 'checksum: GB/s, and ns a piece',
    head: ['contender', ...sizes.flatMap(size => [`${grouped(size)} B`, 'ns'])],
    rows: names.map(name => [
      name,
      ...sizes.flatMap(size => {
        const rate = median(of(name, size)!)
        return [grouped(rate / 1e9, 2), grouped((size / rate) * 1e9, 1)]
      }),
    ]),
  }
  const quantities: Record<string, Quantity> = {}
  const ratios: Record<string, number> = {}
  const figures: Record<string, Figure> = {}
  const put = (name: string, a: number[] | undefined, b: number[] | undefined) => {
    if (a && b) ratios[name] = significant(pairedRatio(a, b))
  }
  for (const size of sizes) {
    for (const name of names) {
      const unit = 'bytes/s'
      quantities[`${name} ${size} B`] = { unit, better: 'higher', samples: of(name, size)! }
    }
    const call = of(`${best} call`, size)
    put(`checksum_native_vs_scalar_${size}`, call, of('scalar call', size))
    put(`checksum_native_vs_typescript_${size}`, call, of(TYPESCRIPT, size))
    put(`checksum_batch_vs_call_${size}`, of(`${best} batch`, size), call)
  }
  for (const way of WAYS) {
    const rates = of(`${best} ${way}`, RATED_SIZE)
    const name = `checksum_${way}_${RATED_SIZE}_gigabytes_per_second`
    if (rates) figures[name] = { value: significant(median(rates) / 1e9), unit: 'GB/s' }
  }
  const document = Object.fromEntries(samples)
  return { samples: document, quantities, ratios, figures, tables: [table], notes }
}

function notesOf(rounds: number): string[] {
  return [
    `medians of ${rounds} rounds, order rotated; ${grouped(CALL_BYTES)} bytes, warm in the cache`,
    `"kernel": the loop alone, in a C++ program, by CPU time; "batch": a Node-API call for ` +
      `${BATCH_SIZE} pieces; "call": one a piece; "copy": one a piece, which copies too`,
    'every sum was compared with the naive one’s before it was timed, and their sum in each call',
  ]
}
