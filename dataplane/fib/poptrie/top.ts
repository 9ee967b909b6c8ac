/**
 * The top of a poptrie as its writer keeps it: the direct table, and for IPv6 the tables behind it,
 * with the routes that end there, as prefix heaps (prefix-heap.ts). It has a cell for each value of
 * the first TOP_BITS bits; /0 is not its business.
 */

import { covering, lengthOf, numberOf } from '../prefix-heap.ts'
import {
  DIRECT,
  DIRECT_BITS,
  POINTER,
  TABLE,
  TABLE_BITS,
  type Tables,
  TOP_BITS,
  WORD,
} from './layout.ts'
import type { PoptrieNodes } from './nodes.ts'

export interface Top {
  /** Word of the slot of a cell; -1 when there is no table for it. */
  slotAt(cell: number): number
  /** The same, with a new table where there is none: TABLE_UNITS. */
  open(cell: number): number
  /** Gives the cell's table back if it has neither routes nor nodes below. */
  close(cell: number): void
  /** Next hop that the routes of 1 .. TOP_BITS bits give to a cell. */
  above(cell: number): number
  /** Next hop of the route of the first `prefix` (1 .. TOP_BITS) bits of a cell, 0 for none. */
  hop(cell: number, prefix: number): number
  /** Whether `set` of a new route needs TABLE_UNITS. */
  grows(cell: number, prefix: number): boolean
  /** Puts that route in, changes its next hop, or takes it out (0); there and in what is below. */
  set(cell: number, prefix: number, nextHop: number): void
  routes(): Iterable<{ cell: number; prefix: number; nextHop: number }>
}

/** Calls `cell` for all below heap number `number` that no longer route of the heap covers. */
function each(book: Uint16Array, number: number, cell: (cell: number) => void): void {
  const cells = book.length >>> 1
  if (number >= cells) {
    cell(number - cells)
    return
  }
  const half = 2 * number
  if (book[half] === 0) each(book, half, cell)
  if (book[half + 1] === 0) each(book, half + 1, cell)
}

/** The longest route of a heap for a cell. */
function longest(book: Uint16Array, cell: number): number {
  const number = (book.length >>> 1) + cell
  return book[number]! || covering(book, 0, number)
}

function* routesOf(book: Uint16Array, above: number, bits: number, cell: number) {
  for (let number = above === 0 ? 1 : 2; number < book.length; number++) {
    const nextHop = book[number]!
    if (nextHop === 0) continue
    const length = lengthOf(number)
    yield {
      cell: cell | ((number << (bits - length)) & ((1 << bits) - 1)),
      prefix: above + length,
      nextHop,
    }
  }
}

/** One table (IPv4). */
function flat(nodes: PoptrieNodes, bits: number): Top {
  const book = new Uint16Array(2 << bits)
  return {
    slotAt: cell => DIRECT + cell,
    open: cell => DIRECT + cell,
    close() {},
    above: cell => longest(book, cell),
    hop: (cell, prefix) => book[numberOf(cell, bits, prefix)]!,
    grows: () => false,
    set(cell, prefix, nextHop) {
      const number = numberOf(cell, bits, prefix)
      book[number] = nextHop
      const shown = nextHop || covering(book, 0, number)
      each(book, number, at => nodes.paintSlot(DIRECT + at, shown))
    },
    routes: () => routesOf(book, 0, bits, 0),
  }
}

/** Two, the second one in parts where they are needed (IPv6). */
function twofold({ words }: Tables, nodes: PoptrieNodes, bits: number): Top {
  const book = new Uint16Array(2 << bits)
  /** By first table's cell: the routes of its second one, and how many. */
  const books = new Map<number, { heap: Uint16Array; routes: number }>()
  const total = bits + TABLE_BITS

  /** Word of the table, 0 for none. */
  function tableAt(cell: number): number {
    const slot = words[DIRECT + (cell >>> TABLE_BITS)]!
    return slot < 0 ? slot & WORD : 0
  }

  function open(cell: number): number {
    let table = tableAt(cell)
    if (table === 0) {
      const part = cell >>> TABLE_BITS
      table = nodes.takeTable()
      words.fill(words[DIRECT + part]!, table, table + TABLE)
      books.set(part, { heap: new Uint16Array(2 * TABLE), routes: 0 })
      Atomics.store(words, DIRECT + part, POINTER | table)
    }
    return table + (cell & (TABLE - 1))
  }

  function close(cell: number): void {
    const part = cell >>> TABLE_BITS
    const table = tableAt(cell)
    if (table === 0 || books.get(part)!.routes > 0) return
    for (let at = table; at < table + TABLE; at++) if (words[at]! < 0) return
    Atomics.store(words, DIRECT + part, longest(book, part))
    books.delete(part)
    nodes.retireTable(table)
  }

  function paintTable(table: number, heap: Uint16Array, number: number, nextHop: number): void {
    each(heap, number, at => nodes.paintSlot(table + at, nextHop))
  }

  function setShort(part: number, prefix: number, nextHop: number): void {
    const number = numberOf(part, bits, prefix)
    book[number] = nextHop
    const shown = nextHop || covering(book, 0, number)
    each(book, number, at => {
      const slot = words[DIRECT + at]!
      if (slot < 0) paintTable(slot & WORD, books.get(at)!.heap, 1, shown)
      else words[DIRECT + at] = shown
    })
  }

  function setLong(cell: number, prefix: number, nextHop: number): void {
    const table = open(cell) - (cell & (TABLE - 1))
    const part = cell >>> TABLE_BITS
    const entry = books.get(part)!
    const number = numberOf(cell & (TABLE - 1), TABLE_BITS, prefix - bits)
    entry.routes += (nextHop === 0 ? 0 : 1) - (entry.heap[number] === 0 ? 0 : 1)
    entry.heap[number] = nextHop
    const shown = nextHop || covering(entry.heap, 0, number) || longest(book, part)
    paintTable(table, entry.heap, number, shown)
    close(cell)
  }

  return {
    slotAt(cell) {
      const table = tableAt(cell)
      return table === 0 ? -1 : table + (cell & (TABLE - 1))
    },
    open,
    close,
    above(cell) {
      const entry = books.get(cell >>> TABLE_BITS)
      const own = entry === undefined ? 0 : longest(entry.heap, cell & (TABLE - 1))
      return own || longest(book, cell >>> TABLE_BITS)
    },
    hop(cell, prefix) {
      if (prefix <= bits) return book[numberOf(cell, total, prefix)]!
      const entry = books.get(cell >>> TABLE_BITS)
      return entry?.heap[numberOf(cell & (TABLE - 1), TABLE_BITS, prefix - bits)] ?? 0
    },
    grows: (cell, prefix) => prefix > bits && tableAt(cell) === 0,
    set(cell, prefix, nextHop) {
      if (prefix <= bits) setShort(cell >>> TABLE_BITS, prefix, nextHop)
      else setLong(cell, prefix, nextHop)
    },
    *routes() {
      for (const route of routesOf(book, 0, bits, 0)) {
        yield { ...route, cell: route.cell << TABLE_BITS }
      }
      for (const [part, { heap }] of books) {
        yield* routesOf(heap, bits, TABLE_BITS, part << TABLE_BITS)
      }
    },
  }
}

export function topOf(tables: Tables, nodes: PoptrieNodes, family: 4 | 6): Top {
  const bits = DIRECT_BITS[family]
  return TOP_BITS[family] === bits ? flat(nodes, bits) : twofold(tables, nodes, bits)
}
