/**
 * A port: where packets enter and leave a worker. One object a port and worker; it owns one queue
 * of the device and is used by one thread only.
 */
import type { Batch } from '../packet/batch.ts'
import type { PortRecord } from '../tables/ports.ts'

/** What stands behind a port; the number is the one in the port record. */
export const PORT_KIND = {
  TUN: 1,
  XDP: 2,
  UDP: 3,
  MEM: 4,
  /** A pod's veth behind the node's TAP. */
  TAP: 5,
  /** The kernel's vxlan device, behind it as well. */
  VXLAN: 6,
  /** The TAP itself. */
  TRUNK: 7,
} as const
/** What the port is for. */
export const PORT_ROLE = { POD: 1, UNDERLAY: 2, HOST: 4, TRUNK: 8 } as const

export interface Port {
  /** Index in the port table. */
  readonly index: number
  /** PORT_KIND. */
  readonly kind: number
  /** PORT_ROLE. */
  readonly role: number
  /** Whether received packets have an Ethernet header in front of `l3` (14 bytes, inside the frame). */
  readonly ethernet: boolean
  /** Whether a packet may arrive with only the pseudo-header sum and no flag that says so (veth). */
  readonly hiddenPartial: boolean
  /** Whether `send` takes superframes (GSO) in large frames. */
  readonly superframes: boolean
  /** Whether `send` takes packets whose checksum is partial (F_CSUM_PARTIAL). */
  readonly partialChecksums: boolean
  /** Descriptor to sleep on, or -1: another port receives for it, or there is nothing to sleep on. */
  readonly fd: number
  /** True: `receive` costs no system call when nothing is there, so it is asked in every round. False: it is asked when its descriptor is readable. */
  readonly polled: boolean

  /**
   * Appends at most `max` packets to `batch` (reset by the caller; there is room). The frames now
   * belong to the batch. `l3` and `len` are set; nothing about the bytes is proven. Returns how
   * many were appended.
   */
  receive(batch: Batch, max: number): number

  /**
   * Queues packet `i`. On 0 the frame belongs to the port. Else it returns a DROP_* reason and the
   * frame stays with the caller. Small frames only, unless `superframes`.
   */
  send(batch: Batch, i: number): number

  /** Hands to the kernel what `send` has queued. */
  flush(): void

  /** Frames that came back from the kernel go to the free list; fill rings are topped up. Called between batches. */
  service(): void

  /** Packets that wait for another `flush`, which may help now: the worker must not sleep. */
  pending(): boolean

  /**
   * Whether the kernel's end has ceased to be (a pod deleted its own interface). The port then holds
   * no frame any more, drops what is sent by it (`port-gone`) and is left: its descriptor may count
   * as ready for ever. Asked when a descriptor was ready and nothing came; may cost a system call.
   */
  gone(): boolean

  /** Once in PORT_LOOK_MS: looks at what no packet tells. As `gone`. */
  look(): boolean

  /** Its record has changed (the MAC of a pod). Absent: nothing of the record matters to what it sends. */
  follow?(record: PortRecord): void

  /** Lets go of everything but the frames that the kernel holds: the port is used no more. */
  close(): void
}

/** A port that others stand behind: what it receives is theirs. */
export interface Trunk extends Port {
  /**
   * Receives at most `max` packets and sorts them by the ports that they came in by; returns how many. All
   * of them are in flight, and must be taken by `next` before anything else is asked.
   */
  gather(max: number): number
  /** Empties `batch` and fills it with what came in by one more of these ports, as `receive` of that; undefined: there are no more. */
  next(batch: Batch): Port | undefined
}

export function isTrunk(port: Port): port is Trunk {
  return port.kind === PORT_KIND.TRUNK
}

/** Whether a port stands behind a trunk: the MACs of its frames are the trunk's business. */
export function isTagged({ kind }: Port): boolean {
  return kind === PORT_KIND.TAP || kind === PORT_KIND.VXLAN
}
