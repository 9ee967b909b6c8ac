/**
 * What changed between two runs of the bench, beyond noise.
 *
 * A quantity has changed when both hold:
 *
 *   1. the samples of the two runs are told apart by the exact Mann-Whitney test with p <= ALPHA.
 *      It asks nothing of their distribution and is exact for few samples: with five on each side
 *      it says so only when all of one run lie beyond all of the other (p = 0.008), and with fewer
 *      than five it never can, so those are *undecided* instead;
 *   2. the medians differ by more than `margin`: samples of one run lie close together, but two
 *      runs of the same code still differ by what the machine did in the two hours.
 *
 * Exact quantities (bytes) have changed when they differ. A change is *worse* or *better* by the
 * quantity's own direction.
 */
import type { Document } from '../harness/document.ts'
import type { Measured } from '../harness/quantity.ts'
import { mannWhitney } from '../harness/statistics.ts'

export const ALPHA = 0.01
/** Smallest relative difference of medians that counts, unless the caller says otherwise. */
export const MARGIN = 0.1
/** Least samples with which the test can reach ALPHA. */
export const LEAST_SAMPLES = 5

export type Verdict = 'better' | 'worse' | 'changed' | 'same' | 'undecided'

export interface Change {
  suite: string
  name: string
  unit: string
  before: number
  after: number
  /** `after / before`. */
  ratio: number
  /** Of the Mann-Whitney test; undefined for exact quantities. */
  p?: number
  verdict: Verdict
}

export interface Comparison {
  changes: Change[]
  /** Quantities of one document only: `suite name`. */
  onlyBefore: string[]
  onlyAfter: string[]
  /** What the reader should know, though the documents may be compared. */
  warnings: string[]
}

/** Why two documents must not be compared; empty when they may. */
export function obstacles(a: Document, b: Document): string[] {
  const found: string[] = []
  const differ = (what: string, one: unknown, other: unknown) => {
    if (one !== other) found.push(`different ${what}: ${one} and ${other}`)
  }
  differ('CPUs', a.machine.cpu, b.machine.cpu)
  differ('numbers of cores', a.machine.cores, b.machine.cores)
  const suites = (of: Document) => Object.keys(of.quantities).sort().join(' ') || 'none'
  differ('suites', suites(a), suites(b))
  if (a.quick || b.quick) {
    if (a.quick !== b.quick) found.push('one is a quick run, the other is not')
  }
  return found
}

/** Compares run `b` with the earlier run `a`. The caller has asked for `obstacles`. */
export function compare(a: Document, b: Document, margin: number = MARGIN): Comparison {
  const warnings: string[] = []
  for (const key of ['kernel', 'node'] as const) {
    if (a.machine[key] !== b.machine[key]) {
      warnings.push(`different ${key}: ${a.machine[key]} and ${b.machine[key]}`)
    }
  }
  if (a.quick) warnings.push('quick runs: their figures mean nothing')
  const changes: Change[] = []
  const onlyBefore: string[] = []
  const onlyAfter: string[] = []
  for (const [suite, before] of Object.entries(a.quantities)) {
    const after = b.quantities[suite] ?? {}
    for (const [name, one] of Object.entries(before)) {
      const other = after[name]
      if (other === undefined) onlyBefore.push(`${suite} ${name}`)
      else changes.push({ suite, name, unit: one.unit, ...judge(one, other, margin) })
    }
    onlyAfter.push(
      ...Object.keys(after)
        .filter(name => !(name in before))
        .map(name => `${suite} ${name}`),
    )
  }
  return { changes, onlyBefore, onlyAfter, warnings }
}

/** Compares one quantity. */
export function judge(
  a: Measured,
  b: Measured,
  margin: number,
): Pick<Change, 'before' | 'after' | 'ratio' | 'p' | 'verdict'> {
  const ratio = a.median === 0 && b.median === 0 ? 1 : b.median / a.median
  const found = { before: a.median, after: b.median, ratio }
  const direction = () => {
    if (a.better === 'neither') return 'changed'
    return b.median > a.median === (a.better === 'higher') ? 'better' : 'worse'
  }
  if (a.exact) return { ...found, verdict: a.median === b.median ? 'same' : direction() }
  const p = mannWhitney(a.samples, b.samples)
  const beyond = Math.max(ratio, 1 / ratio) > 1 + margin
  if (!beyond) return { ...found, p, verdict: 'same' }
  if (Math.min(a.samples.length, b.samples.length) < LEAST_SAMPLES) {
    return { ...found, p, verdict: 'undecided' }
  }
  return { ...found, p, verdict: p <= ALPHA ? direction() : 'same' }
}
