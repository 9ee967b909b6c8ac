import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, test } from 'vitest'
import {
  compareFiles,
  NOT_COMPARABLE,
  NOTHING_WORSE,
  SOMETHING_WORSE,
} from '../../../bench/compare/command.ts'
import { compare, judge, obstacles } from '../../../bench/compare/compare.ts'
import { type Document, emptyDocument, record } from '../../../bench/harness/document.ts'
import { measured, type Quantity } from '../../../bench/harness/quantity.ts'

const folder = mkdtempSync(join(tmpdir(), 'hawser-test-'))
afterAll(() => rmSync(folder, { recursive: true }))

function document(quantities: Record<string, Quantity>, suite = 'fib'): Document {
  const made = emptyDocument({})
  const report = { samples: {}, ratios: {}, tables: [], notes: [], quantities }
  record(made, suite, report, {})
  return made
}

const rate = (...samples: number[]): Quantity => ({ unit: '/s', better: 'higher', samples })
const ns = (...samples: number[]): Quantity => ({ unit: 'ns', better: 'lower', samples })
const bytes = (value: number): Quantity => ({
  unit: 'bytes',
  better: 'lower',
  samples: [value],
  exact: true,
})
const verdict = (a: Quantity, b: Quantity, margin = 0.1) =>
  judge(measured(a), measured(b), margin).verdict

describe('a quantity', () => {
  test('is worse or better when all samples lie apart, by its own direction', () => {
    const slow = [70, 71, 72, 73, 74] as const
    const fast = [100, 101, 102, 103, 104] as const
    expect(verdict(rate(...fast), rate(...slow))).toBe('worse')
    expect(verdict(rate(...slow), rate(...fast))).toBe('better')
    expect(verdict(ns(...fast), ns(...slow))).toBe('better')
    expect(verdict(ns(...slow), ns(...fast))).toBe('worse')
    expect(verdict({ ...ns(...slow), better: 'neither' }, ns(...fast))).toBe('changed')
  })

  test('is the same when samples of both runs mix, however far the medians are', () => {
    expect(verdict(rate(10, 50, 100, 150, 200), rate(20, 40, 60, 70, 180))).toBe('same')
  })

  test('is the same within the margin, however sure the test is', () => {
    expect(verdict(rate(100, 101, 102, 103, 104), rate(95, 96, 97, 98, 99))).toBe('same')
    expect(verdict(rate(100, 101, 102, 103, 104), rate(95, 96, 97, 98, 99), 0.01)).toBe('worse')
  })

  test('is undecided with fewer samples than the test needs', () => {
    expect(verdict(rate(100, 101, 102), rate(50, 51, 52))).toBe('undecided')
    expect(verdict(rate(100, 101, 102, 103, 104), rate(50, 51, 52, 53))).toBe('undecided')
  })

  test('that is exact has changed when it differs at all', () => {
    expect(verdict(bytes(4096), bytes(4096))).toBe('same')
    expect(verdict(bytes(4096), bytes(4097))).toBe('worse')
    expect(verdict(bytes(4096), bytes(4095))).toBe('better')
  })
})

describe('documents', () => {
  const base = { a: rate(100, 101, 102, 103, 104), size: bytes(10), gone: ns(1, 2, 3) }

  test('of other suites, machines or kinds of run are refused', () => {
    const a = document(base)
    expect(obstacles(a, document(base))).toEqual([])
    expect(obstacles(a, document(base, 'acl'))).toEqual(['different suites: fib and acl'])
    const other = { ...document(base), machine: { ...a.machine, cpu: 'another' } }
    expect(obstacles(a, other)[0]).toContain('different CPUs')
    expect(obstacles(a, { ...document(base), quick: true })[0]).toContain('quick run')
  })

  test('of another kernel or Node are compared, with a warning', () => {
    const a = document(base)
    const b = { ...a, machine: { ...a.machine, node: '99.0.0' } }
    expect(compare(a, b).warnings).toEqual([`different node: ${a.machine.node} and 99.0.0`])
  })

  test('contenders that came or went are named', () => {
    const { a, size } = base
    const { onlyBefore, onlyAfter } = compare(document(base), document({ a, size, fresh: a }))
    expect(onlyBefore).toEqual(['fib gone'])
    expect(onlyAfter).toEqual(['fib fresh'])
  })

  test('the command: text and exit codes', () => {
    const write = (name: string, of: unknown) => {
      const path = join(folder, name)
      writeFileSync(path, JSON.stringify(of))
      return path
    }
    let text = ''
    const run = (a: string, b: string) => {
      text = ''
      return compareFiles(a, b, 0.1, more => {
        text += more
      })
    }
    const a = write('a.json', document(base))
    const same = write('same.json', document(base))
    expect(run(a, same)).toBe(NOTHING_WORSE)
    expect(text).toContain('the same: 3 of 3 quantities')
    const slow = write('slow.json', document({ ...base, a: rate(50, 51, 52, 53, 54) }))
    expect(run(a, slow)).toBe(SOMETHING_WORSE)
    expect(text).toMatch(/worse: 1\n/)
    expect(text).toMatch(/fib a +\/s +102 +52 +-49\.0 % +0\.0079/)
    expect(run(slow, a)).toBe(NOTHING_WORSE)
    expect(text).toContain('better: 1')
    expect(run(a, write('acl.json', document(base, 'acl')))).toBe(NOT_COMPARABLE)
    expect(run(a, join(folder, 'none.json'))).toBe(NOT_COMPARABLE)
    expect(text).toBe('')
  })
})
