import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, test } from 'vitest'
import { barOf, barText, holds } from '../../../bench/harness/bars.ts'
import { emptyDocument, FORMAT, readDocument, record } from '../../../bench/harness/document.ts'
import { quantitiesIn } from '../../../bench/harness/quantity.ts'
import type { Report } from '../../../bench/harness/suite.ts'

const folder = mkdtempSync(join(tmpdir(), 'hawser-test-'))
afterAll(() => rmSync(folder, { recursive: true }))

const report: Report = {
  samples: { mine: { perSecond: [4, 1, 3, 2, 5], allNs: [10, 12], bytes: 4096, routes: 5 } },
  ratios: { mine_native_vs_ts: 1.2 },
  figures: { fib4_smallest_bytes: { value: 3_000_000, unit: 'bytes' } },
  tables: [],
  notes: ['a note'],
}

describe('a document', () => {
  const document = emptyDocument({ quick: true })
  const seen = { mine: { deopts: 1, gcs: 0, gcMs: 0, functions: ['f: why'] } }
  record(document, 'suite', report, seen)

  test('says what ran where', () => {
    expect(document.format).toBe(FORMAT)
    expect(document.machine.node).toBe(process.versions.node)
    expect(document.quick).toBe(true)
    if (document.commit) expect(document.commit.hash).toMatch(/^[0-9a-f]{40}$/)
  })

  test('has medians, quartiles and samples of what was measured, and bars', () => {
    expect(document.quantities['suite']).toEqual({
      'mine perSecond': {
        unit: '/s',
        better: 'higher',
        samples: [4, 1, 3, 2, 5],
        median: 3,
        low: 2,
        high: 4,
      },
      'mine allNs': {
        unit: 'ns',
        better: 'lower',
        samples: [10, 12],
        median: 11,
        low: 10,
        high: 12,
      },
      'mine bytes': {
        unit: 'bytes',
        better: 'lower',
        exact: true,
        samples: [4096],
        median: 4096,
        low: 4096,
        high: 4096,
      },
    })
    expect(document.bars['mine_native_vs_ts']).toEqual({ atLeast: 1.3, holds: false })
    expect(document.bars['fib4_smallest_bytes']).toEqual({ atMost: 4_194_304, holds: true })
    expect(document.disturbances['suite']).toEqual(seen)
  })

  test('is read again as it was written; what is none is refused by name', () => {
    const path = join(folder, 'document.json')
    writeFileSync(path, JSON.stringify(document))
    expect(readDocument(path)).toEqual(document)
    writeFileSync(path, JSON.stringify({ ...document, format: 99 }))
    expect(() => readDocument(path)).toThrow(/document\.json: .*format 99/)
    writeFileSync(path, '{')
    expect(() => readDocument(path)).toThrow('document.json: ')
    writeFileSync(path, 'null')
    expect(() => readDocument(path)).toThrow('document.json: ')
  })
})

test('quantities are found in arrays of objects too', () => {
  const samples = {
    hawser: [
      { rate: 5, sent: 9, forwarderNs: 500 },
      { rate: 7, sent: 9, forwarderNs: 700 },
    ],
  }
  const found = quantitiesIn(samples)
  expect(Object.keys(found)).toEqual(['hawser rate', 'hawser forwarderNs'])
  expect(found['hawser rate']).toEqual({ unit: '/s', better: 'higher', samples: [5, 7] })
})

test('bars', () => {
  expect(barOf('nothing')).toBeUndefined()
  expect(barText({ atLeast: 200_000 })).toBe('≥ 200,000')
  expect(barText({ atMost: 2 })).toBe('≤ 2')
  expect(holds({ atLeast: 1 }, 1)).toBe(true)
  expect(holds({ atMost: 2 }, 2.01)).toBe(false)
})
