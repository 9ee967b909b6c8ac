/**
 * What a run must not leave behind: temporary folders, network namespaces, devices of this namespace,
 * mounts, processes. A run has a temporary folder of its own (TMPDIR) and a mark in its environment, so
 * that other runs on the machine are not taken for it.
 */
import { readdirSync, readFileSync } from 'node:fs'
import { setTimeout as pause } from 'node:timers/promises'

/** Names the run in the environment of all that it starts. */
export const RUN_VARIABLE = 'HAWSER_TEST_RUN'
/** How long what is being ended and removed in the background may take. */
const SETTLE_MS = 15_000
const LOOK_MS = 250
/** Names of our tests, of the conformance runner and of the benches. */
const OURS = /^(hawser-|hw[a-z]-|hwb)/

export interface Inventory {
  namespaces: ReadonlySet<string>
  devices: ReadonlySet<string>
}

function names(folder: string): string[] {
  try {
    return readdirSync(folder)
  } catch {
    return []
  }
}

function read(path: string): string {
  try {
    return readFileSync(path, 'latin1')
  } catch {
    return ''
  }
}

/** What there is before a run. */
export function inventory(): Inventory {
  return {
    namespaces: new Set(names('/run/netns')),
    devices: new Set(names('/sys/class/net')),
  }
}

/** A namespace's name has the id of the process that made it, in decimal or in base 36: does it live? */
function hasOwner(namespace: string): boolean {
  const ids = namespace
    .split('-')
    .flatMap(part => [Number(part), parseInt(part, 36), parseInt(part.slice(0, -4), 36)])
  return ids.some(id => id > 1 && /node|vitest/.test(read(`/proc/${id}/cmdline`)))
}

/** Processes that carry the mark or name the folder, but for this one. */
function processes(mark: string, folder: string): string[] {
  return names('/proc')
    .filter(pid => /^\d+$/.test(pid) && Number(pid) !== process.pid)
    .filter(pid => {
      const marked = read(`/proc/${pid}/environ`).split('\0').includes(`${RUN_VARIABLE}=${mark}`)
      return marked || read(`/proc/${pid}/cmdline`).includes(folder)
    })
    .map(pid => `process ${pid}: ${read(`/proc/${pid}/cmdline`).replaceAll('\0', ' ').trim()}`)
}

function now(before: Inventory, mark: string, folder: string): string[] {
  const fresh = (all: string[], known: ReadonlySet<string>) => all.filter(each => !known.has(each))
  const mounts = read('/proc/self/mountinfo')
    .split('\n')
    .map(line => line.split(' ')[4] ?? '')
    .filter(point => point.startsWith(folder))
  return [
    ...names(folder)
      .filter(each => OURS.test(each))
      .map(each => `temporary folder ${each}`),
    ...fresh(names('/run/netns'), before.namespaces)
      .filter(each => OURS.test(each) && !hasOwner(each))
      .map(each => `network namespace ${each}`),
    ...fresh(names('/sys/class/net'), before.devices).map(each => `device ${each}`),
    ...mounts.map(each => `mount ${each}`),
    ...processes(mark, folder),
  ]
}

/** What the run `mark`, whose temporary files are in `folder`, has left; a line each. `settleMs`: how long it may take to go. */
export async function leftBehind(
  before: Inventory,
  mark: string,
  folder: string,
  settleMs = SETTLE_MS,
): Promise<string[]> {
  const until = performance.now() + settleMs
  let left = now(before, mark, folder)
  while (left.length > 0 && performance.now() < until) {
    await pause(LOOK_MS)
    // Another run's device that passes through this namespace is another one at the next look.
    const again = now(before, mark, folder)
    left = left.filter(each => again.includes(each))
  }
  return left
}
