/** What the fib suite found, as tables, quantities and ratios. */
import { BATCH_SIZE } from '../../dataplane/limits.ts'
import type { Sort } from '../harness/contender.ts'
import type { Quantity } from '../harness/quantity.ts'
import { median, pairedRatio, quantile, significant } from '../harness/statistics.ts'
import type { Figure, Report } from '../harness/suite.ts'
import { grouped, type Table } from '../harness/table.ts'
import { KINDS, type Kind } from './traces.ts'

interface Which {
  contender: string
  sort: Sort
  family: 4 | 6
  /** Name of the table's size. */
  table: string
  routes: number
}

/** Lookups of one contender, a sample a round. */
export interface Lookups extends Which {
  trace: Kind
  perSecond: number[]
}

/** What one contender's table costs. */
export interface TableOf extends Which {
  buildMs: number[]
  /** Bytes of the region, and those that hold something. */
  bytes?: number
  usedBytes?: number
  updatesPerSecond?: number[]
}

/** Samples of this suite in the document. */
export interface FibSamples {
  lookups: readonly Lookups[]
  tables: readonly TableOf[]
}

export function report(
  lookups: readonly Lookups[],
  tables: readonly TableOf[],
  notes: readonly string[],
): Report {
  const samples: FibSamples = { lookups, tables }
  return {
    samples: { ...samples },
    quantities: quantities(samples),
    ratios: ratios(lookups),
    figures: figures(tables),
    tables: ([4, 6] as const).flatMap(family => tableOf(family, samples)),
    notes,
  }
}

function quantities({ lookups, tables }: FibSamples): Record<string, Quantity> {
  const found: Record<string, Quantity> = {}
  const put = (which: Which, what: string, quantity: Quantity) => {
    found[`${which.contender} IPv${which.family} ${which.table} ${what}`] = quantity
  }
  for (const row of lookups) {
    put(row, row.trace, { unit: 'lookups/s', better: 'higher', samples: row.perSecond })
  }
  for (const row of tables) {
    put(row, 'build', { unit: 'ms', better: 'lower', samples: row.buildMs })
    if (row.usedBytes !== undefined) {
      const samples = [row.usedBytes]
      put(row, 'memory', { unit: 'bytes', better: 'lower', samples, exact: true })
    }
    if (row.updatesPerSecond !== undefined) {
      const samples = row.updatesPerSecond
      put(row, 'updates', { unit: 'changes/s', better: 'higher', samples })
    }
  }
  return found
}

/** The table that ratios and figures are about. */
export const RATED_TABLE = 'full'
const RATED_TRACE: Kind = 'in table'

function ratios(lookups: readonly Lookups[]): Record<string, number> {
  const found: Record<string, number> = {}
  const rated = lookups.filter(({ table, trace }) => table === RATED_TABLE && trace === RATED_TRACE)
  const best = (family: 4 | 6, wanted: (row: Lookups) => boolean) =>
    rated.filter(row => row.family === family && wanted(row)).sort(byRate)[0]
  const put = (name: string, a: Lookups | undefined, b: Lookups | undefined) => {
    if (a && b) found[name] = significant(pairedRatio(a.perSecond, b.perSecond))
  }
  const sort = (wanted: Sort) => (row: Lookups) => row.sort === wanted
  const peer = (name: string) => (row: Lookups) =>
    row.sort === 'peer' && (row.contender === name || row.contender.startsWith(`${name} `))
  put('fib4_native_vs_rte_fib', best(4, sort('native')), best(4, peer('rte_fib')))
  put('fib4_ts_vs_rte_lpm', best(4, sort('typescript')), best(4, peer('rte_lpm')))
  put('fib4_ts_vs_rte_fib', best(4, sort('typescript')), best(4, peer('rte_fib')))
  put('fib6_native_vs_rte_fib6', best(6, sort('native')), best(6, peer('rte_fib6')))
  put('fib6_ts_vs_rte_lpm6', best(6, sort('typescript')), best(6, peer('rte_lpm6')))
  for (const row of rated.filter(sort('native'))) {
    const base = row.contender.replace('_native', '')
    const twin = rated.find(other => other.contender === base && other.family === row.family)
    put(`fib_${row.contender}_vs_ts`, row, twin)
  }
  return found
}

const byRate = (a: Lookups, b: Lookups): number => median(b.perSecond) - median(a.perSecond)

function figures(tables: readonly TableOf[]): Record<string, Figure> {
  const found: Record<string, Figure> = {}
  const rated = (family: 4 | 6) =>
    tables.filter(
      row =>
        row.family === family &&
        row.table === RATED_TABLE &&
        (row.sort === 'typescript' || row.sort === 'native'),
    )
  const least = (family: 4 | 6, pick: (row: TableOf) => number | undefined) =>
    Math.min(...rated(family).map(row => pick(row) ?? Infinity))
  const put = (name: string, value: number, unit: string) => {
    if (Number.isFinite(value)) found[name] = { value, unit }
  }
  const build = (family: 4 | 6) => least(family, row => median(row.buildMs))
  put('fib_full_build_seconds', (build(4) + build(6)) / 1000, 's')
  for (const family of [4, 6] as const) {
    const rates = rated(family).flatMap(({ updatesPerSecond }) =>
      updatesPerSecond === undefined ? [] : [median(updatesPerSecond)],
    )
    put(`fib${family}_updates_per_second`, Math.max(...rates), 'changes/s')
    put(
      `fib${family}_smallest_bytes`,
      least(family, row => row.usedBytes),
      'bytes',
    )
  }
  return found
}

function tableOf(family: 4 | 6, { lookups, tables }: FibSamples): Table[] {
  const mine = lookups.filter(row => row.family === family)
  if (mine.length === 0) return []
  const kinds = KINDS.filter(kind => mine.some(row => row.trace === kind))
  const rows = tables
    .filter(row => row.family === family)
    .map(of => {
      const own = mine.filter(row => row.contender === of.contender && row.table === of.table)
      const rate = (kind: Kind) => own.find(row => row.trace === kind)?.perSecond
      const spreads = own.map(({ perSecond }) => spread(perSecond))
      return [
        `${of.contender} ${of.table}`,
        grouped(of.routes),
        ...kinds.map(kind => (rate(kind) ? cell(kind, median(rate(kind)!)) : '-')),
        spreads.length > 0 ? grouped(100 * Math.max(...spreads), 1) : '-',
        grouped(median(of.buildMs), 1),
        of.usedBytes === undefined ? '-' : grouped(of.usedBytes / 2 ** 20, 2),
        of.updatesPerSecond === undefined ? '-' : grouped(median(of.updatesPerSecond) / 1000),
      ]
    })
  const title =
    `fib IPv${family}: million lookups/s in batches of ${BATCH_SIZE}; dependent ones in ns; ` +
    'spread: widest half of the samples, %'
  const head = [
    'FIB, table',
    'routes',
    ...kinds.map(unitOf),
    '± %',
    'build ms',
    'MiB',
    'updates k/s',
  ]
  return [{ title, head, rows }]
}

const unitOf = (kind: Kind): string => (kind === 'dependent' ? 'dependent ns' : kind)

function cell(kind: Kind, rate: number): string {
  return kind === 'dependent' ? grouped(1e9 / rate, 1) : grouped(rate / 1e6, 1)
}

/** The width of the middle half of the samples, of their median. */
function spread(samples: readonly number[]): number {
  return (quantile(samples, 0.75) - quantile(samples, 0.25)) / median(samples)
}
