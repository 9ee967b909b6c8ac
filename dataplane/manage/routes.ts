/**
 * The node's routes: the FIBs of both families, by prefixes as text. The main thread's end; workers
 * open readers of their own over the same memory.
 *
 * The first FIB of a family lies in the arena. Another one may be built beside it (`prepare`): from
 * the routes of one moment, in slices between which the main thread does other work; what changes
 * meanwhile is written down and made up for. From then on every change goes to both, until the
 * caller keeps the new one (`adopt`) or drops it (`abandon`).
 */
import { native } from '../../native/native.ts'
import { ipWords, parseCidr, wordsToIp } from '../addresses.ts'
import type { FibStatus } from '../control.ts'
import { columnsOf, type RouteColumns } from '../fib/columns.ts'
import type { Fib, FibLimits, FibReader, FibWriter } from '../fib/fib.ts'
import { type FibSource, openFib } from '../fib/load.ts'
import { bytesOf, type FibTable, guarded, memoryOf, newTable } from '../fib/table.ts'
import type { Arena, Region } from '../memory/arena.ts'
import { HOP } from '../tables/next-hops.ts'
import type { TableWriter } from '../tables/tables.ts'
import type { NextHopSlots } from './next-hop-slots.ts'

/** Milliseconds that building another FIB may keep the main thread from other work. */
export const BUILD_SLICE_MS = 2
/** Routes between two looks at the clock. */
const ROUTES_A_LOOK = 64

export interface OpenFib {
  readonly source: FibSource
  readonly fib: Fib
}

type Change = (writer: FibWriter) => void

interface Place {
  readonly table: FibTable
  readonly writer: FibWriter
  readonly reader: FibReader
}

/** A FIB that is being built, or is built and changes together with the one in use. */
interface Next extends Place {
  /** Changes that it has not seen yet; undefined when it is built. */
  journal: Change[] | undefined
  /** Why it can't be used. */
  failure: unknown
}

interface Family {
  now: Place
  next: Next | undefined
  /** Next hop of every route: whose it is. */
  readonly hops: Map<string, number>
  /** Routes by the length of their prefix. */
  readonly lengths: Uint32Array
}

export class Routes {
  /** Grows with every change: what one frees may still be in use until a quiescent point behind it. */
  changes = 0
  private readonly ipv4: Family
  private readonly ipv6: Family
  private readonly arena: Arena
  private readonly limits: FibLimits
  private readonly found = new Uint16Array(1)
  private readonly slots: NextHopSlots
  private readonly writer: TableWriter
  /** Next hops that flows may have been decided by which would be decided otherwise now. */
  private readonly moved = new Set<number>()

  /** Bytes of each family's region in the arena. */
  static bytes(fibs: Fibs, routes: number): { fib4Bytes: number; fib6Bytes: number } {
    const limits = { routes }
    return { fib4Bytes: bytesOf(fibs.ipv4.fib, limits), fib6Bytes: bytesOf(fibs.ipv6.fib, limits) }
  }

  /** Empty FIBs in the arena, each for at most `routes` routes. Which flows are to be routed again is said in `hops`. */
  constructor(
    { arena, hops, tables }: { arena: Arena; hops: NextHopSlots; tables: TableWriter },
    fibs: Fibs,
    routes: number,
  ) {
    this.arena = arena
    this.slots = hops
    this.writer = tables
    this.limits = { routes }
    const family = ({ source, fib }: OpenFib): Family => {
      const table = tableIn(arena, source, bytesOf(fib, this.limits), this.limits)
      return {
        now: open(fib, table),
        next: undefined,
        hops: new Map(),
        lengths: new Uint32Array(129),
      }
    }
    this.ipv4 = family(fibs.ipv4)
    this.ipv6 = family(fibs.ipv6)
  }

  get sizes(): { ipv4: number; ipv6: number } {
    return { ipv4: this.ipv4.now.writer.size, ipv6: this.ipv6.now.writer.size }
  }

  get tables(): { fib4: FibTable; fib6: FibTable } {
    return { fib4: this.ipv4.now.table, fib6: this.ipv6.now.table }
  }

  status(): FibStatus[] {
    return [this.ipv4, this.ipv6].map(({ now: { table, writer } }) => {
      const { family, name, file } = table.source
      const of = file === undefined ? {} : { file }
      return { family, name, ...of, routes: writer.size, bytes: table.bytes }
    })
  }

  /** Adds a route or gives it another next hop. Throws RangeError; then nothing is changed. */
  insert(prefix: string, hop: number): void {
    const { family, words, prefix: length } = parseCidr(prefix)
    const of = this.of(family)
    const key = keyOf(words, length)
    const before = of.hops.get(key)
    if (before === hop) return
    this.apply(of, writer => writer.insert(words, length, hop))
    of.hops.set(key, hop)
    if (before === undefined) of.lengths[length]!++
    this.move(before ?? above(of, words, length))
  }

  /** Removes the route that leads to `hop`. False, and nothing is changed, when there is none, or it leads elsewhere by now. */
  remove(prefix: string, hop: number): boolean {
    const { family, words, prefix: length } = parseCidr(prefix)
    const of = this.of(family)
    const key = keyOf(words, length)
    if (of.hops.get(key) !== hop) return false
    this.apply(of, writer => writer.remove(words, length))
    of.hops.delete(key)
    of.lengths[length]!--
    this.move(hop)
    return true
  }

  /**
   * Routes `wanted` in place of `there`, which are what an earlier call was given. What leads elsewhere by
   * now is not removed. Throws RangeError when one is refused; then nothing is changed.
   */
  replace(there: ReadonlyMap<string, number>, wanted: ReadonlyMap<string, number>): void {
    const undo: (() => void)[] = []
    try {
      // What goes makes room.
      for (const [prefix, hop] of there) {
        if (wanted.has(prefix) || !this.remove(prefix, hop)) continue
        undo.push(() => this.insert(prefix, hop))
      }
      for (const [prefix, hop] of wanted) {
        const before = this.hopOf(prefix)
        if (before === hop) continue
        this.insert(prefix, hop)
        undo.push(() =>
          before === undefined ? this.remove(prefix, hop) : this.insert(prefix, before),
        )
      }
    } catch (error) {
      for (const step of undo.reverse()) step()
      throw error
    }
  }

  /** Where the route of exactly this prefix leads; undefined when there is none. */
  hopOf(prefix: string): number | undefined {
    const { family, words, prefix: length } = parseCidr(prefix)
    return this.of(family).hops.get(keyOf(words, length))
  }

  /** The next hop id that packets to `ip` take; 0 for none. */
  lookup(ip: string): number {
    const words = ipWords(ip)
    this.of(words.length === 1 ? 4 : 6).now.reader.lookup(words, 1, this.found)
    return this.found[0]!
  }

  /** Every route, IPv4 first. */
  *list(): Iterable<{ prefix: string; hop: number }> {
    for (const { now } of [this.ipv4, this.ipv6]) {
      for (const { address, prefix, nextHop } of now.writer.routes()) {
        yield { prefix: `${wordsToIp(address)}/${prefix}`, hop: nextHop }
      }
    }
  }

  /** The routes of a family at this moment. */
  columns(family: 4 | 6): RouteColumns {
    const { writer } = this.of(family).now
    return columnsOf(family === 4 ? 1 : 4, writer.size, writer.routes())
  }

  /** Resolves when no worker uses anything that has been replaced or removed before the call. */
  async quiesce(tables: TableWriter): Promise<void> {
    // Another call may have changed a FIB while this one waited: what that freed is still in use.
    for (let seen = -1; seen !== this.changes; ) {
      seen = this.changes
      await tables.acknowledged(tables.change(() => this.advance()))
    }
    this.quiesced()
  }

  /** Flows that were routed by `hop` are to be routed again: at the latest when the caller has let go. */
  private move(hop: number | undefined): void {
    const kind = hop === undefined ? HOP.NONE : (this.slots.get(hop)?.kind ?? HOP.NONE)
    // No flow is let through to where nothing goes.
    if (kind === HOP.NONE || kind === HOP.REJECT) return
    if (this.moved.size === 0) {
      queueMicrotask(() => {
        if (this.moved.size > 0) this.writer.change(() => this.advance())
      })
    }
    this.moved.add(hop!)
  }

  private advance(): void {
    for (const hop of this.moved) this.slots.advance(hop)
    this.moved.clear()
  }

  /** No reader is inside a lookup that began before the last change. */
  quiesced(): void {
    for (const { now, next } of [this.ipv4, this.ipv6]) {
      now.writer.quiesced()
      if (next !== undefined) attempt(next, writer => writer.quiesced())
    }
  }

  /**
   * Builds the FIB of `source` beside the one in use and gives its table, which from then on changes
   * with it. Rejects when it can't take the routes; then nothing is left of it.
   */
  async prepare(source: FibSource): Promise<FibTable> {
    const fib = await openFib(source)
    const family = this.of(fib.family)
    if (family.next !== undefined) throw new Error(`IPv${fib.family}: another FIB is being built`)
    const routes = this.columns(fib.family)
    const table = this.placeFor(source, bytesOf(fib, this.limits))
    const next: Next = { ...open(fib, table), journal: [], failure: undefined }
    family.next = next
    try {
      await fill(next.writer, fib.family === 4 ? 1 : 4, routes)
      for (const change of next.journal!) change(next.writer)
      next.journal = undefined
      return table
    } catch (error) {
      family.next = undefined
      throw error
    }
  }

  /** Throws when a change since `prepare` did not go into the new FIB. */
  checkPrepared(family: 4 | 6): void {
    const { next } = this.of(family)
    if (next?.failure !== undefined) throw next.failure
  }

  /** The new FIB is the one in use. Gives the old one's table: to be freed when no reader is in it. */
  adopt(family: 4 | 6): FibTable {
    const of = this.of(family)
    const { table } = of.now
    of.now = of.next!
    of.next = undefined
    this.changes++
    return table
  }

  /** Forgets the new FIB, and gives its table. */
  abandon(family: 4 | 6): FibTable {
    const of = this.of(family)
    const { table } = of.next!
    of.next = undefined
    return table
  }

  private apply(family: Family, change: Change): void {
    this.changes++
    change(family.now.writer)
    const { next } = family
    if (next === undefined) return
    if (next.journal === undefined) attempt(next, change)
    else next.journal.push(change)
  }

  /** The region of the arena, when the FIB in use is not in it and it is large enough; else new memory. */
  private placeFor(source: FibSource, bytes: number): FibTable {
    const { arena, limits } = this
    const { now } = this.of(source.family)
    const free = now.table.buffer !== arena.buffer && bytes <= regionOf(arena, source).bytes
    return free ? tableIn(arena, source, bytes, limits) : newTable(source, bytes, limits)
  }

  private of(family: 4 | 6): Family {
    return family === 4 ? this.ipv4 : this.ipv6
  }
}

/** Next hop of the longest route that a prefix lies in, itself not counted. */
function above({ hops, lengths }: Family, words: Uint32Array, length: number): number | undefined {
  for (let shorter = length - 1; shorter >= 0; shorter--) {
    if (lengths[shorter] === 0) continue
    const hop = hops.get(keyOf(cut(words, shorter), shorter))
    if (hop !== undefined) return hop
  }
  return undefined
}

/** The first `length` bits of an address, the others zero. */
function cut(words: Uint32Array, length: number): Uint32Array {
  return words.map((word, w) => {
    const bits = Math.max(0, Math.min(32, length - 32 * w))
    return bits === 0 ? 0 : (word & (0xffff_ffff << (32 - bits))) >>> 0
  })
}

function keyOf(words: Uint32Array, length: number): string {
  return `${words.join(' ')}/${length}`
}

/** The FIBs that an engine starts with. */
export interface Fibs {
  readonly ipv4: OpenFib
  readonly ipv6: OpenFib
}

/** A table in the arena's region of its family. */
export function tableIn(
  arena: Arena,
  source: FibSource,
  bytes: number,
  limits: FibLimits,
): FibTable {
  const offset = arena.base + regionOf(arena, source).offset
  return { source, buffer: arena.buffer, offset, bytes, limits }
}

function regionOf({ layout }: Arena, { family }: FibSource): Region {
  return family === 4 ? layout.fib4 : layout.fib6
}

/** Gives the memory of a table that nobody uses back to the kernel; it reads as zeros. */
export function discard(table: FibTable): void {
  native.discard(memoryOf(table))
}

function open(fib: Fib, table: FibTable): Place {
  const memory = memoryOf(table)
  const writer = fib.writer(memory, table.limits)
  const reader = fib.reader(memory, table.limits)
  return {
    table,
    writer,
    reader: table.source.file === undefined ? reader : guarded(reader, () => {}),
  }
}

/** A change of a FIB that is not in use yet must not be felt by the one that is. */
function attempt(next: Next, change: Change): void {
  try {
    change(next.writer)
  } catch (error) {
    next.failure ??= error
  }
}

async function fill(writer: FibWriter, words: 1 | 4, routes: RouteColumns): Promise<void> {
  const { count, addresses, prefixes, nextHops } = routes
  let until = performance.now() + BUILD_SLICE_MS
  for (let i = 0; i < count; i++) {
    writer.insert(addresses.slice(i * words, (i + 1) * words), prefixes[i]!, nextHops[i]!)
    if (i % ROUTES_A_LOOK !== 0 || performance.now() < until) continue
    await new Promise(resolve => setImmediate(resolve))
    until = performance.now() + BUILD_SLICE_MS
  }
}
