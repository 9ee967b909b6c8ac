/**
 * A port behind the node's TAP: a pod's veth, or the kernel's vxlan device. It has no descriptor, ring or
 * frame of its own: the trunk (trunk.ts) reads and writes for all of them, and a tag in the frame says whose
 * it is (tc/tag.ts).
 */
import { DROP_PORT_GONE } from '../drops.ts'
import { COUNTER } from '../memory/arena.ts'
import type { Batch } from '../packet/batch.ts'
import { stampOf, TAG_PEER, TAG_POD } from '../tc/tag.ts'
import type { Member, Members, PortContext } from './context.ts'
import { PORT_KIND } from './port.ts'

export class TapPort implements Member {
  readonly index: number
  /** PORT_KIND.TAP or VXLAN. */
  readonly kind: number
  readonly role: number
  readonly ethernet = true
  readonly hiddenPartial = false
  readonly superframes = true
  readonly partialChecksums = true
  readonly polled = false
  readonly fd = -1
  readonly stamp: number
  private readonly members: Members
  private readonly counters: Float64Array

  constructor({ index, record, members, counters }: PortContext) {
    this.index = index
    this.kind = record.kind
    this.role = record.role
    this.stamp = stampOf(record.ifindex)
    this.members = members
    this.counters = counters
    members.ports[index] = this
  }

  /** The trunk receives for it. */
  receive(): number {
    return 0
  }

  send(batch: Batch, i: number): number {
    const { trunk } = this.members
    if (trunk === undefined) return DROP_PORT_GONE
    if (this.kind === PORT_KIND.TAP) return trunk.queue(batch, i, this.index, TAG_POD, this.index)
    const reason = trunk.queue(batch, i, this.index, TAG_PEER, batch.nextHop[i]!)
    if (reason === 0) this.counters[COUNTER.ENCAPSULATED]!++
    return reason
  }

  flush(): void {
    this.members.trunk?.flush()
  }

  service(): void {}

  pending(): boolean {
    return false
  }

  gone(): boolean {
    return false
  }

  look(): boolean {
    return false
  }

  close(): void {
    this.members.ports[this.index] = undefined
  }
}
