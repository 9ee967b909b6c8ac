/**
 * One queue of a TUN or TAP device, as its ports use it: bursts of packets in and out, each with a virtio_net_hdr in
 * front (vnet.ts) and behind that `link` bytes of a link layer's header, 0 or 14.
 *
 * A packet that fits a small frame is read into one, so that it may leave by AF_XDP without a copy; a superframe is
 * read into a large frame.
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
import type { ReadFrames } from './read-frames.ts'
import { DESCRIPTOR_BYTES, DESCRIPTOR_LENGTH, type Scratch, TRANSMIT_BURST } from './scratch.ts'
import { READ_AT, readVnet, VNET_HEADER, writeVnet } from './vnet.ts'

export class TunQueue {
  /** What `read` has brought: where each packet's virtio_net_hdr lies, and its bytes from there. */
  readonly readAt = new Uint32Array(RECEIVE_BURST)
  readonly readLength = new Uint32Array(RECEIVE_BURST)
  private readonly fd: number
  private readonly link: number
  /** Longest packet, with what is in front of it, that is read into a small frame. */
  private readonly smallCap: number
  private readonly arena: Arena
  private readonly frames: Frames
  private readonly scratch: Scratch
  private readonly reading: ReadFrames
  private readonly counters: Float64Array
  private readonly device: DeviceState
  /** Queued packets: arena offsets of their virtio_net_hdr, their lengths, and the ports that they leave by. */
  private readonly queuedAt = new Uint32Array(TRANSMIT_BURST)
  private readonly queuedLength = new Uint32Array(TRANSMIT_BURST)
  private readonly queuedPort = new Uint16Array(TRANSMIT_BURST)
  private queued = 0

  constructor({ index, fd, arena, frames, scratch, reading, counters }: PortContext, link: number) {
    this.fd = fd
    this.link = link
    this.smallCap = MAX_SMALL_PACKET + VNET_HEADER + link
    this.arena = arena
    this.frames = frames
    this.scratch = scratch
    this.reading = reading
    this.counters = counters
    this.device = new DeviceState(counters, index)
    reading.enter()
  }

  get isGone(): boolean {
    return this.device.isGone
  }

  /** Reads a burst of at most `max` packets; returns how many. Their frames are the caller's. */
  read(max: number): number {
    const { frames, readAt, readLength, scratch } = this
    const { small, large } = this.reading
    const { view } = this.arena
    this.reading.fill()
    const got = native.tunRead(
      this.fd,
      Math.min(max, RECEIVE_BURST),
      small.at,
      small.count,
      this.smallCap,
      large.at,
      large.count,
      LARGE_FRAME_BYTES - READ_AT,
      scratch.received,
    )
    if (got === -ERRNO.EBADFD) this.device.gone()
    let smallUsed = 0
    for (let k = 0; k < got; k++) {
      const descriptor = scratch.received + k * DESCRIPTOR_BYTES
      readAt[k] = view.getUint32(descriptor, true)
      readLength[k] = view.getUint32(descriptor + DESCRIPTOR_LENGTH, true)
      if (!frames.isLarge(readAt[k]!)) smallUsed++
    }
    small.use(smallUsed)
    large.use(Math.max(got, 0) - smallUsed)
    return Math.max(got, 0)
  }

  /** Appends packet `k` of the last burst, whose headers lie in it, to the batch; a longer one than there was a frame for is dropped. Returns its index. */
  push(k: number, batch: Batch): number {
    const { link } = this
    const at = this.readAt[k]!
    const length = this.readLength[k]!
    const ahead = VNET_HEADER + link
    const i = batch.push(at - READ_AT, at + ahead, Math.max(0, length - ahead))
    if (length > this.smallCap && !this.frames.isLarge(at)) batch.drop[i] = DROP_NO_FRAMES
    else readVnet(this.arena.view, at, link, batch, i)
    return i
  }

  /** Queues packet `i`, whose link layer's header is written, for `port` to leave by; 0, or why it can't be. */
  queue(batch: Batch, i: number, port: number): number {
    if (this.device.state !== DEVICE.UP && !this.device.mayTry()) return this.device.reason()
    if (this.queued === TRANSMIT_BURST) this.flush()
    if (this.queued === TRANSMIT_BURST) return DROP_TX_FULL
    const { link } = this
    const at = batch.l3[i]! - link - VNET_HEADER
    writeVnet(this.arena.view, at, link, batch, i)
    this.queuedAt[this.queued] = at
    this.queuedLength[this.queued] = batch.len[i]! + link + VNET_HEADER
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

  close(): void {
    this.reading.leave()
  }

  /** Why the kernel refused a packet; learns from it (drivers/net/tun.c). */
  private reasonOf(error: number): number {
    if (error !== ERRNO.EBADFD && error !== ERRNO.EIO) return DROP_TX_ERROR
    if (error === ERRNO.EBADFD) this.device.gone()
    else this.device.down()
    return this.device.reason()
  }
}
