import { describe, expect, test } from 'vitest'
import { cases } from '../../../bench/wire/cases.ts'
import { wire } from '../../../bench/wire/suite.ts'
import { BATCH_SIZE } from '../../../dataplane/limits.ts'
import { native } from '../../../native/native.ts'

describe.each([4, 6] as const)('tunnel over IPv%d', underlay => {
  describe.each([4, 6] as const)('inner IPv%d', family => {
    // `cases` itself throws for a packet that does not come out as it should.
    test.each(['UDP', 'TCP'] as const)('%s: each stage can be run again and again', protocol => {
      for (const { batch, engine, restore, run, stage } of cases(underlay, family, protocol)) {
        native.bind(engine.bytes)
        const seen = () => {
          restore()
          run()
          return [batch.n, ...batch.l3, ...batch.len, ...batch.drop, ...batch.nextHop]
        }
        const first = seen()
        // More often than a TTL lasts.
        for (let i = 0; i < 300; i++) seen()
        expect(seen(), stage).toEqual(first)
        expect(batch.n).toBe(BATCH_SIZE)
        expect(new Set(batch.drop), stage).toEqual(new Set([0]))
      }
    })
  })
})

test('the suite has ns for each stage and packet', async () => {
  const only = ['parse', 'encap in IPv6', 'IPv4 to pod']
  const report = await wire.run({ quick: true, rounds: 3, seconds: 0.001, only })
  expect(report.tables[0]?.rows.map(row => row[0])).toEqual(only)
  expect(Object.keys(report.quantities ?? {})).toHaveLength(12)
  expect(report.quantities?.['encap in IPv6 IPv4 TCP']).toMatchObject({
    unit: 'ns',
    better: 'lower',
    contender: 'IPv4 TCP',
    workload: 'encap in IPv6',
  })
})
