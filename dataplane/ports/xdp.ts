/**
 * One AF_XDP queue: a pod's veth or the underlay device. All sockets share one UMEM (the small
 * frames), so a frame that came in here leaves by any other XDP port without a copy.
 *
 * A frame's way: free list -> fill ring -> RX ring -> batch -> TX ring (of some port) -> its
 * completion ring -> free list. The rings are the kernel's own memory, mapped into the arena.
 *
 * What a kick answers (net/xdp/xsk.c):
 *
 *   0           all is sent, or the budget of one call is used up, or the completion ring is full
 *   -EBUSY      the device has dropped one packet, which is counted
 *   -ENETDOWN   the device is down: nothing new is queued, and it is asked again every PORT_RETRY_MS;
 *               what was queued then, at the most a flush, leaves when it is up again
 *   -ENXIO      the device is gone: all frames come back, and the rings are not touched any more
 *   others      no memory for a packet: as if it were down
 */
import { native } from '../../native/native.ts'
import { FillLevel } from '../afxdp/fill-level.ts'
import { TX_METADATA_BYTES, XDP_TX_METADATA, XDP_TXMD_FLAGS_CHECKSUM } from '../afxdp/kernel.ts'
import type { CompletionRing, FillRing, RxRing, TxRing } from '../afxdp/rings.ts'
import { DROP_NEIGHBOUR, DROP_NO_FRAMES, DROP_TX_ERROR, DROP_TX_FULL } from '../drops.ts'
import { ERRNO } from '../errno.ts'
import { FRAME_BYTES, MAX_KICKS } from '../limits.ts'
import { type Arena, COUNTER, NEXT_HOP_BYTES, PORT_COUNTER, portCounters } from '../memory/arena.ts'
import type { Frames } from '../memory/frames.ts'
import { type Batch, F_CSUM_PARTIAL, F_IPV6, F_L2_READY, F_OUTER } from '../packet/batch.ts'
import { checksumOffset } from '../packet/transport.ts'
import { HOP_MAC_HIGH, HOP_MAC_KNOWN, HOP_MAC_LOW } from '../tables/next-hops.ts'
import { PORT_FLAG, type PortRecord } from '../tables/ports.ts'
import type { TableReader } from '../tables/tables.ts'
import { ETHERTYPE_IPV4, ETHERTYPE_IPV6 } from '../wire/numbers.ts'
import type { PortContext } from './context.ts'
import { DEVICE, DeviceState } from './device-state.ts'
import { PORT_KIND, PORT_ROLE, type Port } from './port.ts'

const ETHERNET = 14
/** Frames given to a fill ring at a time, so that its producer index moves rarely. */
const FILL_BURST = 32

export interface XdpRings {
  fill: FillRing
  completion: CompletionRing
  rx: RxRing
  tx: TxRing
}

export class XdpPort implements Port {
  readonly index: number
  readonly kind = PORT_KIND.XDP
  readonly role: number
  readonly ethernet = true
  readonly hiddenPartial = true
  readonly superframes = false
  readonly partialChecksums: boolean
  readonly polled = true
  readonly fd: number
  private record: PortRecord
  private readonly rings: XdpRings
  private readonly arena: Arena
  private readonly frames: Frames
  private readonly tables: TableReader
  private readonly counters: Float64Array
  private readonly countersAt: number
  private readonly device: DeviceState
  private readonly fill: FillLevel
  /** Packets in the TX ring that `flush` has not shown to the kernel. */
  private queued = 0
  private queuedBytes = 0

  constructor(context: PortContext, rings: XdpRings) {
    const { index, record, fd, arena, frames, tables, counters } = context
    this.index = index
    this.role = record.role
    this.partialChecksums = (record.flags & PORT_FLAG.TX_METADATA) !== 0
    this.fd = fd
    this.record = record
    this.rings = rings
    this.arena = arena
    this.frames = frames
    this.tables = tables
    this.counters = counters
    this.countersAt = portCounters(index)
    this.device = new DeviceState(counters, index)
    this.fill = new FillLevel(context.fills, record.fillFrames, record.role !== PORT_ROLE.POD)
  }

  receive(batch: Batch, max: number): number {
    const { rx } = this.rings
    const { frames } = this
    if (this.device.isGone) return 0
    const waiting = rx.available()
    if (waiting === 0) return 0
    this.fill.came(waiting)
    const n = Math.min(waiting, max)
    for (let k = 0; k < n; k++) {
      const at = rx.addr(k)
      frames.small.unhold(at)
      batch.push((at & -FRAME_BYTES) >>> 0, at + ETHERNET, rx.len(k) - ETHERNET)
    }
    rx.release(n)
    this.fill.hold(-n)
    return n
  }

  send(batch: Batch, i: number): number {
    if (this.device.state !== DEVICE.UP && !this.isUpAgain()) return this.device.reason()
    const { tx } = this.rings
    if (tx.full()) {
      this.flush()
      if (this.device.state !== DEVICE.UP) return this.device.reason()
      if (tx.full()) return DROP_TX_FULL
    }
    const l3 = batch.l3[i]!
    const at = l3 - ETHERNET
    if (this.frames.isLarge(at)) return DROP_NO_FRAMES
    const flags = batch.flags[i]!
    if ((flags & F_L2_READY) === 0 && !this.writeEthernet(batch, i, at, flags)) {
      return DROP_NEIGHBOUR
    }
    let options = 0
    if ((flags & F_CSUM_PARTIAL) !== 0) options = this.writeMetadata(batch, i, at)
    const length = batch.len[i]! + ETHERNET
    this.frames.small.hold(at, this.index)
    tx.put(at, length, options)
    this.queued++
    this.queuedBytes += length
    return 0
  }

  follow(record: PortRecord): void {
    this.record = record
  }

  /** False when the MAC of the next hop is not known yet. */
  private writeEthernet(batch: Batch, i: number, at: number, flags: number): boolean {
    const { view } = this.arena
    const { record } = this
    let high = record.peerMacHigh
    let low = record.peerMacLow
    if ((flags & F_OUTER) !== 0) {
      const hops = this.tables.view
      const hop = this.tables.nextHopsAt + batch.nextHop[i]! * NEXT_HOP_BYTES
      if (hops.getUint32(hop + HOP_MAC_KNOWN, true) === 0) return false
      high = hops.getUint32(hop + HOP_MAC_HIGH, true)
      low = hops.getUint32(hop + HOP_MAC_LOW, true)
    }
    view.setUint32(at, high)
    view.setUint32(at + 4, ((low << 16) | (record.macHigh >>> 16)) >>> 0)
    view.setUint32(at + 8, ((record.macHigh << 16) | record.macLow) >>> 0)
    view.setUint16(at + 12, (flags & F_IPV6) !== 0 ? ETHERTYPE_IPV6 : ETHERTYPE_IPV4)
    return true
  }

  /** Asks the kernel or the device to complete the checksum. Returns the descriptor's options. */
  private writeMetadata(batch: Batch, i: number, at: number): number {
    const { view } = this.arena
    const metadata = at - TX_METADATA_BYTES
    const l4 = batch.l4[i]!
    view.setUint32(metadata, XDP_TXMD_FLAGS_CHECKSUM, true)
    view.setUint32(metadata + 4, 0)
    view.setUint16(metadata + 8, l4 - at, true)
    view.setUint16(metadata + 10, checksumOffset(batch.proto[i]!), true)
    view.setUint32(metadata + 12, 0)
    return XDP_TX_METADATA
  }

  /**
   * Shows the queue to the kernel and kicks until it has taken everything. One kick sends a bounded
   * number, and none while the completion ring is full: that is emptied before each.
   */
  flush(): void {
    const { tx } = this.rings
    if (this.queued > 0) {
      tx.submit()
      this.counters[this.countersAt + PORT_COUNTER.TX_PACKETS]! += this.queued
      this.counters[this.countersAt + PORT_COUNTER.TX_BYTES]! += this.queuedBytes
      this.queued = 0
      this.queuedBytes = 0
    }
    if (this.device.state !== DEVICE.UP && !this.device.mayTry()) return
    for (let kick = 0; kick < MAX_KICKS && tx.queued() > 0; kick++) {
      this.reap()
      if (!this.kick()) return
    }
  }

  /** False when another kick would not help. */
  private kick(): boolean {
    this.counters[COUNTER.KICKS]!++
    const result = native.xskKick(this.fd)
    if (result === 0) this.device.up()
    else if (result === -ERRNO.EBUSY) this.countDropped()
    else if (result === -ERRNO.ENXIO) this.leave()
    else this.device.down()
    return this.device.state === DEVICE.UP
  }

  /** Of a device that was down: asks once in a while. */
  private isUpAgain(): boolean {
    return this.device.mayTry() && this.kick()
  }

  /** The device has dropped the packet that the kernel took last. */
  private countDropped(): void {
    const { counters, countersAt } = this
    counters[COUNTER.DROPS + DROP_TX_ERROR]!++
    counters[countersAt + PORT_COUNTER.TX_DROPS]!++
    counters[countersAt + PORT_COUNTER.TX_PACKETS]!--
    counters[countersAt + PORT_COUNTER.TX_BYTES]! -= this.rings.tx.lastLength()
  }

  /**
   * The device is gone. The kernel unbinds the socket (-ENXIO from then on), waits for whoever was
   * in its rings, and holds the socket's mutex meanwhile, which reading statistics takes: behind that
   * all frames are ours. The completion ring is not read any more: it would name them again.
   */
  private leave(): void {
    if (this.device.isGone) return
    native.xskStatistics(this.fd)
    this.device.gone()
    this.frames.reclaim(this.index)
    this.fill.leave()
    this.queued = 0
    this.queuedBytes = 0
  }

  private reap(): void {
    const { completion } = this.rings
    const n = completion.available()
    if (n === 0) return
    for (let k = 0; k < n; k++) this.frames.releaseHeld(completion.peek(k), this.index)
    completion.release(n)
  }

  service(): void {
    if (this.device.isGone) return
    this.reap()
    const { fill: ring } = this.rings
    const { small } = this.frames
    const { held, level } = this.fill
    if (level - held < Math.min(FILL_BURST, level >> 2)) return
    const want = Math.min(level - held, ring.free(), small.free)
    if (want <= 0) return
    for (let k = 0; k < want; k++) {
      ring.put(small.takeFor(this.index))
    }
    this.fill.hold(want)
    ring.submit()
    if (ring.needWakeup()) native.xskWakeRx(this.fd)
  }

  pending(): boolean {
    const { device } = this
    if (device.isGone || this.rings.tx.queued() === 0) return false
    return device.mayTry()
  }

  /** A socket whose device was removed is unbound, and says so (net/xdp/xsk.c, xsk_notifier). */
  gone(): boolean {
    if (this.device.isGone) return true
    const result = native.xskWakeRx(this.fd)
    if (result === -ERRNO.ENXIO) this.leave()
    else if (result === -ERRNO.ENETDOWN) this.device.down()
    else this.device.up()
    return this.device.isGone
  }

  look(): boolean {
    if (!this.device.isGone) this.fill.look()
    return this.gone()
  }

  close(): void {
    if (!this.device.isGone) this.fill.leave()
  }
}
