/** Plain text tables for people: columns as wide as they need, numbers to the right. */

export type Cell = string | number | undefined

/** A table with a heading line; `undefined` is shown as "-". Ends without a newline. */
export function table(heading: readonly string[], rows: readonly (readonly Cell[])[]): string {
  const numeric = heading.map(
    (_, column) => rows.length > 0 && rows.every(row => typeof row[column] === 'number'),
  )
  const lines = [heading, ...rows.map(row => row.map(text))]
  const widths = heading.map((_, column) =>
    Math.max(...lines.map(line => (line[column] ?? '').length)),
  )
  return lines
    .map(line =>
      line
        .map((cell, column) => {
          const width = widths[column] ?? 0
          return numeric[column] ? cell.padStart(width) : cell.padEnd(width)
        })
        .join('  ')
        .trimEnd(),
    )
    .join('\n')
}

/** What a terminal may be sent of a name that came from elsewhere. */
function text(cell: Cell): string {
  return cell === undefined || cell === '' ? '-' : printable(String(cell))
}

export function printable(value: string): string {
  return value.replace(/\p{C}/gu, '?')
}
