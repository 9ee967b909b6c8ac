import { once } from 'node:events'
import { Worker } from 'node:worker_threads'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import {
  MAX_BURST_BYTES,
  MAX_PORTS,
  MAX_RATE_BYTES,
  MIN_BURST_BYTES,
} from '../../../dataplane/limits.ts'
import { bucketAt, NO_PORT, writePort } from '../../../dataplane/tables/ports.ts'
import {
  charge,
  EGRESS,
  earned,
  INGRESS,
  NO_RATE,
  rateOf,
} from '../../../dataplane/tables/rates.ts'
import { smallArena } from '../memory/plan.ts'
import type { Task } from './rates.worker.ts'

describe('rateOf', () => {
  test('bits a second and bits become bytes', () => {
    expect(rateOf(20_000_000, 8_000_000)).toEqual({ rate: 2_500_000, burst: 1_000_000 })
    expect(rateOf(1, 1)).toEqual({ rate: 1, burst: 1 })
    expect(rateOf()).toEqual(NO_RATE)
    expect(rateOf(0, 8000)).toEqual(NO_RATE)
  })

  test('a burst that nobody has named is half a second, or enough for superframes', () => {
    for (const burst of [undefined, 0, 2 ** 31 - 1, 2 ** 32 - 1]) {
      expect(rateOf(800_000_000, burst)).toEqual({ rate: 100_000_000, burst: 50_000_000 })
      expect(rateOf(8000, burst)).toEqual({ rate: 1000, burst: MIN_BURST_BYTES })
    }
  })

  test('what is too large is cut', () => {
    expect(rateOf(Number.MAX_SAFE_INTEGER, Number.MAX_SAFE_INTEGER)).toEqual({
      rate: MAX_RATE_BYTES,
      burst: MAX_BURST_BYTES,
    })
  })
})

/** The textbook bucket: tokens as a number, and when it was filled last. */
class Oracle {
  private tokens: number
  private at = 0
  private readonly rate: number
  private readonly burst: number
  constructor(rate: number, burst: number) {
    this.rate = rate
    this.burst = burst
    this.tokens = burst
  }
  /** How many bytes there are before the packet; `now` in nanoseconds. */
  tokensAt(now: number): number {
    this.tokens = Math.min(this.burst, this.tokens + ((now - this.at) * this.rate) / 1e9)
    this.at = now
    return this.tokens
  }
  take(bytes: number): void {
    this.tokens -= bytes
  }
}

test('it is the textbook bucket, to the byte', () => {
  const step = fc.record({
    // Up to a tenth of a second, in which the fastest rate earns less than the clock's half.
    wait: fc.oneof(fc.nat(10_000), fc.nat(100_000_000)),
    bytes: fc.integer({ min: 20, max: 67_000 }),
  })
  const rate = fc.oneof(
    fc.integer({ min: 1, max: 10_000 }),
    fc.integer({ min: 1, max: MAX_RATE_BYTES }),
  )
  const burst = fc.integer({ min: 1, max: 10_000_000 })
  fc.assert(
    fc.property(rate, burst, fc.array(step, { maxLength: 200 }), (rate, burst, steps) => {
      const words = new Int32Array(new SharedArrayBuffer(4))
      const oracle = new Oracle(rate, burst)
      let now = 0
      for (const { wait, bytes } of steps) {
        now += wait
        const tokens = oracle.tokensAt(now)
        const passes = charge(words, 0, burst, earned(rate, now), bytes)
        // The clock counts whole bytes; in its last one either answer is right.
        if (Math.abs(tokens) > 2) expect(passes).toBe(tokens > 0)
        if (passes) oracle.take(bytes)
      }
    }),
  )
})

test('over any time at most the burst, what the rate earned, and one packet pass', () => {
  const words = new Int32Array(new SharedArrayBuffer(4))
  const { rate, burst } = rateOf(20_000_000, 400_000)
  const packet = 1500
  let passed = 0
  // Somebody offers far more than the rate, for 20 s, from a moment when the clock is about to go round.
  const start = (2 ** 32 / rate) * 1e9 - 1e9
  for (let now = start; now < start + 20e9; now += 100_000) {
    while (charge(words, 0, burst, earned(rate, now), packet)) passed += packet
  }
  expect(passed).toBeGreaterThanOrEqual(burst + rate * 20 - packet - rate * 1e-4)
  expect(passed).toBeLessThanOrEqual(burst + rate * 20 + packet)
})

test('a pod that was silent for days has a full bucket', () => {
  const words = new Int32Array(new SharedArrayBuffer(4))
  const { rate, burst } = rateOf(1_000_000_000, 8_000_000)
  for (const seconds of [0, 10, 86_400, 864_000.5]) {
    const now = earned(rate, seconds * 1e9)
    let passed = 0
    while (charge(words, 0, burst, now, 1000)) passed += 1000
    expect(passed, String(seconds)).toBe(burst)
  }
})

test('workers that race for the last bytes get what there is and not a packet more', async () => {
  const RACERS = 3
  const task: Task = {
    buffer: new SharedArrayBuffer(64),
    burst: 3_000_000,
    now: earned(1e9, 123_456_789_012),
    bytes: 7,
  }
  const words = new Int32Array(task.buffer)
  const racers = Array.from({ length: RACERS }, (_, me) => {
    const url = new URL('./rates.worker.ts', import.meta.url)
    return new Worker(url, { workerData: { ...task, me } })
  })
  await Promise.all(racers.map(racer => once(racer, 'online')))
  const ends = racers.map(racer => once(racer, 'exit'))
  Atomics.store(words, 1, 1)
  Atomics.notify(words, 1)
  expect(await Promise.all(ends)).toEqual(racers.map(() => [0]))
  const got = words.subarray(2, 2 + RACERS).reduce((sum, n) => sum + n, 0)
  expect(got).toBe(Math.ceil(task.burst / task.bytes) * task.bytes)
})

test('each port has buckets of its own, which a change of the tables leaves alone', () => {
  const arena = smallArena()
  const { offset, bytes } = arena.layout.ports
  const seen = new Set<number>()
  for (let port = 0; port < MAX_PORTS; port++) {
    for (const direction of [INGRESS, EGRESS]) {
      const at = bucketAt(offset, port, direction)
      expect(at * 4 >= offset && at * 4 < offset + bytes).toBe(true)
      seen.add(at)
    }
  }
  expect(seen.size).toBe(2 * MAX_PORTS)
  const limits = { rate: MAX_RATE_BYTES, burst: MAX_BURST_BYTES }
  const record = { ...NO_PORT, ingress: limits, egress: limits }
  const own = bucketAt(offset, 3, EGRESS)
  arena.words[own] = 77
  for (const port of [2, 3, 4]) writePort(arena, port, record)
  expect(arena.words[own]).toBe(77)
})
