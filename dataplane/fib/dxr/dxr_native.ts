/**
 * The native twin of `dxr` (dxr.ts): the same tables, made by the same writer; a batch is one call
 * into native/addon/lookup/dxr.cc, which takes a lane as the readers in TypeScript do and has the
 * memory accesses of 32 addresses under way together.
 */
import { native } from '../../../native/native.ts'
import type { Fib } from '../fib.ts'
import { dxr } from './dxr.ts'

export const dxr_native: Fib = {
  name: 'dxr_native',
  family: 4,
  bytes: dxr.bytes,
  writer: dxr.writer,
  reader(memory) {
    const table = native.openTable(memory)
    return { lookup: (addresses, n, nextHops) => native.lookupDxr(table, addresses, n, nextHops) }
  },
}
