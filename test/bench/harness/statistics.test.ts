import { describe, expect, test } from 'vitest'
import { mannWhitney, median, pairedRatio, quantile } from '../../../bench/harness/statistics.ts'

/** p by the definition: all ways to choose which of the values are the first set. */
function byEnumeration(a: readonly number[], b: readonly number[]): number {
  const all = [...a, ...b]
  const rank = (value: number) => {
    const below = all.filter(other => other < value).length
    const equal = all.filter(other => other === value).length
    return below + (equal + 1) / 2
  }
  const mean = (a.length * (all.length + 1)) / 2
  const off = Math.abs(a.reduce((sum, value) => sum + rank(value), 0) - mean)
  let far = 0
  let total = 0
  for (let mask = 0; mask < 1 << all.length; mask++) {
    const chosen = all.filter((_, i) => (mask >> i) & 1)
    if (chosen.length !== a.length) continue
    total++
    const sum = chosen.reduce((ranks, value) => ranks + rank(value), 0)
    if (Math.abs(sum - mean) >= off - 1e-9) far++
  }
  return far / total
}

describe('mannWhitney', () => {
  test('is what counting all ways gives, with few samples and with ties', () => {
    for (const [a, b] of [
      [[1], [2]],
      [
        [1, 2, 3],
        [4, 5, 6],
      ],
      [
        [1, 5, 3, 9],
        [4, 4, 6, 2, 8],
      ],
      [
        [7, 7, 7],
        [7, 7, 7, 7],
      ],
      [
        [1, 2, 2, 3, 3],
        [2, 3, 3, 4, 5, 5],
      ],
    ] as const) {
      expect(mannWhitney(a, b)).toBeCloseTo(byEnumeration(a, b), 12)
      expect(mannWhitney(b, a)).toBeCloseTo(mannWhitney(a, b), 12)
    }
  })

  test('five samples apart from five: 2 of 252 ways; four from four never reach 0.01', () => {
    expect(mannWhitney([1, 2, 3, 4, 5], [6, 7, 8, 9, 10])).toBeCloseTo(2 / 252, 12)
    expect(mannWhitney([1, 2, 3, 4], [5, 6, 7, 8])).toBeCloseTo(2 / 70, 12)
  })

  test('the normal distribution takes over where the exact one was', () => {
    const at = (n: number, shift: number) =>
      mannWhitney(
        Array.from({ length: n }, (_, i) => i),
        Array.from({ length: n }, (_, i) => i + shift),
      )
    expect(Math.abs(at(20, 5.5) - at(21, 5.8))).toBeLessThan(0.02)
    expect(at(100, 0.5)).toBeGreaterThan(0.8)
    expect(at(100, 60)).toBeLessThan(1e-6)
    expect(mannWhitney(Array(30).fill(3), Array(30).fill(3))).toBe(1)
  })

  test('no samples are an error', () => {
    expect(() => mannWhitney([], [1])).toThrow('no samples')
  })
})

test('median, quantile and paired ratio', () => {
  expect(median([3, 1, 2])).toBe(2)
  expect(median([4, 1, 2, 3])).toBe(2.5)
  expect(quantile([5, 1, 4, 2, 3], 0.25)).toBe(2)
  expect(quantile([7], 0.99)).toBe(7)
  expect(pairedRatio([2, 8, 6], [1, 2, 6])).toBe(2)
  expect(() => pairedRatio([1], [1, 2])).toThrow('1 samples against 2')
})
