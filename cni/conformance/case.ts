/**
 * A case: one thing that a runtime relies on, as data. Its `run` tries it and gives one sentence with
 * what was seen; it throws `Failed` when that is not what must be, `Skipped` when it can't be tried.
 */
import type { Context } from './context.ts'
import { atLeast, type SpecVersion } from './versions.ts'

export interface Case {
  /** Number of the contract's clause (README.md), then words: `15-del-twice`. Never changes its meaning. */
  id: string
  /** What must be so. */
  name: string
  /**
   * Tried in: `each` version that the plugin lists, `once` in the newest of these, or each version
   * of the specification that is `unlisted`.
   */
  runs: 'each' | 'once' | 'unlisted'
  /** The first and the last version that have what is tried; a case does not exist in others. */
  since?: SpecVersion
  until?: SpecVersion
  run: (context: Context) => Promise<string>
}

/** The case can't be tried here; the message is the reason. */
export class Skipped extends Error {
  override readonly name = 'Skipped'
}

/** A case in one version. */
export interface Planned {
  case: Case
  version: SpecVersion
}

/** The versions that each case is tried in, in order of `cases`. `listed` and `unlisted`: oldest first. */
export function plan(
  cases: readonly Case[],
  listed: readonly SpecVersion[],
  unlisted: readonly SpecVersion[],
): Planned[] {
  return cases.flatMap(each => {
    const versions = (each.runs === 'unlisted' ? unlisted : listed).filter(
      version => atLeast(version, each.since ?? '0.1.0') && atLeast(each.until ?? '1.1.0', version),
    )
    const chosen = each.runs === 'once' ? versions.slice(-1) : versions
    return chosen.map(version => ({ case: each, version }))
  })
}

/**
 * Whether a case is chosen by `pattern`: comma-separated parts of `id@version`, in which `*` stands
 * for anything; a part without `*` may lie anywhere in it.
 */
export function matches(pattern: string, { case: { id }, version }: Planned): boolean {
  const name = `${id}@${version}`
  return pattern
    .split(',')
    .map(part => part.trim())
    .filter(part => part !== '')
    .some(part => (part.includes('*') ? wildcard(part, name) : name.includes(part)))
}

/** Greedy match of a pattern with `*`, without a regular expression that it could make explode. */
function wildcard(pattern: string, text: string): boolean {
  const [head = '', ...rest] = pattern.split('*')
  const tail = rest.pop() ?? ''
  if (!text.startsWith(head) || text.length < head.length + tail.length) return false
  let at = head.length
  for (const part of rest) {
    const found = text.indexOf(part, at)
    if (found < 0) return false
    at = found + part.length
  }
  return text.endsWith(tail) && at <= text.length - tail.length
}
