/**
 * How many frames each fill ring of a worker holds. What lies in a fill ring is the kernel's until a
 * packet comes in it: nobody can take it back. So a port starts with a small share, and what it gets
 * beyond follows its traffic.
 *
 *   share    a pod's part of FILL_BUDGET, MIN_FILL_FRAMES .. POD_FILL_SHARE, so that all pods together
 *            stay inside the budget; an underlay's comes with its record
 *   wanted   doubles when a burst has taken half of what was there, halves after a second in which no
 *            burst took an eighth
 *   level    what is filled up to: `wanted`, as far as half of what is left of the budget reaches
 *            (dynamic thresholds: Choudhury and Hahne, 1998): whoever comes later finds some, too
 *
 * When free frames run short each ring gets MIN_FILL_FRAMES.
 */
import { FILL_BUDGET, FRAME_RESERVE, MIN_FILL_FRAMES, POD_FILL_SHARE } from '../limits.ts'
import type { Pool } from '../memory/frames.ts'

/** What the fill rings of one worker have together. */
export class FillShares {
  private readonly pool: Pool
  private readonly budget: number
  private readonly reserve: number
  /** Rings of pods. */
  private rings = 0
  /** Frames in them. */
  private held = 0
  /** Of each ring of a pod. */
  share = POD_FILL_SHARE

  constructor(pool: Pool) {
    this.pool = pool
    this.budget = Math.floor(pool.count * FILL_BUDGET)
    this.reserve = Math.floor(pool.count * FRAME_RESERVE)
  }

  enter(): void {
    this.count(1)
  }

  leave(): void {
    this.count(-1)
  }

  /** `frames` more went into rings, or fewer. */
  hold(frames: number): void {
    this.held += frames
  }

  /** What a ring may have beyond its share. */
  get more(): number {
    return Math.max(0, (this.budget - this.held) >> 1)
  }

  get scarce(): boolean {
    return this.pool.free < this.reserve
  }

  private count(by: number): void {
    this.rings += by
    const even = Math.floor(this.budget / Math.max(this.rings, 1))
    this.share = Math.min(Math.max(even, MIN_FILL_FRAMES), POD_FILL_SHARE)
  }
}

/** The level of one ring. */
export class FillLevel {
  /** Frames that the kernel has. */
  held = 0
  private readonly shares: FillShares
  /** Of an underlay's ring; 0: a pod's, by the number of rings. */
  private readonly fixed: number
  private readonly most: number
  /** By traffic; below the share it means nothing. */
  private wanted = MIN_FILL_FRAMES
  /** Largest burst since `look`. */
  private largest = 0

  /** `most`: frames that it holds at the most. `fixed`: it is no pod's and starts with them all. */
  constructor(shares: FillShares, most: number, fixed: boolean) {
    this.shares = shares
    this.most = most
    this.fixed = fixed ? most : 0
    if (!fixed) shares.enter()
  }

  /** `burst` packets were there at once. */
  came(burst: number): void {
    if (burst > this.largest) this.largest = burst
    if (burst * 2 < this.held) return
    this.wanted = Math.min(Math.max(this.wanted, this.share) * 2, this.most)
  }

  /** What the ring should hold. */
  get level(): number {
    if (this.shares.scarce) return MIN_FILL_FRAMES
    if (this.fixed > 0) return this.fixed
    const share = this.share
    return Math.max(share, Math.min(this.wanted, share + this.shares.more))
  }

  /** `frames` were given to the kernel, or have come back (negative). */
  hold(frames: number): void {
    this.held += frames
    if (this.fixed === 0) this.shares.hold(frames)
  }

  /** Once a second. */
  look(): void {
    if (this.largest * 8 < this.wanted) this.wanted = Math.max(this.wanted >> 1, MIN_FILL_FRAMES)
    this.largest = 0
  }

  /** The ring is no more; all that it held is free. */
  leave(): void {
    this.hold(-this.held)
    if (this.fixed === 0) this.shares.leave()
  }

  private get share(): number {
    return Math.min(this.fixed > 0 ? this.fixed : this.shares.share, this.most)
  }
}
