/**
 * A TUN queue: a pod's interface, or the node's own (`host`). Packets have no Ethernet header but a
 * virtio_net_hdr of 10 bytes in front (linux/virtio_net.h, legacy layout, little-endian):
 *
 *   flags u8, gso_type u8, hdr_len u16, gso_size u16, csum_start u16, csum_offset u16
 *
 * A packet that fits a small frame is read into one, so that it may leave by AF_XDP without a copy;
 * a superframe is read into a large frame.
 */
import { native } from '../../native/native.ts'
import { DROP_NO_FRAMES, DROP_OFFLOAD, DROP_TX_ERROR, DROP_TX_FULL } from '../drops.ts'
import { ERRNO } from '../errno.ts'
import { FRAME_HEADROOM, LARGE_FRAME_BYTES, MAX_SMALL_PACKET, RECEIVE_BURST } from '../limits.ts'
import { type Arena, COUNTER, PORT_COUNTER, portCounters } from '../memory/arena.ts'
import type { Frames } from '../memory/frames.ts'
import {
  type Batch,
  F_CSUM_PARTIAL,
  GSO_NONE,
  GSO_TCPV4,
  GSO_TCPV6,
  GSO_UDP_L4,
} from '../packet/batch.ts'
import { checksumOffset, transportHeaderLength } from '../packet/transport.ts'
import type { PortContext } from './context.ts'
import { DEVICE, DeviceState } from './device-state.ts'
import { PORT_KIND, type Port } from './port.ts'
import type { ReadFrames } from './read-frames.ts'
import { DESCRIPTOR_BYTES, DESCRIPTOR_LENGTH, type Scratch, TRANSMIT_BURST } from './scratch.ts'

/** Bytes of the virtio_net_hdr that TUN devices of ours use. */
export const VNET_HEADER = 10
/** Longest packet, with its virtio_net_hdr, that is read into a small frame. */
const SMALL_CAP = MAX_SMALL_PACKET + VNET_HEADER
const VNET_NEEDS_CSUM = 1
const VNET_GSO_ECN = 0x80
/** Where a packet is read to, from the beginning of its frame: its virtio_net_hdr. */
export const READ_AT = FRAME_HEADROOM - VNET_HEADER

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
      else this.readOffload(batch, i, at)
    }
    small.use(smallUsed)
    large.use(largeUsed)
    return Math.max(got, 0)
  }

  /** Reads the virtio_net_hdr at `at` into the batch. `parse` proves later that it fits the packet. */
  private readOffload(batch: Batch, i: number, at: number): void {
    const { view } = this.arena
    const gsoType = view.getUint8(at + 1) & ~VNET_GSO_ECN
    if ((view.getUint8(at) & VNET_NEEDS_CSUM) !== 0) {
      batch.flags[i] = F_CSUM_PARTIAL
      batch.csumStart[i] = view.getUint16(at + 6, true)
      batch.csumOffset[i] = view.getUint16(at + 8, true)
    }
    if (gsoType === GSO_NONE) return
    if (gsoType !== GSO_TCPV4 && gsoType !== GSO_TCPV6 && gsoType !== GSO_UDP_L4) {
      batch.drop[i] = DROP_OFFLOAD
      return
    }
    batch.gsoType[i] = gsoType
    batch.gsoSize[i] = view.getUint16(at + 4, true)
    if (batch.gsoSize[i] === 0) batch.drop[i] = DROP_OFFLOAD
  }

  send(batch: Batch, i: number): number {
    if (this.device.state !== DEVICE.UP && !this.device.mayTry()) return this.device.reason()
    if (this.queued === TRANSMIT_BURST) this.flush()
    if (this.queued === TRANSMIT_BURST) return DROP_TX_FULL
    const { view } = this.arena
    const l3 = batch.l3[i]!
    const at = l3 - VNET_HEADER
    const partial = (batch.flags[i]! & F_CSUM_PARTIAL) !== 0
    const gsoType = batch.gsoType[i]!
    let csumStart = 0
    let csumOffset = 0
    let headers = 0
    if (partial || gsoType !== GSO_NONE) {
      const l4 = batch.l4[i]!
      csumStart = l4 - l3
      csumOffset = checksumOffset(batch.proto[i]!)
      headers = csumStart + transportHeaderLength(view, l4, batch.proto[i]!)
    }
    view.setUint8(at, partial ? VNET_NEEDS_CSUM : 0)
    view.setUint8(at + 1, gsoType)
    view.setUint16(at + 2, gsoType === GSO_NONE ? 0 : headers, true)
    view.setUint16(at + 4, gsoType === GSO_NONE ? 0 : batch.gsoSize[i]!, true)
    view.setUint16(at + 6, csumStart, true)
    view.setUint16(at + 8, csumOffset, true)
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
