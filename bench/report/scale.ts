/** Logarithmic axes, and numbers as people read them. */
import { significant } from '../harness/statistics.ts'

export interface Scale {
  /** Where a value lies. */
  at(value: number): number
  /** Values that get a line and a label, and lines without one. */
  major: number[]
  minor: number[]
}

/** Decades above which only powers of ten get a label. */
const FEW_DECADES = 2
/** Powers of two above which only every other one gets a label. */
const FEW_POWERS = 8
const LOG2 = Math.log10(2)

/** Maps the values to `from` .. `to`, with a little room at both ends. Bytes have powers of two as ticks, everything else has decades. */
export function logScale(
  values: readonly number[],
  from: number,
  to: number,
  unit?: string,
): Scale {
  const positive = values.filter(value => value > 0 && Number.isFinite(value))
  const least = Math.log10(Math.min(...positive, ...(positive.length > 0 ? [] : [1])))
  const most = Math.log10(Math.max(...positive, ...(positive.length > 0 ? [] : [10])))
  const room = Math.max(0.06 * (most - least), 0.05)
  const [low, high] = [least - room, most + room]
  const at = (value: number) => from + ((Math.log10(value) - low) / (high - low)) * (to - from)
  const major: number[] = []
  const minor: number[] = []
  if (unit === 'bytes') {
    for (let power = Math.ceil(low / LOG2); power * LOG2 <= high; power++) {
      const few = (high - low) / LOG2 <= FEW_POWERS
      if (few || power % 2 === 0) major.push(2 ** power)
      else minor.push(2 ** power)
    }
    return { at, major, minor }
  }
  for (let decade = Math.floor(low); decade <= Math.ceil(high); decade++) {
    for (let digit = 1; digit <= 9; digit++) {
      // Not 10 ** -1 * 3, which is 0.30000000000000004.
      const value = Number(`${digit}e${decade}`)
      if (Math.log10(value) < low || Math.log10(value) > high) continue
      const labelled = digit === 1 || (high - low <= FEW_DECADES && (digit === 2 || digit === 5))
      if (labelled) major.push(value)
      else minor.push(value)
    }
  }
  return { at, major, minor }
}

const PREFIXES: readonly [number, string][] = [
  [1e9, 'G'],
  [1e6, 'M'],
  [1e3, 'k'],
  [1, ''],
]

/** `231 M`, `12.5 k`, `0.03`: three significant digits. */
export function short(value: number): string {
  const size = Math.abs(value)
  const found = PREFIXES.find(([unit]) => size >= unit) ?? [1, '']
  return `${significant(value / found[0], 3)} ${found[1]}`.trim()
}

const BINARY: readonly [number, string][] = [
  [2 ** 30, 'GiB'],
  [2 ** 20, 'MiB'],
  [2 ** 10, 'KiB'],
]

/** A value with its unit: `231 M lookups/s`, `4 MiB`, `1.2 s`. */
export function withUnit(value: number, unit: string): string {
  if (unit === 'bytes') {
    const found = BINARY.find(([size]) => value >= size)
    return found ? `${significant(value / found[0], 3)} ${found[1]}` : `${value} bytes`
  }
  if (unit === 'ms' && value >= 1000) return `${significant(value / 1000, 3)} s`
  if (unit === 'ns' && value >= 1e6) return `${significant(value / 1e6, 3)} ms`
  if (unit === 'ns' || unit === 'ms' || unit === 's') return `${significant(value, 3)} ${unit}`
  return `${short(value)} ${unit}`
}
