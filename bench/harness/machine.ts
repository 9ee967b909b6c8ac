/** What a reader must know about the machine to read the figures. */
import { execFileSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { availableParallelism, cpus, release } from 'node:os'
import { root } from './compile.ts'

export interface Machine {
  cpu: string
  cores: number
  kernel: string
  node: string
}

export function machine(): Machine {
  return {
    cpu: cpus()[0]?.model.trim() ?? 'unknown',
    cores: availableParallelism(),
    kernel: release(),
    node: process.versions.node,
  }
}

/** What was measured. */
export interface Commit {
  hash: string
  /** The checkout differs from it. */
  dirty: boolean
}

/** The commit of this checkout; undefined where git or the repository is missing. */
export function commit(): Commit | undefined {
  const git = (...args: string[]) =>
    execFileSync('git', args, { cwd: root, encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] })
  try {
    return {
      hash: git('rev-parse', 'HEAD').trim(),
      dirty: git('status', '--porcelain').trim() !== '',
    }
  } catch {
    return undefined
  }
}

/** CPUs that this process may run on, by number (/proc/self/status, Cpus_allowed_list). */
export function allowedCpus(): number[] {
  const status = readFileSync('/proc/self/status', 'utf8')
  const list = /^Cpus_allowed_list:\s*(\S+)$/m.exec(status)?.[1] ?? '0'
  return list.split(',').flatMap(range => {
    const [first, last] = range.split('-').map(Number)
    return Array.from({ length: (last ?? first!) - first! + 1 }, (_, i) => first! + i)
  })
}
