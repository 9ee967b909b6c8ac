/**
 * Frames and who owns them.
 *
 * Every frame belongs to one worker for the life of the daemon, and always has exactly one owner:
 * the free list, the worker itself (a batch in flight), the list for the next read, or a port (the
 * kernel has it, in a fill ring, a TX ring or a completion ring). The owner is written at each hand-over, so that a port
 * that goes away gives back exactly what it held, and a leak is a number that a test reads.
 */
import { FRAME_BYTES, LARGE_FRAME_BYTES, MAX_PORTS } from '../limits.ts'
import type { Arena } from './arena.ts'

/** Owners: 0 free, 1 in flight, 2 + port index held by a port. */
const OWNER_FREE = 0
const OWNER_FLIGHT = 1
const OWNER_PORT = 2

/** In place of a port: what lies ready for the next read (ports/read-frames.ts). */
export const READ_OWNER = MAX_PORTS

export class Pool {
  readonly base: number
  readonly count: number
  readonly bytes: number
  /** log2 of `bytes`: the number of a frame is a shift away, and it is asked several times a packet. */
  private readonly shift: number
  private readonly stack: Uint32Array
  private readonly owner: Uint16Array
  private top: number

  constructor(base: number, count: number, bytes: number) {
    this.base = base
    this.count = count
    this.bytes = bytes
    this.shift = 31 - Math.clz32(bytes)
    if (bytes !== 1 << this.shift) throw new RangeError(`frames of ${bytes} bytes: no power of two`)
    this.stack = new Uint32Array(count)
    this.owner = new Uint16Array(count)
    this.top = count
    // The lowest frame is taken first.
    for (let i = 0; i < count; i++) this.stack[i] = base + (count - 1 - i) * bytes
  }

  get free(): number {
    return this.top
  }

  /** Arena offset of a frame, now in flight; 0 if none is free (offset 0 is the arena's header). */
  take(): number {
    if (this.top === 0) return 0
    const frame = this.stack[--this.top]!
    this.owner[this.index(frame)] = OWNER_FLIGHT
    return frame
  }

  /** As `take`, but the frame is held by `port`. Only while one is free. */
  takeFor(port: number): number {
    const frame = this.stack[--this.top]!
    this.owner[this.index(frame)] = OWNER_PORT + port
    return frame
  }

  /**
   * Gives back the frame in flight that contains arena offset `at`. False, and nothing happens, for
   * one that is free, held by a port or of another worker: it would get two owners.
   */
  release(at: number): boolean {
    return this.giveBack(at, OWNER_FLIGHT)
  }

  /** The same of a frame that `port` holds. */
  releaseHeld(at: number, port: number): boolean {
    return this.giveBack(at, OWNER_PORT + port)
  }

  private giveBack(at: number, owner: number): boolean {
    const index = this.index(at)
    if (this.owner[index] !== owner) return false
    this.owner[index] = OWNER_FREE
    this.stack[this.top++] = this.base + index * this.bytes
    return true
  }

  hold(at: number, port: number): void {
    this.owner[this.index(at)] = OWNER_PORT + port
  }

  unhold(at: number): void {
    this.owner[this.index(at)] = OWNER_FLIGHT
  }

  /** Frees everything that `port` holds; returns how many. */
  reclaim(port: number): number {
    let n = 0
    for (let i = 0; i < this.count; i++) {
      if (this.owner[i] === OWNER_PORT + port) {
        this.releaseHeld(this.base + i * this.bytes, port)
        n++
      }
    }
    return n
  }

  /** Frames in flight: between batches there are none, so each one is a leak. */
  inFlight(): number {
    let n = 0
    for (let i = 0; i < this.count; i++) if (this.owner[i] === OWNER_FLIGHT) n++
    return n
  }

  private index(at: number): number {
    return (at - this.base) >>> this.shift
  }
}

export class Frames {
  readonly small: Pool
  readonly large: Pool
  private readonly largeBase: number
  /** Releases by somebody who was not the frame's owner: a bug, which `leaked` counts. */
  doubleReleases = 0

  constructor(arena: Arena, worker: number) {
    const { small, large, plan } = arena.layout
    const smallBytes = plan.smallFrames * FRAME_BYTES
    const largeBytes = plan.largeFrames * LARGE_FRAME_BYTES
    this.small = new Pool(small.offset + worker * smallBytes, plan.smallFrames, FRAME_BYTES)
    this.large = new Pool(large.offset + worker * largeBytes, plan.largeFrames, LARGE_FRAME_BYTES)
    this.largeBase = large.offset
  }

  isLarge(at: number): boolean {
    return at >= this.largeBase
  }

  /** Gives back the frame, small or large, that contains arena offset `at`. */
  release(at: number): void {
    const done = at >= this.largeBase ? this.large.release(at) : this.small.release(at)
    if (!done) this.doubleReleases++
  }

  /** As `release`, of a small frame that `port` holds: the kernel has sent it. */
  releaseHeld(at: number, port: number): void {
    if (!this.small.releaseHeld(at, port)) this.doubleReleases++
  }

  /** Frames without an owner, counted between two batches. */
  leaked(): number {
    return this.small.inFlight() + this.large.inFlight() + this.doubleReleases
  }

  reclaim(port: number): number {
    return this.small.reclaim(port) + this.large.reclaim(port)
  }
}
