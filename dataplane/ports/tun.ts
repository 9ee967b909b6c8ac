/**
 * A TUN queue: a pod's interface, or the node's own (`host`). Packets have no Ethernet header but a
 * virtio_net_hdr in front (vnet.ts).
 *
 * A packet that fits a small frame is read into one, so that it may leave by AF_XDP without a copy;
 * a superframe is read into a large frame.
 */
import { native } from '../../native/native.ts'
import { DROP_NO_FRAMES, DROP_TX_ERROR, DROP_TX_FULL } from '../drops.ts'
import { ERRNO } from '../errno.ts'
import { LARGE_FRAME_BYTES, MAX_SMALL_PACKET, RECEIVE_BURST } from '../limits.ts'
import { type Arena, COUNTER, PORT_COUNTER, portCounters } from '../memory/arena.ts'
import type { Frames } from '../memory/frames.ts'
import type { Batch } from '../packet/batch.ts'
import type { PortContext } from './context.ts'
import { DEVICE, DeviceState } from './device-state.ts'
import { PORT_KIND, type Port } from './port.ts'
import type { ReadFrames } from './read-frames.ts'
import { DESCRIPTOR_BYTES, DESCRIPTOR_LENGTH, type Scratch, TRANSMIT_BURST } from './scratch.ts'
import { READ_AT, readVnet, VNET_HEADER, writeVnet } from './vnet.ts'

/** Longest packet, with its virtio_net_hdr, that is read into a small frame. */
const SMALL_CAP = MAX_SMALL_PACKET + VNET_HEADER
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
  private readonly arena: Arena
  private readonly frames: Frames
  private readonly scratch: Scratch
  private readonly reading: ReadFrames
  private readonly counters: Float64Array
  private readonly countersAt: number
  private readonly device: DeviceState
  /** Queued packets: arena offsets of their virtio_net_hdr and their lengths. */
  private readonly queuedAt = new Uint32Array(TRANSMIT_BURST)
  private readonly queuedLength = new Uint32Array(TRANSMIT_BURST)
  private queued = 0

  constructor({ index, record, fd, arena, frames, scratch, reading, counters }: PortContext) {
    this.index = index
    this.role = record.role
    this.fd = fd
    this.arena = arena
    this.frames = frames
    this.scratch = scratch
    this.reading = reading
    this.counters = counters
    this.countersAt = portCounters(index)
    this.device = new DeviceState(counters, index)
    reading.enter()
  }

  receive(batch: Batch, max: number): number {
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
    let largeUsed = 0
    for (let k = 0; k < got; k++) {
      const descriptor = scratch.received + k * DESCRIPTOR_BYTES
      const at = view.getUint32(descriptor, true)
      const length = view.getUint32(descriptor + DESCRIPTOR_LENGTH, true)
      if (frames.isLarge(at)) largeUsed++
      else smallUsed++
      const i = batch.push(at - READ_AT, at + VNET_HEADER, Math.max(0, length - VNET_HEADER))
      if (length > SMALL_CAP && !frames.isLarge(at)) batch.drop[i] = DROP_NO_FRAMES
      else readVnet(view, at, NO_LINK, batch, i)
    }
    small.use(smallUsed)
    large.use(largeUsed)
    return Math.max(got, 0)
  }

  send(batch: Batch, i: number): number {
    if (this.device.state !== DEVICE.UP && !this.device.mayTry()) return this.device.reason()
    if (this.queued === TRANSMIT_BURST) this.flush()
    if (this.queued === TRANSMIT_BURST) return DROP_TX_FULL
    const at = batch.l3[i]! - VNET_HEADER
    writeVnet(this.arena.view, at, NO_LINK, batch, i)
    this.queuedAt[this.queued] = at
    this.queuedLength[this.queued] = batch.len[i]! + VNET_HEADER
    this.queued++
    return 0
  }

  flush(): void {
    const n = this.queued
    if (n === 0) return
    const { view } = this.arena
    const { counters, countersAt } = this
    const lane = this.scratch.lane(0)
    for (let k = 0; k < n; k++) {
      const descriptor = lane + k * DESCRIPTOR_BYTES
      view.setUint32(descriptor, this.queuedAt[k]!, true)
      view.setUint32(descriptor + DESCRIPTOR_LENGTH, this.queuedLength[k]!, true)
    }
    const taken = native.tunWrite(this.fd, lane, n)
    if (taken > 0) this.device.up()
    for (let k = 0; k < n; k++) {
      const error = view.getUint32(lane + k * DESCRIPTOR_BYTES + DESCRIPTOR_LENGTH, true)
      if (error === 0) {
        counters[countersAt + PORT_COUNTER.TX_PACKETS]!++
        counters[countersAt + PORT_COUNTER.TX_BYTES]! += this.queuedLength[k]! - VNET_HEADER
      } else {
        this.count(error)
      }
      this.frames.release(this.queuedAt[k]!)
    }
    this.queued = 0
  }

  /** Counts a packet that the kernel refused, and learns from it (drivers/net/tun.c). */
  private count(error: number): void {
    let reason = DROP_TX_ERROR
    if (error === ERRNO.EBADFD || error === ERRNO.EIO) {
      if (error === ERRNO.EBADFD) this.device.gone()
      else this.device.down()
      reason = this.device.reason()
    }
    this.counters[this.countersAt + PORT_COUNTER.TX_DROPS]!++
    this.counters[COUNTER.DROPS + reason]!++
  }

  service(): void {}

  pending(): boolean {
    return false
  }

  gone(): boolean {
    return this.device.isGone
  }

  /** Its descriptor becomes ready when the device goes; that it is up again the next packet finds out. */
  look(): boolean {
    return this.device.isGone
  }

  close(): void {
    this.reading.leave()
  }
}
