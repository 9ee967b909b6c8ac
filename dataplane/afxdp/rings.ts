/**
 * The worker's end of the four rings of an AF_XDP socket (Documentation/networking/af_xdp.rst), in
 * arena memory that the kernel maps too. One thread uses a ring. No method allocates.
 *
 *   fill        we produce      u64 address            empty frames for received packets
 *   completion  kernel produces u64 address            frames whose packets have been sent
 *   rx          kernel produces {u64, u32 len, u32 options}
 *   tx          we produce      {u64, u32 len, u32 options}
 *
 * Addresses here are ARENA offsets: a ring adds and takes off the offset of the UMEM. The UMEM is
 * below 4 GiB, so the high word of an address stays 0.
 *
 * A burst is: `free` or `available` once (one load of the index that the kernel writes), then
 * `put`, `addr`, `len` for each packet (plain reads and writes), then `submit` or `release` once (one
 * store of the index that we write). Indices are free-running 32-bit numbers, as in the kernel.
 */
import type { XskRingOffsets, XskRings } from '../../native/native.ts'
import { type Arena, PAGE } from '../memory/arena.ts'
import { ADDRESS_BYTES, RING_HEADER_MAX, XDP_DESC_BYTES, XDP_RING_NEED_WAKEUP } from './kernel.ts'

function pages(size: number, entry: number): number {
  return Math.ceil((RING_HEADER_MAX + size * entry) / PAGE) * PAGE
}

/** Arena bytes of the four rings of one socket, each with `size` entries on whole pages. */
export function ringBytes(size: number): number {
  return 2 * pages(size, ADDRESS_BYTES) + 2 * pages(size, XDP_DESC_BYTES)
}

/** Where the rings of a socket lie whose part of the arena starts at `ringsOffset`: fill, completion, rx, tx. */
export function ringLayout(ringsOffset: number, size: number): XskRings {
  const completion = ringsOffset + pages(size, ADDRESS_BYTES)
  const rx = completion + pages(size, ADDRESS_BYTES)
  const tx = rx + pages(size, XDP_DESC_BYTES)
  return {
    fill: ringsOffset,
    completion,
    rx,
    tx,
    fillSize: size,
    completionSize: size,
    rxSize: size,
    txSize: size,
  }
}

/** A view of its own for the entries of a ring: measured a fifth faster than indexing the whole arena. */
function entries(arena: Arena, at: number, words: number): Int32Array {
  return new Int32Array(arena.buffer, arena.base + at, words)
}

/** Frames for received packets. */
export class FillRing {
  private readonly words: Int32Array
  /** The entries, as words. */
  private readonly ring: Int32Array
  private readonly producer: number
  private readonly consumer: number
  private readonly flags: number
  private readonly mask: number
  private readonly base: number
  private next: number

  /** `ringsOffset`: the socket's part of the arena. `offsets`: XskOffsets.fill. */
  constructor(arena: Arena, ringsOffset: number, size: number, offsets: XskRingOffsets) {
    const at = ringLayout(ringsOffset, size).fill
    this.words = arena.words
    this.ring = entries(arena, at + offsets.desc, size * 2)
    this.producer = (at + offsets.producer) >>> 2
    this.consumer = (at + offsets.consumer) >>> 2
    this.flags = (at + offsets.flags) >>> 2
    this.mask = size - 1
    this.base = arena.layout.small.offset
    this.next = Atomics.load(this.words, this.producer)
    // High words: nobody writes them again.
    for (let i = 0; i < size; i++) this.ring[i * 2 + 1] = 0
  }

  /** Entries that `put` may write now. */
  free(): number {
    return (this.mask + 1 - (this.next - Atomics.load(this.words, this.consumer))) | 0
  }

  /** Gives the frame at `addr`, any byte of it, to the kernel with the next `submit`. At most `free()` times. */
  put(addr: number): void {
    this.ring[(this.next & this.mask) << 1] = addr - this.base
    this.next = (this.next + 1) | 0
  }

  submit(): void {
    Atomics.store(this.words, this.producer, this.next)
  }

  /** Whether the kernel waits for `native.xskWakeRx` before it takes frames again. */
  needWakeup(): boolean {
    return (Atomics.load(this.words, this.flags) & XDP_RING_NEED_WAKEUP) !== 0
  }
}

/** Frames that the kernel has sent. */
export class CompletionRing {
  private readonly words: Int32Array
  /** The entries, as words. */
  private readonly ring: Int32Array
  private readonly producer: number
  private readonly consumer: number
  private readonly mask: number
  private readonly base: number
  private next: number

  /** `offsets`: XskOffsets.completion. */
  constructor(arena: Arena, ringsOffset: number, size: number, offsets: XskRingOffsets) {
    const at = ringLayout(ringsOffset, size).completion
    this.words = arena.words
    this.ring = entries(arena, at + offsets.desc, size * 2)
    this.producer = (at + offsets.producer) >>> 2
    this.consumer = (at + offsets.consumer) >>> 2
    this.mask = size - 1
    this.base = arena.layout.small.offset
    this.next = Atomics.load(this.words, this.consumer)
  }

  /** Entries that are there. */
  available(): number {
    return (Atomics.load(this.words, this.producer) - this.next) | 0
  }

  /** Arena offset that was put into the TX ring, of entry `k` < available(). */
  peek(k: number): number {
    const at = ((this.next + k) & this.mask) << 1
    return (this.ring[at]! >>> 0) + this.base
  }

  /** Gives the first `n` entries back to the kernel. */
  release(n: number): void {
    this.next = (this.next + n) | 0
    Atomics.store(this.words, this.consumer, this.next)
  }
}

/** Received packets. */
export class RxRing {
  private readonly words: Int32Array
  /** The entries, as words. */
  private readonly ring: Int32Array
  private readonly producer: number
  private readonly consumer: number
  private readonly mask: number
  private readonly base: number
  private next: number

  /** `offsets`: XskOffsets.rx. */
  constructor(arena: Arena, ringsOffset: number, size: number, offsets: XskRingOffsets) {
    const at = ringLayout(ringsOffset, size).rx
    this.words = arena.words
    this.ring = entries(arena, at + offsets.desc, size * 4)
    this.producer = (at + offsets.producer) >>> 2
    this.consumer = (at + offsets.consumer) >>> 2
    this.mask = size - 1
    this.base = arena.layout.small.offset
    this.next = Atomics.load(this.words, this.consumer)
  }

  /** Packets that are there. */
  available(): number {
    return (Atomics.load(this.words, this.producer) - this.next) | 0
  }

  /** Arena offset of the Ethernet header of packet `k` < available(). */
  addr(k: number): number {
    const at = ((this.next + k) & this.mask) << 2
    return (this.ring[at]! >>> 0) + this.base
  }

  /** Bytes of packet `k`, from its Ethernet header. */
  len(k: number): number {
    return this.ring[(((this.next + k) & this.mask) << 2) + 2]!
  }

  /** Gives the first `n` entries back to the kernel; the frames are the caller's. */
  release(n: number): void {
    this.next = (this.next + n) | 0
    Atomics.store(this.words, this.consumer, this.next)
  }
}

/** Packets to send. */
export class TxRing {
  private readonly words: Int32Array
  /** The entries, as words. */
  private readonly ring: Int32Array
  private readonly producer: number
  private readonly consumer: number
  private readonly flags: number
  private readonly mask: number
  private readonly base: number
  private next: number
  /** The kernel's index when it was last loaded: it only grows, so that much is certainly taken. */
  private taken: number

  /** `offsets`: XskOffsets.tx. */
  constructor(arena: Arena, ringsOffset: number, size: number, offsets: XskRingOffsets) {
    const at = ringLayout(ringsOffset, size).tx
    this.words = arena.words
    this.ring = entries(arena, at + offsets.desc, size * 4)
    this.producer = (at + offsets.producer) >>> 2
    this.consumer = (at + offsets.consumer) >>> 2
    this.flags = (at + offsets.flags) >>> 2
    this.mask = size - 1
    this.base = arena.layout.small.offset
    this.next = Atomics.load(this.words, this.producer)
    this.taken = Atomics.load(this.words, this.consumer)
    // High words: nobody writes them again.
    for (let i = 0; i < size; i++) this.ring[i * 4 + 1] = 0
  }

  /** Entries that `put` may write now. */
  free(): number {
    return (this.mask + 1 - (this.next - Atomics.load(this.words, this.consumer))) | 0
  }

  /** Whether `put` must wait. Loads the kernel's index only when the last one known leaves no room. */
  full(): boolean {
    if (((this.next - this.taken) | 0) <= this.mask) return false
    this.taken = Atomics.load(this.words, this.consumer)
    return ((this.next - this.taken) | 0) > this.mask
  }

  /**
   * Queues `len` bytes at `addr`, an Ethernet frame inside one UMEM frame. `options`: 0 or
   * XDP_TX_METADATA. At most `free()` times, or while `full()` says no.
   */
  put(addr: number, len: number, options: number): void {
    const at = (this.next & this.mask) << 2
    const { ring } = this
    ring[at] = addr - this.base
    ring[at + 2] = len
    ring[at + 3] = options
    this.next = (this.next + 1) | 0
  }

  submit(): void {
    Atomics.store(this.words, this.producer, this.next)
  }

  /** Packets put and not yet taken by the kernel: while there are some, kick (and reap completions before each kick). */
  queued(): number {
    return (this.next - Atomics.load(this.words, this.consumer)) | 0
  }

  /** Bytes of the last packet that the kernel has taken; it has taken one. */
  lastLength(): number {
    return this.ring[(((Atomics.load(this.words, this.consumer) - 1) & this.mask) << 2) + 2]!
  }

  /** Whether the kernel waits for `native.xskKick`. In copy mode it always does. */
  needWakeup(): boolean {
    return (Atomics.load(this.words, this.flags) & XDP_RING_NEED_WAKEUP) !== 0
  }
}
