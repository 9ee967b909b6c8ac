// The end of `npm test`: what it counts, what it names, and when it fails.
import { describe, expect, test } from 'vitest'
import { closing, underCi } from './closing.ts'
import type { Outcome } from './vitest.ts'

const GREEN: Outcome = {
  passed: 7,
  failed: 0,
  files: [
    { file: 'test/a.test.ts', seconds: 1.25, skipped: 0 },
    { file: 'test/b.test.ts', seconds: 62, skipped: 2 },
  ],
  skips: [{ file: 'test/b.test.ts', reason: 'no such kernel', impossible: true }],
  left: [],
}
const lastLine = (text: string) => text.trimEnd().split('\n').at(-1)

describe('the last line', () => {
  test('is the counts alone', () => {
    expect(lastLine(closing(GREEN, 0, false).text)).toBe('7 passed, 0 failed, 2 skipped')
    const all = { ...GREEN, files: GREEN.files.slice(0, 1), skips: [] }
    expect(lastLine(closing(all, 0, true).text)).toBe('7 passed, 0 failed')
  })

  test('counts what failed outside of tests', () => {
    const left = ['network namespace hwt-1-1', 'device hw0']
    const { failed, text } = closing({ ...GREEN, failed: 1, left }, 2, false)
    expect([failed, lastLine(text)]).toEqual([5, '7 passed, 5 failed, 2 skipped'])
    expect(text).toContain('FAILED: left behind:\n  network namespace hwt-1-1\n  device hw0\n')
  })
})

describe('what is skipped', () => {
  test('is named with its reason', () => {
    expect(closing(GREEN, 0, false).text).toContain(
      'skipped:\n  test/b.test.ts, 2: no such kernel\n',
    )
  })

  test('is named when only a part of a test was', () => {
    const skips = [{ file: 'test/a.test.ts', reason: 'no nft', impossible: false }]
    expect(closing({ ...GREEN, skips }, 0, false).text).toContain('test/a.test.ts, in part: no nft')
  })

  test('fails a run under CI, unless it is impossible here', () => {
    expect(closing(GREEN, 0, true).failed).toBe(0)
    const possible = [{ ...GREEN.skips[0]!, impossible: false }]
    expect(closing({ ...GREEN, skips: possible }, 0, true).failed).toBe(1)
    expect(closing({ ...GREEN, skips: possible }, 0, false).failed).toBe(0)
    const silent = closing({ ...GREEN, skips: [] }, 0, true)
    expect(silent.failed).toBe(1)
    expect(silent.text).toContain('test/b.test.ts, 2: no reason was told')
  })

  test.each([
    [undefined, false],
    ['', false],
    ['0', false],
    ['false', false],
    ['1', true],
    ['true', true],
  ])('CI=%s', (value, expected) => {
    expect(underCi({ CI: value })).toBe(expected)
  })
})

test('the slowest files come first', () => {
  expect(closing(GREEN, 0, false).text).toContain(
    'slowest files:\n    62.0 s  test/b.test.ts\n     1.3 s  test/a.test.ts\n',
  )
})
