import { expect, test } from 'vitest'
import { policy } from '../../../bench/policy/suite.ts'
import { egressOf, PolicyWorld } from '../../../bench/policy/world.ts'

test('the suite has its ratios and figures', async () => {
  const report = await policy.run({ quick: true, rounds: 1, seconds: 0.001, only: ['memory'] })
  expect(Object.keys(report.ratios).sort()).toEqual([
    ...['established_12500_vs_0', 'flow_table_vs_none', 'flows_1m_vs_1k', 'new_12500_vs_10'],
  ])
  expect(Object.keys(report.figures ?? {})).toHaveLength(3)
})

test('a batch is of the flows that were asked for, and each is known after it', async () => {
  const world = await PolicyWorld.make(2048, 10)
  world.send(0, 1, 1000)
  expect(world.engine.judge!.table.counters().live).toBe(256)
  world.send(0, 1, 1000)
  expect(world.engine.judge!.table.counters().live).toBe(256)
  world.send(999, 7, 1000)
  expect(world.engine.judge!.table.counters().live).toBeGreaterThan(256)
  await world.set({ tiers: [{ rules: [], otherwise: 2, origin: 0 }] })
  expect(() => world.send(0, 1, 1000)).toThrow('dropped')
})

test('programs have as many rules as asked, and one for the flows', () => {
  expect(egressOf(0).tiers).toEqual([])
  expect(egressOf(10).tiers[0]!.rules).toHaveLength(10)
})
