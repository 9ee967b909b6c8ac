/**
 * What is denied, for people: a ring of the last denials of each worker, in the memory that policy shares. A worker
 * writes at most DENIALS_A_TICK a tick, and counts what it leaves out; a reader goes on where it was, and is told how
 * many it has missed. Beside them, how often each rule has decided, by the number that the compiler gave it.
 *
 * A ring is HEAD_WORDS (0: denials written, 1: denials left out) and RING entries of ENTRY words:
 *
 *     0      port of the pod whose policy says no
 *     1      direction (0 egress, 1 ingress), TOLD << 1, protocol << 8, family << 16
 *     2-5    source, 6-9 destination; IPv4 in the last word of each
 *     10     source port << 16 | destination port
 *     11     origin
 *     12-13  milliseconds since 1970, low and high word
 */
import { DENIALS_A_TICK, MAX_WORKERS } from '../limits.ts'

/** Entries; a power of two. */
const RING = 1024
const HEAD_WORDS = 16
const ENTRY = 16
const RING_WORDS = HEAD_WORDS + RING * ENTRY

/** Rules that are counted one by one; those beyond share the first place with what no rule has decided. */
export const COUNTED_ORIGINS = 65_536

export interface DenialMemory {
  readonly rings: Uint32Array
  /** By origin + 1. */
  readonly hits: Uint32Array
}

export function denialMemory(): DenialMemory {
  return {
    rings: new Uint32Array(new SharedArrayBuffer(MAX_WORKERS * RING_WORDS * 4)),
    hits: new Uint32Array(new SharedArrayBuffer((COUNTED_ORIGINS + 1) * 4)),
  }
}

/** Why it is told: it is denied; a rule wants it told, and it is allowed; policies that are only tried would have it otherwise. */
export const TOLD = { DENIED: 0, ALLOWED: 1, STAGED: 2 } as const

/** As it stands in a ring; addresses as words. */
export interface RawDenial {
  readonly port: number
  readonly direction: 'egress' | 'ingress'
  /** TOLD. */
  readonly told: number
  readonly family: 4 | 6
  readonly protocol: number
  readonly source: Uint32Array
  readonly destination: Uint32Array
  readonly ports: number
  readonly origin: number
  /** Milliseconds since 1970. */
  readonly time: number
}

/** A worker's end. Allocates nothing after it was made. */
export class DenialWriter {
  private readonly rings: Uint32Array
  private readonly hits: Uint32Array
  private readonly base: number
  private tick = -1
  private inTick = 0

  constructor({ rings, hits }: DenialMemory, worker: number) {
    this.rings = rings
    this.hits = hits
    this.base = worker * RING_WORDS
  }

  /** A rule has decided. */
  count(origin: number): void {
    Atomics.add(this.hits, origin < 0 || origin >= COUNTED_ORIGINS ? 0 : origin + 1, 1)
  }

  /** Takes the denial's place; the index of its words, -1 when it is left out. `publish` must follow. */
  claim(tick: number): number {
    if (tick !== this.tick) {
      this.tick = tick
      this.inTick = 0
    }
    const { rings, base } = this
    if (this.inTick >= DENIALS_A_TICK) {
      Atomics.add(rings, base + 1, 1)
      return -1
    }
    this.inTick++
    return base + HEAD_WORDS + (rings[base]! & (RING - 1)) * ENTRY
  }

  get words(): Uint32Array {
    return this.rings
  }

  publish(): void {
    Atomics.add(this.rings, this.base, 1)
  }
}

/** Where a reader is: denials read of each worker, and left out as it knows. */
export interface DenialCursor {
  readonly read: number[]
  readonly leftOut: number[]
}

/** The reader's end, on the main thread. */
export class DenialReader {
  private readonly rings: Uint32Array
  private readonly hits: Uint32Array

  constructor({ rings, hits }: DenialMemory) {
    this.rings = rings
    this.hits = hits
  }

  /** A cursor behind everything that there is. */
  now(): DenialCursor {
    const heads = (word: number): number[] =>
      Array.from({ length: MAX_WORKERS }, (_, w) => Atomics.load(this.rings, w * RING_WORDS + word))
    return { read: heads(0), leftOut: heads(1) }
  }

  /** What has come since `cursor`, which goes on, the oldest first of each worker; and how many are missing. */
  since(cursor: DenialCursor): { denials: RawDenial[]; missed: number } {
    const denials: RawDenial[] = []
    let missed = 0
    for (let worker = 0; worker < MAX_WORKERS; worker++) {
      const base = worker * RING_WORDS
      const written = Atomics.load(this.rings, base)
      const behind = (written - cursor.read[worker]!) >>> 0
      // The oldest may be being written over.
      const there = Math.min(behind, RING - 1)
      missed += behind - there
      for (let k = there; k > 0; k--) denials.push(this.entry(base, (written - k) >>> 0))
      const leftOut = Atomics.load(this.rings, base + 1)
      missed += (leftOut - cursor.leftOut[worker]!) >>> 0
      cursor.read[worker] = written
      cursor.leftOut[worker] = leftOut
    }
    denials.sort((a, b) => a.time - b.time)
    return { denials, missed }
  }

  /** How often the rule with this number has decided. */
  count(origin: number): number {
    return Atomics.load(this.hits, origin < 0 || origin >= COUNTED_ORIGINS ? 0 : origin + 1)
  }

  private entry(base: number, k: number): RawDenial {
    const at = base + HEAD_WORDS + (k & (RING - 1)) * ENTRY
    const words = this.rings.slice(at, at + ENTRY)
    const kind = words[1]!
    const ipv6 = ((kind >>> 16) & 255) === 6
    const address = (from: number): Uint32Array =>
      ipv6 ? words.slice(from, from + 4) : words.slice(from + 3, from + 4)
    return {
      port: words[0]!,
      direction: (kind & 1) === 0 ? 'egress' : 'ingress',
      told: (kind >>> 1) & 3,
      family: ipv6 ? 6 : 4,
      protocol: (kind >>> 8) & 255,
      source: address(2),
      destination: address(6),
      ports: words[10]!,
      origin: words[11]! | 0,
      time: words[12]! + words[13]! * 2 ** 32,
    }
  }
}
