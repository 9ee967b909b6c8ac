/**
 * What a port has learnt of its device from the answers of the kernel, so that one which is gone or
 * down is not asked for every packet: while it is down nothing is tried but once in PORT_RETRY_MS,
 * and one that is gone is never asked again. The main thread reads it among the port's counters.
 */
import { native } from '../../native/native.ts'
import { DROP_PORT_DOWN, DROP_PORT_GONE } from '../drops.ts'
import { PORT_RETRY_MS } from '../limits.ts'
import { PORT_COUNTER, portCounters } from '../memory/arena.ts'

/** Value of PORT_COUNTER.DEVICE. */
export const DEVICE = { UP: 0, DOWN: 1, GONE: 2 } as const

export class DeviceState {
  /** DEVICE. */
  state: number = DEVICE.UP
  private readonly counters: Float64Array
  private readonly at: number
  private retryAt = 0

  constructor(counters: Float64Array, port: number) {
    this.counters = counters
    this.at = portCounters(port) + PORT_COUNTER.DEVICE
    counters[this.at] = DEVICE.UP
  }

  get isGone(): boolean {
    return this.state === DEVICE.GONE
  }

  up(): void {
    this.become(DEVICE.UP)
  }

  /** The kernel has just refused because of the device. */
  down(): void {
    this.retryAt = native.monotonic() + PORT_RETRY_MS * 1e6
    this.become(DEVICE.DOWN)
  }

  gone(): void {
    this.become(DEVICE.GONE)
  }

  /** Whether the kernel may be asked: always of a device that is up, of one that is down when it is time again. */
  mayTry(): boolean {
    if (this.state === DEVICE.UP) return true
    return this.state === DEVICE.DOWN && native.monotonic() >= this.retryAt
  }

  /** Why a packet is dropped that nothing is tried with. */
  reason(): number {
    return this.state === DEVICE.GONE ? DROP_PORT_GONE : DROP_PORT_DOWN
  }

  private become(state: number): void {
    if (this.state === DEVICE.GONE) return
    this.state = state
    this.counters[this.at] = state
  }
}
