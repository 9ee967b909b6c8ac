/** Measured quantities: what a bench's document says of each, and how they are found in samples. */
import { median, quantile } from './statistics.ts'

export interface Quantity {
  /** Of one sample, after SI: 'lookups/s', 'ns', 'bytes'. */
  unit: string
  better: 'higher' | 'lower' | 'neither'
  samples: readonly number[]
  /** The same in every run of the same code: any difference is a change. */
  exact?: boolean
  /** For charts: what is compared, and on what; absent: the first word of the name, and the others. */
  contender?: string
  workload?: string
}

export interface Measured extends Quantity {
  median: number
  /** Quartiles: half of the samples lie between them. */
  low: number
  high: number
}

export function measured(quantity: Quantity): Measured {
  const { samples } = quantity
  return {
    ...quantity,
    median: median(samples),
    low: quantile(samples, 0.25),
    high: quantile(samples, 0.75),
  }
}

type Kind = Pick<Quantity, 'unit' | 'better' | 'exact'>

/** What the name of a column says of its numbers; for suites that list no quantities. */
const KINDS: readonly [RegExp, Kind][] = [
  [/([pP]erSecond|[rR]ate|ops)$/, { unit: '/s', better: 'higher' }],
  [/([nN]s|^add|^del)$/, { unit: 'ns', better: 'lower' }],
  [/[mM]s$/, { unit: 'ms', better: 'lower' }],
  [/[bB]ytes$/, { unit: 'bytes', better: 'lower', exact: true }],
]
/** Depth to which samples are looked through. */
const MAX_DEPTH = 6

/** The quantities that a suite's samples hold: arrays of numbers, or of objects with numbers, under names of KINDS. */
export function quantitiesIn(samples: unknown): Record<string, Quantity> {
  const found: Record<string, Quantity> = {}
  walk(samples, [], found)
  return found
}

function walk(value: unknown, path: readonly string[], found: Record<string, Quantity>): void {
  if (path.length > MAX_DEPTH || value === null || typeof value !== 'object') return
  for (const [key, inner] of Object.entries(value)) {
    const name = [...path, key]
    if (isNumbers(inner)) put(name, key, inner, found)
    else if (typeof inner === 'number') put(name, key, [inner], found)
    else if (isObjects(inner)) {
      for (const column of Object.keys(inner[0]!)) {
        const numbers = inner.map(row => row[column])
        if (isNumbers(numbers)) put([...name, column], column, numbers, found)
      }
    } else walk(inner, name, found)
  }
}

function put(
  name: readonly string[],
  column: string,
  samples: readonly number[],
  found: Record<string, Quantity>,
): void {
  const kind = KINDS.find(([pattern]) => pattern.test(column))?.[1]
  if (kind !== undefined) found[name.join(' ')] = { ...kind, samples }
}

function isNumbers(value: unknown): value is number[] {
  return Array.isArray(value) && value.length > 0 && value.every(each => Number.isFinite(each))
}

function isObjects(value: unknown): value is Record<string, unknown>[] {
  return (
    Array.isArray(value) &&
    value.length > 0 &&
    value.every(each => each !== null && typeof each === 'object' && !Array.isArray(each))
  )
}
