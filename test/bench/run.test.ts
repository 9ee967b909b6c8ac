// The command itself, as a person runs it.
import { spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, describe, expect, test } from 'vitest'
import type { Document } from '../../bench/harness/document.ts'

const script = fileURLToPath(new URL('../../bench/run.ts', import.meta.url))
const folder = mkdtempSync(join(tmpdir(), 'hawser-test-'))
afterAll(() => rmSync(folder, { recursive: true }))

function bench(...words: string[]) {
  const { status, stdout, stderr } = spawnSync(process.execPath, [script, ...words], {
    encoding: 'utf8',
  })
  return { status, stdout, stderr }
}

const tiny = ['--quick', '--rounds', '5', '--seconds', '0.001']

test('without words it lists the suites, runs none, and ends well', () => {
  const { status, stdout, stderr } = bench()
  expect(status).toBe(0)
  expect(stderr).toBe('')
  for (const suite of [
    'fib',
    'acl',
    'flow',
    'checksum',
    'ring',
    'wire',
    'policy',
    'lb',
    'path',
    'bulk',
    'cni',
  ]) {
    expect(stdout).toMatch(new RegExp(`^ {2}${suite} `, 'm'))
  }
})

test('what it does not know is named', () => {
  expect(bench('nothing')).toMatchObject({ status: 1, stdout: '' })
  expect(bench('nothing').stderr).toContain('suite nothing: unknown (fib, acl')
  expect(bench('./mine.ts').stderr).toContain('which suite measures it?')
  expect(bench('ring', '--only', 'nothing', ...tiny).stderr).toContain('nothing: unknown')
})

describe('a run', () => {
  const out = join(folder, 'a.json')
  const run = bench('ring', '--only', 'frames', ...tiny, '--json', '--out', out)
  const document = JSON.parse(run.stdout) as Document

  test('prints one JSON document and writes the same into a file', () => {
    expect(run.status).toBe(0)
    expect(readFileSync(out, 'utf8')).toBe(run.stdout)
    expect(Object.keys(document.quantities)).toEqual(['ring'])
    expect(document.quantities['ring']?.['frames']?.samples).toHaveLength(5)
    expect(document.disturbances['ring']).toHaveProperty('ring frames')
    expect(document.quick).toBe(true)
  })

  test('prints tables with what disturbed it', () => {
    const { status, stdout } = bench('ring', '--only', 'frames', ...tiny)
    expect(status).toBe(0)
    expect(stdout).toContain('A quick run')
    expect(stdout).toMatch(/^frames +[\d,.]+ +[\d.]+ /m)
    expect(stdout).toMatch(/ring: \d+ deoptimisations, \d+ collections in 1 measurements/)
  })

  test('is compared with itself: nothing worse', () => {
    const { status, stdout, stderr } = bench('compare', out, out)
    expect(stdout).toContain('the same: 1 of 1 quantities')
    expect(stderr).toBe('')
    expect(status).toBe(0)
    expect(bench('compare', out, join(folder, 'none')).status).toBe(2)
  })

  test('becomes a page', () => {
    const html = join(folder, 'report.html')
    expect(bench('report', out, '--out', html).status).toBe(0)
    expect(readFileSync(html, 'utf8')).toContain('<svg')
  })
})
