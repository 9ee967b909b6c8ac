/** A TUN queue: a pod's interface, or the node's own (`host`). Packets have no Ethernet header (tun-queue.ts). */
import type { Batch } from '../packet/batch.ts'
import type { PortContext } from './context.ts'
import { PORT_KIND, type Port } from './port.ts'
import { TunQueue } from './tun-queue.ts'

/** A TUN has no link layer. */
const NO_LINK = 0

export class TunPort implements Port {
  readonly index: number
  readonly kind = PORT_KIND.TUN
  readonly role: number
  readonly ethernet = false
  readonly hiddenPartial = false
  readonly superframes = true
  readonly partialChecksums = true
  readonly polled = false
  readonly fd: number
  private readonly queue: TunQueue

  constructor(context: PortContext) {
    this.index = context.index
    this.role = context.record.role
    this.fd = context.fd
    this.queue = new TunQueue(context, NO_LINK)
  }

  receive(batch: Batch, max: number): number {
    const { queue } = this
    const got = queue.read(max)
    for (let k = 0; k < got; k++) queue.push(k, batch)
    return got
  }

  send(batch: Batch, i: number): number {
    return this.queue.queue(batch, i, this.index)
  }

  flush(): void {
    this.queue.flush()
  }

  service(): void {}

  pending(): boolean {
    return false
  }

  gone(): boolean {
    return this.queue.isGone
  }

  /** Its descriptor becomes ready when the device goes; that it is up again the next packet finds out. */
  look(): boolean {
    return this.queue.isGone
  }

  close(): void {
    this.queue.close()
  }
}
