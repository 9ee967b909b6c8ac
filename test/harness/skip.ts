/**
 * Why a test is left out on this machine. Every skip goes through here: it is printed, and `npm test`
 * lists it at its end. With CI set, what is lacking fails the run, what is impossible does not.
 */
import { appendFileSync } from 'node:fs'
import { expect } from 'vitest'

/** Names the file that reasons are appended to, a line of JSON each; the runner reads it. */
export const SKIPS_VARIABLE = 'HAWSER_TEST_SKIPS'

export interface Skip {
  /** Path of the test file. */
  file: string
  reason: string
  /** No package would change it. */
  impossible: boolean
}

function note(reason: string, impossible: boolean): string {
  console.log(`skipped: ${reason}`)
  const list = process.env[SKIPS_VARIABLE]
  const file = expect.getState().testPath
  if (list !== undefined && file !== undefined) {
    appendFileSync(list, `${JSON.stringify({ file, reason, impossible } satisfies Skip)}\n`)
  }
  return reason
}

/** Something is missing that `npm test` installs: a package, a build. Returns the reason. */
export function lacking(reason: string): string {
  return note(reason, false)
}

/** This machine can't: its kernel, its Go, data that are not public. Returns the reason. */
export function impossible(reason: string): string {
  return note(reason, true)
}
