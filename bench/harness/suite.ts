/** What a suite is, and what it hands back. bench/README.md says how to add one. */
import type { Table } from './table.ts'

export interface Options {
  /** Rounds of a suite that alternates between contenders; each suite has its own default and least. */
  rounds?: number
  /** Seconds that one measurement counts. */
  seconds?: number
  /** Contenders to run; all when absent. */
  only?: readonly string[]
  /** Where the `path` suite's packets come from. */
  generator?: string
}

export interface Report {
  /** Every single measurement, by contender and quantity. */
  samples: Record<string, unknown>
  /** Flat, the names are unique over all suites. Dimensionless. */
  ratios: Record<string, number>
  tables: readonly Table[]
  /** Sentences that a reader needs beside the tables. */
  notes: readonly string[]
}

export interface Suite {
  name: string
  about: string
  run(options: Options): Promise<Report>
}

/** Thrown by a suite that can't run here; the message says why and what helps. */
export class Skipped extends Error {}

/** Progress goes to stderr: stdout is the report's. */
export function progress(text: string): void {
  process.stderr.write(`${text}\n`)
}

/** `only` as a subset of `names`, in their order; throws for a name that is not there. */
export function selected<Name extends string>(names: readonly Name[], options: Options): Name[] {
  const { only } = options
  if (only === undefined) return [...names]
  const unknown = only.filter(name => !names.some(known => known === name))
  if (unknown.length > 0) {
    throw new Error(`contender ${unknown.join(', ')}: unknown (there are ${names.join(', ')})`)
  }
  return names.filter(name => only.includes(name))
}
