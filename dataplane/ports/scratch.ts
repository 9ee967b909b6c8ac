/**
 * A worker's scratch memory in the arena: where burst calls find frame lists and leave
 * descriptors. Every call fills what it uses; nothing in it outlives a call but the lists of `ReadFrames`.
 */
import { RECEIVE_BURST, UDP_ENTROPY_SOCKETS, UDP_SEGMENTS } from '../limits.ts'
import { type Arena, SCRATCH_BYTES } from '../memory/arena.ts'
import { META_BYTES } from './udp-meta.ts'

/** Bytes of a descriptor: u32 arena offset, u32 length (native.ts). */
export const DESCRIPTOR_BYTES = 8
export const DESCRIPTOR_LENGTH = 4
/** Packets that one transmit queue gathers before it flushes by itself. */
export const TRANSMIT_BURST = 64
/** Large frames that one TUN read may use. */
export const LARGE_BURST = 16
/** Datagrams that one UDP read takes: what they may be cut into fits a batch. */
export const UDP_MESSAGES = 4

export class Scratch {
  /** Arena offsets. */
  readonly small: number
  readonly large: number
  /** Of ReadFrames. */
  readonly readSmall: number
  readonly readLarge: number
  readonly received: number
  readonly receivedMeta: number
  readonly events: number
  /** Frames for the packets of one datagram. */
  readonly segments: number
  /** Transmit descriptors and metadata: TRANSMIT_BURST for each of UDP_ENTROPY_SOCKETS lanes; a TUN port uses lane 0. */
  private readonly descriptors: number
  private readonly metadata: number

  constructor(arena: Arena, worker: number) {
    let at = arena.layout.scratch.offset + worker * SCRATCH_BYTES
    const end = at + SCRATCH_BYTES
    const take = (bytes: number): number => {
      const start = at
      at += (bytes + 63) & ~63
      return start
    }
    this.small = take(RECEIVE_BURST * 4)
    this.large = take(LARGE_BURST * 4)
    this.readSmall = take(RECEIVE_BURST * 4)
    this.readLarge = take(LARGE_BURST * 4)
    this.received = take(RECEIVE_BURST * DESCRIPTOR_BYTES)
    this.receivedMeta = take(RECEIVE_BURST * META_BYTES)
    this.events = take(EVENTS * 4)
    this.segments = take(UDP_SEGMENTS * 4)
    this.descriptors = take(UDP_ENTROPY_SOCKETS * TRANSMIT_BURST * DESCRIPTOR_BYTES)
    this.metadata = take(UDP_ENTROPY_SOCKETS * TRANSMIT_BURST * META_BYTES)
    if (at > end) throw new RangeError(`worker scratch: ${at - end} bytes over SCRATCH_BYTES`)
  }

  lane(index: number): number {
    return this.descriptors + index * TRANSMIT_BURST * DESCRIPTOR_BYTES
  }

  laneMeta(index: number): number {
    return this.metadata + index * TRANSMIT_BURST * META_BYTES
  }
}

/** Ready descriptors that one epoll call reports. */
export const EVENTS = 64
