// Who may have how many ICMP errors: a sender, a port that many are behind, a worker.
import { expect, test } from 'vitest'
import { ErrorLimiter } from '../../../dataplane/engine/error-limiter.ts'
import {
  ICMP_ERROR_SOURCES,
  ICMP_ERRORS,
  ICMP_ERRORS_OF_PORT,
  ICMP_ERRORS_OF_SENDER,
  MAX_PORTS,
} from '../../../dataplane/limits.ts'

const SECOND = 1e9

/** How many of `tries` pass. */
function passed(tries: number, take: (k: number) => boolean): number {
  let n = 0
  for (let k = 0; k < tries; k++) if (take(k)) n++
  return n
}

test('every bucket is full at first, whatever the clock says', () => {
  for (const now of [0, 5, 1e15]) {
    const limiter = new ErrorLimiter()
    for (const port of [0, 1, MAX_PORTS - 1]) {
      expect(passed(500, () => limiter.takeForPod(port, now))).toBe(ICMP_ERRORS_OF_SENDER.burst)
    }
  }
})

test('a bucket fills at its rate, and no further than to its burst', () => {
  const limiter = new ErrorLimiter()
  const { burst, perSecond } = ICMP_ERRORS_OF_SENDER
  passed(500, () => limiter.takeForPod(3, 0))
  // In the steps of a clock that is looked at often, nothing is lost or won.
  let n = 0
  for (let step = 1; step <= 1000; step++) {
    n += passed(3, () => limiter.takeForPod(3, (step * SECOND) / 1000))
  }
  expect(Math.abs(n - perSecond)).toBeLessThanOrEqual(1)
  expect(passed(500, () => limiter.takeForPod(3, 1e6 * SECOND))).toBe(burst)
})

test('what a sender was refused takes nothing from the others', () => {
  const limiter = new ErrorLimiter()
  passed(1e6, () => limiter.takeForPod(3, 0))
  passed(1e6, () => limiter.takeForSource(1, 0x0af4_0209, 0))
  expect(limiter.takeForPod(4, 0)).toBe(true)
  expect(limiter.takeForSource(1, 0x0af4_0208, 0)).toBe(true)
})

test('many senders behind one port have its limit together, and leave the pods theirs', () => {
  const limiter = new ErrorLimiter()
  const all = passed(100_000, k => limiter.takeForSource(1, k * 2_654_435_761, 0))
  expect(all).toBe(ICMP_ERRORS_OF_PORT.burst)
  expect(passed(500, () => limiter.takeForPod(3, 0))).toBe(ICMP_ERRORS_OF_SENDER.burst)
})

test('all together have the limit of the worker', () => {
  const limiter = new ErrorLimiter()
  const pods = () => passed(MAX_PORTS * 100, k => limiter.takeForPod(k % MAX_PORTS, 0))
  expect(pods()).toBe(ICMP_ERRORS.burst)
  // It takes more pods than a few to reach it.
  const { burst, perSecond } = ICMP_ERRORS_OF_SENDER
  expect(ICMP_ERRORS.burst / burst).toBeGreaterThanOrEqual(20)
  expect(ICMP_ERRORS.perSecond / perSecond).toBeGreaterThanOrEqual(20)
  expect(ICMP_ERRORS_OF_PORT.burst).toBeLessThan(ICMP_ERRORS.burst)
})

test('neighbouring addresses have buckets of their own', () => {
  // A flood of one address of a /24 silences few of the others: those that share its bucket.
  const limiter = new ErrorLimiter()
  passed(1000, () => limiter.takeForSource(1, 0x0af4_0200, 0))
  const silent = 255 - passed(255, k => limiter.takeForSource(1 + (k >> 5), 0x0af4_0201 + k, 0))
  expect(silent).toBeLessThanOrEqual(Math.ceil((4 * 255) / ICMP_ERROR_SOURCES))
})
