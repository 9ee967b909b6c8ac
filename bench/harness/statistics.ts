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

/** Above so many samples together the distribution of ranks is taken as normal. */
const EXACT_SAMPLES = 40

/**
 * Two-sided p of the Mann-Whitney test (1947): how often two sets of samples that differ only by
 * chance have ranks at least so far apart. Equal values share the mean of their ranks. Exact up to
 * EXACT_SAMPLES, by counting all ways to choose the first set's ranks; so it is right for five
 * samples too. Throws when one set is empty.
 */
export function mannWhitney(a: readonly number[], b: readonly number[]): number {
  if (a.length === 0 || b.length === 0) throw new Error('Mann-Whitney test of no samples')
  const doubled = doubledRanks([...a, ...b])
  const sum = doubled.slice(0, a.length).reduce((total, rank) => total + rank, 0)
  const mean = a.length * (doubled.length + 1)
  const off = Math.abs(sum - mean)
  if (doubled.length > EXACT_SAMPLES) {
    const all = doubled.reduce((total, rank) => total + (rank - (doubled.length + 1)) ** 2, 0)
    const n = doubled.length
    const deviation = Math.sqrt((a.length * b.length * all) / (n * (n - 1)))
    return deviation === 0 ? 1 : twoSidedNormal((off - 1) / deviation)
  }
  const ways = waysToChoose(doubled, a.length)
  let far = 0
  let total = 0
  for (const [reached, count] of ways.entries()) {
    total += count
    if (Math.abs(reached - mean) >= off) far += count
  }
  return far / total
}

/** Twice the ranks, from 1: whole numbers also where values are equal. */
function doubledRanks(values: readonly number[]): number[] {
  const order = values.map((_, i) => i).sort((i, j) => values[i]! - values[j]!)
  const ranks = new Array<number>(values.length)
  for (let first = 0; first < order.length; ) {
    let end = first + 1
    while (end < order.length && values[order[end]!] === values[order[first]!]) end++
    for (let k = first; k < end; k++) ranks[order[k]!] = first + 1 + end
    first = end
  }
  return ranks
}

/** By sum: in how many ways `count` of the numbers give it. */
function waysToChoose(numbers: readonly number[], count: number): number[] {
  const total = numbers.reduce((sum, number) => sum + number, 0)
  const ways = Array.from({ length: count + 1 }, () => new Array<number>(total + 1).fill(0))
  ways[0]![0] = 1
  for (const number of numbers) {
    for (let chosen = count; chosen > 0; chosen--) {
      for (let sum = number; sum <= total; sum++) {
        ways[chosen]![sum]! += ways[chosen - 1]![sum - number]!
      }
    }
  }
  return ways[count]!
}

/** P(|Z| >= z), by the approximation 26.2.17 of Abramowitz and Stegun (error below 1.5e-7). */
function twoSidedNormal(z: number): number {
  if (z <= 0) return 1
  const t = 1 / (1 + 0.231_641_9 * z)
  const series =
    t *
    (0.319_381_53 +
      t * (-0.356_563_782 + t * (1.781_477_937 + t * (-1.821_255_978 + t * 1.330_274_429))))
  return 2 * series * (Math.exp((-z * z) / 2) / Math.sqrt(2 * Math.PI))
}
