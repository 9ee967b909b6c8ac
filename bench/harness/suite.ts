/** What a suite is, and what it hands back. bench/README.md says how to add one. */
import type { Quantity } from './quantity.ts'
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
  /** A smoke run of seconds: smallest tables, fewest rounds; shapes are right, figures are not. */
  quick?: boolean
  /** Files of the user's own data, plain or .gz: routes (data/routes.ts), ClassBench rules, addresses or headers. */
  routes?: string
  rules?: string
  trace?: string
  /** The user's own algorithm (a TypeScript file), beside the built-in ones. */
  file?: string
}

export interface Report {
  /** Every single measurement, by contender and quantity. */
  samples: Record<string, unknown>
  /** The same flat, by a name that says contender and workload; absent: what quantity.ts finds in `samples`. */
  quantities?: Record<string, Quantity>
  /** Flat, the names are unique over all suites. Dimensionless. */
  ratios: Record<string, number>
  /** Single numbers with a unit, whose names are as unique; bars.ts says what they are held to. */
  figures?: Record<string, Figure>
  tables: readonly Table[]
  /** Sentences that a reader needs beside the tables. */
  notes: readonly string[]
}

export interface Figure {
  value: number
  unit: string
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
