/**
 * Whose turn it is: fair shares in bytes over all ports of a worker, whatever a turn of each may take.
 *
 * A turn takes what a burst has, from 64 bytes to a megabyte of superframes; so a port pays afterwards
 * (surplus round robin, by a virtual clock as in start-time fair queueing, Goyal, Vin and Cheng 1996):
 *
 *   now     the virtual clock, in bytes that each port may have had. Each round moves it by ROUND_BYTES
 *   due     of a port: what it has had. It has a turn while that is not beyond `now`
 *
 * A port that had nothing to say doesn't save up: what it is charged begins no earlier than `since`,
 * the clock when its kind of port was last looked at. When all that have turns are empty, the clock
 * jumps to the least due of those that were passed over: fairness never leaves a worker idle.
 */
import { MAX_PORTS, ROUND_BYTES } from '../limits.ts'

export class FairShares {
  private readonly due = new Float64Array(MAX_PORTS)
  private now = 0
  /** Of the ports that were passed over since the last round or jump. */
  private least = Number.POSITIVE_INFINITY

  /** A new round begins; returns the clock before it. */
  round(): number {
    const before = this.now
    this.now += ROUND_BYTES
    this.least = Number.POSITIVE_INFINITY
    return before
  }

  get clock(): number {
    return this.now
  }

  /** Whether it is the port's turn. */
  may(port: number): boolean {
    const due = this.due[port]!
    if (due <= this.now) return true
    if (due < this.least) this.least = due
    return false
  }

  /** The port has had `bytes` more. `since`: nothing before that clock is owed to it. */
  charge(port: number, bytes: number, since: number): void {
    this.due[port] = Math.max(this.due[port]!, since) + bytes
  }

  /** Nobody whose turn it is has anything: the first of those that were passed over has. False when none was. */
  jump(): boolean {
    if (this.least === Number.POSITIVE_INFINITY) return false
    this.now = this.least
    this.least = Number.POSITIVE_INFINITY
    return true
  }

  /** Another port will have that number. */
  forget(port: number): void {
    this.due[port] = 0
  }
}
