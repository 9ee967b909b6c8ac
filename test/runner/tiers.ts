/**
 * Which test runs when. `check`: unit tests and packet cases that take seconds. `test`: everything, at a
 * length that a change can wait for. `long`: everything at length (test/README.md has the table).
 */
import type { TestProjectInlineConfiguration } from 'vitest/config'

export const TIERS = ['check', 'test', 'long'] as const
export type Tier = (typeof TIERS)[number]

/** Names the tier to vitest's configuration and to tests whose length depends on it. */
export const TIER_VARIABLE = 'HAWSER_TEST_TIER'

/** The tier that runs; a single file by hand runs as in `npm test`. */
export function tier(): Tier {
  const named = process.env[TIER_VARIABLE]
  return TIERS.find(each => each === named) ?? 'test'
}

/** `npm run test:long` is running. */
export const LONG = tier() === 'long'

/** Seeds of tests with random input: HAWSER_SEEDS, else one, and a hundred at length. */
export const SEEDS = Number(process.env['HAWSER_SEEDS'] ?? (LONG ? 100 : 1))

/** Folders whose tests start daemons, pods or runtimes. They wait more than they compute. */
export const NODE_FOLDERS = [
  ...['netns', 'policy', 'contract', 'deploy', 'conformance'],
  ...['containerd', 'kubernetes', 'podman'],
] as const

/**
 * Unit tests that `check` leaves to `npm test`: what measures, what races threads for seconds, what takes
 * whole tables or whole rule sets, what runs every algorithm of a family through everything, and daemons
 * and the executable as processes. The same code is in `check` with smaller input: each algorithm's own file, the daemon's parts.
 */
export const NOT_IN_CHECK = [
  'test/bench/**/suite.test.ts',
  'test/bench/run.test.ts',
  'test/bench/peers/**',
  'test/**/*concurrent.test.ts',
  'test/dataplane/fib/{fib,full-table,load,property,steps}.test.ts',
  'test/dataplane/acl/{acl,sets,steps}.test.ts',
  'test/cni/{daemon/daemon,plugin/plugin}.test.ts',
] as const

/**
 * The two kinds of files. Unit tests compute: one a core. Tests of nodes wait for kernels and processes:
 * three share two cores. A kind is done before the next begins.
 */
export function projects(of: Tier): TestProjectInlineConfiguration[] {
  const nodes = NODE_FOLDERS.map(each => `test/${each}/**/*.test.ts`)
  const unit = {
    name: 'unit',
    include: ['test/**/*.test.ts'],
    exclude: [...nodes, ...(of === 'check' ? NOT_IN_CHECK : [])],
    maxWorkers: 2,
    sequence: { groupOrder: 0 },
  }
  const waiting = {
    name: 'nodes',
    include: nodes,
    maxWorkers: 3,
    sequence: { groupOrder: 1 },
  }
  const chosen = of === 'check' ? [unit] : [unit, waiting]
  return chosen.map(test => ({ extends: true, test }))
}
