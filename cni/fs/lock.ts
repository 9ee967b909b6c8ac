/**
 * One daemon only for a socket and for a state file. The lock is the kernel's own record lock on a
 * small SQLite file: it is gone with the process however that ends, so nothing can be left stale.
 * The file also holds the owner's process id (as `user_version`, bytes 60 .. 63 of the SQLite file
 * header, https://sqlite.org/fileformat.html), for the message that refuses the second one.
 */
import { closeSync, openSync, readSync } from 'node:fs'
import { dirname } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { makeFolder } from './folder.ts'

const USER_VERSION_OFFSET = 60
const SQLITE_BUSY = 5

/**
 * Lock files of this process, and what holds them. Opening one a second time would give the lock up
 * (fcntl(2)); so would collecting a database that nobody refers to any more.
 */
const held = new Map<string, DatabaseSync>()

/**
 * Takes the lock for `path` (the lock file is `path`.lock, its folder is made); throws when another
 * process has it. The returned function gives it up.
 */
export function takeLock(path: string): () => void {
  const file = `${path}.lock`
  makeFolder(dirname(file), 0o700)
  if (held.has(file)) throw refusal(path, `process ${process.pid}`)
  let database: DatabaseSync | undefined
  try {
    database = new DatabaseSync(file)
    // In exclusive mode the lock taken by the first write is kept until the file is closed.
    database.exec('PRAGMA locking_mode = EXCLUSIVE')
    database.exec('PRAGMA journal_mode = MEMORY')
    database.exec('PRAGMA synchronous = OFF')
    database.exec('BEGIN EXCLUSIVE')
    database.exec(`PRAGMA user_version = ${process.pid}`)
    database.exec('COMMIT')
  } catch (error) {
    database?.close()
    if ((error as { errcode?: number }).errcode === SQLITE_BUSY) {
      const pid = owner(file)
      throw refusal(path, pid > 0 ? `process ${pid}` : 'another process')
    }
    throw new Error(`${file}: ${(error as Error).message}`, { cause: error })
  }
  const taken = database
  held.set(file, taken)
  return () => {
    taken.close()
    held.delete(file)
  }
}

function refusal(path: string, who: string): Error {
  return new Error(`${path}: a hawser daemon already serves it (${who}); stop that one first`)
}

function owner(file: string): number {
  const fd = openSync(file, 'r')
  try {
    const bytes = Buffer.alloc(4)
    return readSync(fd, bytes, 0, 4, USER_VERSION_OFFSET) === 4 ? bytes.readUInt32BE(0) : 0
  } finally {
    closeSync(fd)
  }
}
