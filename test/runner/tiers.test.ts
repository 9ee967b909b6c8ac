// The tiers name files that are there, and together they are all files.
import { globSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { WRITTEN_DOWN } from './seconds.ts'
import { NODE_FOLDERS, NOT_IN_CHECK, projects } from './tiers.ts'

const root = join(import.meta.dirname, '../..')
const matching = (patterns: readonly string[]) =>
  new Set(patterns.flatMap(pattern => globSync(pattern, { cwd: root })))
const all = matching(['test/**/*.test.ts'])

test('each pattern of what is not in check, and each file with seconds, is there', () => {
  for (const pattern of NOT_IN_CHECK) expect(matching([pattern]).size, pattern).toBeGreaterThan(0)
  for (const file of WRITTEN_DOWN) expect(all, file).toContain(file)
})

test('npm test has every file, once', () => {
  const [unit, nodes] = projects('test').map(({ test: each }) => {
    const out = matching(each?.exclude ?? [])
    return [...matching(each?.include ?? [])].filter(file => !out.has(file))
  })
  expect([...unit!, ...nodes!].sort()).toEqual([...all].sort())
})

test('check has no file of a node, and packet cases', () => {
  const [unit, ...others] = projects('check')
  expect(others).toEqual([])
  const out = matching(unit?.test?.exclude ?? [])
  for (const folder of NODE_FOLDERS) {
    for (const file of matching([`test/${folder}/**/*.test.ts`])) expect(out).toContain(file)
  }
  expect(out).not.toContain('test/packets/packets.test.ts')
})
