/** A part of the network configuration against its schema; an error names the field and the cause. */
import type { z } from 'zod'
import { type FieldPath, fieldPath } from '../base/document.ts'
import { CniError, CODE } from './errors.ts'

/** Problems that one error message names. */
const NAMED_PROBLEMS = 5

/** Checks `document`, which lies at `at` of the configuration; throws CniError (code 7) with fields and causes. */
export function check<S extends z.ZodType>(
  schema: S,
  document: unknown,
  at: FieldPath = [],
): z.output<S> {
  const result = schema.safeParse(document)
  if (result.success) return result.data
  const problems = result.error.issues.slice(0, NAMED_PROBLEMS).map(({ path, message }) => {
    const field = fieldPath([...at, ...path])
    return `${field === '' ? '' : `${field}: `}${message.replace(/^Invalid (input|option): /, '')}`
  })
  throw new CniError(CODE.config, `network configuration: ${problems.join('; ')}`)
}
