/** Folders that the daemon makes for itself. */
import { closeSync, constants, fsyncSync, mkdirSync, openSync, statSync } from 'node:fs'
import { dirname } from 'node:path'

/**
 * Makes the folder `path` (absolute) and those above it that are missing, each with `mode`; one that
 * is there stays as it is. What was made outlives a power loss. Throws the system's error, which
 * names the folder. Not `mkdirSync(…, { recursive: true })`: where the kernel answers ENOENT for a
 * child of a folder that is there (/proc), that never returns.
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
  syncFolder(dirname(path))
}

/** Makes durable which names are in the folder. Throws the system's error. */
export function syncFolder(path: string): void {
  const fd = openSync(path, constants.O_RDONLY | constants.O_DIRECTORY)
  try {
    fsyncSync(fd)
  } finally {
    closeSync(fd)
  }
}

function isFolder(path: string): boolean {
  return statSync(path, { throwIfNoEntry: false })?.isDirectory() ?? false
}
