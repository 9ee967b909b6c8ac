/** Folders that the daemon makes for itself. */
import { mkdirSync, statSync } from 'node:fs'
import { dirname } from 'node:path'

/**
 * Makes the folder `path` (absolute) and those above it that are missing, each with `mode`; one that
 * is there stays as it is. Throws the system's error, which names the folder. Not
 * `mkdirSync(…, { recursive: true })`: where the kernel answers ENOENT for a child of a folder that
 * is there (/proc), that never returns.
 */
export function makeFolder(path: string, mode: number): void {
  if (isFolder(path)) return
  if (dirname(path) !== path) makeFolder(dirname(path), mode)
  try {
    mkdirSync(path, mode)
  } catch (error) {
    // Somebody else may have made it meanwhile.
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST' || !isFolder(path)) throw error
  }
}

function isFolder(path: string): boolean {
  return statSync(path, { throwIfNoEntry: false })?.isDirectory() ?? false
}
