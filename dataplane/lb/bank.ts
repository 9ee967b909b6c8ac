/**
 * How a set of backends changes as one. The region begins with a header of 64 bytes and two banks;
 * generation g is in bank g & 1:
 *
 *     +0  i32  STARTED: the generation whose bank the writer is filling, or has filled last
 *     +4  i32  PUBLISHED: the generation that readers use
 *
 * The writer stores STARTED = g + 1, fills the other bank, stores PUBLISHED = g + 1. A reader takes
 * PUBLISHED, answers its whole batch from that bank, and looks at STARTED: its bank is filled again
 * only for the generation after the next one, so the batch stands unless STARTED is two ahead. Then
 * it does it again. It never waits: while the writer builds, the published bank is whole.
 */
import { fence } from '../memory/fence.ts'
import { type Backend, type LbLimits, MAX_BACKEND_ID, MAX_BACKENDS, MAX_WEIGHT } from './lb.ts'

export const HEADER_BYTES = 64
const STARTED = 0
const PUBLISHED = 1

/** Reader: the generation that is published. */
export function published(header: Int32Array): number {
  return Atomics.load(header, PUBLISHED)
}

/** Reader: whether the bank of `generation` may have been changed since; behind all loads from it. */
export function overtaken(header: Int32Array, generation: number): boolean {
  fence()
  return ((Atomics.load(header, STARTED) - generation) | 0) >= 2
}

/** Writer: fills the bank that nobody is sent to with `build` (its number is given), and sends readers there. */
export function publish(header: Int32Array, build: (bank: number) => void): void {
  const next = (header[PUBLISHED]! + 1) | 0
  Atomics.store(header, STARTED, next)
  Atomics.load(header, STARTED)
  build(next & 1)
  Atomics.store(header, PUBLISHED, next)
}

export function headerOf({ buffer, byteOffset }: Uint8Array): Int32Array {
  return new Int32Array(buffer, byteOffset, HEADER_BYTES / 4)
}

export function checkLbLimits({ backends }: LbLimits): void {
  if (!Number.isInteger(backends) || backends < 1 || backends > MAX_BACKENDS) {
    throw new RangeError(`backends: ${backends} is not in 1..${MAX_BACKENDS} (MAX_BACKENDS)`)
  }
}

/** The backends by id; throws RangeError as `LbWriter.set` says. */
export function checkedBackends(backends: readonly Backend[], limits: LbLimits): Backend[] {
  const seen = new Set<number>()
  for (const { id, weight } of backends) {
    if (!Number.isInteger(id) || id < 1 || id > MAX_BACKEND_ID) {
      throw new RangeError(`backend ${id}: its id is not in 1..${MAX_BACKEND_ID} (MAX_BACKEND_ID)`)
    }
    if (!Number.isInteger(weight) || weight < 1 || weight > MAX_WEIGHT) {
      throw new RangeError(
        `backend ${id}: its weight ${weight} is not in 1..${MAX_WEIGHT} (MAX_WEIGHT)`,
      )
    }
    if (seen.has(id)) throw new RangeError(`backend ${id}: it is there twice`)
    seen.add(id)
    if (seen.size > limits.backends) {
      throw new RangeError(
        `no room for backend ${id}: the balancer has its ${limits.backends} backends`,
      )
    }
  }
  return backends.map(({ id, weight }) => ({ id, weight })).sort((a, b) => a.id - b.id)
}
