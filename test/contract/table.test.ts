/** The table of README.md, the names of the tests, and the cases of `hawser conformance` agree. */
import { readdirSync, readFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import { type Case, matches } from '../../cni/conformance/case.ts'
import { CASES } from '../../cni/conformance/chapters/index.ts'
import { SPEC_VERSIONS } from '../../cni/conformance/versions.ts'

const NUMBER = /^[RIWS]?[1-9][0-9]?$/
const read = (name: string) => readFileSync(new URL(name, import.meta.url), 'utf8')

interface Row {
  number: string
  rule: string
  files: string[]
  cases: string[]
}
const table: Row[] = read('README.md')
  .split('\n')
  .map(line => line.split(' | ').map(cell => cell.replace(/^\| | ?\|$/g, '').trim()))
  .filter(([number]) => NUMBER.test(number ?? ''))
  .map(([number, rule, files, cases]) => ({
    number: number!,
    rule: rule!,
    files: files!.split(', '),
    cases: [...(cases ?? '').matchAll(/`([^`]+)`/g)].map(match => match[1]!),
  }))

/** Numbers that the names of a file's tests begin with. */
function tested(file: string): string[] {
  const names = read(file).matchAll(/\btest(?:\.skipIf\([^\n]*\))?\(\s*(['"])([^\n]*)\1,/g)
  return [...names].map(match => match[2]!.split(' ')[0]!)
}
const files = readdirSync(new URL('.', import.meta.url)).filter(
  name => name.endsWith('.test.ts') && name !== 'table.test.ts',
)
const byFile = new Map(files.map(name => [name.replace('.test.ts', ''), tested(name)]))

test('every number is there, once', () => {
  const upTo = (letter: string, last: number) =>
    Array.from({ length: last }, (_, k) => `${letter}${k + 1}`)
  expect(table.map(row => row.number)).toEqual([
    ...[upTo('', 22), upTo('R', 7), upTo('I', 6), upTo('W', 12), upTo('S', 9)].flat(),
  ])
  for (const { number, rule } of table) expect(rule, number).toMatch(/./)
})

test('every number has a test in each file that its row names', () => {
  for (const { number, files } of table) {
    for (const file of files) expect(byFile.get(file), `${number} in ${file}`).toContain(number)
  }
})

test('every test begins with the number of a row that names its file', () => {
  for (const [file, numbers] of byFile) {
    expect(numbers.length, file).toBeGreaterThan(0)
    for (const number of numbers) {
      const row = table.find(each => each.number === number)
      expect(row?.files, `${number} in ${file}`).toContain(file)
    }
  }
})

test('every case that is named is there, and every case has its row', () => {
  const planned = (each: Case) => ({ case: each, version: SPEC_VERSIONS.at(-1)! })
  for (const { number, cases } of table) {
    for (const pattern of cases) {
      const found = CASES.filter(each => matches(`${pattern}@*`, planned(each)))
      expect(found.length, `${pattern} of ${number}`).toBeGreaterThan(0)
    }
  }
  for (const each of CASES) {
    const row = table.find(({ number }) => Number(number) === Number(each.id.slice(0, 2)))
    const named = row?.cases.some(pattern => matches(`${pattern}@*`, planned(each)))
    expect(named, each.id).toBe(true)
  }
})
