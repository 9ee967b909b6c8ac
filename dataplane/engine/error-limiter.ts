/**
 * How many ICMP errors a worker may send (RFC 4443 section 2.4 (f) asks for a limit, RFC 1812 section
 * 4.3.2.8 allows it for IPv4). An error passes when three token buckets have one left: its sender's, so
 * that nobody silences others; its port's; and the worker's, so that many together don't take its time.
 *
 * A pod's sender is its port. Behind the node's own port and the underlay are many: there a bucket is
 * chosen by the source address, out of ICMP_ERROR_SOURCES for all of them.
 *
 * A bucket is what has been spent of it and when that was looked at; a new one is full.
 */
import {
  ICMP_ERROR_SOURCES,
  ICMP_ERRORS,
  ICMP_ERRORS_OF_PORT,
  ICMP_ERRORS_OF_SENDER,
  MAX_PORTS,
} from '../limits.ts'

interface Limit {
  readonly perSecond: number
  readonly burst: number
}

const ALL = MAX_PORTS + ICMP_ERROR_SOURCES

export class ErrorLimiter {
  /** By port, then by source, then the one of all. */
  private readonly spent = new Float64Array(ALL + 1)
  private readonly since = new Float64Array(ALL + 1)

  /** Whether a pod behind `port` may be sent one more error at `now` (monotonic ns); counts it if so. */
  takeForPod(port: number, now: number): boolean {
    if (!this.has(port, ICMP_ERRORS_OF_SENDER, now) || !this.has(ALL, ICMP_ERRORS, now))
      return false
    this.spent[port]!++
    this.spent[ALL]!++
    return true
  }

  /** The same for one of many senders behind `port`. `address`: 32 bits of its own. */
  takeForSource(port: number, address: number, now: number): boolean {
    const source = MAX_PORTS + ((Math.imul(address, 0x9e37_79b1) >>> 16) % ICMP_ERROR_SOURCES)
    if (!this.has(source, ICMP_ERRORS_OF_SENDER, now)) return false
    if (!this.has(port, ICMP_ERRORS_OF_PORT, now) || !this.has(ALL, ICMP_ERRORS, now)) return false
    this.spent[source]!++
    this.spent[port]!++
    this.spent[ALL]!++
    return true
  }

  private has(bucket: number, { perSecond, burst }: Limit, now: number): boolean {
    const earned = ((now - this.since[bucket]!) / 1e9) * perSecond
    this.since[bucket] = now
    const spent = Math.max(0, this.spent[bucket]! - earned)
    this.spent[bucket] = spent
    return spent + 1 <= burst
  }
}
