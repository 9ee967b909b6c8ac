/**
 * The routes of a table of 2^n cells, kept as a binary heap: the prefix of `l` bits with value `v`
 * has the number 2^l + v. Its parent is number >> 1, its halves are 2 * number and 2 * number + 1,
 * and cell c is covered by number 2^n + c and its ancestors. `book[base + number]` is the route's
 * next hop, 0 for none. Only the writer knows of it; readers see the cells.
 */

/** Number of the prefix of `length` bits whose value is the first of `value`'s `bits` bits. */
export function numberOf(value: number, bits: number, length: number): number {
  return (1 << length) + (value >>> (bits - length))
}

/** Bits of the prefix with this number. */
export function lengthOf(number: number): number {
  return 31 - Math.clz32(number)
}

/** Next hop of the longest route that is shorter than `number` and covers it, 0 for none. */
export function covering(book: Uint16Array, base: number, number: number): number {
  for (let above = number >>> 1; above > 0; above >>>= 1) {
    const nextHop = book[base + above]!
    if (nextHop !== 0) return nextHop
  }
  return 0
}

/**
 * Gives `nextHop` to every cell whose longest route is `number`, or none longer than it. The cells
 * are `cells[at .. at + leaf)`, leaf = 2^n. Each cell is stored at most once.
 */
export function paint(
  book: Uint16Array,
  base: number,
  leaf: number,
  number: number,
  nextHop: number,
  cells: Uint16Array,
  at: number,
): void {
  if (number >= leaf) {
    cells[at + number - leaf] = nextHop
    return
  }
  const half = 2 * number
  if (book[base + half] === 0) paint(book, base, leaf, half, nextHop, cells, at)
  if (book[base + half + 1] === 0) paint(book, base, leaf, half + 1, nextHop, cells, at)
}
