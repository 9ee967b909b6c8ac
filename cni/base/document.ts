/**
 * Files that people write: YAML or JSON, told apart by content, read whole under a size limit and
 * checked against a schema. Every error names the file, the field's path and the cause, so that
 * it can be mended without reading code:
 *
 *     /etc/hawser/cluster.yaml: nodes[1].podCIDRs[0]: 10.1.0.0/33: the prefix length is not 8 .. 30
 */
import { closeSync, fstatSync, openSync, readSync } from 'node:fs'
import { parseDocument } from 'yaml'
import type { z } from 'zod'

/** Largest file that is read, in bytes. */
export const MAX_DOCUMENT_BYTES = 8 * 1024 * 1024

/** Problems that one error message names; the rest is only counted. */
const NAMED_PROBLEMS = 5

/** A path into a document, as zod reports it. */
export type FieldPath = readonly PropertyKey[]

export interface Problem {
  path: FieldPath
  cause: string
}

/** A file that can't be used. The message is one line. */
export class DocumentError extends Error {
  readonly file: string
  readonly problems: readonly Problem[]

  constructor(file: string, problems: readonly Problem[], options?: ErrorOptions) {
    const named = problems.slice(0, NAMED_PROBLEMS).map(describe)
    const more = problems.length - named.length
    super(`${file}: ${named.join('; ')}${more > 0 ? `; and ${more} more` : ''}`, options)
    this.name = 'DocumentError'
    this.file = file
    this.problems = problems
  }
}

/** `nodes[1].podCIDRs[0]`; empty for the document itself. */
export function fieldPath(path: FieldPath): string {
  let text = ''
  for (const part of path) {
    if (typeof part === 'number') text += `[${part}]`
    else text += text === '' ? clean(String(part)) : `.${clean(String(part))}`
  }
  return text
}

/** A value of a file as an error message may show it: short and without control characters. */
export function clean(value: unknown, longest = 80): string {
  const text = typeof value === 'string' ? value : (JSON.stringify(value) ?? String(value))
  const printable = text.replace(/[^\x20-\x7e]/g, '?')
  return printable.length > longest ? `${printable.slice(0, longest - 3)}...` : printable
}

function describe(problem: Problem): string {
  const path = fieldPath(problem.path)
  return path === '' ? problem.cause : `${path}: ${problem.cause}`
}

/**
 * Reads a regular file of at most `limit` bytes as UTF-8. Throws DocumentError when it can't be
 * opened, is no regular file, is too large or is not UTF-8.
 */
export function readBounded(file: string, limit = MAX_DOCUMENT_BYTES): string {
  let fd: number
  try {
    fd = openSync(file, 'r')
  } catch (error) {
    throw new DocumentError(file, [{ path: [], cause: systemCause(error) }], { cause: error })
  }
  try {
    if (!fstatSync(fd).isFile()) throw new Error('not a regular file')
    const bytes = Buffer.allocUnsafe(Math.min(limit, fstatSync(fd).size) + 1)
    let length = 0
    for (let got = -1; got !== 0 && length < bytes.length; length += got) {
      got = readSync(fd, bytes, length, bytes.length - length, null)
    }
    if (length > limit) throw new Error(`larger than ${limit} bytes`)
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes.subarray(0, length))
  } catch (error) {
    const cause = error instanceof TypeError ? 'not UTF-8 text' : systemCause(error)
    throw new DocumentError(file, [{ path: [], cause }], { cause: error })
  } finally {
    closeSync(fd)
  }
}

const SYSTEM_CAUSES: Readonly<Record<string, string>> = {
  ENOENT: 'no such file',
  EACCES: 'permission denied',
  EISDIR: 'not a regular file',
  ENOTDIR: 'a parent is not a directory',
  ELOOP: 'too many symbolic links',
}

function systemCause(error: unknown): string {
  const { code, message } = error as NodeJS.ErrnoException
  return (code === undefined ? undefined : SYSTEM_CAUSES[code]) ?? message
}

/** How YAML is read: 1.2, core schema, no merge keys, no key twice. */
export const YAML = {
  schema: 'core',
  version: '1.2',
  merge: false,
  uniqueKeys: true,
  stringKeys: true,
  prettyErrors: true,
} as const

/** The cause of a YAML error, on one line. */
export function yamlCause(error: Error): string {
  return clean(error.message.split('\n')[0]?.replace(/:$/, ''), 240)
}

/** Parses YAML 1.2 (core schema, no custom tags, no merge keys, bounded aliases) or JSON. */
export function parseText(file: string, text: string): unknown {
  if (text.trimStart().startsWith('{')) {
    try {
      return JSON.parse(text)
    } catch {
      // A YAML flow mapping, or broken: the YAML parser tells where.
    }
  }
  const document = parseDocument(text, YAML)
  const broken = document.errors[0] ?? document.warnings[0]
  try {
    if (broken) throw broken
    return document.toJS({ maxAliasCount: 100 })
  } catch (error) {
    const cause = yamlCause(error as Error)
    throw new DocumentError(file, [{ path: [], cause }], { cause: error })
  }
}

/** Checks a parsed document against `schema`; throws DocumentError with every problem found. */
export function validate<S extends z.ZodType>(
  file: string,
  schema: S,
  document: unknown,
): z.output<S> {
  const result = schema.safeParse(document, { reportInput: true })
  if (result.success) return result.data
  throw new DocumentError(file, result.error.issues.flatMap(problemsOf))
}

/** A finding of a schema in our words. */
export function problemsOf(issue: z.core.$ZodIssue): Problem[] {
  if (issue.code === 'unrecognized_keys') {
    return issue.keys.map(key => ({ path: [...issue.path, key], cause: 'unknown key' }))
  }
  if (issue.code === 'custom') return [{ path: issue.path, cause: issue.message }]
  if (issue.input === undefined && issue.code === 'invalid_type') {
    return [{ path: issue.path, cause: `missing (${issue.expected} expected)` }]
  }
  const cause = `${clean(issue.input)}: ${issue.message.replace(/^Invalid (input|option): /, '')}`
  return [{ path: issue.path, cause }]
}
