/**
 * FIBs by name or by file: wherever a name is taken, a path to a TypeScript file of one's own is
 * taken too. The file exports a `Fib` (fib.ts), as its default or under any name; one for each
 * family at most.
 *
 * A file runs with all rights of the process, so only root, or the user of this process, may be
 * able to write it. Its bytes are hashed before and after it is imported: every thread runs the
 * same code, and an edited file is another one (an ES module is never loaded twice by one URL).
 */
import { createHash } from 'node:crypto'
import { readFileSync, statSync } from 'node:fs'
import { isAbsolute } from 'node:path'
import { pathToFileURL } from 'node:url'
import { isFibFile } from '../control.ts'
import type { Fib } from './fib.ts'
import { fibByName } from './index.ts'
import { refusal } from './shape.ts'

/** Bytes of a file, at most. */
export const MAX_FIB_FILE_BYTES = 4 * 1024 * 1024

/** Says which FIB is meant; can be sent to another thread, and means the same there. */
export interface FibSource {
  readonly family: 4 | 6
  /** Its own name. */
  readonly name: string
  /** Absolute path; absent for a built-in one. */
  readonly file?: string
  /** SHA-256 of the file, hexadecimal. */
  readonly digest?: string
}

/**
 * The FIB that `text` names: a built-in one, or that of a file (an absolute path). `family` chooses
 * where there is one for each. Throws an Error that names `text` and the cause.
 */
export async function loadFib(text: string, family?: 4 | 6): Promise<Fib> {
  return openFib(await fibSource(text, family))
}

/** As `loadFib`, but what can be sent to other threads. */
export async function fibSource(text: string, family?: 4 | 6): Promise<FibSource> {
  if (!isFibFile(text)) {
    const fib = builtIn(text, family)
    return { family: fib.family, name: fib.name }
  }
  if (!isAbsolute(text) || text.includes('\0')) {
    throw new Error(`${JSON.stringify(text)}: not an absolute path`)
  }
  const digest = digestOf(text)
  const fib = await importFib(text, digest, family)
  return { family: fib.family, name: fib.name, file: text, digest }
}

/** The FIB of a source. Throws when the file has changed since the source was made. */
export async function openFib({ family, name, file, digest }: FibSource): Promise<Fib> {
  if (file === undefined || digest === undefined) return fibByName(name, family)
  return importFib(file, digest, family)
}

function builtIn(name: string, family?: 4 | 6): Fib {
  if (family !== undefined) return fibByName(name, family)
  try {
    return fibByName(name, 4)
  } catch {
    return fibByName(name, 6)
  }
}

/** Throws unless only root or this user can write the file. */
function digestOf(path: string): string {
  const stat = statSync(path)
  if (!stat.isFile()) throw new Error(`${path}: not a file`)
  if (stat.size > MAX_FIB_FILE_BYTES) {
    throw new Error(`${path}: ${stat.size} bytes, more than ${MAX_FIB_FILE_BYTES}`)
  }
  if (stat.uid !== 0 && stat.uid !== process.geteuid?.()) {
    throw new Error(`${path}: it belongs to user ${stat.uid}: give it to root`)
  }
  if ((stat.mode & 0o022) !== 0) {
    throw new Error(`${path}: others may write it: chmod go-w it`)
  }
  return createHash('sha256').update(readFileSync(path)).digest('hex')
}

async function importFib(path: string, digest: string, family?: 4 | 6): Promise<Fib> {
  const url = pathToFileURL(path)
  url.searchParams.set('sha256', digest)
  let exports: Readonly<Record<string, unknown>>
  try {
    exports = await import(url.href)
  } catch (error) {
    throw new Error(`${path}: ${error instanceof Error ? error.message : String(error)}`, {
      cause: error,
    })
  }
  if (digestOf(path) !== digest) throw new Error(`${path}: it changed while it was read`)
  return chosen(path, exports, family)
}

/** The one FIB of the family among what a file exports. */
function chosen(
  path: string,
  exports: Readonly<Record<string, unknown>>,
  family: 4 | 6 | undefined,
): Fib {
  const all = new Set(Object.values(exports))
  const causes: string[] = []
  const fibs: Fib[] = []
  for (const each of all) {
    const cause = refusal(each)
    if (cause === undefined) fibs.push(each as Fib)
    else causes.push(cause)
  }
  const found = fibs.filter(fib => family === undefined || fib.family === family)
  if (found.length === 1) return found[0]!
  if (found.length > 1) {
    throw new Error(`${path}: exports ${found.map(fib => fib.name).join(' and ')}: which one?`)
  }
  const other = fibs.map(fib => `${fib.name} is for IPv${fib.family}`)
  const why = [...other, ...causes].join('; ')
  throw new Error(
    `${path}: exports no FIB${family === undefined ? '' : ` for IPv${family}`} (${why || 'it exports nothing'})`,
  )
}
