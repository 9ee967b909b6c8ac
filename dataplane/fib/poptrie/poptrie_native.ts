/**
 * The native twins of `poptrie4` and `poptrie6` (poptrie.ts): the same tables, made by the same
 * writer; a batch is one call into native/addon/lookup/poptrie.cc, which has many addresses on their
 * way at a time. It asks for huge pages under the tables.
 */
import { native, type TableHandle } from '../../../native/native.ts'
import type { Fib } from '../fib.ts'
import { poptrie4, poptrie6 } from './poptrie.ts'

type Lookup = (table: TableHandle, keys: Uint32Array, n: number, nextHops: Uint16Array) => void

function twin(fib: Fib, lookup: Lookup): Fib {
  return {
    name: `${fib.name}_native`,
    family: fib.family,
    bytes: fib.bytes,
    writer(memory, limits) {
      native.adviseHugePages(memory)
      return fib.writer(memory, limits)
    },
    reader(memory) {
      native.adviseHugePages(memory)
      const table = native.openTable(memory)
      return { lookup: (addresses, n, nextHops) => lookup(table, addresses, n, nextHops) }
    },
  }
}

export const poptrie4_native = twin(poptrie4, native.lookupPoptrie4)
export const poptrie6_native = twin(poptrie6, native.lookupPoptrie6)
