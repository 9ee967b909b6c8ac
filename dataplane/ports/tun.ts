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
import type { PortRecord } from '../tables/ports.ts'
import { PORT_KIND, type Port } from './port.ts'
import { LARGE_BURST, type Scratch, TRANSMIT_BURST } from './scratch.ts'

/** Bytes of the virtio_net_hdr that TUN devices of ours use. */
export const VNET_HEADER = 10
/** Longest packet, with its virtio_net_hdr, that is read into a small frame. */
const SMALL_CAP = MAX_SMALL_PACKET + VNET_HEADER
const VNET_NEEDS_CSUM = 1
const VNET_GSO_ECN = 0x80
/** What a queue answers whose device was deleted (drivers/net/tun.c). */
const EBADFD = 77

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
  private readonly counters: Float64Array
  private readonly countersAt: number
  /** Queued packets: arena offsets of their virtio_net_hdr and their lengths. */
  private readonly queuedAt = new Uint32Array(TRANSMIT_BURST)
  private readonly queuedLength = new Uint32Array(TRANSMIT_BURST)
  private queued = 0
  private isGone = false

  constructor(
    index: number,
    record: PortRecord,
    fd: number,
    arena: Arena,
    frames: Frames,
    scratch: Scratch,
    counters: Float64Array,
  ) {
    this.index = index
    this.role = record.role
    this.fd = fd
    this.arena = arena
    this.frames = frames
    this.scratch = scratch
    this.counters = counters
    this.countersAt = portCounters(index)
  }

  receive(batch: Batch, max: number): number {
    const { frames, scratch, arena } = this
    const { view } = arena
    const readAt = FRAME_HEADROOM - VNET_HEADER
    const want = Math.min(max, RECEIVE_BURST)
    let small = 0
    for (; small < want; small++) {
      const frame = frames.small.take()
      if (frame === 0) break
      view.setUint32(scratch.small + small * 4, frame + readAt, true)
    }
    let large = 0
    for (; large < LARGE_BURST; large++) {
      const frame = frames.large.take()
      if (frame === 0) break
      view.setUint32(scratch.large + large * 4, frame + readAt, true)
    }
    const got = native.tunRead(
      this.fd,
      small,
      scratch.small,
      small,
      SMALL_CAP,
      scratch.large,
      large,
      LARGE_FRAME_BYTES - readAt,
      scratch.received,
    )
    if (got === -EBADFD) this.isGone = true
    let smallUsed = 0
    let largeUsed = 0
    for (let k = 0; k < got; k++) {
      const at = view.getUint32(scratch.received + k * 8, true)
      const length = view.getUint32(scratch.received + k * 8 + 4, true)
      if (frames.isLarge(at)) largeUsed++
      else smallUsed++
      const i = batch.push(at - readAt, at + VNET_HEADER, Math.max(0, length - VNET_HEADER))
      if (length > SMALL_CAP && !frames.isLarge(at)) batch.drop[i] = DROP_NO_FRAMES
      else this.readOffload(batch, i, at)
    }
    for (let k = smallUsed; k < small; k++) {
      frames.release(view.getUint32(scratch.small + k * 4, true))
    }
    for (let k = largeUsed; k < large; k++) {
      frames.release(view.getUint32(scratch.large + k * 4, true))
    }
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
      view.setUint32(lane + k * 8, this.queuedAt[k]!, true)
      view.setUint32(lane + k * 8 + 4, this.queuedLength[k]!, true)
    }
    native.tunWrite(this.fd, lane, n)
    for (let k = 0; k < n; k++) {
      if (view.getUint32(lane + k * 8 + 4, true) === 0) {
        counters[countersAt + PORT_COUNTER.TX_PACKETS]!++
        counters[countersAt + PORT_COUNTER.TX_BYTES]! += this.queuedLength[k]! - VNET_HEADER
      } else {
        counters[countersAt + PORT_COUNTER.TX_DROPS]!++
        counters[COUNTER.DROPS + DROP_TX_ERROR]!++
      }
      this.frames.release(this.queuedAt[k]!)
    }
    this.queued = 0
  }

  service(): void {}

  pending(): boolean {
    return false
  }

  gone(): boolean {
    return this.isGone
  }
}
