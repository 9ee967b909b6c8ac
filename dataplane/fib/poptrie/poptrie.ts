/**
 * `poptrie4` and `poptrie6`: a table for the first 18 or 24 bits, below it nodes of six bits whose
 * entries are found by counting bits. poptrie-layout.ts has the layout, the paper, and says why
 * readers need no lock; poptrie-writer.ts how a change is made.
 *
 * Limits: up to 27,000 routes (IPv4) or 8,192 (IPv6) fit, whatever they are. With more, a FIB whose
 * shape needs more than three times what the Internet's does (IPv4 hosts spread evenly, IPv6 routes
 * in more than 8,192 /16s) may have no room before it has `limits.routes`: `insert` throws
 * RangeError then, and changes nothing. `remove` needs no memory. `unitsFor` has the numbers.
 */
import type { Fib } from '../fib.ts'
import { bytesFor, open } from './layout.ts'
import { reader } from './reader.ts'
import { writer } from './writer.ts'

function poptrie(name: string, family: 4 | 6): Fib {
  return {
    name,
    family,
    bytes: limits => bytesFor(family, limits),
    writer: (memory, limits) => writer(open(memory, family, limits), family, limits),
    reader: (memory, limits) => reader(open(memory, family, limits), family),
  }
}

export const poptrie4 = poptrie('poptrie4', 4)
export const poptrie6 = poptrie('poptrie6', 6)
