/** The JSON document of one run: what `--json` and `--out` write, `compare` and `report` read. */
import { readFileSync } from 'node:fs'
import { type Bar, barOf, holds } from './bars.ts'
import { type Commit, commit, type Machine, machine } from './machine.ts'
import { type Measured, measured, quantitiesIn } from './quantity.ts'
import type { Figure, Options, Report } from './suite.ts'
import type { Disturbance } from './watch.ts'

/** Goes up when an older reader would misread a document. */
export const FORMAT = 1

export interface Document {
  format: number
  machine: Machine
  /** Absent outside a git checkout. */
  commit?: Commit
  /** When the run began, ISO 8601. */
  began: string
  /** A smoke run: its figures mean nothing. */
  quick: boolean
  /** Every single measurement, by suite, as the suite orders it. */
  samples: Record<string, unknown>
  /** The same flat, by suite and name, with medians and quartiles. */
  quantities: Record<string, Record<string, Measured>>
  /** Dimensionless; names are unique over all suites. */
  ratios: Record<string, number>
  /** Single numbers that bars are about. */
  figures: Record<string, Figure>
  /** What ratios and figures are held to, and whether they hold. */
  bars: Record<string, Bar & { holds: boolean }>
  /** Deoptimisations and garbage collections while something was measured, by suite and measurement. */
  disturbances: Record<string, Record<string, Disturbance>>
  notes: Record<string, readonly string[]>
  /** Suites without a result, and why. */
  failed?: Record<string, string>
}

export function emptyDocument(options: Options): Document {
  const source = commit()
  return {
    format: FORMAT,
    machine: machine(),
    ...(source === undefined ? {} : { commit: source }),
    began: new Date().toISOString(),
    quick: options.quick ?? false,
    samples: {},
    quantities: {},
    ratios: {},
    figures: {},
    bars: {},
    disturbances: {},
    notes: {},
  }
}

/** Adds what a suite found. */
export function record(
  document: Document,
  suite: string,
  report: Report,
  disturbances: Record<string, Disturbance>,
): void {
  const { samples, ratios, figures = {}, quantities = quantitiesIn(samples), notes } = report
  document.samples[suite] = samples
  document.quantities[suite] = Object.fromEntries(
    Object.entries(quantities).map(([name, quantity]) => [name, measured(quantity)]),
  )
  Object.assign(document.ratios, ratios)
  Object.assign(document.figures, figures)
  document.disturbances[suite] = disturbances
  document.notes[suite] = notes
  const values = { ...ratios, ...mapValues(figures, figure => figure.value) }
  for (const [name, value] of Object.entries(values)) {
    const bar = barOf(name)
    if (bar !== undefined) document.bars[name] = { ...bar, holds: holds(bar, value) }
  }
}

function mapValues<A, B>(of: Record<string, A>, call: (value: A) => B): Record<string, B> {
  return Object.fromEntries(Object.entries(of).map(([key, value]) => [key, call(value)]))
}

/** Reads a document. Throws Error with the path for a file that is none. */
export function readDocument(path: string): Document {
  let document: Partial<Document>
  try {
    document = JSON.parse(readFileSync(path, 'utf8'))
  } catch (error) {
    throw new Error(`${path}: ${error instanceof Error ? error.message : error}`)
  }
  if (document?.format !== FORMAT) {
    throw new Error(
      `${path}: no document of this bench (format ${document?.format}, not ${FORMAT})`,
    )
  }
  for (const key of ['machine', 'samples', 'quantities', 'ratios', 'figures', 'bars'] as const) {
    if (typeof document[key] !== 'object') throw new Error(`${path}: ${key} is missing`)
  }
  return document as Document
}
