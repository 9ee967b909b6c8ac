/**
 * DNS over TCP (RFC 7766): each message behind its length, two bytes. A stream, one direction of a connection, is followed from its
 * SYN on, in order; what was heard already is passed over. One that has a gap is let go of: its packets go on, and nothing
 * is read of it any more. A message that lies in one segment is read where it lies, one that comes in parts is put
 * together, up to DNS_STREAM_BYTES; a longer one is passed over.
 *
 * A port has DNS_STREAMS of them, in the memory that workers share: the kernel moves a connection to another queue of a device when
 * it likes. The one that was quiet for longest makes room. Whoever calls has the port's lock. Allocates nothing after it was made.
 */
import { DNS_STREAM_BYTES, DNS_STREAMS } from '../limits.ts'
import { type DnsMemory, PORT, regionAt, STREAM, STREAMS_AT } from './memory.ts'
import type { DnsWay } from './questions.ts'

const NONE = -1

/** What became of a segment. */
export const FED = { FOLLOWED: 0, LOST: 1 } as const

export class DnsStreams {
  /** A message that `next` has found: where it lies, and in what. */
  view: DataView
  bytes: Uint8Array
  at = 0
  length = 0

  private readonly words: Int32Array
  /** The region's bytes, where messages are put together. */
  private readonly parts: Uint8Array
  private readonly partsView: DataView
  /** The segment that is being read. */
  private stream = NONE
  private segmentView: DataView
  private segmentBytes: Uint8Array
  private from = 0
  private end = 0

  constructor({ regions }: DnsMemory) {
    this.words = regions
    this.parts = new Uint8Array(regions.buffer)
    this.partsView = new DataView(regions.buffer)
    this.view = this.partsView
    this.bytes = this.parts
    this.segmentView = this.partsView
    this.segmentBytes = this.parts
  }

  /** A SYN with this sequence number begins the stream from the pod (`asks`), or to it. */
  open(port: number, way: DnsWay, asks: boolean, sequence: number): void {
    const { words } = this
    let at = this.find(port, way, asks)
    if (at === NONE) {
      at = streamAt(port, 0)
      for (let k = 1; k < DNS_STREAMS; k++) {
        if (words[streamAt(port, k) + STREAM.USED]! < words[at + STREAM.USED]!) {
          at = streamAt(port, k)
        }
      }
      words[at + STREAM.KIND] = kindOf(way, asks)
      words[at + STREAM.PORTS] = way.ports
      for (let w = 0; w < 4; w++) words[at + STREAM.ADDRESS + w] = way.address[w]!
    }
    words[at + STREAM.EXPECTED] = sequence + 1
    words[at + STREAM.HAVE] = 0
    words[at + STREAM.SKIP] = 0
    this.use(port, at)
  }

  close(port: number, way: DnsWay, asks: boolean): void {
    const at = this.find(port, way, asks)
    if (at !== NONE) this.drop(at)
  }

  /** Takes a segment's payload, whose messages `next` gives then: `length` bytes at `bytes[at]`, which `view` shows as well. */
  feed(
    port: number,
    way: DnsWay,
    asks: boolean,
    sequence: number,
    view: DataView,
    bytes: Uint8Array,
    at: number,
    length: number,
  ): number {
    const { words } = this
    const stream = this.find(port, way, asks)
    this.segmentView = view
    this.segmentBytes = bytes
    this.stream = stream
    this.from = at
    this.end = at
    if (stream === NONE) return FED.LOST
    const heard = (words[stream + STREAM.EXPECTED]! - sequence) | 0
    if (heard < 0) {
      this.drop(stream)
      return FED.LOST
    }
    if (heard >= length) return FED.FOLLOWED
    words[stream + STREAM.EXPECTED] = sequence + length
    this.use(port, stream)
    this.from = at + heard
    this.end = at + length
    return FED.FOLLOWED
  }

  /** The next message of the segment; false when there is none that is whole. */
  next(): boolean {
    const { stream, words } = this
    while (this.from < this.end) {
      const left = this.end - this.from
      const skip = words[stream + STREAM.SKIP]!
      if (skip > 0) {
        const passed = Math.min(left, skip)
        words[stream + STREAM.SKIP] = skip - passed
        this.from += passed
      } else if (words[stream + STREAM.HAVE] === 0 && left >= 2 && this.wanted() <= left - 2) {
        this.view = this.segmentView
        this.bytes = this.segmentBytes
        this.at = this.from + 2
        this.length = this.wanted()
        this.from = this.at + this.length
        return true
      } else if (this.gather()) return true
    }
    return false
  }

  private wanted(): number {
    return this.segmentView.getUint16(this.from)
  }

  /** Takes what the segment has of a message that comes in parts; true when it is whole. */
  private gather(): boolean {
    const { stream, words, parts } = this
    const base = (stream + STREAM.BYTES) * 4
    let have = words[stream + STREAM.HAVE]!
    while (have < 2 && this.from < this.end) parts[base + have++] = this.segmentBytes[this.from++]!
    words[stream + STREAM.HAVE] = have
    if (have < 2) return false
    const length = this.partsView.getUint16(base)
    if (2 + length > DNS_STREAM_BYTES) {
      words[stream + STREAM.SKIP] = length
      words[stream + STREAM.HAVE] = 0
      return false
    }
    while (have < 2 + length && this.from < this.end) {
      parts[base + have++] = this.segmentBytes[this.from++]!
    }
    words[stream + STREAM.HAVE] = have
    if (have < 2 + length) return false
    words[stream + STREAM.HAVE] = 0
    this.view = this.partsView
    this.bytes = parts
    this.at = base + 2
    this.length = length
    return true
  }

  private find(port: number, way: DnsWay, asks: boolean): number {
    const { words } = this
    const kind = kindOf(way, asks)
    for (let k = 0; k < DNS_STREAMS; k++) {
      const at = streamAt(port, k)
      if (words[at + STREAM.KIND] !== kind) continue
      if (words[at + STREAM.PORTS] === (way.ports | 0) && this.isTo(at, way.address)) return at
    }
    return NONE
  }

  private isTo(at: number, address: Uint32Array): boolean {
    for (let w = 0; w < 4; w++) {
      if (this.words[at + STREAM.ADDRESS + w] !== (address[w]! | 0)) return false
    }
    return true
  }

  private use(port: number, at: number): void {
    const { words } = this
    const clock = regionAt(port) + PORT.STREAMS
    words[clock]!++
    words[at + STREAM.USED] = words[clock]!
  }

  private drop(at: number): void {
    this.words[at + STREAM.KIND] = 0
    this.words[at + STREAM.USED] = 0
  }
}

/** Protocol, family and direction; never 0. */
function kindOf({ kind }: DnsWay, asks: boolean): number {
  return asks ? kind | (1 << 16) : kind
}

function streamAt(port: number, stream: number): number {
  return regionAt(port) + STREAMS_AT + stream * STREAM.WORDS
}
