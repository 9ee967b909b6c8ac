/** What the flow suite found, as tables, quantities and ratios. */
import type { Quantity } from '../harness/quantity.ts'
import { median, pairedRatio, significant } from '../harness/statistics.ts'
import type { Report } from '../harness/suite.ts'
import { grouped, type Table } from '../harness/table.ts'

/** Keys or flows a second, a sample a round. */
export interface Sample {
  contender: string
  /** Flows in the table, as SIZES names them. */
  size: string
  kind: string
  perSecond: number[]
  bytes?: number
}

const RATED = '1M'

export function report(samples: readonly Sample[], notes: readonly string[]): Report {
  const probes = samples.filter(({ kind }) => kind !== 'hash')
  return {
    samples: { flows: samples },
    quantities: quantities(samples),
    ratios: ratios(samples),
    tables: [
      rates(probes, ['hit', 'miss', 'hash and hit'], 'flow: probes, M keys/s (ns)'),
      rates(probes, ['insert', 'age'], 'flow: changes, M flows/s (ns)'),
      {
        title: 'flow: hashes of IPv4 flow keys',
        head: ['hash', 'M keys/s', 'ns'],
        rows: samples
          .filter(({ kind }) => kind === 'hash')
          .map(({ contender, perSecond }) => [
            contender,
            grouped(median(perSecond) / 1e6, 1),
            grouped(1e9 / median(perSecond), 1),
          ]),
      },
    ],
    notes,
  }
}

function quantities(samples: readonly Sample[]): Record<string, Quantity> {
  const found: Record<string, Quantity> = {}
  for (const { contender, size, kind, perSecond, bytes } of samples) {
    const unit = kind === 'insert' || kind === 'age' ? 'flows/s' : 'keys/s'
    const workload = `${size} ${kind}`
    found[`${contender} ${workload}`] = {
      unit,
      better: 'higher',
      samples: perSecond,
      contender,
      workload,
    }
    if (bytes === undefined) continue
    found[`${contender} ${size} memory`] = {
      unit: 'bytes',
      better: 'lower',
      samples: [bytes],
      exact: true,
      contender,
      workload: `${size} memory`,
    }
  }
  return found
}

function ratios(samples: readonly Sample[]): Record<string, number> {
  const found: Record<string, number> = {}
  const of = (contender: string | undefined, kind: string) =>
    samples.find(each => each.size === RATED && each.kind === kind && each.contender === contender)
  const put = (name: string, a: Sample | undefined, b: Sample | undefined) => {
    if (a && b) found[name] = significant(pairedRatio(a.perSecond, b.perSecond))
  }
  const [ts, twin] = [of('cuckoo', 'hit'), of('cuckoo_native', 'hit')]
  put('flow_ts_vs_native', ts, twin)
  put('flow_native_vs_ts', twin, ts)
  put('flow_cuckoo_vs_linear', ts, of('linear', 'hit'))
  put('flow_cuckoo_vs_linear_miss', of('cuckoo', 'miss'), of('linear', 'miss'))
  const peer = samples
    .filter(({ size, contender }) => size === RATED && contender.startsWith('rte_'))
    .toSorted((a, b) => median(b.perSecond) - median(a.perSecond))[0]
  put('flow_ts_vs_rte_hash', of('cuckoo', 'hash and hit'), peer)
  put('flow_hash_and_native_vs_rte_hash', of('cuckoo_native', 'hash and hit'), peer)
  return found
}

/** A row is a size and kind, a column a contender. */
function rates(samples: readonly Sample[], kinds: readonly string[], title: string): Table {
  const mine = samples.filter(({ kind }) => kinds.includes(kind))
  const contenders = [...new Set(mine.map(({ contender }) => contender))]
  const rows: string[][] = []
  for (const size of new Set(mine.map(each => each.size))) {
    for (const kind of kinds) {
      const cells = contenders.map(name => {
        const here = mine.find(
          each => each.contender === name && each.size === size && each.kind === kind,
        )
        if (here === undefined) return ''
        const rate = median(here.perSecond)
        return `${grouped(rate / 1e6, 2)} (${grouped(1e9 / rate, 1)})`
      })
      rows.push([`${size}, ${kind}`, ...cells])
    }
  }
  return { title, head: ['flows', ...contenders], rows }
}
