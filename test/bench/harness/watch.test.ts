// What disturbs a measurement is counted inside its windows, and only there.
import { spawnSync } from 'node:child_process'
import { mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { fresh } from '../../../bench/harness/fresh.ts'
import { callsPerSecond } from '../../../bench/harness/micro.ts'
import { noteDisturbance, takeDisturbances, Watch } from '../../../bench/harness/watch.ts'

/** Optimised for small integers, then given strings. */
function makeDeoptimising(): (value: unknown) => unknown {
  const grow = fresh(function growing(value: unknown) {
    let sum: unknown = 0
    for (let i = 0; i < 200_000; i++) sum = (value as number) + i
    return sum
  })
  for (let i = 0; i < 200; i++) grow(i)
  return grow
}

test('a deoptimisation is counted, with the function and the reason', async () => {
  const grow = makeDeoptimising()
  const watch = new Watch()
  watch.openWindow()
  grow('text')
  watch.closeWindow()
  const { deopts, functions } = await watch.done()
  expect(deopts).toBeGreaterThan(0)
  expect(functions.join()).toMatch(/growing: /)
})

test('outside a window nothing is counted', async () => {
  const grow = makeDeoptimising()
  const watch = new Watch()
  watch.openWindow()
  watch.closeWindow()
  grow('text')
  expect((await watch.done()).deopts).toBe(0)
})

test('garbage collections are counted in a window, and not beside it', async () => {
  const litter = () => {
    const kept: unknown[] = []
    for (let i = 0; i < 2_000_000; i++) kept[i & 1023] = { i }
    return kept.length
  }
  const watch = new Watch()
  litter()
  watch.openWindow()
  watch.closeWindow()
  expect((await watch.done()).gcs).toBe(0)
  const second = new Watch()
  second.openWindow()
  litter()
  second.closeWindow()
  const { gcs, gcMs } = await second.done()
  expect(gcs).toBeGreaterThan(0)
  expect(gcMs).toBeGreaterThan(0)
})

test('the journal adds up by name and is emptied by who takes it', () => {
  takeDisturbances()
  const seen = { deopts: 1, gcs: 2, gcMs: 3, functions: ['f: why'] }
  noteDisturbance('a', seen)
  noteDisturbance('a', seen)
  noteDisturbance('b', { ...seen, deopts: 0 })
  expect(takeDisturbances()).toEqual({
    a: { deopts: 2, gcs: 4, gcMs: 6, functions: ['f: why', 'f: why'] },
    b: { deopts: 0, gcs: 2, gcMs: 3, functions: ['f: why'] },
  })
  expect(takeDisturbances()).toEqual({})
})

test('callsPerSecond counts calls, refuses wrong answers, and keeps stdout clean', async () => {
  takeDisturbances()
  const written: unknown[] = []
  const { log } = console
  console.log = (...words: unknown[]) => written.push(words)
  try {
    let calls = 0
    const work = () => {
      calls++
      return 7
    }
    const rate = await callsPerSecond('seven', 0.01, 7, work)
    expect(rate).toBeGreaterThan(0)
    expect(calls).toBeGreaterThan(5)
    await expect(callsPerSecond('eight', 0.01, 8, work)).rejects.toThrow('answered otherwise')
  } finally {
    console.log = log
  }
  expect(written).toEqual([])
  expect(Object.keys(takeDisturbances())).toEqual(['seven', 'eight'])
})

test('nothing stays behind, however the process ends', () => {
  const folder = mkdtempSync(join(tmpdir(), 'hawser-watch-'))
  try {
    const module = new URL('../../../bench/harness/watch.ts', import.meta.url)
    const script = `const { Watch } = await import(${JSON.stringify(module.href)})
      new Watch()
      process.kill(process.pid, 'SIGKILL')`
    const env = { ...process.env, TMPDIR: folder }
    const done = spawnSync(process.execPath, ['--input-type=module', '-e', script], { env })
    expect(done.signal).toBe('SIGKILL')
    expect(readdirSync(folder)).toEqual([])
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
})
