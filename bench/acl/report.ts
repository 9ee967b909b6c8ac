/** What the acl suite found, as tables, quantities and ratios. */
import { BATCH_SIZE } from '../../dataplane/limits.ts'
import type { Sort } from '../harness/contender.ts'
import type { Quantity } from '../harness/quantity.ts'
import { median, pairedRatio, quantile, significant } from '../harness/statistics.ts'
import type { Report } from '../harness/suite.ts'
import { grouped, type Table } from '../harness/table.ts'

interface Which {
  contender: string
  sort: Sort
  /** Name of the rule set. */
  set: string
  rules: number
}

/** Headers of one trace, a sample a round. */
export interface Classified extends Which {
  trace: string
  perSecond: number[]
}

/** What one contender's rules cost. */
export interface TableOf extends Which {
  buildMs: number[]
  /** Bytes of the region, and those in pages that hold something. */
  bytes?: number
  usedBytes?: number
  /** Of those that change in place; the others' update is a build. */
  changesPerSecond?: number[]
}

/** Samples of this suite in the document. */
export interface AclSamples {
  classified: readonly Classified[]
  tables: readonly TableOf[]
}

export function report(samples: AclSamples, notes: readonly string[]): Report {
  return {
    samples: { ...samples },
    quantities: quantities(samples),
    ratios: ratios(samples.classified),
    tables: [ratesTable(samples.classified), costsTable(samples.tables)],
    notes,
  }
}

function quantities({ classified, tables }: AclSamples): Record<string, Quantity> {
  const found: Record<string, Quantity> = {}
  for (const { contender, set, trace, perSecond } of classified) {
    const name = `${contender} ${set} ${trace}`
    found[name] = { unit: 'headers/s', better: 'higher', samples: perSecond }
  }
  for (const { contender, set, buildMs, usedBytes, changesPerSecond } of tables) {
    const put = (what: string, quantity: Quantity) => {
      found[`${contender} ${set} ${what}`] = quantity
    }
    put('build', { unit: 'ms', better: 'lower', samples: buildMs })
    if (usedBytes !== undefined) {
      put('memory', { unit: 'bytes', better: 'lower', samples: [usedBytes], exact: true })
    }
    if (changesPerSecond !== undefined) {
      put('updates', { unit: 'changes/s', better: 'higher', samples: changesPerSecond })
    }
  }
  return found
}

/** The sets that ratios are the geometric mean over. */
const RATED_SETS = ['acl1_10k', 'fw1_10k', 'ipc1_10k']

/** Picks one of the rows of a set. */
type Pick = (rows: readonly Classified[]) => Classified | undefined

function ratios(classified: readonly Classified[]): Record<string, number> {
  const sets = RATED_SETS.map(set => classified.filter(row => row.set === set))
  const found: Record<string, number> = {}
  const put = (name: string, a: Pick, b: Pick) => {
    const parts = sets.map(rows => [a(rows), b(rows)] as const)
    if (!parts.every(([first, second]) => first && second)) return
    const logs = parts.map(([first, second]) =>
      Math.log(pairedRatio(first!.perSecond, second!.perSecond)),
    )
    found[name] = significant(Math.exp(logs.reduce((sum, log) => sum + log, 0) / logs.length))
  }
  put('acl_native_vs_rte_acl', best('native'), best('peer'))
  put('acl_ts_vs_rte_acl', best('typescript'), best('peer'))
  put('acl_tuplemerge_vs_tss', named('tuplemerge4'), named('tss4'))
  for (const name of new Set(classified.map(row => row.contender))) {
    const base = name.replace('_native', '')
    if (base === name) continue
    put(`acl_${base.replace(/4$/, '')}_native_vs_ts`, named(name), named(base))
  }
  return found
}

const best =
  (sort: Sort): Pick =>
  rows =>
    rows
      .filter(row => row.sort === sort)
      .sort((a, b) => median(b.perSecond) - median(a.perSecond))[0]

const named =
  (name: string): Pick =>
  rows =>
    rows.find(row => row.contender === name)

/** A row is a contender, a column a set and trace. */
function ratesTable(classified: readonly Classified[]): Table {
  const columnOf = ({ set, trace }: Classified) => `${set}, ${trace}`
  const columns = [...new Set(classified.map(columnOf))]
  const contenders = [...new Set(classified.map(({ contender }) => contender))]
  const spread = ({ perSecond }: Classified) =>
    (quantile(perSecond, 0.75) - quantile(perSecond, 0.25)) / median(perSecond)
  const rows = columns.map(column => {
    const here = classified.filter(row => columnOf(row) === column)
    const cells = contenders.map(name => {
      const row = here.find(({ contender }) => contender === name)
      return row === undefined ? '-' : grouped(median(row.perSecond) / 1e6, 2)
    })
    const widest = Math.max(...here.map(spread))
    return [column, grouped(here[0]!.rules), ...cells, grouped(100 * widest, 1)]
  })
  const title = `acl: million headers/s in batches of ${BATCH_SIZE}; spread: widest half of the samples, %`
  return { title, head: ['rules, trace', 'rules', ...contenders, '± %'], rows }
}

function costsTable(tables: readonly TableOf[]): Table {
  const rows = tables.map(of => [
    `${of.contender} ${of.set}`,
    grouped(of.rules),
    grouped(median(of.buildMs), 1),
    of.usedBytes === undefined ? '-' : grouped(of.usedBytes / 2 ** 10),
    of.bytes === undefined ? '-' : grouped(of.bytes / 2 ** 10),
    of.changesPerSecond === undefined ? '-' : grouped(median(of.changesPerSecond) / 1000, 1),
  ])
  return {
    title: 'acl: what the rules cost; without an update rate, a change costs a build',
    head: ['ACL, rules', 'rules', 'build ms', 'KiB used', 'KiB', 'updates k/s'],
    rows,
  }
}
