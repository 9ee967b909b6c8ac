/**
 * DNS over TCP (RFC 7766): each message behind its length, two bytes. A stream, one direction of a connection, is followed from its
 * SYN on, in order; what was heard already is passed over. One that has a gap is let go of: its packets go on, and nothing
 * is read of it any more. A message that lies in one segment is read where it lies, one that comes in parts is put
 * together, up to DNS_STREAM_BYTES; a longer one is passed over.
 *
 * A worker's own: a stream that comes to another worker is one that nobody has followed. A port has DNS_STREAMS of them; the
 * one that was quiet for longest makes room. Allocates nothing after it was made.
 */
import { DNS_STREAM_BYTES, DNS_STREAMS, MAX_PORTS } from '../limits.ts'

/** Words of a stream's key: the resolver's address, both ports, kind and direction (never 0). */
const KEY_WORDS = 6
const NONE = -1

/** What became of a segment. */
export const FED = { FOLLOWED: 0, LOST: 1 } as const

export class DnsStreams {
  /** The key that `open`, `feed` and `close` are for. */
  readonly key = new Uint32Array(KEY_WORDS)
  /** A message that `next` has found: where it lies, and in what. */
  view: DataView
  bytes: Uint8Array
  at = 0
  length = 0

  private readonly parts: Uint8Array = new Uint8Array(MAX_PORTS * DNS_STREAMS * DNS_STREAM_BYTES)
  private readonly partsView: DataView = new DataView(this.parts.buffer)
  private readonly keys = new Uint32Array(MAX_PORTS * DNS_STREAMS * KEY_WORDS)
  /** Sequence number that comes next. */
  private readonly expected = new Uint32Array(MAX_PORTS * DNS_STREAMS)
  /** Bytes of the message that comes in parts, its length's included. */
  private readonly have = new Uint16Array(MAX_PORTS * DNS_STREAMS)
  /** Bytes of a message that is passed over. */
  private readonly skip = new Uint32Array(MAX_PORTS * DNS_STREAMS)
  private readonly used = new Uint32Array(MAX_PORTS * DNS_STREAMS)
  private clock = 0
  /** The segment that is being read. */
  private slot = NONE
  private segmentView = this.partsView
  private segmentBytes = this.parts
  private from = 0
  private end = 0

  constructor() {
    this.view = this.partsView
    this.bytes = this.parts
  }

  /** A SYN with this sequence number begins the stream. */
  open(port: number, sequence: number): void {
    let slot = this.find(port)
    if (slot === NONE) {
      slot = port * DNS_STREAMS
      for (let k = slot + 1; k < (port + 1) * DNS_STREAMS; k++) {
        if (this.used[k]! < this.used[slot]!) slot = k
      }
      this.keys.set(this.key, slot * KEY_WORDS)
    }
    this.expected[slot] = sequence + 1
    this.have[slot] = 0
    this.skip[slot] = 0
    this.used[slot] = ++this.clock
  }

  close(port: number): void {
    const slot = this.find(port)
    if (slot !== NONE) this.drop(slot)
  }

  /** Takes a segment's payload, whose messages `next` gives then: `length` bytes at `bytes[at]`, which `view` shows as well. */
  feed(
    port: number,
    sequence: number,
    view: DataView,
    bytes: Uint8Array,
    at: number,
    length: number,
  ): number {
    const slot = this.find(port)
    this.segmentView = view
    this.segmentBytes = bytes
    this.slot = slot
    this.from = at
    this.end = at
    if (slot === NONE) return FED.LOST
    const heard = (this.expected[slot]! - sequence) | 0
    if (heard < 0) {
      this.drop(slot)
      return FED.LOST
    }
    if (heard >= length) return FED.FOLLOWED
    this.used[slot] = ++this.clock
    this.expected[slot] = sequence + length
    this.from = at + heard
    this.end = at + length
    return FED.FOLLOWED
  }

  /** The next message of the segment; false when there is none that is whole. */
  next(): boolean {
    const { slot, have, skip } = this
    while (this.from < this.end) {
      const left = this.end - this.from
      if (skip[slot]! > 0) {
        const passed = Math.min(left, skip[slot]!)
        skip[slot]! -= passed
        this.from += passed
      } else if (have[slot] === 0 && left >= 2 && this.wanted(this.from) <= left - 2) {
        this.view = this.segmentView
        this.bytes = this.segmentBytes
        this.at = this.from + 2
        this.length = this.wanted(this.from)
        this.from = this.at + this.length
        return true
      } else if (this.gather()) return true
    }
    return false
  }

  private wanted(at: number): number {
    return this.segmentView.getUint16(at)
  }

  /** Takes what the segment has of a message that comes in parts; true when it is whole. */
  private gather(): boolean {
    const { slot, have, parts, segmentBytes } = this
    const base = slot * DNS_STREAM_BYTES
    while (have[slot]! < 2 && this.from < this.end) {
      parts[base + have[slot]!++] = segmentBytes[this.from++]!
    }
    if (have[slot]! < 2) return false
    const length = this.partsView.getUint16(base)
    if (2 + length > DNS_STREAM_BYTES) {
      this.skip[slot] = length
      have[slot] = 0
      return false
    }
    while (have[slot]! < 2 + length && this.from < this.end) {
      parts[base + have[slot]!++] = segmentBytes[this.from++]!
    }
    if (have[slot]! < 2 + length) return false
    have[slot] = 0
    this.view = this.partsView
    this.bytes = parts
    this.at = base + 2
    this.length = length
    return true
  }

  private find(port: number): number {
    const { keys, key } = this
    for (let slot = port * DNS_STREAMS; slot < (port + 1) * DNS_STREAMS; slot++) {
      let w = 0
      while (w < KEY_WORDS && keys[slot * KEY_WORDS + w] === key[w]) w++
      if (w === KEY_WORDS) return slot
    }
    return NONE
  }

  private drop(slot: number): void {
    this.keys.fill(0, slot * KEY_WORDS, (slot + 1) * KEY_WORDS)
    this.used[slot] = 0
  }
}
