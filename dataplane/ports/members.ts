/** Where a worker's trunk and the ports behind it find each other, whichever of them comes first. */
import { MAX_PORTS } from '../limits.ts'
import type { Batch } from '../packet/batch.ts'
import type { Port } from './port.ts'

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

export class Members {
  /** Absent: there is no trunk, or it has been taken away. */
  trunk: Sender | undefined
  /** By port index. */
  readonly ports: (Member | undefined)[] = new Array(MAX_PORTS).fill(undefined)
}
