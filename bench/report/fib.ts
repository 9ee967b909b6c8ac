/** The charts of the fib suite. */
import { type FibSamples, type Lookups, RATED_TABLE, type TableOf } from '../fib/report.ts'
import { KINDS } from '../fib/traces.ts'
import { barOf } from '../harness/bars.ts'
import { median, quantile } from '../harness/statistics.ts'
import { grouped } from '../harness/table.ts'
import { dotChart, type Limit, type Look, lineChart, type Row, type Series } from './chart.ts'
import { Looks, legend } from './looks.ts'
import { el, type Markup } from './markup.ts'
import { withUnit } from './scale.ts'

/** Lookups by table size, one chart a trace; then what one table costs. */
export function fibCharts({ lookups, tables }: FibSamples): Markup[] {
  return ([4, 6] as const).flatMap(family => {
    const mine = lookups.filter(row => row.family === family)
    const costs = tables.filter(row => row.family === family)
    return mine.length === 0 ? [] : familyCharts(family, mine, costs)
  })
}

function familyCharts(
  family: 4 | 6,
  lookups: readonly Lookups[],
  tables: readonly TableOf[],
): Markup[] {
  const looks = new Looks()
  const names = [...new Set(lookups.map(row => row.contender))]
  for (const name of names) looks.of(name)
  const sizes = new Map(lookups.map(({ table, routes }) => [table, routes]))
  const ticks = [...sizes].map(([label, x]) => ({ x, label }))
  const bySize = [...sizes].sort((a, b) => b[1] - a[1])
  const [largest, routes] = bySize.find(([name]) => name === RATED_TABLE) ?? bySize[0]!
  const kinds = KINDS.filter(kind => lookups.some(row => row.trace === kind))
  const found: Markup[] = [
    el('h3', {}, `IPv${family}`),
    legend(
      names.toSorted((a, b) => best(lookups, b, largest) - best(lookups, a, largest)),
      looks,
    ),
  ]
  if (ticks.length > 1) {
    const charts = kinds.map(kind =>
      lineChart({
        title: `IPv${family}, ${kind}, by routes of the table`,
        unit: 'lookups/s',
        ticks,
        series: names.map(name => series(name, looks.of(name), lookups, kind)),
      }),
    )
    found.push(el('div', { class: 'charts' }, charts))
  }
  const of = `IPv${family}, ${grouped(routes)} routes`
  found.push(
    wide(
      dotChart({
        title: `${of}: by trace`,
        unit: 'lookups/s',
        rows: kinds.flatMap(kind => traceRow(kind, largest, lookups, looks)),
      }),
    ),
    ...costCharts(
      of,
      family,
      tables.filter(row => row.table === largest),
      looks,
    ),
  )
  return found
}

const wide = (chart: Markup): Markup => el('div', { class: 'wide' }, chart)

function best(lookups: readonly Lookups[], contender: string, table: string): number {
  const rates = lookups
    .filter(row => row.contender === contender && row.table === table)
    .map(row => median(row.perSecond))
  return Math.max(0, ...rates)
}

function series(name: string, look: Look, lookups: readonly Lookups[], kind: string): Series {
  const mine = lookups.filter(row => row.contender === name && row.trace === kind)
  return {
    name,
    look,
    points: mine.map(row => ({
      x: row.routes,
      ...summary(`${name}, ${row.table}, ${kind}`, row.perSecond, 'lookups/s'),
    })),
  }
}

/** Median, quartiles, and the sentence of a tooltip. */
function summary(what: string, samples: readonly number[], unit: string) {
  const [y, low, high] = [median(samples), quantile(samples, 0.25), quantile(samples, 0.75)]
  const spread = samples.length > 1 ? ` (${withUnit(low, unit)} to ${withUnit(high, unit)})` : ''
  return { y, low, high, title: `${what}: ${withUnit(y, unit)}${spread}` }
}

function traceRow(kind: string, table: string, lookups: readonly Lookups[], looks: Looks): Row[] {
  const dots = lookups
    .filter(row => row.trace === kind && row.table === table)
    .map(row => ({
      look: looks.of(row.contender),
      ...summary(`${row.contender}, ${kind}`, row.perSecond, 'lookups/s'),
    }))
  return dots.length === 0 ? [] : [{ name: kind, dots }]
}

function costCharts(of: string, family: 4 | 6, tables: readonly TableOf[], looks: Looks): Markup[] {
  const chart = (
    title: string,
    unit: string,
    pick: (row: TableOf) => readonly number[] | undefined,
    limit?: Limit,
  ): Markup[] => {
    const rows = tables.flatMap((row): Row[] => {
      const samples = pick(row)
      if (samples === undefined || samples.length === 0) return []
      const dot = { look: looks.of(row.contender), ...summary(row.contender, samples, unit) }
      return [{ name: row.contender, dots: [dot] }]
    })
    if (rows.length === 0) return []
    rows.sort((a, b) => a.dots[0]!.y - b.dots[0]!.y)
    const shown = { title: `${of}: ${title}`, unit, rows }
    return [wide(dotChart(limit === undefined ? shown : { ...shown, limit }))]
  }
  return [
    ...chart(
      'memory',
      'bytes',
      row => (row.usedBytes === undefined ? undefined : [row.usedBytes]),
      limitOf(`fib${family}_smallest_bytes`, 'bytes'),
    ),
    ...chart(
      'changes beside a reader',
      'changes/s',
      row => row.updatesPerSecond,
      limitOf(`fib${family}_updates_per_second`, 'changes/s'),
    ),
    ...chart('time to build', 'ms', row => row.buildMs),
  ]
}

/** The bar of a figure, as a line. */
function limitOf(name: string, unit: string): Limit | undefined {
  const bar = barOf(name)
  const value = bar?.atLeast ?? bar?.atMost
  if (value === undefined) return undefined
  const sign = bar?.atLeast === undefined ? '≤' : '≥'
  return { value, label: `the best: ${sign} ${withUnit(value, unit)}` }
}
