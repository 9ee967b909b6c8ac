/** What a port works with: the worker's things, and the record and descriptor that are its own. */
import type { FillShares } from '../afxdp/fill-level.ts'
import { MAX_PORTS } from '../limits.ts'
import type { Arena } from '../memory/arena.ts'
import type { Frames } from '../memory/frames.ts'
import type { Batch } from '../packet/batch.ts'
import type { PortRecord } from '../tables/ports.ts'
import type { TableReader } from '../tables/tables.ts'
import type { Port } from './port.ts'
import type { ReadFrames } from './read-frames.ts'
import type { Scratch } from './scratch.ts'

/** What the node's own VTEP is. */
export interface VtepFacts {
  vxlanPort: number
  vtep4: number
  vtep6: readonly [number, number, number, number]
}

/** A port behind the trunk. */
export interface Member extends Port {
  /** What the tags of its pod are stamped with. */
  readonly stamp: number
}

/** What a member sends by. */
export interface Sender {
  /** As Port.send, of packet `i` that leaves by the port `port`, with a tag of this kind and number (tc/tag.ts). */
  queue(batch: Batch, i: number, port: number, kind: number, number: number): number
  /** As Port.flush, for all ports. */
  flush(): void
}

/** Where a worker's trunk and the ports behind it find each other, whichever of them comes first. */
export class Members {
  /** Absent: there is no trunk, or it has been taken away. */
  trunk: Sender | undefined
  /** By port index. */
  readonly ports: (Member | undefined)[] = new Array(MAX_PORTS).fill(undefined)
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
