import { afterEach, expect, test } from 'vitest'
import { ring } from '../../../bench/ring/suite.ts'
import {
  acrossThreads,
  addresses,
  descriptors,
  frames,
  ownedFrames,
  type Work,
} from '../../../bench/ring/work.ts'

let work: Work | undefined
afterEach(async () => {
  await work?.close()
  work = undefined
})

test.each([
  ['descriptors', descriptors],
  ['addresses', addresses],
  ['two threads', acrossThreads],
  ['frames', frames],
  ['owned frames', ownedFrames],
] as const)('%s: everything that goes in comes out, again and again', async (_, make) => {
  work = await make()
  work.begin()
  for (let i = 0; i < 3; i++) expect(work.call()).toBe(work.expected)
  work.end()
  work.begin()
  expect(work.call()).toBe(work.expected)
  work.end()
})

test('the suite has a rate for each', async () => {
  const report = await ring.run({ quick: true, rounds: 3, seconds: 0.001 })
  const names = ['descriptors', 'addresses', 'two threads', 'frames', 'owned frames']
  expect(Object.keys(report.quantities ?? {})).toEqual(names)
  for (const { samples, unit } of Object.values(report.quantities ?? {})) {
    expect(unit).toBe('entries/s')
    expect(samples).toHaveLength(3)
    expect(Math.min(...samples)).toBeGreaterThan(0)
  }
  expect(report.tables[0]?.rows).toHaveLength(5)
})
