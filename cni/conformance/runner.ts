/**
 * Runs the cases, one after the other: each in fresh pods, in one node's namespace for all. What a
 * case leaves is removed before the next; what it meets that is none of its own judgements (a tool
 * that fails) counts as a failure and says so.
 */

import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { clean } from '../base/document.ts'
import { readAnswer } from './answer.ts'
import { type Case, matches, type Planned, plan, Skipped } from './case.ts'
import { CASES } from './chapters/index.ts'
import { createContext } from './context.ts'
import { Failed } from './failed.ts'
import { makeNamespaces } from './namespaces.ts'
import { foreignDaemon, type NodeDaemon, ownDaemon } from './node-daemon.ts'
import { start } from './process.ts'
import { findPlugin, readSubject, type Subject } from './subject.ts'
import { SPEC_VERSIONS, type SpecVersion, specVersions } from './versions.ts'

/** Seconds that a call may take: kubelet's runtimeRequestTimeout. */
export const DEFAULT_TIMEOUT_S = 120
/** Milliseconds that the first VERSION may take. */
const VERSION_MS = 10_000
/** Characters of a sentence. */
const LONGEST_WHY = 400

export interface Options {
  /** Path of the executable, and of the conflist. */
  plugin: string
  conflist: string
  /** Folders of chained and IPAM plugins. */
  cniPath?: readonly string[]
  /** Cases to run, and not to run (case.ts, `matches`). */
  only?: string
  skip?: string
  timeoutS?: number
  daemon?: { command: string; readySocket: string } | { pid: number }
  /** Ends the run behind the case that is being tried. */
  signal?: AbortSignal
  progress?: (done: number, total: number, next: Planned) => void
  /** The cases that there are; for tests of the runner. */
  cases?: readonly Case[]
}

export interface Outcome {
  id: string
  name: string
  specVersion: SpecVersion
  verdict: 'passed' | 'failed' | 'skipped'
  /** One sentence: what was seen, or why it was not tried. */
  why: string
  ms: number
}

export interface Report {
  plugin: string
  /** The specification's versions that it was tried in: what it lists, and its IPAM plugin, if it has one. */
  versions: readonly SpecVersion[]
  passed: number
  failed: number
  skipped: number
  cases: readonly Outcome[]
}

/** Runs all; throws when there is nothing to run or the node can't be made. Removes all that it made, whatever happens. */
export async function conformance(options: Options): Promise<Report> {
  const folder = mkdtempSync(join(tmpdir(), 'hawser-conformance-'))
  const { plugin, conflist, cniPath = [], daemon: wanted } = options
  try {
    const subject = readSubject(plugin, conflist, cniPath, join(folder, 'networks'))
    const foreign = wanted !== undefined && 'pid' in wanted ? wanted.pid : undefined
    const namespaces = await makeNamespaces(foreign)
    let daemon: NodeDaemon | undefined
    try {
      if (foreign !== undefined) daemon = foreignDaemon(foreign)
      if (wanted !== undefined && 'command' in wanted) {
        daemon = ownDaemon(wanted.command, wanted.readySocket, namespaces.node)
        await daemon.start()
      }
      const listed = await listedVersions(subject.plugin, namespaces.node)
      const versions = await spokenVersions(subject, listed, namespaces.node)
      const planned = choose(options, versions, listed)
      const outcomes: Outcome[] = []
      const memo = new Map<string, unknown>()
      const timeoutMs = (options.timeoutS ?? DEFAULT_TIMEOUT_S) * 1000
      for (const [done, next] of planned.entries()) {
        if (options.signal?.aborted) throw new Error(`stopped behind ${done} of ${planned.length}`)
        options.progress?.(done, planned.length, next)
        const { version } = next
        const made = createContext({
          ...{ version, subject, namespaces, daemon, folder, memo, timeoutMs },
        })
        outcomes.push(await tried(next, made))
      }
      return summary(subject.plugin, versions, outcomes)
    } finally {
      await daemon?.stop('SIGTERM')
      await namespaces.removeAll()
    }
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}

/**
 * The cases that `options` choose for a plugin that lists `listed`, and can be tried in `versions` of
 * them; throws when there is none.
 */
export function choose(
  { only, skip, cases = CASES }: Pick<Options, 'only' | 'skip' | 'cases'>,
  versions: readonly SpecVersion[],
  listed = versions,
): Planned[] {
  const unlisted = SPEC_VERSIONS.filter(version => !listed.includes(version))
  const planned = plan(cases, versions, unlisted).filter(
    each =>
      (only === undefined || matches(only, each)) && (skip === undefined || !matches(skip, each)),
  )
  if (planned.length === 0) throw new Error('no case is chosen by --only and --skip')
  return planned
}

/** The versions of the specification that the plugin lists; all of them when it doesn't answer. */
export async function listedVersions(plugin: string, netns?: string): Promise<SpecVersion[]> {
  const ended = await start(plugin, [], {
    env: { CNI_COMMAND: 'VERSION' },
    stdin: JSON.stringify({ cniVersion: '1.0.0' }),
    timeoutMs: VERSION_MS,
    ...(netns === undefined ? {} : { netns }),
  }).ended
  const listed = readAnswer('VERSION', ended).document?.['supportedVersions']
  const versions = Array.isArray(listed) ? specVersions(listed.map(String)) : []
  return versions.length > 0 ? versions : [...SPEC_VERSIONS]
}

/** Of `listed`, the versions that the IPAM plugin of the configuration speaks as well. */
async function spokenVersions(
  { config, cniPath }: Subject,
  listed: SpecVersion[],
  netns: string,
): Promise<SpecVersion[]> {
  const type = (config['ipam'] as { type?: unknown } | undefined)?.type
  const file = typeof type === 'string' && type !== '' ? findPlugin(cniPath, type) : undefined
  if (file === undefined) return listed
  const both = await listedVersions(file, netns)
  return listed.filter(version => both.includes(version))
}

async function tried(
  { case: { id, name, run }, version: specVersion }: Planned,
  { context, close }: ReturnType<typeof createContext>,
): Promise<Outcome> {
  const began = performance.now()
  let verdict: Outcome['verdict'] = 'passed'
  let why = ''
  try {
    why = await run(context)
  } catch (error) {
    verdict = error instanceof Skipped ? 'skipped' : 'failed'
    const { message } = error as Error
    why = error instanceof Skipped || error instanceof Failed ? message : `not tried: ${message}`
  }
  try {
    await close()
  } catch (error) {
    verdict = 'failed'
    why = `${why}; not cleaned up: ${(error as Error).message}`
  }
  const ms = Math.round(performance.now() - began)
  return { id, name, specVersion, verdict, why: clean(why, LONGEST_WHY), ms }
}

function summary(
  plugin: string,
  versions: readonly SpecVersion[],
  cases: readonly Outcome[],
): Report {
  const count = (verdict: Outcome['verdict']): number =>
    cases.filter(each => each.verdict === verdict).length
  return {
    plugin,
    versions,
    passed: count('passed'),
    failed: count('failed'),
    skipped: count('skipped'),
    cases,
  }
}
