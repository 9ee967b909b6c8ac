/**
 * How many ICMP errors a worker may send: a token bucket (RFC 4443 section 2.4 (f) asks for one;
 * RFC 1812 section 4.3.2.8 allows it for IPv4). Time is the monotonic clock, read once an error.
 */
import { native } from '../../native/native.ts'
import { ICMP_ERRORS_BURST, ICMP_ERRORS_PER_SECOND } from '../limits.ts'

export class ErrorLimiter {
  private tokens = ICMP_ERRORS_BURST
  private last = 0
  private readonly clock: () => number

  /** `clock` gives monotonic nanoseconds. */
  constructor(clock: () => number = native.monotonic) {
    this.clock = clock
  }

  /** Whether one more error may be sent now; takes a token if so. */
  take(): boolean {
    const now = this.clock()
    const earned = ((now - this.last) / 1e9) * ICMP_ERRORS_PER_SECOND
    this.last = now
    this.tokens = Math.min(ICMP_ERRORS_BURST, this.tokens + earned)
    if (this.tokens < 1) return false
    this.tokens -= 1
    return true
  }
}
