/**
 * A FIB somewhere in shared memory, as every thread can open it: what the main thread hands to
 * workers. A file of somebody else's gets a guard, so that no packet meets what it may do wrong.
 */
import { MAX_NEXT_HOPS } from '../limits.ts'
import { sharedPages } from '../memory/pages.ts'
import type { Fib, FibLimits, FibReader } from './fib.ts'
import { type FibSource, openFib } from './load.ts'

/** Bytes of one FIB, at most: what an algorithm asks for is not trusted. */
export const MAX_FIB_BYTES = 2 ** 30

/** Survives a structured clone; the memory is shared by it. */
export interface FibTable {
  readonly source: FibSource
  readonly buffer: SharedArrayBuffer
  readonly offset: number
  readonly bytes: number
  readonly limits: FibLimits
}

export function memoryOf({ buffer, offset, bytes }: FibTable): Uint8Array {
  return new Uint8Array(buffer, offset, bytes)
}

/** Bytes that `fib` asks for; throws RangeError when that is no number of bytes up to MAX_FIB_BYTES. */
export function bytesOf(fib: Fib, limits: FibLimits): number {
  const bytes = fib.bytes(limits)
  if (!(Number.isInteger(bytes) && bytes >= 0 && bytes <= MAX_FIB_BYTES)) {
    throw new RangeError(`${fib.name}: asks for ${bytes} bytes, at most ${MAX_FIB_BYTES} are given`)
  }
  return bytes
}

/** Zeroed memory of its own for a FIB of `source`, on a page boundary. */
export function newTable(source: FibSource, bytes: number, limits: FibLimits): FibTable {
  const { buffer, byteOffset } = sharedPages(bytes)
  return { source, buffer, offset: byteOffset, bytes, limits }
}

/**
 * A reader of the table. `fault` is called for each lookup of a foreign file that threw or answered
 * what is no next hop; those addresses have no route then.
 */
export async function openReader(table: FibTable, fault: () => void): Promise<FibReader> {
  const fib = await openFib(table.source)
  const reader = fib.reader(memoryOf(table), table.limits)
  return table.source.file === undefined ? reader : guarded(reader, fault)
}

/** A reader that throws nothing and answers no next hop that can't be. */
export function guarded(reader: FibReader, fault: () => void): FibReader {
  return {
    lookup(addresses, n, nextHops) {
      try {
        reader.lookup(addresses, n, nextHops)
      } catch {
        nextHops.fill(0, 0, n)
        fault()
        return
      }
      for (let i = 0; i < n; i++) {
        if (nextHops[i]! < MAX_NEXT_HOPS) continue
        nextHops[i] = 0
        fault()
      }
    },
  }
}
