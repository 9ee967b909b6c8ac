import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { FRAME_BYTES, LARGE_FRAME_BYTES } from '../../../dataplane/limits.ts'
import type { Arena } from '../../../dataplane/memory/arena.ts'
import { Frames } from '../../../dataplane/memory/frames.ts'
import { smallArena } from './plan.ts'

function takeAll(pool: Frames['small']): number[] {
  const taken: number[] = []
  for (let frame = pool.take(); frame !== 0; frame = pool.take()) taken.push(frame)
  return taken
}

describe('a pool', () => {
  test('gives each frame once, the lowest first, then none', () => {
    const arena = smallArena()
    const frames = new Frames(arena, 0)
    const { small, large } = arena.layout
    expect(takeAll(frames.small)).toEqual(
      Array.from({ length: 32 }, (_, i) => small.offset + i * FRAME_BYTES),
    )
    expect(takeAll(frames.large)).toEqual(
      Array.from({ length: 3 }, (_, i) => large.offset + i * LARGE_FRAME_BYTES),
    )
    expect([frames.small.free, frames.large.free]).toEqual([0, 0])
    expect(frames.leaked()).toBe(35)
  })

  test('takes a frame back by any of its bytes', () => {
    const frames = new Frames(smallArena(), 0)
    const [a, b] = [frames.small.take(), frames.large.take()]
    expect([frames.isLarge(a), frames.isLarge(b)]).toEqual([false, true])
    frames.release(a + FRAME_BYTES - 1)
    frames.release(b + LARGE_FRAME_BYTES - 1)
    expect(frames.leaked()).toBe(0)
    expect([frames.small.take(), frames.large.take()]).toEqual([a, b])
  })

  test('counts a double release and does not give the frame to two', () => {
    const frames = new Frames(smallArena(), 0)
    const frame = frames.small.take()
    frames.release(frame)
    frames.release(frame + 100)
    expect(frames.doubleReleases).toBe(1)
    expect(frames.leaked()).toBe(1)
    expect(frames.small.free).toBe(32)
    const all = takeAll(frames.small)
    expect(new Set(all).size).toBe(all.length)
  })

  test('only the owner of a frame gives it back: not another port, nor another worker', () => {
    const arena = smallArena({ workers: 2 })
    const [frames, others] = [new Frames(arena, 0), new Frames(arena, 1)]
    const frame = frames.small.take()
    frames.small.hold(frame, 3)
    frames.release(frame)
    frames.releaseHeld(frame, 4)
    frames.release(others.small.take())
    others.release(frame)
    expect([frames.doubleReleases, others.doubleReleases]).toEqual([3, 1])
    expect([frames.small.free, others.small.free]).toEqual([31, 31])
    frames.releaseHeld(frame, 3)
    expect(takeAll(frames.small)).toHaveLength(32)
  })

  test("workers' frames lie apart", () => {
    const arena = smallArena({ workers: 3 })
    const all = [0, 1, 2].flatMap(worker => {
      const frames = new Frames(arena, worker)
      return [...takeAll(frames.small), ...takeAll(frames.large)]
    })
    expect(new Set(all).size).toBe(3 * 35)
    const { small, large } = arena.layout
    for (const frame of all) {
      const inSmall = frame >= small.offset && frame + FRAME_BYTES <= small.offset + small.bytes
      const inLarge =
        frame >= large.offset && frame + LARGE_FRAME_BYTES <= large.offset + large.bytes
      expect(inSmall !== inLarge).toBe(true)
    }
  })
})

describe('ownership', () => {
  test('what a port holds is no leak, and comes back when it goes away', () => {
    const frames = new Frames(smallArena(), 0)
    const [a, b, c, d] = [1, 2, 3, 4].map(() => frames.small.take()) as [
      number,
      number,
      number,
      number,
    ]
    const large = frames.large.take()
    frames.small.hold(a, 0)
    frames.small.hold(b + 300, 7)
    frames.small.hold(c, 7)
    frames.large.hold(large, 7)
    expect(frames.leaked()).toBe(1)
    // A packet was received in c: it is in flight again.
    frames.small.unhold(c + 256)
    expect(frames.leaked()).toBe(2)
    expect(frames.reclaim(7)).toBe(2)
    expect(frames.reclaim(7)).toBe(0)
    frames.release(c)
    frames.release(d)
    expect(frames.leaked()).toBe(0)
    expect(frames.small.free).toBe(31)
    expect(frames.reclaim(0)).toBe(1)
    expect([frames.small.free, frames.large.free]).toEqual([32, 3])
  })

  test('any order of steps, against a naive list', () => {
    let arena: Arena | undefined
    const step = fc.record({
      kind: fc.constantFrom('take', 'release', 'releaseHeld', 'hold', 'unhold', 'reclaim'),
      pick: fc.nat(31),
      port: fc.nat(3),
    })
    fc.assert(
      fc.property(fc.array(step, { maxLength: 200 }), steps => {
        arena ??= smallArena()
        const { small } = new Frames(arena, 0)
        const frames = new Frames(arena, 0)
        const all = takeAll(small)
        /** Owner by frame: free, flight, or a port's number. */
        const owners = new Map<number, 'free' | 'flight' | number>(all.map(f => [f, 'free']))
        let doubles = 0
        for (const { kind, pick, port } of steps) {
          const frame = all[pick]!
          const owner = owners.get(frame)!
          if (kind === 'take') {
            const taken = frames.small.take()
            const free = [...owners].filter(([, o]) => o === 'free')
            if (free.length === 0) expect(taken).toBe(0)
            else {
              expect(owners.get(taken)).toBe('free')
              owners.set(taken, 'flight')
            }
          } else if (kind === 'release') {
            frames.release(frame + pick)
            if (owner === 'flight') owners.set(frame, 'free')
            else doubles++
          } else if (kind === 'releaseHeld') {
            frames.releaseHeld(frame + pick, port)
            if (owner === port) owners.set(frame, 'free')
            else doubles++
          } else if (kind === 'hold' && owner === 'flight') {
            frames.small.hold(frame, port)
            owners.set(frame, port)
          } else if (kind === 'unhold' && typeof owner === 'number') {
            frames.small.unhold(frame)
            owners.set(frame, 'flight')
          } else if (kind === 'reclaim') {
            const held = [...owners].filter(([, o]) => o === port)
            expect(frames.reclaim(port)).toBe(held.length)
            for (const [f] of held) owners.set(f, 'free')
          }
          const count = (of: string) => [...owners.values()].filter(o => o === of).length
          expect(frames.small.free).toBe(count('free'))
          expect(frames.leaked()).toBe(count('flight') + doubles)
        }
      }),
    )
  })
})
