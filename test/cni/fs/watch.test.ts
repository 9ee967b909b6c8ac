/** When what is watched is looked at, by a clock that stands until it is moved. */
import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { settling } from '../../../cni/fs/watch.ts'

beforeEach(() => vi.useFakeTimers())
afterEach(() => vi.useRealTimers())

/** Times at which it acts, when events come at these. */
function acts(events: readonly number[]): number[] {
  const began = performance.now()
  const seen: number[] = []
  const { event } = settling(10, 40, () => seen.push(performance.now() - began))
  for (const at of events) {
    vi.advanceTimersByTime(at - (performance.now() - began))
    event()
  }
  vi.advanceTimersByTime(1000)
  return seen
}

test('many events in a row are one look, when it is quiet', () => {
  expect(acts([0])).toEqual([10])
  expect(acts([0, 4, 8, 12])).toEqual([22])
  expect(acts([0, 100])).toEqual([10, 110])
})

test('where it never is quiet, a look comes soon enough', () => {
  const every5 = Array.from({ length: 40 }, (_, n) => n * 5)
  const seen = acts(every5)
  expect(seen.length).toBeGreaterThanOrEqual(5)
  const all = [0, ...seen]
  for (const [n, at] of seen.entries()) expect(at - all[n]!).toBeLessThanOrEqual(45)
})

test('what is closed looks no more', () => {
  const look = vi.fn()
  const { event, close } = settling(10, 40, look)
  event()
  close()
  vi.advanceTimersByTime(1000)
  expect(look).not.toHaveBeenCalled()
})
