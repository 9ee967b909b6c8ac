/** What the fib suite measures: how much, whom, and on which tables. */
import { resolve } from 'node:path'
import { fibNames } from '../../dataplane/fib/index.ts'
import { BATCH_SIZE } from '../../dataplane/limits.ts'
import type { Intake } from '../data/files.ts'
import { fullTable, fullTablePath, type RouteTable, readRoutes } from '../data/routes.ts'
import { type Options, progress, selected } from '../harness/suite.ts'
import { type Algorithm, algorithms } from './contenders.ts'
import { randomTable, sampleOf } from './workload.ts'

/** How much is measured. */
export interface Settings {
  rounds: number
  seconds: number
  /** Different addresses of a trace: more than caches hold of a large table. */
  addresses: number
  /** Most routes of a generated table, and whether the full one is taken. */
  routes: number
  full: boolean
  /** Builds of one table at most, and the seconds after which no further one begins. */
  builds: number
  buildSeconds: number
  /** Samples of the update rate, and seconds of each. */
  updates: number
  updateSeconds: number
  peers: boolean
}

const LEAST_ROUNDS = 3
const NORMAL: Settings = {
  rounds: 5,
  seconds: 0.03,
  addresses: 1024 * BATCH_SIZE,
  routes: 200_000,
  full: true,
  builds: 3,
  buildSeconds: 2,
  updates: 5,
  updateSeconds: 0.1,
  peers: true,
}
const QUICK: Settings = {
  ...NORMAL,
  rounds: LEAST_ROUNDS,
  seconds: 0.01,
  addresses: 8 * BATCH_SIZE,
  routes: 1024,
  full: false,
  builds: 1,
  updates: 3,
  updateSeconds: 0.01,
  peers: false,
}
const SIZES = { '1': 1, '1k': 1024, '20k': 20_000, '200k': 200_000 }
/** From here on a generated table is a sample of the full one, if that is there. */
const SAMPLED_ROUTES = 200_000
/** Most routes of a table that an oracle has to read whole for each lookup. */
export const ORACLE_ROUTES = 1024
/** Name of the table that the user's file holds. */
export const OWN = 'file'
/** Tables from here on, the user's, or the largest one, have their update rate measured. */
export const UPDATED_ROUTES = 20_000
/** Name in `--only` for all peers together; and how single ones begin. */
const PEERS = 'peers'
const isPeer = (name: string): boolean => name === PEERS || name.startsWith('rte_')

/** The settings that the options ask for. */
export function settingsOf(options: Options): Settings {
  const base = options.quick ? QUICK : NORMAL
  return {
    ...base,
    rounds: Math.max(LEAST_ROUNDS, options.rounds ?? base.rounds),
    seconds: options.seconds ?? base.seconds,
    peers: base.peers || options.only?.some(isPeer) === true,
  }
}

interface Chosen {
  algorithms: Algorithm[]
  peers: boolean
}

/** What runs of each family: `only` names algorithms and peers; a file of the user's always runs, with those of its family. */
export async function chosen(options: Options, settings: Settings): Promise<[Chosen, Chosen]> {
  const file = options.file === undefined ? undefined : resolve(options.file)
  const found: Record<4 | 6, Algorithm[]> = { 4: [], 6: [] }
  const refused: unknown[] = []
  for (const family of [4, 6] as const) {
    try {
      found[family] = await algorithms(family, file)
    } catch (error) {
      refused.push(error)
    }
  }
  if (refused.length === 2) throw refused[0]
  const { only } = options
  const names = selected(
    [...fibNames(4), ...fibNames(6)],
    only === undefined ? {} : { only: only.filter(name => !isPeer(name)) },
  )
  const of = (family: 4 | 6): Chosen => {
    const mine = found[family].filter(({ name, sort }) => sort === 'yours' || names.includes(name))
    const wanted = settings.peers && (only?.some(isPeer) ?? true)
    // Peers of a family are there for the others of it, or for themselves.
    const company = mine.length > 0 || (found[family].length > 0 && only?.every(isPeer) === true)
    return { algorithms: mine, peers: wanted && company }
  }
  return [of(4), of(6)]
}

/** The peers that `only` names; undefined for all. */
export function named({ only }: Options): string[] | undefined {
  return only?.includes(PEERS) ? undefined : only?.filter(isPeer)
}

type Sizes = (family: 4 | 6) => Iterable<[string, RouteTable]>

/** The tables by name: the user's, or generated ones and the full one where that is. */
export function sizes(options: Options, settings: Settings, notes: string[]): Sizes {
  if (options.routes !== undefined) {
    const { tables, intake } = readRoutes(options.routes)
    tell(intake, notes)
    if (intake.taken === 0) throw new Error(`${options.routes}: no route`)
    return family => (tables[family].count > 0 ? [[OWN, tables[family]]] : [])
  }
  return function* (family) {
    const full = settings.full ? fullTable(family) : undefined
    for (const [name, count] of Object.entries(SIZES)) {
      if (count > settings.routes) continue
      const sampled = count >= SAMPLED_ROUTES && full !== undefined && full.count > count
      yield [name, sampled ? sampleOf(full, count) : randomTable(family, count)]
    }
    if (full !== undefined) yield ['full', full]
    else if (settings.full) notes.push(`no full IPv${family} table: ${fullTablePath} is not there`)
  }
}

/** Says what was taken from a file and what not, now and in the report. */
export function tell(intake: Intake, notes: string[]): void {
  for (const line of intake.describe()) progress(line)
  notes.push(intake.describe().join('\n'))
}
