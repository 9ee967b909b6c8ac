/**
 * What a value from a file of somebody else must have to be taken for a FIB, a writer or a reader.
 * Types are gone at run time, so this is where a missing method is found.
 */

/** Names are shown to operators and used in file names of reports. */
const NAME = /^[a-z0-9][a-z0-9_.-]{0,63}$/i

function lacking(value: unknown, methods: readonly string[]): string | undefined {
  if (typeof value !== 'object' || value === null) return 'it is no object'
  const missing = methods.filter(
    method => typeof (value as Record<string, unknown>)[method] !== 'function',
  )
  return missing.length === 0 ? undefined : `it has no method ${missing.join(', ')}`
}

/** Why `value` is no `Fib`; undefined when it is one. */
export function refusal(value: unknown): string | undefined {
  const lack = lacking(value, ['bytes', 'writer', 'reader'])
  if (lack !== undefined) return lack
  const { name, family } = value as { name: unknown; family: unknown }
  if (typeof name !== 'string' || !NAME.test(name)) {
    return 'its name is not 1 .. 64 letters, digits, "_", ".", "-"'
  }
  if (family !== 4 && family !== 6) return 'its family is neither 4 nor 6'
  return undefined
}

/** Why `value` is no `FibWriter`. */
export function writerRefusal(value: unknown): string | undefined {
  const lack = lacking(value, ['insert', 'remove', 'routes', 'quiesced'])
  if (lack !== undefined) return lack
  return Number.isInteger((value as { size: unknown }).size) ? undefined : 'it has no size'
}

/** Why `value` is no `FibReader`. */
export function readerRefusal(value: unknown): string | undefined {
  return lacking(value, ['lookup'])
}
