// The report is parsed as strict XML, and the numbers of the documents are looked for in it.
import { describe, expect, test } from 'vitest'
import { type FibSamples, report } from '../../../bench/fib/report.ts'
import { KINDS } from '../../../bench/fib/traces.ts'
import { barOf, barText, holds } from '../../../bench/harness/bars.ts'
import type { Sort } from '../../../bench/harness/contender.ts'
import { type Document, emptyDocument, record } from '../../../bench/harness/document.ts'
import { page } from '../../../bench/report/page.ts'
import { logScale, short, withUnit } from '../../../bench/report/scale.ts'
import { all, parse, textOf } from './xml.ts'

const CONTENDERS: readonly [string, Sort, number][] = [
  ['dir24_8', 'typescript', 200e6],
  ['dir24_8_native', 'native', 410e6],
  ['rte_fib', 'peer', 300e6],
  ['rte_lpm x4', 'peer', 100e6],
]
const TABLES: readonly [string, number][] = [
  ['1', 1],
  ['20k', 20_000],
  ['full', 901_899],
]

function fibSamples(): FibSamples {
  const which = (name: string, sort: Sort, [table, routes]: readonly [string, number]) => ({
    contender: name,
    sort,
    family: 4 as const,
    table,
    routes,
  })
  return {
    lookups: CONTENDERS.flatMap(([name, sort, rate]) =>
      TABLES.flatMap(table =>
        KINDS.map((trace, k) => ({
          ...which(name, sort, table),
          trace,
          perSecond: [0.9, 1, 1.1].map(part => (part * rate) / (k + 1)),
        })),
      ),
    ),
    tables: CONTENDERS.flatMap(([name, sort]) =>
      TABLES.map(table => ({
        ...which(name, sort, table),
        buildMs: [120, 125, 130],
        bytes: 2 ** 25,
        usedBytes: 3 * 2 ** 20,
        ...(sort === 'peer' ? {} : { updatesPerSecond: [300_000, 310_000, 320_000] }),
      })),
    ),
  }
}

function document(): Document {
  const made = emptyDocument({})
  const { lookups, tables } = fibSamples()
  const seen = { 'a <b> & "c"': { deopts: 2, gcs: 1, gcMs: 0.5, functions: ['f: <why>'] } }
  record(made, 'fib', report(lookups, tables, ['a note with <tags> & "quotes"']), seen)
  const quantities = {
    'one small': { unit: 'ns', better: 'lower' as const, samples: [10, 11, 12] },
    'two small': { unit: 'ns', better: 'lower' as const, samples: [20, 21, 22] },
    'one below': { unit: 'ns', better: 'lower' as const, samples: [-1, -1, -1] },
  }
  record(made, 'other', { samples: {}, quantities, ratios: {}, tables: [], notes: [] }, {})
  made.failed = { path: 'needs root <really>' }
  return made
}

describe('the page', () => {
  const text = page([document()])
  const html = parse(text.replace('<!DOCTYPE html>\n', ''))
  const titles = all(html, 'title').map(textOf)

  test('is one well-formed file that asks for nothing from outside', () => {
    expect(text.startsWith('<!DOCTYPE html>\n')).toBe(true)
    expect(all(html, 'script')).toEqual([])
    expect(all(html, 'link')).toEqual([])
    expect(all(html, 'img')).toEqual([])
    expect(text).not.toMatch(/url\(|@import|https?:\/\/(?!www\.w3\.org)/)
    const policy = all(html, 'meta').map(({ attributes }) => attributes['content'])
    expect(policy).toContain("default-src 'none'; style-src 'unsafe-inline'")
  })

  test('is the same for the same documents', () => {
    const once = document()
    expect(page([once])).toBe(page([JSON.parse(JSON.stringify(once))]))
  })

  test('has every lookup rate as a point over the table size, and as a dot by trace', () => {
    for (const [name, , rate] of CONTENDERS) {
      for (const [table] of TABLES) {
        for (const [k, kind] of KINDS.entries()) {
          const value = withUnit(rate / (k + 1), 'lookups/s')
          const point = titles.filter(title =>
            title.startsWith(`${name}, ${table}, ${kind}: ${value} (`),
          )
          expect(point, `${name} ${table} ${kind}`).toHaveLength(1)
        }
      }
      for (const kind of KINDS) {
        expect(titles.filter(title => title.startsWith(`${name}, ${kind}: `))).toHaveLength(1)
      }
    }
  })

  test('draws higher rates higher, and larger tables to the right', () => {
    const chart = all(html, 'svg').find(
      ({ attributes }) =>
        attributes['aria-label'] === 'IPv4, in table, by routes of the table, lookups/s',
    )!
    const place = (start: string) => {
      const mark = ['circle', 'polygon']
        .flatMap(name => all(chart, name))
        .find(each => textOf(each).startsWith(start))!
      const { cx, cy, points } = mark.attributes
      if (cx !== undefined) return { x: Number(cx), y: Number(cy) }
      const corners = points!.split(' ').map(corner => corner.split(',').map(Number))
      const mean = (of: number) =>
        corners.reduce((sum, corner) => sum + corner[of]!, 0) / corners.length
      return { x: mean(0), y: mean(1) }
    }
    expect(place('dir24_8_native, full').y).toBeLessThan(place('dir24_8, full').y)
    expect(place('dir24_8, full').x).toBeGreaterThan(place('dir24_8, 20k').x)
  })

  test('has memory, changes and building with the bars of the best', () => {
    for (const [name] of CONTENDERS) {
      expect(titles).toContain(`${name}: 3 MiB`)
      expect(titles).toContain(`${name}: 125 ms (120 ms to 130 ms)`)
    }
    expect(titles).toContain('dir24_8: 310 k changes/s (300 k changes/s to 320 k changes/s)')
    const labels = all(html, 'text').map(textOf)
    expect(labels).toContain('the best: ≤ 4 MiB')
    expect(labels).toContain('the best: ≥ 200 k changes/s')
  })

  test('has the ratios with their bars', () => {
    const rows = all(html, 'tr').map(row => all(row, 'td').map(textOf))
    for (const [name, shown, value] of [
      ['fib4_native_vs_rte_fib', '1.37 ×', 1.367],
      ['fib_dir24_8_native_vs_ts', '2.05 ×', 2.05],
      ['fib4_smallest_bytes', '3 MiB', 3 * 2 ** 20],
      ['fib4_ts_vs_rte_lpm', '2 ×', 2],
    ] as const) {
      const bar = barOf(name)!
      const verdict = holds(bar, value) ? '✓ holds' : '✗ missed'
      expect(rows).toContainEqual([name, shown, barText(bar), verdict])
    }
    expect(rows).toContainEqual(['fib4_ts_vs_rte_fib', '0.667 ×', '', ''])
  })

  test('has notes, failures and disturbances as text', () => {
    const seen = textOf(html)
    expect(seen).toContain('a note with <tags> & "quotes"')
    expect(seen).toContain('path: no result: needs root <really>')
    expect(seen).toContain('a <b> & "c"')
    expect(seen).toContain('f: <why>')
  })

  test('draws any other suite from its quantities, without what has no logarithm', () => {
    expect(titles).toContain('one small: 11 ns (10 ns to 12 ns)')
    expect(titles).toContain('two small: 21 ns (20 ns to 22 ns)')
    expect(titles.some(title => title.startsWith('one below'))).toBe(false)
    const rows = all(html, 'tr').map(row => all(row, 'td').map(textOf))
    expect(rows).toContainEqual(['one below', 'ns', '-1', '-1', '-1', '3'])
  })

  test('takes several documents, ids stay unique', () => {
    const two = parse(page([document(), document()]).replace('<!DOCTYPE html>\n', ''))
    const ids = all(two, 'section').flatMap(({ attributes }) => attributes['id'] ?? [])
    expect(ids).toEqual(['1-fib', '1-other', '2-fib', '2-other'])
    for (const { attributes } of all(two, 'a')) expect(ids).toContain(attributes['href']!.slice(1))
    expect(() => page([])).toThrow('no documents')
  })
})

test('numbers as people read them', () => {
  expect([231_400_000, 12_500, 999, 0.0301, 1e9].map(short)).toEqual([
    '231 M',
    '12.5 k',
    '999',
    '0.0301',
    '1 G',
  ])
  expect(withUnit(4 * 2 ** 20, 'bytes')).toBe('4 MiB')
  expect(withUnit(17, 'bytes')).toBe('17 bytes')
  expect(withUnit(48_000, 'ms')).toBe('48 s')
  expect(withUnit(2.345, 'ns')).toBe('2.35 ns')
})

test('a logarithmic axis: decades, halves where there are few, powers of two for bytes', () => {
  const wide = logScale([1, 1e6], 0, 600)
  expect(wide.major).toEqual([1, 10, 100, 1000, 1e4, 1e5, 1e6])
  expect(wide.at(1000)).toBeCloseTo(300, 6)
  expect(logScale([3, 40], 0, 100).major).toEqual([5, 10, 20])
  expect(logScale([2 ** 20, 2 ** 23], 0, 100, 'bytes').major).toEqual(
    [20, 21, 22, 23].map(power => 2 ** power),
  )
  expect(logScale([5], 0, 100).at(5)).toBeCloseTo(50, 6)
})
