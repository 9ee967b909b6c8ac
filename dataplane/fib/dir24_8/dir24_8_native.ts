/**
 * The native twin of `dir24_8` (dir24_8.ts): the same tables, made by the same writer; a batch is
 * one call into native/addon/lookup/dir24_8.cc, which has 16 loads under way at a time.
 *
 * It asks for huge pages under the tables. Then a region of 2 MiB is touched as a whole when any
 * route needs a page of it; regions that none needs stay untouched as before.
 */
import { native, type TableHandle } from '../../../native/native.ts'
import type { Fib, FibReader } from '../fib.ts'
import { dir24_8 } from './dir24_8.ts'

type Lookup = (table: TableHandle, keys: Uint32Array, n: number, nextHops: Uint16Array) => void

/** A reader of a `dir24_8` region by one of the native functions. */
export function nativeReader(memory: Uint8Array, lookup: Lookup): FibReader {
  native.adviseHugePages(memory)
  const table = native.openTable(memory)
  return { lookup: (addresses, n, nextHops) => lookup(table, addresses, n, nextHops) }
}

export const dir24_8_native: Fib = {
  name: 'dir24_8_native',
  family: 4,
  bytes: dir24_8.bytes,
  writer(memory, limits) {
    native.adviseHugePages(memory)
    return dir24_8.writer(memory, limits)
  },
  reader: memory => nativeReader(memory, native.lookupDir24_8),
}
