/**
 * A queue of the node's TAP, behind which stand all pods of kind `tap` and the kernel's vxlan device. Frames
 * are as on a TUN queue (a virtio_net_hdr, superframes whole), with an Ethernet header whose destination is a
 * tag (tc/tag.ts).
 *
 * One read brings frames of many ports. `gather` sorts them by port, and `next` hands out those of one port
 * after the other, in their order: a flow has one port to come in by, so it keeps its order, and stages see
 * batches of one port as from any other. What is sent goes out in the order in which it was queued.
 *
 * A frame whose tag names a port or next hop that is not there any more, or is another one by now, is
 * dropped as `port-gone`.
 */
import { DROP_L2_FOREIGN, DROP_PORT_GONE } from '../drops.ts'
import { MAX_NEXT_HOPS, MAX_PORTS, RECEIVE_BURST } from '../limits.ts'
import { type Arena, COUNTER, NEXT_HOP_BYTES, PORT_COUNTER, portCounters } from '../memory/arena.ts'
import type { Frames } from '../memory/frames.ts'
import { type Batch, F_IPV6, F_L2_READY } from '../packet/batch.ts'
import { HOP, HOP_KIND, HOP_NETWORK, HOP_PORT, HOP_STAMP } from '../tables/next-hops.ts'
import type { TableReader } from '../tables/tables.ts'
import { PACKET_OTHERHOST, TAG, TAG_PEER, TAG_POD } from '../tc/tag.ts'
import { ETHERTYPE_IPV4, ETHERTYPE_IPV6 } from '../wire/numbers.ts'
import type { Member, Members, PortContext, Sender } from './context.ts'
import { PORT_KIND, type Trunk } from './port.ts'
import { TunQueue } from './tun-queue.ts'
import { VNET_HEADER } from './vnet.ts'

const ETHERNET = 14
/** Bytes in front of an IP packet, as it is read and written. */
const AHEAD = VNET_HEADER + ETHERNET
/** Ends a chain of frames. */
const END = -1

export class TapTrunk implements Trunk, Sender {
  readonly index: number
  readonly kind = PORT_KIND.TRUNK
  readonly role: number
  readonly ethernet = true
  readonly hiddenPartial = false
  readonly superframes = true
  readonly partialChecksums = true
  readonly polled = false
  readonly fd: number
  private readonly arena: Arena
  private readonly frames: Frames
  private readonly tun: TunQueue
  private readonly counters: Float64Array
  private readonly tables: TableReader
  private readonly members: Members
  /** Of what `gather` has read, the next frame of the same port. */
  private readonly behind = new Int8Array(RECEIVE_BURST)
  /** By port: its first and last frame of them. */
  private readonly first = new Int8Array(MAX_PORTS).fill(END)
  private readonly last = new Int8Array(MAX_PORTS)
  /** Their ports, in the order of their first frames; and which is next. */
  private readonly order = new Uint16Array(RECEIVE_BURST)
  private orderCount = 0
  private orderNext = 0

  constructor(context: PortContext) {
    const { index, record, fd, arena, frames, counters } = context
    this.index = index
    this.role = record.role
    this.fd = fd
    this.arena = arena
    this.frames = frames
    this.tun = new TunQueue(context, ETHERNET)
    this.counters = counters
    this.tables = context.tables
    this.members = context.members
    context.members.trunk = this
  }

  /** Its packets are those of the ports behind it: `gather`. */
  receive(): number {
    return 0
  }

  gather(max: number): number {
    const got = this.tun.read(max)
    this.orderCount = 0
    this.orderNext = 0
    for (let k = 0; k < got; k++) this.sort(k)
    return got
  }

  /** Puts frame `k` behind those of its port, or drops it. */
  private sort(k: number): void {
    const { first, last, behind, counters } = this
    const { readAt, readLength } = this.tun
    const port = readLength[k]! < AHEAD ? undefined : this.origin(readAt[k]!)
    if (port === undefined) {
      counters[COUNTER.DROPS + DROP_PORT_GONE]!++
      counters[portCounters(this.index) + PORT_COUNTER.RX_DROPS]!++
      this.frames.release(readAt[k]!)
      return
    }
    behind[k] = END
    if (first[port.index] === END) {
      first[port.index] = k
      this.order[this.orderCount++] = port.index
    } else behind[last[port.index]!] = k
    last[port.index] = k
  }

  /** The port that the frame whose virtio_net_hdr is at `at` came in by. */
  private origin(at: number): Member | undefined {
    const { view } = this.arena
    const tag = at + VNET_HEADER
    const kind = view.getUint8(tag + TAG.KIND)
    const number = view.getUint16(tag + TAG.NUMBER)
    const stamp = view.getUint16(tag + TAG.STAMP)
    const { ports } = this.members
    if (kind === TAG_POD) {
      const port = ports[number]
      return port?.kind === PORT_KIND.TAP && port.stamp === stamp ? port : undefined
    }
    if (kind !== TAG_PEER || number >= MAX_NEXT_HOPS) return undefined
    const { view: hops, nextHopsAt } = this.tables
    const hop = nextHopsAt + number * NEXT_HOP_BYTES
    if (hops.getUint16(hop + HOP_KIND, true) !== HOP.VXLAN) return undefined
    if (hops.getUint16(hop + HOP_STAMP, true) !== stamp) return undefined
    const port = ports[hops.getUint32(hop + HOP_PORT, true)]
    return port?.kind === PORT_KIND.VXLAN ? port : undefined
  }

  next(batch: Batch): Member | undefined {
    if (this.orderNext === this.orderCount) return undefined
    const { behind, first, tables, tun } = this
    const { view } = this.arena
    const port = this.members.ports[this.order[this.orderNext++]!]!
    batch.reset(port.index)
    for (let k = first[port.index]!; k !== END; k = behind[k]!) {
      const i = tun.push(k, batch)
      const tag = tun.readAt[k]! + VNET_HEADER
      if (port.kind === PORT_KIND.VXLAN) {
        const hop = view.getUint16(tag + TAG.NUMBER)
        batch.source[i] = hop
        const network = tables.nextHopsAt + hop * NEXT_HOP_BYTES + HOP_NETWORK
        batch.network[i] = tables.view.getUint16(network, true)
      } else if (view.getUint8(tag + TAG.PACKET_TYPE) === PACKET_OTHERHOST) {
        batch.drop[i] = DROP_L2_FOREIGN
      }
    }
    first[port.index] = END
    return port
  }

  /** Every packet goes out by a port behind it. */
  send(): number {
    return DROP_PORT_GONE
  }

  queue(batch: Batch, i: number, port: number, kind: number, number: number): number {
    const { view } = this.arena
    const flags = batch.flags[i]!
    const l3 = batch.l3[i]!
    if ((flags & F_L2_READY) === 0) {
      view.setUint16(l3 - 2, (flags & F_IPV6) !== 0 ? ETHERTYPE_IPV6 : ETHERTYPE_IPV4)
    }
    view.setUint32(l3 - ETHERNET, (kind << 24) | number)
    view.setUint16(l3 - ETHERNET + TAG.STAMP, 0)
    return this.tun.queue(batch, i, port)
  }

  flush(): void {
    this.tun.flush()
  }

  service(): void {}

  pending(): boolean {
    return false
  }

  gone(): boolean {
    return this.tun.isGone
  }

  /** Its descriptor becomes ready when the device goes. */
  look(): boolean {
    return this.tun.isGone
  }

  close(): void {
    this.tun.close()
    if (this.members.trunk === this) this.members.trunk = undefined
  }
}
