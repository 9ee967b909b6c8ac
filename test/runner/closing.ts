/** The last lines of a run: the slowest files, what was skipped and why, what was left behind, the counts. */
import type { Skip } from '../harness/skip.ts'
import type { FileRun, Outcome } from './vitest.ts'

const SLOWEST = 10

/** CI is set to anything but what means no. */
export function underCi(env: Readonly<Record<string, string | undefined>>): boolean {
  return !['', '0', 'false'].includes(env['CI'] ?? '')
}

/** What was skipped, a line a file and reason; `faults`: those that fail a run under CI. */
export function skipLines(
  files: readonly FileRun[],
  skips: readonly Skip[],
): { lines: string[]; faults: string[] } {
  const lines: string[] = []
  const faults: string[] = []
  const known = skips.map(({ file }) => file)
  const all = [...new Set([...files.filter(each => each.skipped > 0).map(f => f.file), ...known])]
  for (const file of all.sort()) {
    const count = files.find(each => each.file === file)?.skipped ?? 0
    const what = count === 0 ? `${file}, in part` : `${file}, ${count}`
    const reasons = skips.filter(each => each.file === file)
    if (reasons.length === 0) {
      lines.push(`${what}: no reason was told (test/harness/skip.ts)`)
      faults.push(lines.at(-1)!)
    }
    for (const { reason, impossible } of reasons) {
      lines.push(`${what}: ${reason}`)
      if (!impossible) faults.push(lines.at(-1)!)
    }
  }
  return { lines, faults }
}

export interface Closing {
  text: string
  failed: number
}

/** The closing lines of `outcome`, to which `more` failures outside of tests are added. */
export function closing(outcome: Outcome, more: number, ci: boolean): Closing {
  const { passed, files, skips, left } = outcome
  const { lines, faults } = skipLines(files, skips)
  const failed = outcome.failed + more + left.length + (ci ? faults.length : 0)
  const skipped = files.reduce((sum, each) => sum + each.skipped, 0)
  const slowest = [...files].sort((a, b) => b.seconds - a.seconds).slice(0, SLOWEST)
  const section = (title: string, all: readonly string[]) =>
    all.length === 0 ? [] : [title, ...all.map(each => `  ${each}`), '']
  const counts = [`${passed} passed`, `${failed} failed`]
  if (skipped > 0) counts.push(`${skipped} skipped`)
  const text = [
    '',
    ...section(
      'slowest files:',
      slowest.map(({ file, seconds }) => `${seconds.toFixed(1).padStart(6)} s  ${file}`),
    ),
    ...section('skipped:', lines),
    ...section('FAILED, since CI is set: skipped, though it is possible here:', ci ? faults : []),
    ...section('FAILED: left behind:', left),
    counts.join(', '),
    '',
  ].join('\n')
  return { text, failed }
}
