/**
 * A port in memory, for tests and benches: packets that a test puts in come out of `receive`, and
 * what is sent is kept as a copy. Nothing of it runs in a daemon.
 */
import { DROP_NO_FRAMES } from '../drops.ts'
import { FRAME_HEADROOM, LARGE_FRAME_BYTES, MAX_SMALL_PACKET } from '../limits.ts'
import { type Arena, PORT_COUNTER, portCounters } from '../memory/arena.ts'
import type { Frames } from '../memory/frames.ts'
import {
  type Batch,
  F_CSUM_PARTIAL,
  F_IPV6,
  F_L2_READY,
  F_OUTER,
  GSO_NONE,
} from '../packet/batch.ts'
import { ETHERTYPE_IPV4, ETHERTYPE_IPV6 } from '../wire/numbers.ts'
import type { WorkerContext } from './context.ts'
import { PORT_KIND, type Port } from './port.ts'

const ETHERNET = 14

export interface MemPacket {
  /** From the Ethernet header if the port has one, else from the IP header. */
  bytes: Uint8Array
  partial?: boolean
  gsoType?: number
  gsoSize?: number
  /** Of a partial checksum: where the sum begins, from the IP header, and where it goes from there. */
  csumStart?: number
  csumOffset?: number
}

export interface MemOptions {
  index: number
  role: number
  ethernet?: boolean
  superframes?: boolean
  partialChecksums?: boolean
  hiddenPartial?: boolean
  /** Ethernet addresses of what is sent; ignored without `ethernet`. */
  ownMac?: Uint8Array
  peerMac?: Uint8Array
}

export class MemPort implements Port {
  readonly index: number
  readonly kind = PORT_KIND.MEM
  readonly role: number
  readonly ethernet: boolean
  readonly hiddenPartial: boolean
  readonly superframes: boolean
  readonly partialChecksums: boolean
  readonly fd = -1
  readonly polled = true
  /** Packets to receive, in order. */
  readonly input: MemPacket[] = []
  /** Packets that were sent, in order. */
  readonly output: MemPacket[] = []
  private readonly options: MemOptions
  private readonly arena: Arena
  private readonly frames: Frames
  private readonly counters: Float64Array

  constructor(
    options: MemOptions,
    { arena, frames, counters }: Pick<WorkerContext, 'arena' | 'frames' | 'counters'>,
  ) {
    this.options = options
    this.index = options.index
    this.role = options.role
    this.ethernet = options.ethernet ?? false
    this.hiddenPartial = options.hiddenPartial ?? false
    this.superframes = options.superframes ?? false
    this.partialChecksums = options.partialChecksums ?? false
    this.arena = arena
    this.frames = frames
    this.counters = counters
  }

  receive(batch: Batch, max: number): number {
    let n = 0
    while (n < max && this.input.length > 0) {
      const packet = this.input.shift()!
      const link = this.ethernet ? ETHERNET : 0
      const large = packet.bytes.length - link > MAX_SMALL_PACKET
      if (packet.bytes.length > LARGE_FRAME_BYTES - FRAME_HEADROOM) {
        throw new RangeError(`a packet of ${packet.bytes.length} bytes fits no frame`)
      }
      const frame = large ? this.frames.large.take() : this.frames.small.take()
      if (frame === 0) break
      const at = frame + FRAME_HEADROOM
      this.arena.bytes.set(packet.bytes, at)
      const i = batch.push(frame, at + link, packet.bytes.length - link)
      if (packet.partial === true) {
        batch.flags[i] = F_CSUM_PARTIAL
        batch.csumStart[i] = packet.csumStart ?? 0
        batch.csumOffset[i] = packet.csumOffset ?? 0
      }
      batch.gsoType[i] = packet.gsoType ?? GSO_NONE
      batch.gsoSize[i] = packet.gsoSize ?? 0
      n++
    }
    return n
  }

  send(batch: Batch, i: number): number {
    const { bytes } = this.arena
    const flags = batch.flags[i]!
    const l3 = batch.l3[i]!
    if (!this.superframes && this.frames.isLarge(batch.frame[i]!)) return DROP_NO_FRAMES
    let start = l3
    if (this.ethernet) {
      start = l3 - ETHERNET
      if ((flags & F_L2_READY) === 0) {
        if (this.options.peerMac) bytes.set(this.options.peerMac, start)
        if (this.options.ownMac) bytes.set(this.options.ownMac, start + 6)
        this.arena.view.setUint16(l3 - 2, (flags & F_IPV6) !== 0 ? ETHERTYPE_IPV6 : ETHERTYPE_IPV4)
      }
    }
    this.output.push({
      bytes: bytes.slice(start, l3 + batch.len[i]!),
      partial: (flags & F_CSUM_PARTIAL) !== 0,
      gsoType: (flags & F_OUTER) === 0 ? batch.gsoType[i]! : GSO_NONE,
      gsoSize: batch.gsoSize[i]!,
    })
    const at = portCounters(this.index)
    this.counters[at + PORT_COUNTER.TX_PACKETS]!++
    this.counters[at + PORT_COUNTER.TX_BYTES]! += l3 + batch.len[i]! - start
    this.frames.release(batch.frame[i]!)
    return 0
  }

  flush(): void {}

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

  close(): void {}
}
