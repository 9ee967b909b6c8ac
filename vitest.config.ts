import { defineConfig } from 'vitest/config'
import { LongestFirst } from './test/runner/sequencer.ts'
import { LONG, projects, tier } from './test/runner/tiers.ts'

export default defineConfig({
  test: {
    pool: 'forks',
    sequence: { sequencer: LongestFirst },
    testTimeout: LONG ? 3_600_000 : 120_000,
    hookTimeout: 120_000,
    projects: projects(tier()),
  },
})
