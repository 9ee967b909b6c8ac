/**
 * Watches one file by its folder: editors, `mv` and Kubernetes' volumes replace a file (or a
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
/** Milliseconds between looks that need no event. */
export const LOOK_MS = 30_000

export function watchFile(
  path: string,
  changed: () => void,
  failed: (error: Error) => void,
): { close(): void } {
  const watches = new Map<string, { watcher: FSWatcher; identity: string }>()
  let timer: NodeJS.Timeout | undefined
  let first = 0
  let toldFailure = false

  const settle = (): void => {
    const now = performance.now()
    if (timer === undefined) first = now
    else if (now - first > LATEST_MS - QUIET_MS) return
    clearTimeout(timer)
    timer = setTimeout(look, QUIET_MS)
  }
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
    const wanted = folders(path)
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
    timer = undefined
    arm()
    changed()
  }

  arm()
  settle()
  const slow = setInterval(look, LOOK_MS)
  slow.unref()
  return {
    close: () => {
      clearTimeout(timer)
      clearInterval(slow)
      for (const folder of [...watches.keys()]) drop(folder)
    },
  }
}

/** The folders to watch, each with its device and inode; without those that are not there. */
function folders(path: string): Map<string, string> {
  const found = new Map<string, string>()
  const add = (folder: string): void => {
    const stat = statSync(folder, { bigint: true, throwIfNoEntry: false })
    if (stat) found.set(folder, `${stat.dev}:${stat.ino}`)
  }
  add(dirname(path))
  try {
    add(dirname(realpathSync(path)))
  } catch {
    // The file is away for the moment; its own folder tells when it is back.
  }
  return found
}
