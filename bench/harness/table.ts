/** Plain text tables: the first column is left-aligned, the others right-aligned. */
export interface Table {
  title: string
  head: readonly string[]
  rows: readonly (readonly string[])[]
}

export function format(table: Table): string {
  const widths = table.head.map((cell, column) =>
    Math.max(cell.length, ...table.rows.map(row => (row[column] ?? '').length)),
  )
  const line = (cells: readonly string[]) =>
    widths
      .map((width, i) =>
        i === 0 ? (cells[i] ?? '').padEnd(width) : (cells[i] ?? '').padStart(width),
      )
      .join('  ')
      .trimEnd()
  const rule = widths.map(width => '-'.repeat(width)).join('  ')
  return [table.title, '', line(table.head), rule, ...table.rows.map(line), ''].join('\n')
}

/** Digits in groups of three. */
export function grouped(value: number, digits = 0): string {
  return value.toLocaleString('en-US', {
    minimumFractionDigits: digits,
    maximumFractionDigits: digits,
  })
}
