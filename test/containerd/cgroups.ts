/**
 * cgroups (v1) of the tests: one folder of the same name in every hierarchy, so that all that a
 * runtime puts below it can be found, ended and removed.
 */
import { existsSync, mkdirSync, readdirSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs'
import { basename, join } from 'node:path'

const ROOT = '/sys/fs/cgroup'
/** Hierarchies that the runtimes insist on. */
const NEEDED = ['cpu', 'cpuset', 'memory', 'pids', 'devices', 'freezer']

/** Mounted hierarchies: those of v1, and the unified one, in which runc keeps folders too. */
function hierarchies(): string[] {
  if (!existsSync(ROOT)) return []
  return readdirSync(ROOT, { withFileTypes: true })
    .filter(entry => entry.isDirectory() && existsSync(join(ROOT, entry.name, 'cgroup.procs')))
    .map(entry => join(ROOT, entry.name))
}

/** Makes the cgroup `path` (no leading slash) in every hierarchy; cpuset gets its parent's cores and memory. */
export function makeCgroup(path: string): void {
  for (const hierarchy of hierarchies()) {
    let at = hierarchy
    for (const part of path.split('/')) {
      const parent = at
      at = join(at, part)
      mkdirSync(at, { recursive: true })
      for (const file of ['cpuset.cpus', 'cpuset.mems']) {
        if (!existsSync(join(at, file)) || readFileSync(join(at, file), 'utf8').trim() !== '') {
          continue
        }
        writeFileSync(join(at, file), readFileSync(join(parent, file)))
      }
    }
  }
}

/** Folders of a cgroup and those below it, the deepest first. */
function folders(top: string): string[] {
  if (!existsSync(top)) return []
  const below = readdirSync(top, { withFileTypes: true }).filter(entry => entry.isDirectory())
  return [...below.flatMap(entry => folders(join(top, entry.name))), top]
}

/** Whether a cgroup of this name is below the cgroup `path`, in any hierarchy. */
export function hasCgroup(path: string, name: string): boolean {
  return hierarchies()
    .flatMap(hierarchy => folders(join(hierarchy, path)))
    .some(folder => basename(folder) === name)
}

/** Processes in the cgroup and below it, in any hierarchy. */
export function cgroupProcesses(path: string): number[] {
  const found = hierarchies()
    .flatMap(hierarchy => folders(join(hierarchy, path)))
    .flatMap(folder => readFileSync(join(folder, 'cgroup.procs'), 'utf8').split('\n'))
  return [...new Set(found.filter(line => line !== '').map(Number))]
}

/** Removes the cgroup and those below it, everywhere; false when something is still in use. */
export function removeCgroup(path: string): boolean {
  let whole = true
  for (const folder of hierarchies().flatMap(each => folders(join(each, path)))) {
    try {
      rmdirSync(folder)
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') whole = false
    }
  }
  return whole
}

/** Why runtimes can't use cgroups here; undefined when they can. */
export function cgroupProblem(): string | undefined {
  const there = hierarchies()
  const missing = NEEDED.filter(name => !there.includes(join(ROOT, name)))
  if (missing.length > 0) return `cgroup v1 hierarchies ${missing.join(', ')} are not mounted`
  const name = `hwt-probe-${process.pid}`
  try {
    makeCgroup(name)
  } catch (error) {
    return `cgroups can't be made: ${(error as Error).message}`
  } finally {
    removeCgroup(name)
  }
  return undefined
}
