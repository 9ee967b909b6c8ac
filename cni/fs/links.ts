/**
 * Whose the way to a file is. Links on it are followed: runtimes' and Kubernetes' folders have some.
 * But one that another user than root has put there would lead the daemon, which is root, wherever
 * that user likes.
 */
import { lstatSync, readlinkSync, statSync } from 'node:fs'
import { dirname, join, resolve } from 'node:path'

/** Links on the way to one file; the kernel follows 40 (path_resolution(7)). */
const MAX_LINKS = 40
const WRITABLE_BY_OTHERS = 0o022

/**
 * Throws when a symbolic link on the way to `path` (absolute), or at its end, is not root's. What is
 * missing is nobody's, and is made by whoever asks.
 */
export function refuseForeignLinks(path: string): void {
  let links = 0
  const rest = resolve(path).split('/').slice(1)
  for (let at = '/'; rest.length > 0; ) {
    const next = join(at, rest.shift()!)
    const stat = lstatSync(next, { throwIfNoEntry: false })
    if (stat === undefined) return
    if (!stat.isSymbolicLink()) {
      at = next
      continue
    }
    if (stat.uid !== 0) {
      throw new Error(`${next}: a link of user ${stat.uid}, and ${path} lies behind it: remove it`)
    }
    if (++links > MAX_LINKS) throw new Error(`${path}: too many symbolic links`)
    const target = resolve(at, readlinkSync(next))
    rest.unshift(
      ...target
        .split('/')
        .slice(1)
        .filter(part => part !== ''),
    )
    at = '/'
  }
}

/**
 * Throws when somebody else than root has put a file to `path`, or could: when the file that is
 * there, or its folder, is another user's, or the folder is for others to write to.
 */
export function refuseForeignFile(path: string): void {
  const file = statSync(path, { throwIfNoEntry: false })
  if (file !== undefined && file.uid !== 0) {
    throw new Error(`${path}: it belongs to user ${file.uid}: move it away`)
  }
  const folder = dirname(path)
  const stat = statSync(folder, { throwIfNoEntry: false })
  if (stat === undefined) return
  if (stat.uid !== 0) throw new Error(`${folder}: it belongs to user ${stat.uid}: give it to root`)
  if ((stat.mode & WRITABLE_BY_OTHERS) !== 0) {
    throw new Error(`${folder}: others may write there: chmod 0755 it`)
  }
}
