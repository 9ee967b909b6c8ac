// Fill levels of many ports on one worker: who gets how many frames, and when.
import { expect, test } from 'vitest'
import { FillLevel, FillShares } from '../../../dataplane/afxdp/fill-level.ts'
import {
  DEFAULT_SMALL_FRAMES,
  FILL_BUDGET,
  FRAME_RESERVE,
  MIN_FILL_FRAMES,
  POD_FILL_FRAMES,
  POD_FILL_SHARE,
  UNDERLAY_FILL_FRAMES,
} from '../../../dataplane/limits.ts'
import { Frames } from '../../../dataplane/memory/frames.ts'
import { smallArena } from '../memory/plan.ts'

/** A worker with so many small frames. */
function worker(smallFrames = DEFAULT_SMALL_FRAMES): { frames: Frames; shares: FillShares } {
  const frames = new Frames(smallArena({ smallFrames }), 0)
  return { frames, shares: new FillShares(frames.small) }
}

/** Fills the ring up to its level, as a port does; returns what it holds. */
function fill({ frames }: { frames: Frames }, level: FillLevel, port: number): number {
  const want = Math.min(level.level - level.held, frames.small.free)
  for (let k = 0; k < want; k++) frames.small.takeFor(port)
  if (want > 0) level.hold(want)
  return level.held
}

test('a quiet pod starts with its share, whoever came first', () => {
  const place = worker()
  const levels = Array.from(
    { length: 100 },
    () => new FillLevel(place.shares, POD_FILL_FRAMES, false),
  )
  const held = levels.map((level, port) => fill(place, level, port))
  const even = Math.floor((DEFAULT_SMALL_FRAMES * FILL_BUDGET) / 100)
  expect(new Set(held)).toEqual(new Set([Math.min(POD_FILL_SHARE, even)]))
})

test.each([1, 10, 50, 128, 256, 500])(
  '%i pods that all are busy stay inside the budget, and all have a share',
  count => {
    const place = worker()
    const levels = Array.from(
      { length: count },
      () => new FillLevel(place.shares, POD_FILL_FRAMES, false),
    )
    for (const [port, level] of levels.entries()) fill(place, level, port)
    for (let round = 0; round < 6; round++) {
      for (const [port, level] of levels.entries()) {
        level.came(level.held)
        fill(place, level, port)
      }
    }
    const held = levels.map(level => level.held)
    const total = held.reduce((sum, n) => sum + n, 0)
    const budget = Math.max(DEFAULT_SMALL_FRAMES * FILL_BUDGET, count * MIN_FILL_FRAMES)
    expect(total).toBeLessThanOrEqual(budget)
    expect(total).toBe(place.frames.small.count - place.frames.small.free)
    const share = Math.min(POD_FILL_SHARE, Math.floor((DEFAULT_SMALL_FRAMES * FILL_BUDGET) / count))
    expect(Math.min(...held)).toBeGreaterThanOrEqual(share)
    expect(Math.max(...held)).toBeLessThanOrEqual(POD_FILL_FRAMES)
    // One that is busy alone has room for a whole TCP window.
    if (count === 1) expect(held).toEqual([POD_FILL_FRAMES])
    // Who comes now finds frames, too.
    const late = new FillLevel(place.shares, POD_FILL_FRAMES, false)
    expect(fill(place, late, count)).toBeGreaterThanOrEqual(MIN_FILL_FRAMES)
  },
)

test('a level doubles with bursts, and halves after seconds without', () => {
  const place = worker()
  const level = new FillLevel(place.shares, POD_FILL_FRAMES, false)
  const seen: number[] = []
  for (const packets of [10, 40, 100, 200, 400]) {
    fill(place, level, 1)
    level.came(Math.min(packets, level.held))
    seen.push(level.level)
  }
  expect(seen).toEqual([1, 1, 2, 4, 8].map(n => n * POD_FILL_SHARE))
  level.look()
  expect(level.level).toBe(8 * POD_FILL_SHARE)
  for (const expected of [4, 2, 1, 1].map(n => n * POD_FILL_SHARE)) {
    level.came(5)
    level.look()
    expect(level.level).toBe(expected)
  }
})

test('a port that goes gives its part back to the others', () => {
  const place = worker(1024)
  const levels = Array.from(
    { length: 32 },
    () => new FillLevel(place.shares, POD_FILL_FRAMES, false),
  )
  for (const [port, level] of levels.entries()) fill(place, level, port)
  expect(place.shares.share).toBe(MIN_FILL_FRAMES)
  for (const [port, level] of levels.entries()) {
    if (port === 0) continue
    level.leave()
    place.frames.reclaim(port)
  }
  expect(place.shares.share).toBe(POD_FILL_SHARE)
  expect(place.shares.more).toBe((1024 * FILL_BUDGET - MIN_FILL_FRAMES) / 2)
  expect(fill(place, levels[0]!, 0)).toBe(POD_FILL_SHARE)
})

test('short of free frames every ring gets the least, the underlay too', () => {
  const place = worker()
  const underlay = new FillLevel(place.shares, UNDERLAY_FILL_FRAMES, true)
  expect(underlay.level).toBe(UNDERLAY_FILL_FRAMES)
  while (place.frames.small.free >= DEFAULT_SMALL_FRAMES * FRAME_RESERVE) place.frames.small.take()
  const pod = new FillLevel(place.shares, POD_FILL_FRAMES, false)
  expect([underlay.level, pod.level]).toEqual([MIN_FILL_FRAMES, MIN_FILL_FRAMES])
})
