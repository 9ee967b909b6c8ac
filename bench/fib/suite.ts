/** Route lookups: every FIB of the registry, on tables of several sizes. */

import type { FibReader } from '../../dataplane/fib/fib.ts'
import { fibByName, fibNames } from '../../dataplane/fib/index.ts'
import { BATCH_SIZE } from '../../dataplane/limits.ts'
import { alternate } from '../harness/rounds.ts'
import { median, pairedRatio, significant } from '../harness/statistics.ts'
import { type Options, progress, type Report, type Suite, selected } from '../harness/suite.ts'
import { grouped, type Table } from '../harness/table.ts'
import { fullTable, fullTablePath, type RouteTable } from './full-table.ts'
import { callsPerSecond } from './micro.ts'
import { addressesAnywhere, addressesIn, bruteForce, randomTable } from './workload.ts'

const ROUNDS = 5
const LEAST_ROUNDS = 3
const SECONDS = 0.1
const SIZES = [1, 1024, 16_384]
/** Addresses of one call, more than caches hold of a large table; few for the FIB that reads all routes for each. */
const ADDRESSES = 1024 * BATCH_SIZE
const LINEAR_STEPS = 1 << 22
/** Answers that are compared with the reading of the whole table. */
const COMPARED = 256

export const fib: Suite = {
  name: 'fib',
  about: 'route lookups: every algorithm of dataplane/fib, the linear oracle',
  run,
}

const KINDS = ['in table', 'anywhere'] as const
type Kind = (typeof KINDS)[number]

interface Contender {
  fib: string
  family: 4 | 6
  size: string
  routes: number
  bytes: number
  buildMs: number
  /** Calls a second and lookups a call, by kind. */
  work: Record<Kind, { lookups: number; expected: number; call: () => number }>
}

async function run(options: Options): Promise<Report> {
  const all = ([4, 6] as const).flatMap(fibNames)
  const names = selected(all, options)
  const rounds = Math.max(LEAST_ROUNDS, options.rounds ?? ROUNDS)
  const seconds = options.seconds ?? SECONDS
  const notes = [
    `medians of ${rounds} rounds, order rotated; ${grouped(ADDRESSES)} different addresses ` +
      `(fewer for linear ones) in batches of ${BATCH_SIZE}; ` +
      '"in table": each address lies in a route, chosen evenly',
    'bytes are laid out for the table’s size; pages that no route needs are never touched',
  ]
  const rows: { of: Contender; samples: Record<Kind, number[]> }[] = []
  for (const family of [4, 6] as const) {
    const mine = names.filter(name => fibNames(family).includes(name))
    if (mine.length === 0) continue
    for (const [size, table] of tables(family, notes)) {
      const contenders = new Map<string, Contender>()
      for (const name of mine) {
        if (size === 'full' && name.startsWith('linear')) continue
        contenders.set(name, build(name, size, table))
      }
      const samples = await alternate([...contenders.keys()], rounds, async name => {
        const found: Partial<Record<Kind, number>> = {}
        for (const kind of KINDS) {
          const { lookups, expected, call } = contenders.get(name)!.work[kind]
          const label = `${name} ${size} ${kind}`
          found[kind] = lookups * (await callsPerSecond(label, seconds, expected, call))
        }
        return found as Record<Kind, number>
      })
      for (const [name, of] of contenders) {
        const by = (kind: Kind) => samples[name]!.map(sample => sample[kind])
        rows.push({ of, samples: { 'in table': by('in table'), anywhere: by('anywhere') } })
      }
    }
  }
  return report(rows, notes)
}

/** By the name of the size; the full table only where there is one. */
function* tables(family: 4 | 6, notes: string[]): Iterable<[string, RouteTable]> {
  for (const size of SIZES) yield [String(size), randomTable(family, size)]
  const full = fullTable(family)
  if (full !== undefined) yield ['full', full]
  else notes.push(`no full IPv${family} table: ${fullTablePath} is not there`)
}

/** Builds the FIB, and compares what it answers. */
function build(name: string, size: string, table: RouteTable): Contender {
  progress(`fib building ${name} of ${table.count} routes`)
  const { family } = table
  const words = family === 4 ? 1 : 4
  const algorithm = fibByName(name, family)
  const limits = { routes: table.count }
  const bytes = algorithm.bytes(limits)
  const memory = new Uint8Array(new SharedArrayBuffer(bytes))
  const started = performance.now()
  const writer = algorithm.writer(memory, limits)
  for (let i = 0; i < table.count; i++) {
    const address = table.addresses.subarray(i * words, (i + 1) * words)
    writer.insert(address, table.lengths[i]!, table.nextHops[i]!)
  }
  const buildMs = performance.now() - started
  const reader = algorithm.reader(memory, limits)
  const n = name.startsWith('linear')
    ? Math.min(ADDRESSES, Math.max(BATCH_SIZE, Math.floor(LINEAR_STEPS / table.count)))
    : ADDRESSES
  const work = (addresses: Uint32Array) => {
    compare(name, table, reader, addresses)
    const call = summing(reader, addresses, words)
    return { lookups: n, expected: call(), call }
  }
  return {
    fib: name,
    family,
    size,
    routes: table.count,
    bytes,
    buildMs,
    work: {
      'in table': work(addressesIn(table, n)),
      anywhere: work(addressesAnywhere(family, n)),
    },
  }
}

/** Throws unless the FIB answers the first addresses as the whole table, read route by route. */
function compare(name: string, table: RouteTable, reader: FibReader, addresses: Uint32Array): void {
  const words = table.family === 4 ? 1 : 4
  const n = Math.min(COMPARED, addresses.length / words)
  const found = new Uint16Array(n)
  reader.lookup(addresses, n, found)
  for (let i = 0; i < n; i++) {
    const address = addresses.subarray(i * words, (i + 1) * words)
    const right = bruteForce(table, address)
    if (found[i] !== right) {
      throw new Error(`${name}, ${table.count} routes: ${address} has ${right}, not ${found[i]}`)
    }
  }
}

/** Looks all addresses up and sums the answers. */
function summing(reader: FibReader, addresses: Uint32Array, words: number): () => number {
  const n = addresses.length / words
  const batches: { addresses: Uint32Array; n: number }[] = []
  for (let i = 0; i < n; i += BATCH_SIZE) {
    const end = Math.min(n, i + BATCH_SIZE)
    batches.push({ addresses: addresses.subarray(i * words, end * words), n: end - i })
  }
  const found = new Uint16Array(BATCH_SIZE)
  return () => {
    let sum = 0
    for (const batch of batches) {
      reader.lookup(batch.addresses, batch.n, found)
      for (let i = 0; i < batch.n; i++) sum += found[i]!
    }
    return sum
  }
}

function report(
  rows: readonly { of: Contender; samples: Record<Kind, number[]> }[],
  notes: readonly string[],
): Report {
  const samples: Record<string, unknown> = {}
  const ratios: Record<string, number> = {}
  const cells: string[][] = []
  for (const { of, samples: lookups } of rows) {
    samples[`${of.fib} ${of.size}`] = {
      routes: of.routes,
      bytes: of.bytes,
      buildMs: of.buildMs,
      lookupsPerSecond: lookups,
    }
    const rate = (kind: Kind) => median(lookups[kind])
    cells.push([
      `${of.fib} ${of.size}`,
      grouped(of.routes),
      grouped(rate('in table') / 1e6, 2),
      grouped(1e9 / rate('in table'), 1),
      grouped(rate('anywhere') / 1e6, 2),
      grouped(1e9 / rate('anywhere'), 1),
      grouped(of.buildMs, 1),
      grouped(of.bytes / 2 ** 20, 2),
    ])
    const linear = rows.find(row => row.of.fib === `linear${of.family}` && row.of.size === of.size)
    if (linear !== undefined && linear.of !== of) {
      ratios[`fib_${of.fib}_vs_linear_${of.size}`] = significant(
        pairedRatio(lookups['in table'], linear.samples['in table']),
      )
    }
  }
  const table: Table = {
    title: 'fib: lookups',
    head: ['FIB, table', 'routes', 'in table M/s', 'ns', 'anywhere M/s', 'ns', 'build ms', 'MiB'],
    rows: cells,
  }
  return { samples, ratios, tables: [table], notes }
}
