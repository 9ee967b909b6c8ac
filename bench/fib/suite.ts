/** Route lookups: every FIB of the registry, one of the user's, and DPDK's, on tables of several sizes. */
import { BATCH_SIZE } from '../../dataplane/limits.ts'
import type { RouteTable } from '../data/routes.ts'
import { alternate } from '../harness/rounds.ts'
import { type Options, progress, type Report, type Suite } from '../harness/suite.ts'
import { grouped } from '../harness/table.ts'
import type { Peer } from '../peers/peer.ts'
import {
  type Algorithm,
  type Built,
  build,
  type Contender,
  ofPeer,
  own,
  usedBytes,
} from './contenders.ts'
import {
  chosen,
  named,
  ORACLE_ROUTES,
  OWN,
  type Settings,
  settingsOf,
  sizes,
  tell,
  UPDATED_ROUTES,
} from './plan.ts'
import { type Lookups, report, type TableOf } from './report.ts'
import { KINDS, readAddresses, type Trace, traces } from './traces.ts'
import { updatesPerSecond } from './updates.ts'

export const fib: Suite = {
  name: 'fib',
  about: 'route lookups, building, updates, memory: every FIB, a file of yours, DPDK',
  run,
}

async function run(options: Options): Promise<Report> {
  const settings = settingsOf(options)
  const notes = notesOf(settings)
  const lookups: Lookups[] = []
  const tables: TableOf[] = []
  const own = options.trace === undefined ? undefined : readAddresses(options.trace)
  if (own !== undefined) tell(own.intake, notes)
  const [four, six] = await chosen(options, settings)
  const byFamily = sizes(options, settings, notes)
  for (const [family, mine] of [
    [4, four],
    [6, six],
  ] as const) {
    if (mine.algorithms.length === 0 && !mine.peers) continue
    for (const [size, table] of byFamily(family)) {
      progress(`fib IPv${family} ${size}: ${grouped(table.count)} routes`)
      const all = traces(table, settings.addresses, own?.addresses[family])
      const place: Place = { family, size, table, settings, notes }
      const built = await buildAll(place, mine.algorithms, all, tables)
      const peers = mine.peers ? await peersOf(place, tables, named(options)) : []
      const contenders = [...built, ...peers.map(peer => ofPeer(peer, family))]
      try {
        lookups.push(...(await measure(place, contenders, all)))
      } finally {
        for (const peer of peers) await peer.close()
      }
    }
  }
  return report(lookups, tables, notes)
}

/** One table, and where what is said about it goes. */
interface Place {
  family: 4 | 6
  size: string
  table: RouteTable
  settings: Settings
  notes: string[]
}

/** Builds every algorithm that can hold the table, and measures what only its writer shows. */
async function buildAll(
  place: Place,
  algorithms: readonly Algorithm[],
  all: readonly Trace[],
  tables: TableOf[],
): Promise<Contender[]> {
  const contenders: Contender[] = []
  for (const algorithm of algorithms) {
    if (algorithm.sort === 'oracle' && place.table.count > ORACLE_ROUTES) continue
    const found = await buildOne(place, algorithm, all)
    if (found === undefined) continue
    tables.push(found.row)
    contenders.push(own(algorithm, found.built.memory, place.table, place.size))
  }
  return contenders
}

async function buildOne(
  { family, size, table, settings, notes }: Place,
  algorithm: Algorithm,
  all: readonly Trace[],
): Promise<{ built: Built; row: TableOf } | undefined> {
  const { name, sort } = algorithm
  progress(`fib IPv${family} ${size}: building ${name}`)
  let built: Built
  try {
    built = build(algorithm, table)
  } catch (error) {
    if (!(error instanceof RangeError)) throw error
    notes.push(`${name} is left out of IPv${family} ${size}: ${error.message}`)
    progress(notes.at(-1)!)
    return undefined
  }
  const buildMs = [built.ms]
  let updates: number[] | undefined
  const updated = size === OWN || table.count >= Math.min(UPDATED_ROUTES, settings.routes)
  if (sort !== 'oracle' && updated) {
    const label = `${name} IPv${family} ${size} updates`
    const { addresses } = all.find(({ kind }) => kind === 'in table')!
    const { updates: samples, updateSeconds } = settings
    const asked = own(algorithm, built.memory, table, size)
    for (const trace of all) await asked.take(trace)
    updates = await updatesPerSecond(label, built, table, addresses, samples, updateSeconds)
    for (const trace of all) await asked.take(trace)
  }
  for (let spent = built.ms; buildMs.length < settings.builds; spent += built.ms) {
    if (spent > settings.buildSeconds * 1000) break
    built = build(algorithm, table)
    buildMs.push(built.ms)
  }
  const row: TableOf = {
    contender: name,
    sort,
    family,
    table: size,
    routes: table.count,
    buildMs,
    bytes: built.memory.bytes,
    usedBytes: usedBytes(built.memory),
    ...(updates === undefined ? {} : { updatesPerSecond: updates }),
  }
  return { built, row }
}

/** The peers that hold the whole table; those that don't answer otherwise rightly and are left out. */
async function peersOf(
  { family, size, table, notes }: Place,
  tables: TableOf[],
  only: readonly string[] | undefined,
): Promise<Peer[]> {
  progress(`fib IPv${family} ${size}: building peers`)
  const { fibPeers } = await import('../peers/fib.ts')
  const { peers, missing } = await fibPeers(table, only)
  for (const why of missing) if (!notes.includes(why)) notes.push(why)
  const whole: Peer[] = []
  for (const peer of peers) {
    const { name, buildMs, bytes, refused } = peer
    if (refused > 0) {
      notes.push(`${name} is left out of IPv${family} ${size}: no room for ${refused} routes`)
      await peer.close()
      continue
    }
    whole.push(peer)
    tables.push({
      contender: name,
      sort: 'peer',
      family,
      table: size,
      routes: table.count,
      buildMs: [buildMs],
      ...(bytes === undefined ? {} : { bytes, usedBytes: bytes }),
    })
  }
  return whole
}

/** All contenders take turns, trace by trace. */
async function measure(
  { family, size, table, settings }: Place,
  contenders: readonly Contender[],
  all: readonly Trace[],
): Promise<Lookups[]> {
  const found: Lookups[] = []
  const byName = new Map(contenders.map(contender => [contender.name, contender]))
  for (const trace of all.toSorted((a, b) => KINDS.indexOf(a.kind) - KINDS.indexOf(b.kind))) {
    progress(`fib IPv${family} ${size}: ${trace.kind}`)
    for (const contender of contenders) await contender.take(trace)
    const samples = await alternate([...byName.keys()], settings.rounds, name =>
      byName.get(name)!.rate(settings.seconds),
    )
    for (const { name, sort } of contenders) {
      found.push({
        contender: name,
        sort,
        family,
        table: size,
        routes: table.count,
        trace: trace.kind,
        perSecond: samples[name]!,
      })
    }
  }
  return found
}

function notesOf({ rounds, addresses, updateSeconds }: Settings): string[] {
  return [
    `medians of ${rounds} rounds, order rotated; up to ${grouped(addresses)} different addresses ` +
      `(fewer for slow algorithms) in batches of ${BATCH_SIZE}`,
    '"in table": in a route, each as likely; "zipf": the same, the k-th route with a share of 1/k; ' +
      '"dependent": one address a call, none known before the last answer',
    'every answer was compared with the oracle’s before it was timed; a sum of some is compared in each call',
    `updates: half of them new next hops, half routes taken out and put back, for ${updateSeconds} s, ` +
      'one thread looking up beside, its quiescent points waited for',
    'memory: pages that the table needs of the region that is laid out for its size',
  ]
}
