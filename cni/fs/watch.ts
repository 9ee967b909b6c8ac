/**
 * Watches a file, or a folder of files. A file by its folder: editors, `mv` and Kubernetes' volumes replace a file (or a
 * symbolic link on the way to it) instead of writing to it, and a watch on the file itself would
 * go on looking at the old one.
 *
 * Theory of operation: a watch sits on the folder of the path and, if the path is a link, on the
 * folder where it ends. Any event there, and a slow look in between for file systems and machines
 * where inotify fails, leads to one call of `changed` after a quiet moment. Whether the content
 * really is another is the caller's to see. Watches are made anew when a folder has been replaced.
 */
import { type FSWatcher, realpathSync, statSync, watch } from 'node:fs'
import { dirname } from 'node:path'

/** Milliseconds without a further event before the file is read. */
export const QUIET_MS = 50
/** Milliseconds after the first event when it is read even if the folder never falls quiet. */
export const LATEST_MS = 1000
/** Both for a folder of files, whose changes are put into force as soon as may be, whatever comes behind them. */
export const FOLDER_QUIET_MS = 10
export const FOLDER_LATEST_MS = 40
/** Milliseconds between looks that need no event. */
export const LOOK_MS = 30_000

/** Calls `changed` when the file at `path` may have changed; `failed`, once, when only the slow look is left. */
export function watchFile(
  path: string,
  changed: () => void,
  failed: (error: Error) => void,
): { close(): void } {
  return watchFolders(() => foldersOf(path), [QUIET_MS, LATEST_MS], changed, failed)
}

/** The same for all files of the folder at `path`, which need not be there yet. */
export function watchFolder(
  path: string,
  changed: () => void,
  failed: (error: Error) => void,
): { close(): void } {
  const wanted = (): Map<string, string> => {
    const found = foldersOf(path)
    addFolder(found, path)
    return found
  }
  return watchFolders(wanted, [FOLDER_QUIET_MS, FOLDER_LATEST_MS], changed, failed)
}

/**
 * Calls `act` once for many events: `quietMs` behind the last of them, but not later than `latestMs` behind the first.
 */
export function settling(
  quietMs: number,
  latestMs: number,
  act: () => void,
): { event(): void; close(): void } {
  let timer: NodeJS.Timeout | undefined
  let first = 0
  const event = (): void => {
    const now = performance.now()
    if (timer === undefined) first = now
    else if (now - first > latestMs - quietMs) return
    clearTimeout(timer)
    timer = setTimeout(() => {
      timer = undefined
      act()
    }, quietMs)
  }
  return { event, close: () => clearTimeout(timer) }
}

function watchFolders(
  wantedNow: () => Map<string, string>,
  [quietMs, latestMs]: readonly [number, number],
  changed: () => void,
  failed: (error: Error) => void,
): { close(): void } {
  const watches = new Map<string, { watcher: FSWatcher; identity: string }>()
  let toldFailure = false

  const drop = (folder: string): void => {
    watches.get(folder)?.watcher.close()
    watches.delete(folder)
  }
  const fail = (folder: string, error: Error): void => {
    drop(folder)
    if (toldFailure) return
    toldFailure = true
    const cause = `${folder}: can't be watched: ${error.message}; looked at every ${LOOK_MS / 1000} s instead`
    failed(new Error(cause, { cause: error }))
  }
  const arm = (): void => {
    const wanted = wantedNow()
    for (const folder of watches.keys()) if (!wanted.has(folder)) drop(folder)
    for (const [folder, identity] of wanted) {
      if (watches.get(folder)?.identity === identity) continue
      drop(folder)
      try {
        const watcher = watch(folder, settle)
        watcher.on('error', error => fail(folder, error))
        watches.set(folder, { watcher, identity })
      } catch (error) {
        fail(folder, error as Error)
      }
    }
  }
  const look = (): void => {
    arm()
    changed()
  }
  const { event: settle, close: settled } = settling(quietMs, latestMs, look)

  arm()
  settle()
  const slow = setInterval(look, LOOK_MS)
  slow.unref()
  return {
    close: () => {
      settled()
      clearInterval(slow)
      for (const folder of [...watches.keys()]) drop(folder)
    },
  }
}

/** The folders to watch for a file, each with its device and inode; without those that are not there. */
function foldersOf(path: string): Map<string, string> {
  const found = new Map<string, string>()
  addFolder(found, dirname(path))
  try {
    addFolder(found, dirname(realpathSync(path)))
  } catch {
    // The file is away for the moment; its own folder tells when it is back.
  }
  return found
}

function addFolder(found: Map<string, string>, folder: string): void {
  const stat = statSync(folder, { bigint: true, throwIfNoEntry: false })
  if (stat) found.set(folder, `${stat.dev}:${stat.ino}`)
}
