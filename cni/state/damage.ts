/**
 * A state file that is damaged is set aside, and a new one takes its place: the daemon starts, and
 * fills it with what the kernel knows (state-rebuild.ts). A person can look at what is kept.
 *
 * Theory of operation. The file is renamed first, its -wal and -shm after it: what is in the -wal
 * belongs to this file, and where the process dies in between, the next one finds them without a
 * file, which can only mean that, and sets them aside too. Nothing is written into a damaged file.
 */
import { existsSync, lstatSync, readdirSync, renameSync, rmSync } from 'node:fs'
import { basename, dirname, join } from 'node:path'
import { faultPoint } from '../base/fault-points.ts'
import type { Logger } from '../base/logger.ts'
import { syncFolder } from '../fs/folder.ts'
import { bootId, DamagedState, State } from './state.ts'

/** Damaged files that are kept, each with its -wal and -shm; the oldest go. */
export const MAX_DAMAGED = 4
/** What SQLite has beside a file. */
const BESIDE = ['-wal', '-shm'] as const

/**
 * Opens or makes the state file. One that is damaged is set aside, with an error in the log. Throws
 * an Error that names the file when it is not ours, of a later version, or can't be read or written.
 */
export function openState(path: string, log: Logger, boot: string = bootId()): State {
  if (!existsSync(path) && BESIDE.some(ending => existsSync(path + ending))) {
    tell(log, path, 'its -wal is there without it', setAside(path))
  }
  let state: State
  try {
    state = new State(path, boot, error => tell(log, path, error.message, setAside(path)))
  } catch (error) {
    if (!(error instanceof DamagedState)) throw error
    faultPoint('start.aside')
    state = new State(path, boot)
  }
  if (state.rebuildDue) faultPoint('start.empty')
  return state
}

function tell(log: Logger, path: string, cause: string, kept: string): void {
  log.error(
    { state: path, cause, kept },
    'the state file is damaged: it is set aside, and made anew from what is found in pods',
  )
}

/** Renames what lies at `path`, durably; returns where it is. */
function setAside(path: string): string {
  const kept = `${path}.damaged-${stamp(new Date())}`
  for (const ending of ['', ...BESIDE]) {
    if (existsSync(path + ending)) renameSync(path + ending, kept + ending)
  }
  for (const old of damagedFiles(path).slice(0, -MAX_DAMAGED)) {
    for (const ending of ['', ...BESIDE]) {
      // A folder that lay in the file's place is not ours to remove.
      if (lstatSync(old + ending, { throwIfNoEntry: false })?.isFile()) rmSync(old + ending)
    }
  }
  syncFolder(dirname(path))
  return kept
}

/** Damaged files of the state at `path` that are kept, the oldest first. */
export function damagedFiles(path: string): string[] {
  const name = basename(path)
  const stamps = readdirSync(dirname(path)).flatMap(other => {
    if (!other.startsWith(`${name}.damaged-`)) return []
    const [, found] =
      /^(\d{8}T\d{9}Z)(-wal|-shm)?$/.exec(other.slice(`${name}.damaged-`.length)) ?? []
    return found === undefined ? [] : [found]
  })
  return [...new Set(stamps)].sort().map(each => join(dirname(path), `${name}.damaged-${each}`))
}

/** UTC, to the millisecond: 20261124T150905123Z. */
function stamp(now: Date): string {
  return now.toISOString().replace(/[-:.]/g, '')
}
