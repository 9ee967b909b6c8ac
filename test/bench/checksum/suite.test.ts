import { afterAll, expect, test } from 'vitest'
import { checksum } from '../../../bench/checksum/suite.ts'
import { undoAll } from '../../../bench/harness/undo.ts'
import { native } from '../../../native/native.ts'

afterAll(undoAll)

test('measures every kind in every way, and leaves the usual kind in use', async () => {
  const usual = native.checksumKind()
  const report = await checksum.run({ quick: true })
  for (const kind of native.checksumKinds()) {
    for (const way of ['batch', 'call', 'copy']) {
      const { samples } = report.quantities![`${kind} ${way} 1500 B`]!
      for (const sample of samples) expect(sample).toBeGreaterThan(0)
    }
  }
  expect(report.figures).toHaveProperty('checksum_batch_1500_gigabytes_per_second')
  expect(report.ratios).toHaveProperty('checksum_native_vs_typescript_64')
  expect(native.checksumKind()).toBe(usual)
})

test('the loop alone gives the sums that the addon gives', async () => {
  const name = `${native.checksumKinds()[0]} kernel`
  const report = await checksum.run({ seconds: 0.001, only: [name] })
  // Without a compiler there is a note instead.
  if (report.notes.some(note => note.startsWith(`${name} is left out`))) return
  expect(report.quantities![`${name} 1500 B`]!.samples[0]).toBeGreaterThan(0)
})
