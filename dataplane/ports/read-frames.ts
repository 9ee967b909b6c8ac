/**
 * Frames that TUN queues are read into. A read offers the kernel a whole burst and mostly uses one or
 * two, so the offered ones stay on a list, in scratch memory where the read call finds them, and only
 * what a read has used is replaced. All TUN ports of a worker share the list; it is given back when
 * the last one goes.
 */
import { RECEIVE_BURST } from '../limits.ts'
import type { Arena } from '../memory/arena.ts'
import { type Frames, type Pool, READ_OWNER } from '../memory/frames.ts'
import { LARGE_BURST, type Scratch } from './scratch.ts'

/** One pool's part: entries 0 .. `count`, each the offset of a frame plus `ahead`. */
class List {
  /** Arena offset of the entries. */
  readonly at: number
  count = 0
  private readonly view: DataView
  private readonly pool: Pool
  private readonly room: number
  private readonly ahead: number

  constructor(view: DataView, pool: Pool, at: number, room: number, ahead: number) {
    this.view = view
    this.pool = pool
    this.at = at
    this.room = room
    this.ahead = ahead
  }

  fill(): void {
    for (; this.count < this.room && this.pool.free > 0; this.count++) {
      this.view.setUint32(this.at + this.count * 4, this.take(), true)
    }
  }

  /** The first `n` entries are in flight now: others take their places. */
  use(n: number): void {
    const { at, pool, view } = this
    for (let k = 0; k < n; k++) pool.unhold(view.getUint32(at + k * 4, true))
    for (let k = n - 1; k >= 0; k--) {
      const next = pool.free > 0 ? this.take() : view.getUint32(at + --this.count * 4, true)
      view.setUint32(at + k * 4, next, true)
    }
  }

  giveBack(): void {
    while (this.count > 0) {
      this.pool.releaseHeld(this.view.getUint32(this.at + --this.count * 4, true), READ_OWNER)
    }
  }

  private take(): number {
    return this.pool.takeFor(READ_OWNER) + this.ahead
  }
}

export class ReadFrames {
  readonly small: List
  readonly large: List
  private users = 0

  /** A packet is read to `ahead` bytes behind the beginning of its frame. */
  constructor(arena: Arena, frames: Frames, scratch: Scratch, ahead: number) {
    this.small = new List(arena.view, frames.small, scratch.readSmall, RECEIVE_BURST, ahead)
    this.large = new List(arena.view, frames.large, scratch.readLarge, LARGE_BURST, ahead)
  }

  /** One port more reads. */
  enter(): void {
    this.users++
  }

  /** As many as may be had, before a read. */
  fill(): void {
    this.small.fill()
    this.large.fill()
  }

  leave(): void {
    if (--this.users > 0) return
    this.small.giveBack()
    this.large.giveBack()
  }
}
