/**
 * Token buckets: how many bytes a pod may receive and send. One bucket a port and direction, shared
 * by all workers, so that the rate holds whichever of them serve the pod's flows.
 *
 * Theory of operation. A bucket is one 32-bit word that counts bytes, modulo 2^32, on the rate's own
 * clock: `rate * time` is how many bytes the rate has let through since the machine started, and the
 * word is how many have been charged. What it is ahead by is what the bucket lacks; at `burst` the
 * bucket is empty, and a word that is behind means a full one. So earning needs no store, and a
 * charge is one compare-and-swap: exact however many workers race for the last token.
 *
 * A packet passes when the bucket is not empty and is charged whole: the bucket may go below empty by
 * one packet, so that a superframe passes a bucket that is smaller than it. In any interval t at most
 * `burst + rate * t` bytes and one packet pass. A word that is ahead by more than that has been left
 * alone for so long that the clock went round: the bucket is full. (Once in 2^32 bytes of a silent
 * pod's clock it looks less full than it is, for as long as it takes to fill.)
 */
import {
  DEFAULT_BURST_SECONDS,
  LARGE_FRAME_BYTES,
  MAX_BURST_BYTES,
  MAX_RATE_BYTES,
  MIN_BURST_BYTES,
} from '../limits.ts'

/** In bytes a second and bytes. A rate of 0 is no limit. */
export interface Rate {
  rate: number
  burst: number
}

export const NO_RATE: Rate = { rate: 0, burst: 0 }

/** What a port's bucket is of: what its pod receives, or what it sends. */
export const INGRESS = 0
export const EGRESS = 1

/** Bursts that runtimes write who have none to name: the largest int32 and uint32. */
const UNSAID: readonly number[] = [0x7fff_ffff, 0xffff_ffff]

/**
 * A rate as configurations have it: bits a second and bits; `rate` 0 or absent is no limit. Without
 * a burst (absent, 0, or one of UNSAID) it is what the rate lets through in DEFAULT_BURST_SECONDS,
 * at least MIN_BURST_BYTES. What is larger than the limits is cut to them.
 */
export function rateOf(bitsPerSecond = 0, burstBits = 0): Rate {
  if (bitsPerSecond === 0) return NO_RATE
  const rate = Math.min(Math.max(1, Math.floor(bitsPerSecond / 8)), MAX_RATE_BYTES)
  const said = burstBits > 0 && !UNSAID.includes(burstBits)
  const burst = said
    ? Math.max(1, Math.floor(burstBits / 8))
    : Math.max(MIN_BURST_BYTES, Math.ceil(rate * DEFAULT_BURST_SECONDS))
  return { rate, burst: Math.min(burst, MAX_BURST_BYTES) }
}

/** Bytes that `rate` (a second) has let through at `now` (monotonic ns), modulo 2^32. */
export function earned(rate: number, now: number): number {
  return (now * rate * 1e-9) | 0
}

/**
 * Whether `bytes` may pass now; they are charged if so. `words`: the arena's; `bucket`: index of the
 * bucket's word; `now`: `earned` of the rate.
 */
export function charge(
  words: Int32Array,
  bucket: number,
  burst: number,
  now: number,
  bytes: number,
): boolean {
  let level = Atomics.load(words, bucket)
  for (;;) {
    let ahead = (level - now) | 0
    if (ahead < 0 || ahead > burst + LARGE_FRAME_BYTES) ahead = 0
    if (ahead >= burst) return false
    const found = Atomics.compareExchange(words, bucket, level, (now + ahead + bytes) | 0)
    if (found === level) return true
    level = found
  }
}
