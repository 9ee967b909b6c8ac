/** Runs vitest once, in surroundings of its own, and gathers what the closing lines are made from. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { chmodSync, existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, relative } from 'node:path'
import { SKIPS_VARIABLE, type Skip } from '../harness/skip.ts'
import { inventory, leftBehind, RUN_VARIABLE } from './leftovers.ts'
import { TIER_VARIABLE, type Tier } from './tiers.ts'

export interface FileRun {
  /** Path from the top of the checkout. */
  file: string
  seconds: number
  skipped: number
}

export interface Outcome {
  passed: number
  failed: number
  files: readonly FileRun[]
  /** Reasons, with paths from the top of the checkout. */
  skips: readonly Skip[]
  left: readonly string[]
}

/** The part of vitest's JSON report that is read. */
interface Report {
  numPassedTests: number
  numFailedTests: number
  numFailedTestSuites: number
  success: boolean
  testResults: readonly {
    name: string
    startTime: number
    endTime: number
    assertionResults: readonly { status: string }[]
  }[]
}

/** Runs the tests of `tier`, or of those the files that `words` name; `words` are vitest's arguments. */
export async function runVitest(
  root: string,
  tier: Tier,
  words: readonly string[],
): Promise<Outcome> {
  const before = inventory()
  const folder = mkdtempSync(join(tmpdir(), 'hwt-'))
  // As /tmp is: some tests act as a user who is nobody.
  chmodSync(folder, 0o1777)
  const mark = folder.slice(-6)
  const [report, skips] = ['report.json', 'skips'].map(name => join(folder, name)) as [
    string,
    string,
  ]
  const vitest = join(root, 'node_modules/vitest/vitest.mjs')
  const reporters = ['--reporter=default', '--reporter=json', `--outputFile.json=${report}`]
  const child = spawn(process.execPath, [vitest, 'run', ...reporters, ...words], {
    cwd: root,
    stdio: 'inherit',
    env: {
      ...process.env,
      TMPDIR: folder,
      // Hundreds of daemons and command lines start: what they import is compiled once.
      NODE_COMPILE_CACHE: join(folder, 'compiled'),
      [RUN_VARIABLE]: mark,
      [SKIPS_VARIABLE]: skips,
      [TIER_VARIABLE]: tier,
    },
  })
  const passOn = (signal: NodeJS.Signals) => child.kill(signal)
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, passOn)
  const [code] = (await once(child, 'close')) as [number | null]
  try {
    const counted = countsOf(root, report)
    // What vitest complains about without a failed test, such as an error nobody waits for.
    const failed = counted.failed === 0 && code !== 0 ? 1 : counted.failed
    const left = await leftBehind(before, mark, folder)
    return { ...counted, failed, skips: readSkips(root, skips), left }
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}

function countsOf(root: string, path: string): Pick<Outcome, 'passed' | 'failed' | 'files'> {
  if (!existsSync(path)) return { passed: 0, failed: 1, files: [] }
  const report = JSON.parse(readFileSync(path, 'utf8')) as Report
  const { numPassedTests, numFailedTests, numFailedTestSuites, success } = report
  const files = report.testResults.map(({ name, startTime, endTime, assertionResults }) => ({
    file: relative(root, name),
    seconds: (endTime - startTime) / 1000,
    skipped: assertionResults.filter(({ status }) => status !== 'passed' && status !== 'failed')
      .length,
  }))
  const suites = numFailedTests === 0 ? numFailedTestSuites : 0
  const failed = Math.max(numFailedTests, suites, success ? 0 : 1)
  return { passed: numPassedTests, failed, files }
}

/** Each reason of a file once. */
export function readSkips(root: string, path: string): Skip[] {
  if (!existsSync(path)) return []
  const lines = new Set(readFileSync(path, 'utf8').trim().split('\n'))
  return [...lines].map(line => {
    const skip = JSON.parse(line) as Skip
    return { ...skip, file: relative(root, skip.file) }
  })
}
