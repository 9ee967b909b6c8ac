/** DXR's writer. dxr.ts says how a change is made so that readers beside it see no third value. */
import { wordsToIp } from '../../addresses.ts'
import type { FibLimits, FibRoute, FibWriter } from '../fib.ts'
import { covering, lengthOf, numberOf, paint } from '../prefix-heap.ts'
import { checkPrefix, checkRoute, full, routeOf } from '../route.ts'
import { advance } from '../version.ts'
import { extents } from './extents.ts'
import { retired } from './lanes.ts'
import { ChunkRoutes } from './routes.ts'
import {
  BITMAP,
  CHUNKS,
  DEFAULT,
  edgesOf,
  GRANULE,
  granuleOf,
  granulesFor,
  granulesOf,
  kindOf,
  LIST_MOST,
  NARROW_VALUE,
  newRanges,
  openTables,
  POSITIONS,
  rankOf,
  readChunk,
  valuesAt,
  WIDE,
  writeChunk,
} from './tables.ts'

/** How long `insert` waits for readers that hold memory, before it says that there is none, ms. */
const PATIENCE_MS = 100
/** Bits of the longest route of a narrow chunk, behind the chunk's 16. */
const NARROW_LENGTH = 8
/** A chunk that lost more than 1 / 2^n of the routes that it has is made anew, without their edges. */
const REMOVED_SHIFT = 2

/** What is known of DXR's writer beyond the interface. */
export interface DxrWriter extends FibWriter {
  /** Bytes of the heap that chunks have, and that wait for readers. */
  readonly heapBytes: { readonly used: number; readonly waiting: number }
}

export function writer(memory: Uint8Array, limits: FibLimits): DxrWriter {
  const tables = openTables(memory, limits)
  const { header, direct, inherited, bytes, halves } = tables
  const granules = granulesFor(limits)
  const heap = extents(granules)
  const old = retired(tables, heap.give)
  /** Prefix heap of the routes of 1 .. 16 bits. */
  const shorter = new Uint16Array(2 * CHUNKS)
  const chunks: (ChunkRoutes | undefined)[] = new Array(CHUNKS).fill(undefined)
  const ranges = newRanges()
  const needed = new Uint8Array(POSITIONS + 1)
  const sleep = new Int32Array(new SharedArrayBuffer(4))
  let size = 0

  /** An extent, -1 when there is none. With `patience`, waits for readers that hold memory. */
  function allocate(wanted: number, patience: number): number {
    const first = heap.take(wanted)
    if (first >= 0) return first
    for (const until = performance.now() + patience; old.waiting > 0; ) {
      old.look()
      const at = heap.take(wanted)
      if (at >= 0) return at
      if (performance.now() >= until) break
      Atomics.wait(sleep, 0, 0, 1)
    }
    return -1
  }

  function isWide(length: number, hop: number): boolean {
    return length > NARROW_LENGTH || hop > NARROW_VALUE
  }

  /** Whether a range of the chunk begins there; its two ends count as such. */
  function isEdge(entry: number, position: number): boolean {
    if (position === 0 || position === POSITIONS) return true
    return rankOf(tables, entry, position) !== rankOf(tables, entry, position - 1)
  }

  /** Makes `position` an edge of `ranges`. */
  function cut(position: number): void {
    if (position === 0 || position === POSITIONS) return
    const { edges, values, count } = ranges
    let low = 0
    for (let high = count; low < high; ) {
      const middle = (low + high) >>> 1
      if (edges[middle]! < position) low = middle + 1
      else high = middle
    }
    if (low < count && edges[low] === position) return
    edges.copyWithin(low + 1, low, count)
    values.copyWithin(low + 1, low, count + 1)
    edges[low] = position
    ranges.count++
  }

  /** Leaves only those edges of `ranges` that a route begins or ends with. Returns whether any of the routes is wide. */
  function trim(routes: ChunkRoutes): boolean {
    let wide = false
    for (let i = 0; i < routes.count; i++) {
      needed[routes.start(i)] = 1
      needed[routes.end(i)] = 1
      wide ||= isWide(routes.length(i), routes.hop(i))
    }
    const { edges, values, count } = ranges
    let kept = 0
    for (let i = 0; i < count; i++) {
      if (needed[edges[i]!] === 0) continue
      edges[kept++] = edges[i]!
      values[kept] = values[i + 1]!
    }
    ranges.count = kept
    for (let i = 0; i < routes.count; i++) {
      needed[routes.start(i)] = 0
      needed[routes.end(i)] = 0
    }
    return wide
  }

  /** Writes `ranges` to memory of its own; the direct entry that will link it, 0 without memory. */
  function written(wide: boolean, patience: number): number {
    const { count } = ranges
    const kind = wide ? WIDE : count <= LIST_MOST ? count : BITMAP
    const at = allocate(granulesOf(kind, count), patience)
    return at < 0 ? 0 : writeChunk(tables, at, kind, ranges)
  }

  function retire(entry: number): void {
    if (entry === 0) return
    old.retire(granuleOf(entry), granulesOf(kindOf(entry), edgesOf(tables, entry)))
  }

  function link(chunk: number, entry: number): void {
    const before = direct[chunk]!
    Atomics.store(direct, chunk, entry)
    retire(before)
  }

  /** Gives `hop` to the positions `from` .. `to` - 1, which are whole ranges. */
  function fill(entry: number, from: number, to: number, hop: number): void {
    if (from >= to) return
    const values = kindOf(entry) === WIDE ? halves : bytes
    const first = valuesAt(tables, entry)
    const last = first + rankOf(tables, entry, to - 1)
    for (let i = first + rankOf(tables, entry, from); i <= last; i++) values[i] = hop
  }

  /** Gives `hop` to the positions `start` .. `end` - 1 that no route from number `i` on has. */
  function paintChunk(
    entry: number,
    routes: ChunkRoutes,
    i: number,
    start: number,
    end: number,
    hop: number,
  ): void {
    let from = start
    for (; i < routes.count && routes.start(i) < end; i++) {
      if (routes.start(i) < from) continue
      fill(entry, from, routes.start(i), hop)
      from = routes.end(i)
    }
    fill(entry, from, end, hop)
  }

  function insertLong(words: ArrayLike<number>, prefix: number, hop: number): void {
    const chunk = words[0]! >>> 16
    const start = words[0]! & 0xffff
    const length = prefix - 16
    const end = start + (POSITIONS >>> length)
    const before = direct[chunk]!
    const routes = chunks[chunk] ?? new ChunkRoutes()
    const found = routes.find(start, length)
    const wide = isWide(length, hop)
    let entry = before
    const fits =
      before !== 0 &&
      (!wide || kindOf(before) === WIDE) &&
      isEdge(before, start) &&
      isEdge(before, end)
    if (!fits) {
      readChunk(tables, before, ranges)
      const others = routes.removed > 0 ? trim(routes) : kindOf(before) === WIDE
      cut(start)
      cut(end)
      entry = written(wide || others, PATIENCE_MS)
      if (entry === 0) throw noRoom(words, prefix)
      routes.removed = 0
    }
    advance(header)
    const i = found < 0 ? ~found : found
    if (found < 0) routes.add(i, start, length, hop)
    else routes.setHop(i, hop)
    chunks[chunk] = routes
    paintChunk(entry, routes, i + 1, start, end, hop)
    if (entry !== before) link(chunk, entry)
  }

  function noRoom(address: ArrayLike<number>, prefix: number): RangeError {
    return new RangeError(
      `no room for ${wordsToIp(address)}/${prefix}: the ${granules * GRANULE} bytes for ranges are ` +
        `taken, ${old.waiting * GRANULE} of them wait for quiesced()`,
    )
  }

  function removeLong(chunk: number, routes: ChunkRoutes, i: number): void {
    const entry = direct[chunk]!
    const start = routes.start(i)
    const end = routes.end(i)
    const hop = routes.covering(start, routes.length(i))
    routes.delete(i)
    if (routes.count === 0) {
      chunks[chunk] = undefined
      link(chunk, 0)
      return
    }
    paintChunk(entry, routes, i, start, end, hop)
    if (routes.removed <= routes.count >>> REMOVED_SHIFT) return
    // Memory for fewer edges is a wish: the chunk answers as well with those that it has.
    readChunk(tables, entry, ranges)
    const fewer = written(trim(routes), 0)
    if (fewer === 0) return
    link(chunk, fewer)
    routes.removed = 0
  }

  /** Next hop of a route of 0 .. 16 bits, 0 for none. */
  function shortHop(top: number, prefix: number): number {
    return prefix === 0 ? header[DEFAULT]! : shorter[numberOf(top, 16, prefix)]!
  }

  function setShort(top: number, prefix: number, hop: number): void {
    advance(header)
    if (prefix === 0) {
      Atomics.store(header, DEFAULT, hop)
      return
    }
    const number = numberOf(top, 16, prefix)
    shorter[number] = hop
    paint(shorter, 0, CHUNKS, number, hop !== 0 ? hop : covering(shorter, 0, number), inherited, 0)
  }

  return {
    get size() {
      return size
    },

    get heapBytes() {
      const waiting = old.waiting * GRANULE
      return { used: (granules - heap.free) * GRANULE - waiting, waiting }
    },

    insert(address, prefix, nextHop) {
      checkRoute(1, address, prefix, nextHop)
      const top = address[0]! >>> 16
      const routes = chunks[top]
      let before = 0
      if (prefix <= 16) before = shortHop(top, prefix)
      else if (routes !== undefined) {
        const found = routes.find(address[0]! & 0xffff, prefix - 16)
        if (found >= 0) before = routes.hop(found)
      }
      if (before === nextHop) return
      if (before === 0 && size >= limits.routes) throw full(address, prefix, limits.routes)
      if (prefix > 16) insertLong(address, prefix, nextHop)
      else setShort(top, prefix, nextHop)
      if (before === 0) size++
    },

    remove(address, prefix) {
      checkPrefix(1, address, prefix)
      const top = address[0]! >>> 16
      if (prefix <= 16) {
        if (shortHop(top, prefix) === 0) return false
        setShort(top, prefix, 0)
      } else {
        const routes = chunks[top]
        const found = routes === undefined ? -1 : routes.find(address[0]! & 0xffff, prefix - 16)
        if (found < 0) return false
        advance(header)
        removeLong(top, routes!, found)
      }
      size--
      return true
    },

    *routes(): Iterable<FibRoute> {
      if (header[DEFAULT] !== 0) yield routeOf([0], 0, header[DEFAULT]!)
      for (let number = 2; number < shorter.length; number++) {
        if (shorter[number] === 0) continue
        const length = lengthOf(number)
        yield routeOf([(number << (32 - length)) >>> 0], length, shorter[number]!)
      }
      for (const [chunk, routes] of chunks.entries()) {
        for (let i = 0; i < (routes?.count ?? 0); i++) {
          const address = ((chunk << 16) | routes!.start(i)) >>> 0
          yield routeOf([address], 16 + routes!.length(i), routes!.hop(i))
        }
      }
    },

    quiesced: old.quiesced,
  }
}
