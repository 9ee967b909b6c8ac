/** What the main thread's parts of one engine (underlay, pods) work on together. */
import type { RingSlots } from '../afxdp/ring-slots.ts'
import type { Umem } from '../afxdp/umem.ts'
import type { DataplaneOptions } from '../control.ts'
import type { Arena } from '../memory/arena.ts'
import type { TableWriter } from '../tables/tables.ts'
import type { Trunk } from '../trunk/trunk.ts'
import type { NextHopSlots } from './next-hop-slots.ts'
import type { PortSlots } from './port-slots.ts'

export type Log = NonNullable<DataplaneOptions['log']>

export interface Parts {
  readonly arena: Arena
  readonly tables: TableWriter
  readonly ports: PortSlots
  readonly hops: NextHopSlots
  readonly rings: RingSlots
  /** Queues of every port. */
  readonly workers: number
  /** Undefined where the kernel has no AF_XDP, before the start and after the end. */
  umem: Umem | undefined
  readonly trunk: Trunk
  readonly log: Log
}
