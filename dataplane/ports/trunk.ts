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
import { native } from '../../native/native.ts'
import {
  DROP_L2_FOREIGN,
  DROP_NO_FRAMES,
  DROP_PORT_GONE,
  DROP_TX_ERROR,
  DROP_TX_FULL,
} from '../drops.ts'
import { ERRNO } from '../errno.ts'
import {
  LARGE_FRAME_BYTES,
  MAX_NEXT_HOPS,
  MAX_PORTS,
  MAX_SMALL_PACKET,
  RECEIVE_BURST,
} from '../limits.ts'
import { type Arena, COUNTER, NEXT_HOP_BYTES, PORT_COUNTER, portCounters } from '../memory/arena.ts'
import type { Frames } from '../memory/frames.ts'
import { type Batch, F_IPV6, F_L2_READY } from '../packet/batch.ts'
import { HOP, HOP_KIND, HOP_NETWORK, HOP_PORT, HOP_STAMP } from '../tables/next-hops.ts'
import type { TableReader } from '../tables/tables.ts'
import { PACKET_OTHERHOST, TAG, TAG_PEER, TAG_POD } from '../tc/tag.ts'
import { ETHERTYPE_IPV4, ETHERTYPE_IPV6 } from '../wire/numbers.ts'
import type { PortContext } from './context.ts'
import { DEVICE, DeviceState } from './device-state.ts'
import type { Member, Members, Sender } from './members.ts'
import { PORT_KIND, type Trunk } from './port.ts'
import type { ReadFrames } from './read-frames.ts'
import { DESCRIPTOR_BYTES, DESCRIPTOR_LENGTH, type Scratch, TRANSMIT_BURST } from './scratch.ts'
import { READ_AT, readVnet, VNET_HEADER, writeVnet } from './vnet.ts'

const ETHERNET = 14
/** Bytes in front of an IP packet, as it is read and written. */
const AHEAD = VNET_HEADER + ETHERNET
/** Longest frame, with its virtio_net_hdr, that is read into a small frame. */
const SMALL_CAP = MAX_SMALL_PACKET + AHEAD
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
  private readonly scratch: Scratch
  private readonly reading: ReadFrames
  private readonly counters: Float64Array
  private readonly tables: TableReader
  private readonly members: Members
  private readonly device: DeviceState
  /** What `gather` has read: where, how long, and the next one of the same port. */
  private readonly readAt = new Uint32Array(RECEIVE_BURST)
  private readonly readLength = new Uint32Array(RECEIVE_BURST)
  private readonly behind = new Int8Array(RECEIVE_BURST)
  /** By port: its first and last frame of them. */
  private readonly first = new Int8Array(MAX_PORTS).fill(END)
  private readonly last = new Int8Array(MAX_PORTS)
  /** Their ports, in the order of their first frames; and which is next. */
  private readonly order = new Uint16Array(RECEIVE_BURST)
  private orderCount = 0
  private orderNext = 0
  /** Queued frames: arena offsets of their virtio_net_hdr, their lengths, and the ports that they leave by. */
  private readonly queuedAt = new Uint32Array(TRANSMIT_BURST)
  private readonly queuedLength = new Uint32Array(TRANSMIT_BURST)
  private readonly queuedPort = new Uint16Array(TRANSMIT_BURST)
  private queued = 0

  constructor(context: PortContext) {
    const { index, record, fd, arena, frames, scratch, reading, counters } = context
    this.index = index
    this.role = record.role
    this.fd = fd
    this.arena = arena
    this.frames = frames
    this.scratch = scratch
    this.reading = reading
    this.counters = counters
    this.tables = context.tables
    this.members = context.members
    this.device = new DeviceState(counters, index)
    reading.enter()
    context.members.trunk = this
  }

  /** Its packets are those of the ports behind it: `gather`. */
  receive(): number {
    return 0
  }

  gather(max: number): number {
    const { frames, scratch } = this
    const { small, large } = this.reading
    const { view } = this.arena
    this.reading.fill()
    const got = native.tunRead(
      this.fd,
      Math.min(max, RECEIVE_BURST),
      small.at,
      small.count,
      SMALL_CAP,
      large.at,
      large.count,
      LARGE_FRAME_BYTES - READ_AT,
      scratch.received,
    )
    if (got === -ERRNO.EBADFD) this.device.gone()
    let smallUsed = 0
    for (let k = 0; k < got; k++) {
      const descriptor = scratch.received + k * DESCRIPTOR_BYTES
      this.readAt[k] = view.getUint32(descriptor, true)
      this.readLength[k] = view.getUint32(descriptor + DESCRIPTOR_LENGTH, true)
      if (!frames.isLarge(this.readAt[k]!)) smallUsed++
    }
    small.use(smallUsed)
    large.use(Math.max(got, 0) - smallUsed)
    this.orderCount = 0
    this.orderNext = 0
    for (let k = 0; k < got; k++) this.sort(k)
    return Math.max(got, 0)
  }

  /** Puts frame `k` behind those of its port, or drops it. */
  private sort(k: number): void {
    const { first, last, behind, counters } = this
    const port = this.readLength[k]! < AHEAD ? undefined : this.origin(this.readAt[k]!)
    if (port === undefined) {
      counters[COUNTER.DROPS + DROP_PORT_GONE]!++
      counters[portCounters(this.index) + PORT_COUNTER.RX_DROPS]!++
      this.frames.release(this.readAt[k]!)
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
    const { behind, first, frames, tables } = this
    const { view } = this.arena
    const port = this.members.ports[this.order[this.orderNext++]!]!
    batch.reset(port.index)
    for (let k = first[port.index]!; k !== END; k = behind[k]!) {
      const at = this.readAt[k]!
      const length = this.readLength[k]!
      const i = batch.push(at - READ_AT, at + AHEAD, length - AHEAD)
      if (length > SMALL_CAP && !frames.isLarge(at)) batch.drop[i] = DROP_NO_FRAMES
      else readVnet(view, at, ETHERNET, batch, i)
      const tag = at + VNET_HEADER
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
    if (this.device.state !== DEVICE.UP && !this.device.mayTry()) return this.device.reason()
    if (this.queued === TRANSMIT_BURST) this.flush()
    if (this.queued === TRANSMIT_BURST) return DROP_TX_FULL
    const { view } = this.arena
    const flags = batch.flags[i]!
    const l3 = batch.l3[i]!
    if ((flags & F_L2_READY) === 0) {
      view.setUint16(l3 - 2, (flags & F_IPV6) !== 0 ? ETHERTYPE_IPV6 : ETHERTYPE_IPV4)
    }
    view.setUint32(l3 - ETHERNET, (kind << 24) | number)
    view.setUint16(l3 - ETHERNET + TAG.STAMP, 0)
    const at = l3 - AHEAD
    writeVnet(view, at, ETHERNET, batch, i)
    this.queuedAt[this.queued] = at
    this.queuedLength[this.queued] = batch.len[i]! + AHEAD
    this.queuedPort[this.queued] = port
    this.queued++
    return 0
  }

  flush(): void {
    const n = this.queued
    if (n === 0) return
    const { view } = this.arena
    const { counters, queuedAt, queuedLength } = this
    const lane = this.scratch.lane(0)
    for (let k = 0; k < n; k++) {
      const descriptor = lane + k * DESCRIPTOR_BYTES
      view.setUint32(descriptor, queuedAt[k]!, true)
      view.setUint32(descriptor + DESCRIPTOR_LENGTH, queuedLength[k]!, true)
    }
    const taken = native.tunWrite(this.fd, lane, n)
    if (taken > 0) this.device.up()
    for (let k = 0; k < n; k++) {
      const error = view.getUint32(lane + k * DESCRIPTOR_BYTES + DESCRIPTOR_LENGTH, true)
      const of = portCounters(this.queuedPort[k]!)
      if (error === 0) {
        counters[of + PORT_COUNTER.TX_PACKETS]!++
        counters[of + PORT_COUNTER.TX_BYTES]! += queuedLength[k]! - VNET_HEADER
      } else {
        counters[of + PORT_COUNTER.TX_DROPS]!++
        counters[COUNTER.DROPS + this.reasonOf(error)]!++
      }
      this.frames.release(queuedAt[k]!)
    }
    this.queued = 0
  }

  /** Why the kernel refused a frame; learns from it (drivers/net/tun.c). */
  private reasonOf(error: number): number {
    if (error !== ERRNO.EBADFD && error !== ERRNO.EIO) return DROP_TX_ERROR
    if (error === ERRNO.EBADFD) this.device.gone()
    else this.device.down()
    return this.device.reason()
  }

  service(): void {}

  pending(): boolean {
    return false
  }

  gone(): boolean {
    return this.device.isGone
  }

  /** Its descriptor becomes ready when the device goes. */
  look(): boolean {
    return this.device.isGone
  }

  close(): void {
    this.reading.leave()
    if (this.members.trunk === this) this.members.trunk = undefined
  }
}
