/**
 * What of the tables has moved. Each table is cut into blocks (memory/arena.ts says how large), and
 * each block has a word in the region `moved`: HEADER.SEQUENCE of the last change that wrote it. A
 * reader that has copied everything up to one SEQUENCE copies, next time, the blocks whose word is
 * later: a change costs what it changes, however large the tables are.
 *
 * SEQUENCE is odd during a change, so a block written in it is later than any copy made before. It
 * comes back to a value after 2^32; a block that nobody has written for half of that looks later than
 * it is, and is copied once more.
 */
import { type Arena, type ArenaLayout, BLOCK_BYTES, HEADER } from '../memory/arena.ts'

export type Table = keyof typeof BLOCK_BYTES

export const TABLES = Object.keys(BLOCK_BYTES) as Table[]

/** Of one table, in words of the arena. */
export interface Blocks {
  /** Where the table begins. */
  readonly at: number
  /** Words of a block. */
  readonly words: number
  /** Where the words of its blocks begin in the arena. */
  readonly movedAt: number
  readonly count: number
}

export function blocksOf(layout: ArenaLayout, table: Table): Blocks {
  let movedAt = layout.moved.offset / 4
  for (const each of TABLES) {
    const count = Math.ceil(layout[each].bytes / BLOCK_BYTES[each])
    if (each === table) {
      return { at: layout[each].offset / 4, words: BLOCK_BYTES[each] / 4, movedAt, count }
    }
    movedAt += count
  }
  throw new RangeError(`${table}: no such table`)
}

/** Inside a change of the tables: `bytes` bytes of `table` from `offset` on are new. */
export function markMoved({ layout, words }: Arena, table: Table, offset: number, bytes: number) {
  const { movedAt, count } = blocksOf(layout, table)
  const first = Math.floor(offset / BLOCK_BYTES[table])
  const end = Math.min(count, Math.ceil((offset + bytes) / BLOCK_BYTES[table]))
  words.fill(words[layout.header.offset / 4 + HEADER.SEQUENCE]! | 1, movedAt + first, movedAt + end)
}
