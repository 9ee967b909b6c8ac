/** What a port works with: the worker's things, and the record and descriptor that are its own. */
import type { FillShares } from '../afxdp/fill-level.ts'
import type { Arena } from '../memory/arena.ts'
import type { Frames } from '../memory/frames.ts'
import type { PortRecord } from '../tables/ports.ts'
import type { TableReader } from '../tables/tables.ts'
import type { Members } from './members.ts'
import type { ReadFrames } from './read-frames.ts'
import type { Scratch } from './scratch.ts'

/** What the node's own VTEP is. */
export interface VtepFacts {
  vxlanPort: number
  vtep4: number
  vtep6: readonly [number, number, number, number]
}

/** The same for all ports of one worker. */
export interface WorkerContext {
  readonly arena: Arena
  readonly frames: Frames
  readonly counters: Float64Array
  readonly tables: TableReader
  readonly node: VtepFacts
  readonly scratch: Scratch
  readonly reading: ReadFrames
  readonly fills: FillShares
  readonly members: Members
}

export interface PortContext extends WorkerContext {
  /** In the port table. */
  readonly index: number
  readonly record: PortRecord
  /** Of this worker's queue. */
  readonly fd: number
}
