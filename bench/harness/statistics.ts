/** The few numbers that stand for many samples. */

/** The value below which the share `q` (0 .. 1) of the samples lies (nearest rank). Throws for none. */
export function quantile(samples: readonly number[], q: number): number {
  if (samples.length === 0) throw new Error('quantile of no samples')
  const sorted = [...samples].sort((a, b) => a - b)
  const rank = Math.ceil(q * sorted.length)
  return sorted[Math.min(sorted.length, Math.max(1, rank)) - 1]!
}

/** The middle sample, or the mean of the two in the middle. Throws for none. */
export function median(samples: readonly number[]): number {
  if (samples.length === 0) throw new Error('median of no samples')
  const sorted = [...samples].sort((a, b) => a - b)
  const middle = sorted.length >> 1
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2
}

/** Median of `a[i] / b[i]`: each round's two runs saw the same machine. */
export function pairedRatio(a: readonly number[], b: readonly number[]): number {
  if (a.length !== b.length) throw new Error(`${a.length} samples against ${b.length}`)
  return median(a.map((value, i) => value / b[i]!))
}

/** `value` with `digits` significant digits, as a number. */
export function significant(value: number, digits = 4): number {
  return Number(value.toPrecision(digits))
}
