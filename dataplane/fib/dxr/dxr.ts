/**
 * IPv4 by ranges, after M. Zec, L. Rizzo, M. Mikuc, "DXR: Towards a Billion Routing Lookups per
 * Second in Software" (ACM SIGCOMM CCR 42(5), 2012): the first 16 bits of an address choose a chunk
 * of the address space directly, and a search among the chunk's sorted ranges does the rest. The
 * whole of the Internet's table takes about 2 MiB, which stays in a core's nearest caches.
 * dxr_tables.ts has the layout to the byte. What differs from the paper:
 *
 * * Routes up to /16 are beside the ranges, by chunk, and the default route is a word. A range that
 *   no longer route has holds 0. Such a change costs a 16-bit store for each /16, whatever the chunks
 *   hold.
 * * The paper's short form is `list` here, its long one `wide`. A chunk with more than LIST_MOST
 *   edges, all at multiples of 256, has a `bitmap` of them instead: a byte a range and not two, and
 *   counting bits instead of a binary search.
 * * Neighbouring ranges with the same next hop stay two. So a removal, or another next hop, only
 *   stores values in the chunk as it is: it needs no memory, and can't fail. Edges that no route has
 *   any more go when the chunk is next made anew, at the latest after a quarter of its routes.
 *
 * Readers meet a change so. An address depends on its chunk's direct entry, on one value, on the next
 * hop up to /16 and on the default one, each an aligned integer. Routes up to /16 store only one of
 * the last two. A longer route
 * whose two ends are edges already stores only values, each once. Any other makes a new chunk,
 * complete with its own values, and links it by one Atomics.store (release) of the direct entry; all
 * that readers load from it has an address that depends on that entry, which x86-64 and arm64 keep
 * in order. The old chunk stays as it was: who still reads it gets what was true when it was
 * unlinked, later than the moment it loaded the entry. Only an answer from up to /16 is put together
 * from independent loads (no longer route here, this one there); there the version (version.ts) says
 * whether they belong together. What a chunk had is used again when the lanes (dxr_lanes.ts)
 * show that no reader can have it, or after `quiesced`.
 *
 * Limits. The memory for ranges is 64 KiB + min(32 R, 1 MiB + 2.5 R) bytes, R = limits.routes. A
 * route takes at most 16 bytes (alone in its chunk, or wide), and a quarter more for edges of routes
 * that went, so up to R = 35,000 any routes fit, with a third for copies and gaps. Above, memory is measured for tables like the Internet's, where a route
 * takes two bytes: there `insert` throws RangeError, and changes nothing, when the ranges are full
 * before the routes are. That comes sooner where many routes are longer than /24 or have next hops
 * above 255 (4 bytes an edge, one or two edges a route), or lie far apart (a chunk of their own
 * each). It also throws when a reader stays inside one lookup for PATIENCE_MS while memory is short.
 */

import type { Fib, FibLimits, FibReader } from '../fib.ts'
import { unmoved, versionOf } from '../version.ts'
import { enter, leave } from './lanes.ts'
import {
  DEFAULT,
  GRANULE,
  granulesFor,
  HEAP_AT,
  openTables,
  READERS,
  type Tables,
  valueAt,
} from './tables.ts'
import { writer } from './writer.ts'

function reader(memory: Uint8Array, limits: FibLimits): FibReader {
  const tables = openTables(memory, limits)
  const { header, direct, inherited } = tables
  const hint = Atomics.add(header, READERS, 1)

  return {
    lookup(addresses, n, nextHops) {
      const lane = enter(tables, hint)
      const version = versionOf(header)
      const otherwise = Atomics.load(header, DEFAULT)
      let short = 0
      for (let i = 0; i < n; i++) {
        const address = addresses[i]!
        const entry = direct[address >>> 16]!
        let value = entry === 0 ? 0 : valueAt(tables, entry, address & 0xffff)
        if (value === 0) {
          value = inherited[address >>> 16]!
          if (value === 0) value = otherwise
          short++
        }
        nextHops[i] = value
      }
      if (short > 0 && !unmoved(header, version)) {
        for (let i = 0; i < n; i++) nextHops[i] = settle(tables, addresses[i]!)
      }
      leave(tables, lane)
    },
  }
}

/** One address while the table changes. */
function settle(tables: Tables, address: number): number {
  const { header, direct, inherited } = tables
  for (;;) {
    const version = versionOf(header)
    const otherwise = Atomics.load(header, DEFAULT)
    const entry = direct[address >>> 16]!
    const value = entry === 0 ? 0 : valueAt(tables, entry, address & 0xffff)
    if (value !== 0) return value
    const short = inherited[address >>> 16]!
    if (unmoved(header, version)) return short !== 0 ? short : otherwise
  }
}

export const dxr: Fib = {
  name: 'dxr',
  family: 4,
  bytes: limits => HEAP_AT + granulesFor(limits) * GRANULE,
  writer,
  reader,
}
