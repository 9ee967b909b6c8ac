/**
 * What a plugin answered, and whether that is an answer at all: exactly one JSON document on stdout
 * or nothing, and an exit code that says whether it is an error (specification 1.1.0, "Error").
 */

import { clean } from '../base/document.ts'
import { Failed } from './failed.ts'
import type { Ended } from './process.ts'

export type Verb = 'ADD' | 'DEL' | 'CHECK' | 'STATUS' | 'GC' | 'VERSION'

export interface Answer extends Ended {
  verb: string
  /** The document on stdout. */
  document: Record<string, unknown> | undefined
  /** Why this is no answer of the protocol. */
  fault: string | undefined
}

/** Characters of a message that a sentence quotes. */
const QUOTED = 120

export function readAnswer(verb: string, ended: Ended): Answer {
  let document: Record<string, unknown> | undefined
  let fault: string | undefined
  if (ended.stdout.trim() !== '') {
    try {
      const value: unknown = JSON.parse(ended.stdout)
      if (typeof value === 'object' && value !== null && !Array.isArray(value)) {
        document = value as Record<string, unknown>
      } else fault = 'stdout holds no JSON object'
    } catch {
      fault = `stdout is not one JSON document: ${clean(ended.stdout.trim(), QUOTED)}`
    }
  }
  if (ended.late) fault = `it did not end within ${seconds(ended.ms)} and was killed`
  else if (ended.signal !== null) fault = `it was ended by ${ended.signal}`
  else if (ended.lingering) fault = 'it ended, but something that it started keeps its pipes open'
  else if (fault === undefined && ended.code !== 0) {
    if (document === undefined) {
      fault = `exit code ${ended.code} without an error document (stderr: ${clean(ended.stderr.trim(), QUOTED)})`
    } else if (typeof document['code'] !== 'number') {
      fault = `exit code ${ended.code}, and the document has no numeric code`
    } else if (typeof document['msg'] !== 'string') {
      fault = `exit code ${ended.code}, and the document has no msg`
    }
  } else if (fault === undefined && document !== undefined && 'code' in document) {
    fault = `exit code 0 with an error document (code ${clean(document['code'])})`
  }
  return { ...ended, verb, document, fault }
}

/** The answer in words. */
export function told(answer: Answer): string {
  if (answer.fault !== undefined) return `${answer.verb}: ${answer.fault}`
  if (answer.code === 0) return `${answer.verb} succeeded`
  const { code, msg } = answer.document!
  return `${answer.verb} answered code ${clean(code)}, "${clean(msg, QUOTED)}"`
}

/** Throws unless the verb succeeded. */
export function succeeded(answer: Answer, where = ''): void {
  if (answer.fault !== undefined || answer.code !== 0) throw new Failed(`${where}${told(answer)}`)
}

/** Throws unless the verb was refused by an error document, with one of `codes` if there are any. */
export function refused(answer: Answer, codes: readonly number[] = [], where = ''): void {
  if (answer.fault !== undefined) throw new Failed(`${where}${told(answer)}`)
  if (answer.code === 0) throw new Failed(`${where}${answer.verb} succeeded, an error was expected`)
  if (codes.length > 0 && !codes.includes(answer.document!['code'] as number)) {
    throw new Failed(`${where}${told(answer)}; expected: code ${codes.join(' or ')}`)
  }
}

export function seconds(ms: number): string {
  return ms < 1000 ? `${Math.round(ms)} ms` : `${(ms / 1000).toFixed(1)} s`
}
