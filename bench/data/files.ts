/**
 * Files of data as lines: plain or gzip (by its first two bytes, RFC 1952), lines ending in LF or
 * CRLF. And what a reader says about lines that it can't take.
 */
import { closeSync, openSync, readFileSync, readSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { gunzipSync } from 'node:zlib'
import { root } from '../harness/compile.ts'

/** Most bytes of a file, unpacked. */
export const MAX_FILE_BYTES = 256 * 2 ** 20
/** Most lines of a file. */
export const MAX_LINES = 1 << 23
/** Refused lines that are told one by one; the others are counted. */
export const REFUSED_TOLD = 10
/** Characters of a refused line that are quoted. */
const QUOTED = 60

/** Path of a file in the folder of outside data (HAWSER_DATA, default ../shared/data); it is no part of the project, and need not be there. */
export function dataPath(path: string): string {
  return join(process.env['HAWSER_DATA'] ?? join(root, '../shared/data'), path)
}

/** The lines of a file without their ends; line number N is element N - 1. Throws Error with the path for a file that can't be read or is larger than the limits above. */
export function lines(path: string): string[] {
  const bytes = unpacked(path)
  const found = bytes.toString('latin1').split('\n')
  if (found.at(-1) === '') found.pop()
  if (found.length > MAX_LINES) {
    throw new Error(`${path}: ${found.length} lines, more than ${MAX_LINES} (MAX_LINES)`)
  }
  return found.map(line => (line.endsWith('\r') ? line.slice(0, -1) : line))
}

function unpacked(path: string): Buffer {
  try {
    if (statSync(path).size > MAX_FILE_BYTES) throw new RangeError(TOO_LARGE)
    if (!isGzip(path)) return readFileSync(path)
    return gunzipSync(readFileSync(path), { maxOutputLength: MAX_FILE_BYTES })
  } catch (error) {
    const { code, message } = error as { code?: string; message: string }
    throw new Error(`${path}: ${code === 'ERR_BUFFER_TOO_LARGE' ? TOO_LARGE : message}`)
  }
}

const TOO_LARGE = `more than ${MAX_FILE_BYTES} bytes, unpacked (MAX_FILE_BYTES)`

function isGzip(path: string): boolean {
  const file = openSync(path, 'r')
  try {
    const magic = Buffer.alloc(2)
    return readSync(file, magic) === 2 && magic[0] === 0x1f && magic[1] === 0x8b
  } finally {
    closeSync(file)
  }
}

/** Whether a line says nothing: blank, or a comment (`#`). */
export function isComment(line: string): boolean {
  return /^\s*(#|$)/.test(line)
}

/** What a reader took from a file and what it refused. */
export class Intake {
  readonly path: string
  taken = 0
  refused = 0
  /** The first REFUSED_TOLD refused lines: number, line, why. */
  readonly told: string[] = []

  constructor(path: string) {
    this.path = path
  }

  /** Counts line `number` (from 1) as refused. */
  refuse(number: number, line: string, why: string): void {
    this.refused++
    if (this.told.length >= REFUSED_TOLD) return
    const quoted = line.length > QUOTED ? `${line.slice(0, QUOTED)}…` : line
    this.told.push(`line ${number}: ${JSON.stringify(quoted)}: ${why}`)
  }

  /** One sentence, then one line a refused line that is told. */
  describe(): string[] {
    const rest = this.refused - this.told.length
    return [
      `${this.path}: ${this.taken} lines taken, ${this.refused} refused`,
      ...this.told.map(line => `  ${line}`),
      ...(rest > 0 ? [`  and ${rest} more`] : []),
    ]
  }
}
