import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { rulesLike } from '../../../bench/acl/generate.ts'
import { acl } from '../../../bench/acl/suite.ts'
import { answered, type RuleSet, traceOf } from '../../../bench/acl/workload.ts'
import { undoAll } from '../../../bench/harness/undo.ts'
import { HEADER_WORDS } from '../../../dataplane/acl/acl.ts'
import { aclNames } from '../../../dataplane/acl/index.ts'

const folder = mkdtempSync(join(tmpdir(), 'hawser-acl-suite-'))
beforeAll(() => {
  writeFileSync(
    join(folder, 'rules'),
    [
      '@10.0.0.0/8\t0.0.0.0/0\t0 : 65535\t80 : 80\t0x06/0xFF\t0x0000/0x0000',
      '@0.0.0.0/0\t0.0.0.0/0\t0 : 65535\t0 : 65535\t0x00/0x00\t0x0000/0x0000',
      'no rule',
    ].join('\n'),
  )
  writeFileSync(join(folder, 'trace'), '167772161 1 1 80 6\n1 1 1 80 6\n')
})
afterAll(() => {
  rmSync(folder, { recursive: true })
  undoAll()
})

test('a quick run measures every algorithm, and names its quantities', async () => {
  const { quantities, tables } = await acl.run({ quick: true })
  for (const name of aclNames(4)) {
    const mine = Object.entries(quantities!).filter(([key]) => key.startsWith(`${name} `))
    expect(mine.length, name).toBeGreaterThan(0)
    for (const [key, { samples }] of mine) {
      for (const sample of samples) expect(sample, key).toBeGreaterThan(0)
    }
  }
  expect(tables).toHaveLength(2)
})

test('a file of rules and one of headers take the place of ours, and what they refuse is said', async () => {
  const report = await acl.run({
    quick: true,
    only: ['linear4'],
    rules: join(folder, 'rules'),
    trace: join(folder, 'trace'),
  })
  expect(Object.keys(report.quantities!)).toContain('linear4 file file')
  const notes = report.notes.join('\n')
  expect(notes).toMatch(/rules: 2 lines taken, 1 refused/)
  expect(notes).toMatch(/trace: 2 lines taken, 0 refused/)
})

test('an algorithm that is none is refused', async () => {
  await expect(acl.run({ quick: true, only: ['linear5'] })).rejects.toThrow(/linear5/)
})

test('the answers of a trace are those of each header alone', () => {
  const set: RuleSet = { name: 'some', family: 4, rules: rulesLike('fw', 50) }
  const words = HEADER_WORDS[4]
  const trace = traceOf(set, 40, '40 flows')
  const different = new Map<string, number>()
  for (let i = 0; i < trace.n; i++) {
    const header = trace.headers.slice(i * words, (i + 1) * words)
    const key = header.join()
    if (!different.has(key)) different.set(key, answered(set, header, 'one').answers[0]!)
    expect(trace.answers[i]).toBe(different.get(key))
  }
  expect(different.size).toBe(40)
  expect(new Set(trace.answers).size).toBeGreaterThan(5)
})
