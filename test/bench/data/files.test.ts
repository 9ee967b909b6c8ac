import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { gzipSync } from 'node:zlib'
import { afterAll, expect, test } from 'vitest'
import { Intake, lines, MAX_FILE_BYTES, REFUSED_TOLD } from '../../../bench/data/files.ts'

const folder = mkdtempSync(join(tmpdir(), 'hawser-test-'))
afterAll(() => rmSync(folder, { recursive: true }))
const path = join(folder, 'data')

test('plain and packed, LF and CRLF, with and without a last line end', () => {
  for (const text of ['a\nb\n\nc', 'a\nb\n\nc\n', 'a\r\nb\r\n\r\nc\r\n', 'a\r\nb\n\nc']) {
    writeFileSync(path, text)
    expect(lines(path)).toEqual(['a', 'b', '', 'c'])
    writeFileSync(path, gzipSync(text))
    expect(lines(path)).toEqual(['a', 'b', '', 'c'])
  }
  writeFileSync(path, '')
  expect(lines(path)).toEqual([])
})

test('errors name the file: not there, broken, too large', () => {
  expect(() => lines(join(folder, 'none'))).toThrow(/none: ENOENT/)
  writeFileSync(path, gzipSync('text').subarray(0, 12))
  expect(() => lines(path)).toThrow(`${path}: `)
  writeFileSync(path, gzipSync(Buffer.alloc(MAX_FILE_BYTES + 1), { level: 1 }))
  expect(() => lines(path)).toThrow('MAX_FILE_BYTES')
})

test('what was refused is told up to a limit, long lines cut', () => {
  const intake = new Intake('file')
  intake.taken = 3
  for (let i = 1; i <= REFUSED_TOLD + 5; i++) intake.refuse(i, 'x'.repeat(100 * i), 'why')
  const [head, first, ...rest] = intake.describe()
  expect(head).toBe(`file: 3 lines taken, ${REFUSED_TOLD + 5} refused`)
  expect(first).toBe(`  line 1: "${'x'.repeat(60)}…": why`)
  expect(rest).toHaveLength(REFUSED_TOLD)
  expect(rest.at(-1)).toBe('  and 5 more')
})
