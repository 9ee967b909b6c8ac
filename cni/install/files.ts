/**
 * Files put into folders that others read while we write: folders are looked at before, a file
 * appears whole or not at all, and what is not a plain file is never followed or replaced.
 *
 * Theory of operation. A folder's path is resolved once, and from there on only the resolved one is
 * used: it and every folder above it belong to root and are not writable by others (or are sticky,
 * as /tmp is), so nobody else can put something in the way between a look and a step. A file is
 * written beside its place, flushed, and renamed. The temporary name ends neither in .conf,
 * .conflist nor .json, so that no runtime reads it, and it is known as ours by its form.
 */
import { randomBytes } from 'node:crypto'
import {
  closeSync,
  constants,
  fchmodSync,
  fstatSync,
  fsyncSync,
  lstatSync,
  openSync,
  readdirSync,
  readSync,
  realpathSync,
  renameSync,
  rmSync,
  type Stats,
  statSync,
  writeSync,
} from 'node:fs'
import { dirname, isAbsolute, join } from 'node:path'
import { syncFolder } from '../fs/folder.ts'

/** Longest path that is taken (PATH_MAX of Linux is 4096, with the terminating zero). */
const MAX_PATH = 4095
/** The largest of our files is the executable, 2 MiB. */
export const MAX_FILE_BYTES = 64 * 1024 * 1024

const TEMPORARY = /^\.hawser-[0-9a-f]{16}\.tmp$/
const STICKY = 0o1000
const WRITABLE_BY_OTHERS = 0o022

/** Throws unless `path`, which `what` names in the error, is absolute and a path at all. */
export function checkPath(what: string, path: string): void {
  if (!isAbsolute(path)) throw new Error(`${what}: ${JSON.stringify(path)} is not an absolute path`)
  if (Buffer.byteLength(path) > MAX_PATH) throw new Error(`${what}: longer than ${MAX_PATH} bytes`)
  if (path.includes('\0')) throw new Error(`${what}: holds a zero byte`)
}

/**
 * The resolved path of a folder that may be written to; undefined when it is not there. Throws when
 * it is no folder, or when somebody else than root may change it or one above it.
 */
export function safeFolder(path: string): string | undefined {
  if (lstatSync(path, { throwIfNoEntry: false }) === undefined) return undefined
  const real = realpathSync(path)
  if (!statSync(real).isDirectory()) throw new Error(`${path}: not a folder`)
  for (let folder = real; ; folder = dirname(folder)) {
    const { uid, mode } = statSync(folder)
    const shared = (mode & WRITABLE_BY_OTHERS) !== 0
    if (uid !== 0) throw new Error(`${folder}: belongs to user ${uid}, not to root (chown it)`)
    if (shared && (folder === real || (mode & STICKY) === 0)) {
      throw new Error(`${folder}: others than root may write there (chmod go-w it)`)
    }
    if (folder === dirname(folder)) return real
  }
}

/** What lies at `file`, links not followed; undefined when nothing does. Throws for all but a plain file. */
export function plainFile(file: string): Stats | undefined {
  const stat = lstatSync(file, { throwIfNoEntry: false })
  if (stat === undefined || stat.isFile()) return stat
  const kind = stat.isSymbolicLink()
    ? 'a symbolic link'
    : stat.isDirectory()
      ? 'a folder'
      : 'special'
  throw new Error(`${file}: ${kind}, not a file; it is left alone (move it away)`)
}

/** The bytes of a plain file of at most MAX_FILE_BYTES; throws for anything else. */
export function readPlain(file: string): Buffer {
  // Neither follows a link nor waits for whoever writes a pipe.
  const fd = openSync(file, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK)
  try {
    const stat = fstatSync(fd)
    if (!stat.isFile()) throw new Error(`${file}: not a regular file`)
    if (stat.size > MAX_FILE_BYTES) throw new Error(`${file}: larger than ${MAX_FILE_BYTES} bytes`)
    const bytes = Buffer.alloc(stat.size)
    let length = 0
    for (let got = -1; got !== 0 && length < bytes.length; length += got) {
      got = readSync(fd, bytes, length, bytes.length - length, null)
    }
    return bytes.subarray(0, length)
  } finally {
    closeSync(fd)
  }
}

/**
 * Puts `bytes` at `folder`/`name` with `mode`; `folder` is what `safeFolder` gave. Durable when it
 * returns. Leaves a file that is as it should be untouched and then returns false. On failure
 * nothing has changed.
 */
export function placeFile(folder: string, name: string, bytes: Uint8Array, mode: number): boolean {
  const file = join(folder, name)
  const there = plainFile(file)
  const same = there?.uid === 0 && (there.mode & 0o7777) === mode && there.size === bytes.length
  if (same && readPlain(file).equals(bytes)) return false
  const temporary = join(folder, `.hawser-${randomBytes(8).toString('hex')}.tmp`)
  const { O_CREAT, O_EXCL, O_NOFOLLOW, O_WRONLY } = constants
  const fd = openSync(temporary, O_CREAT | O_EXCL | O_NOFOLLOW | O_WRONLY, 0o600)
  try {
    try {
      for (let at = 0; at < bytes.length; ) at += writeSync(fd, bytes, at)
      // Whatever the umask says.
      fchmodSync(fd, mode)
      fsyncSync(fd)
    } finally {
      closeSync(fd)
    }
    renameSync(temporary, file)
  } catch (error) {
    rmSync(temporary, { force: true })
    throw error
  }
  syncFolder(folder)
  return true
}

/** Removes a file, or an empty folder, durably. */
export function removeEntry(path: string, remove: (path: string) => void): void {
  remove(path)
  syncFolder(dirname(path))
}

/** Names in `folder` of files that a write which was cut short has left. */
export function leftTemporaries(folder: string): string[] {
  return readdirSync(folder).filter(
    name => TEMPORARY.test(name) && lstatSync(join(folder, name)).isFile(),
  )
}
