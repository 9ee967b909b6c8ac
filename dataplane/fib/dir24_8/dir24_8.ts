/**
 * IPv4 by two tables, after P. Gupta, S. Lin, N. McKeown, "Routing Lookups in Hardware at Memory
 * Access Speeds" (INFOCOM 1998): one load answers for prefixes up to /24, two for longer ones.
 *
 *   first   2^24 entries of 16 bits, by the address's first 24 bits:
 *             0             no route but the default one
 *             1 .. 0x7fff   next hop
 *             0x8000 | g    group g decides
 *   groups  256 entries of 16 bits each, by the last 8 bits: 0 or a next hop, as above
 *
 * The default route is a word of the header: as 2^24 entries, each change of it would take tens of
 * milliseconds and touch all 32 MiB. Pages of `first` that no route needs are never touched.
 *
 * The writer keeps its routes in prefix heaps (prefix-heap.ts): one for lengths 1 .. 24, one a group
 * for 25 .. 32. They say what shows through when a route goes, and which entries are its own. A /24
 * takes a group with its first longer route and gives it back with its last one.
 *
 * Readers meet a change so: each entry is a 16-bit integer of its own that is stored once in a
 * change, old or new, and aligned integers of typed arrays don't tear (ECMA-262, IsNoTearConfiguration).
 * A new group is complete before the Atomics.store (release) that links it, and is reached through
 * the value loaded from there only, an address dependency that x86-64 and arm64 keep in order. An
 * unlinked group keeps what it held when it was unlinked until `quiesced`: a reader that still comes
 * by gets what was true in that moment. Only "no route but the default one" needs two independent
 * loads; there the version (version.ts) says whether they belong together.
 *
 * Limits: at most MAX_GROUPS /24s have longer routes at one time.
 */
import { native } from '../../../native/native.ts'
import { wordsToIp } from '../../addresses.ts'
import type { Fib, FibLimits, FibReader, FibRoute, FibWriter } from '../fib.ts'
import { covering, lengthOf, numberOf, paint } from '../prefix-heap.ts'
import { checkLimits, checkPrefix, checkRoute, full, routeOf } from '../route.ts'
import { slots } from '../slots.ts'
import { advance, unmoved, versionOf } from '../version.ts'

/** /24s with longer routes: the 15 bits beside the flag. */
export const MAX_GROUPS = 0x8000
const EXTENDED = 0x8000
const GROUP_BITS = 0x7fff

/**
 * From so many routes on the tables ask for huge pages: read at random, 32 MiB in pages of 4 KiB miss
 * the TLB as often as the cache. With fewer routes most pages are never touched, and stay so.
 */
const HUGE_PAGE_ROUTES = 1 << 16

const HEADER_BYTES = 64
/** Header word: next hop of 0.0.0.0/0, 0 for none. Word 0 is the version. */
const DEFAULT = 1
const FIRST = 1 << 24
const GROUP = 256
/** Entries of a group's heap. */
const GROUP_HEAP = 2 * GROUP

interface Tables {
  header: Int32Array
  first: Uint16Array
  groups: Uint16Array
}

/** Each of `routes` /24s may have one, and as many may wait for `quiesced`. */
function groupsFor(limits: FibLimits): number {
  checkLimits(limits)
  return Math.min(MAX_GROUPS, 2 * limits.routes)
}

function open({ buffer, byteOffset }: Uint8Array, limits: FibLimits): Tables {
  const firstAt = byteOffset + HEADER_BYTES
  return {
    header: new Int32Array(buffer, byteOffset, HEADER_BYTES / 4),
    first: new Uint16Array(buffer, firstAt, FIRST),
    groups: new Uint16Array(buffer, firstAt + FIRST * 2, groupsFor(limits) * GROUP),
  }
}

function writer(memory: Uint8Array, limits: FibLimits): FibWriter {
  if (limits.routes >= HUGE_PAGE_ROUTES) native.adviseHugePages(memory)
  const { header, first, groups } = open(memory, limits)
  const count = groupsFor(limits)
  const book = new Uint16Array(2 * FIRST)
  const groupBook = new Uint16Array(count * GROUP_HEAP)
  /** By group: its entry in `first`, and how many routes it has. */
  const entryOf = new Uint32Array(count)
  const routesIn = new Uint16Array(count)
  const free = slots(0, count)
  /** By /16: how many routes are longer. */
  const longer = new Uint32Array(1 << 16)
  let size = 0

  function counted(address: number, prefix: number, by: 1 | -1): void {
    size += by
    if (prefix > 16) longer[address >>> 16]! += by
  }

  /** Next hop of the longest route that /24 number `entry` has of its own or from above; 0 for none but the default. */
  function inherited(entry: number): number {
    const nextHop = book[FIRST + entry]!
    return nextHop !== 0 ? nextHop : covering(book, 0, FIRST + entry)
  }

  function paintGroup(group: number, number: number, nextHop: number): void {
    paint(groupBook, group * GROUP_HEAP, GROUP, number, nextHop, groups, group * GROUP)
  }

  /** As `paint`, with the entries that groups decide, and a /16 at once where no route is longer. */
  function paintFirst(number: number, nextHop: number): void {
    if (number >= FIRST) {
      const entry = number - FIRST
      const now = first[entry]!
      if (now < EXTENDED) first[entry] = nextHop
      else paintGroup(now & GROUP_BITS, 1, nextHop)
      return
    }
    if (number >>> 16 === 1 && longer[number & 0xffff] === 0) {
      const at = (number & 0xffff) << 8
      first.fill(nextHop, at, at + 256)
      return
    }
    const half = 2 * number
    if (book[half] === 0) paintFirst(half, nextHop)
    if (book[half + 1] === 0) paintFirst(half + 1, nextHop)
  }

  /** The group of an entry that has one, or a new one that is not linked yet. Throws RangeError. */
  function groupFor(entry: number, address: ArrayLike<number>, prefix: number): number {
    const now = first[entry]!
    if (now >= EXTENDED) return now & GROUP_BITS
    if (free.available === 0) {
      throw new RangeError(
        `no room for ${wordsToIp(address)}/${prefix}: ${count} groups for prefixes longer than /24, ` +
          `${free.waiting} of them wait for quiesced()`,
      )
    }
    const group = free.take()
    entryOf[group] = entry
    groups.fill(now, group * GROUP, (group + 1) * GROUP)
    return group
  }

  /** Where a route of 1 .. 32 bits is booked: in `book`, or in `groupBook` if `group` is one. */
  function place(address: number, prefix: number): { group: number; number: number } {
    if (prefix <= 24) return { group: -1, number: numberOf(address >>> 8, 24, prefix) }
    const now = first[address >>> 8]!
    const group = now >= EXTENDED ? now & GROUP_BITS : -1
    return { group, number: numberOf(address & 255, 8, prefix - 24) }
  }

  function booked(address: number, prefix: number): number {
    if (prefix === 0) return header[DEFAULT]!
    const { group, number } = place(address, prefix)
    if (prefix <= 24) return book[number]!
    return group < 0 ? 0 : groupBook[group * GROUP_HEAP + number]!
  }

  function insertLong(words: ArrayLike<number>, prefix: number, nextHop: number, fresh: boolean) {
    const address = words[0]!
    const entry = address >>> 8
    const group = groupFor(entry, words, prefix)
    const number = numberOf(address & 255, 8, prefix - 24)
    advance(header)
    groupBook[group * GROUP_HEAP + number] = nextHop
    if (fresh) routesIn[group]!++
    paintGroup(group, number, nextHop)
    if (first[entry]! < EXTENDED) Atomics.store(first, entry, EXTENDED | group)
  }

  function removeLong(address: number, prefix: number): void {
    const { group, number } = place(address, prefix)
    const base = group * GROUP_HEAP
    groupBook[base + number] = 0
    const entry = entryOf[group]!
    if (--routesIn[group]! === 0) {
      Atomics.store(first, entry, inherited(entry))
      free.retire(group)
      return
    }
    const nextHop = covering(groupBook, base, number)
    paintGroup(group, number, nextHop !== 0 ? nextHop : inherited(entry))
  }

  return {
    get size() {
      return size
    },

    insert(address, prefix, nextHop) {
      checkRoute(1, address, prefix, nextHop)
      const before = booked(address[0]!, prefix)
      if (before === nextHop) return
      if (before === 0 && size >= limits.routes) throw full(address, prefix, limits.routes)
      if (prefix > 24) {
        insertLong(address, prefix, nextHop, before === 0)
      } else {
        advance(header)
        if (prefix === 0) {
          Atomics.store(header, DEFAULT, nextHop)
        } else {
          const { number } = place(address[0]!, prefix)
          book[number] = nextHop
          paintFirst(number, nextHop)
        }
      }
      if (before === 0) counted(address[0]!, prefix, 1)
    },

    remove(address, prefix) {
      checkPrefix(1, address, prefix)
      if (booked(address[0]!, prefix) === 0) return false
      advance(header)
      if (prefix === 0) {
        Atomics.store(header, DEFAULT, 0)
      } else if (prefix > 24) {
        removeLong(address[0]!, prefix)
      } else {
        const { number } = place(address[0]!, prefix)
        book[number] = 0
        paintFirst(number, covering(book, 0, number))
      }
      counted(address[0]!, prefix, -1)
      return true
    },

    *routes(): Iterable<FibRoute> {
      if (header[DEFAULT] !== 0) yield routeOf([0], 0, header[DEFAULT]!)
      const pairs = new Uint32Array(book.buffer)
      for (let pair = 1; pair < pairs.length; pair++) {
        if (pairs[pair] === 0) continue
        for (const number of [2 * pair, 2 * pair + 1]) {
          const length = lengthOf(number)
          if (book[number] !== 0) yield routeOf([number << (32 - length)], length, book[number]!)
        }
      }
      for (let group = 0; group < count; group++) {
        if (routesIn[group] === 0) continue
        for (let number = 2; number < GROUP_HEAP; number++) {
          const nextHop = groupBook[group * GROUP_HEAP + number]!
          const length = lengthOf(number)
          const low = (number << (8 - length)) & 255
          if (nextHop !== 0) yield routeOf([(entryOf[group]! << 8) | low], 24 + length, nextHop)
        }
      }
    },

    quiesced: free.quiesced,
  }
}

function reader(memory: Uint8Array, limits: FibLimits): FibReader {
  const tables = open(memory, limits)

  return {
    lookup(addresses, n, nextHops) {
      const { header, first, groups } = tables
      const version = versionOf(header)
      const otherwise = Atomics.load(header, DEFAULT)
      let defaults = 0
      for (let i = 0; i < n; i++) {
        const address = addresses[i]!
        let entry = first[address >>> 8]!
        if (entry >= EXTENDED) entry = groups[((entry & GROUP_BITS) << 8) | (address & 255)]!
        if (entry === 0) {
          entry = otherwise
          defaults++
        }
        nextHops[i] = entry
      }
      if (defaults === 0 || unmoved(header, version)) return
      for (let i = 0; i < n; i++) nextHops[i] = settle(tables, addresses[i]!)
    },
  }
}

/** One address while the table changes. */
function settle({ header, first, groups }: Tables, address: number): number {
  for (;;) {
    const version = versionOf(header)
    const otherwise = Atomics.load(header, DEFAULT)
    let entry = first[address >>> 8]!
    if (entry >= EXTENDED) entry = groups[((entry & GROUP_BITS) << 8) | (address & 255)]!
    if (entry !== 0) return entry
    if (unmoved(header, version)) return otherwise
  }
}

export const dir24_8: Fib = {
  name: 'dir24_8',
  family: 4,
  bytes: limits => HEADER_BYTES + FIRST * 2 + groupsFor(limits) * GROUP * 2,
  writer,
  reader,
}
