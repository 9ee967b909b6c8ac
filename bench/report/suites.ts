/** Charts and tables of any suite, from its quantities alone. */
import type { Document } from '../harness/document.ts'
import type { Measured } from '../harness/quantity.ts'
import { grouped } from '../harness/table.ts'
import { dotChart, type Row } from './chart.ts'
import { Looks, legend } from './looks.ts'
import { el, type Markup } from './markup.ts'
import { short, withUnit } from './scale.ts'

type Quantities = Record<string, Measured>

/** A legend of all contenders, and one chart a unit: a row is a workload, a dot a contender. */
export function suiteCharts(quantities: Quantities): Markup[] {
  const looks = new Looks()
  const contenders = new Set<string>()
  const byUnit = new Map<string, Map<string, Row['dots'][number][]>>()
  for (const [name, quantity] of Object.entries(quantities)) {
    // Nothing that is not above zero has a place on a logarithmic axis.
    if (!(quantity.low > 0)) continue
    const { contender, workload } = partsOf(name, quantity)
    contenders.add(contender)
    const { unit, median: y, low, high } = quantity
    const rows = entry(byUnit, unit, () => new Map())
    const dot = { look: looks.of(contender), y, low, high, title: sentence(name, quantity) }
    entry(rows, workload, () => []).push(dot)
  }
  const charts = [...byUnit].map(([unit, rows]) => {
    const shown = [...rows].map(([name, dots]) => ({ name, dots }))
    const title = shown.length > 1 ? 'by workload' : shown[0]!.name
    return el('div', { class: 'wide' }, dotChart({ title, unit, rows: shown }))
  })
  return [...(contenders.size > 1 ? [legend([...contenders], looks)] : []), ...charts]
}

function entry<K, V>(map: Map<K, V>, key: K, make: () => V): V {
  let found = map.get(key)
  if (found === undefined) {
    found = make()
    map.set(key, found)
  }
  return found
}

function partsOf(name: string, { contender, workload }: Measured) {
  const [first, ...rest] = name.split(' ')
  return { contender: contender ?? first!, workload: workload ?? (rest.join(' ') || first!) }
}

function sentence(name: string, { unit, median, low, high, samples }: Measured): string {
  const spread = samples.length > 1 ? ` (${withUnit(low, unit)} to ${withUnit(high, unit)})` : ''
  return `${name}: ${withUnit(median, unit)}${spread}`
}

/** All quantities of a suite, folded away. */
export function quantityTable(quantities: Quantities): Markup {
  const rows = Object.entries(quantities).map(([name, { unit, median, low, high, samples }]) =>
    el(
      'tr',
      {},
      [name, unit, exactly(median), exactly(low), exactly(high), String(samples.length)].map(cell =>
        el('td', {}, cell),
      ),
    ),
  )
  const head = ['quantity', 'unit', 'median', 'lower quartile', 'upper quartile', 'samples']
  return el(
    'details',
    {},
    el('summary', {}, `all ${grouped(rows.length)} quantities`),
    table(head, rows),
  )
}

/** As the text tables have it: short numbers with two digits, long ones whole. */
function exactly(value: number): string {
  return Math.abs(value) < 1000 ? String(Number(value.toPrecision(4))) : grouped(value)
}

export function table(head: readonly string[], rows: readonly Markup[]): Markup {
  return el(
    'div',
    { class: 'scroll' },
    el(
      'table',
      {},
      el(
        'thead',
        {},
        el(
          'tr',
          {},
          head.map(cell => el('th', {}, cell)),
        ),
      ),
      el('tbody', {}, rows),
    ),
  )
}

/** Measurements in which V8 gave code up or collected garbage; a sentence when there are none. */
export function disturbances(of: Document['disturbances'][string] | undefined): Markup | undefined {
  const all = Object.entries(of ?? {})
  if (all.length === 0) return undefined
  const seen = all.filter(([, { deopts, gcs }]) => deopts > 0 || gcs > 0)
  const counted = `${grouped(all.length)} measurements after warm-up`
  if (seen.length === 0) {
    return el('p', { class: 'about' }, `No deoptimisation, no garbage collection in ${counted}.`)
  }
  const rows = seen.map(([name, { deopts, gcs, gcMs, functions }]) =>
    el(
      'tr',
      {},
      [name, String(deopts), String(gcs), short(gcMs)].map(cell => el('td', {}, cell)),
      el('td', { class: 'text' }, functions.join('; ')),
    ),
  )
  const title = `deoptimisations or garbage collections in ${seen.length} of ${counted}`
  const head = ['measurement', 'deopts', 'GCs', 'GC ms', 'deoptimised']
  return el('details', {}, el('summary', {}, title), table(head, rows))
}
