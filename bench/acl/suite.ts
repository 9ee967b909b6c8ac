/** Packet classification: every ACL of the registry, one of the user's, and DPDK's, on rule sets of several sizes. */
import { aclNames } from '../../dataplane/acl/index.ts'
import { BATCH_SIZE } from '../../dataplane/limits.ts'
import { readHeaders } from '../data/headers.ts'
import { describeRules, RULE_SETS, readRules } from '../data/rules.ts'
import { alternate } from '../harness/rounds.ts'
import { type Options, progress, type Report, type Suite, selected } from '../harness/suite.ts'
import { grouped } from '../harness/table.ts'
import { aclPeers } from '../peers/acl.ts'
import { closeAll, type Peer } from '../peers/peer.ts'
import {
  type Algorithm,
  algorithms,
  type Built,
  build,
  type Contender,
  changesPerSecond,
  ofPeer,
  own,
  usedBytes,
} from './contenders.ts'
import { rulesLike } from './generate.ts'
import { type Classified, report, type TableOf } from './report.ts'
import { answered, type RuleSet, ruleSet, type Trace, traceOf } from './workload.ts'

/** How much is measured. */
interface Settings {
  rounds: number
  seconds: number
  /** Builds of one set at most, and the seconds after which no further one begins. */
  builds: number
  buildSeconds: number
  updateSeconds: number
  sets: readonly (typeof RULE_SETS)[number][]
  /** Numbers of rules, and of flows, of the grid. */
  rules: readonly number[]
  flows: readonly number[]
  /** Flows of a set's trace. */
  setFlows: number
  peers: boolean
  /** Traces have no header more than flows. */
  short: boolean
}

const LEAST_ROUNDS = 3
const NORMAL: Settings = {
  rounds: 5,
  seconds: 0.05,
  builds: 3,
  buildSeconds: 2,
  updateSeconds: 0.1,
  sets: RULE_SETS,
  rules: [1, 10, 50, 1000, 10_000],
  flows: [100, 10_000, 100_000],
  setFlows: 10_000,
  peers: true,
  short: false,
}
const QUICK: Settings = {
  ...NORMAL,
  rounds: LEAST_ROUNDS,
  seconds: 0.01,
  builds: 1,
  updateSeconds: 0.01,
  sets: [],
  rules: [1, 50],
  flows: [1000],
  setFlows: 1000,
  peers: false,
  short: true,
}

/** Name in `--only` for all peers together; and how single ones begin. */
const PEERS = 'peers'
const isPeer = (name: string): boolean => name === PEERS || name.startsWith('rte_')
/** Peers of the grid: the sets show which instruction set is the best, the grid doesn't ask again. */
const GRID_PEERS = ['rte_acl avx512x32', 'rte_acl avx2']

export const acl: Suite = {
  name: 'acl',
  about: 'packet classification: every algorithm of dataplane/acl, a file of yours, DPDK',
  run,
}

/** One set of rules with its traces, and which peers run on it: undefined for all. */
interface Place {
  set: RuleSet
  traces: Trace[]
  peers?: readonly string[]
}

async function run(options: Options): Promise<Report> {
  const settings = settingsOf(options)
  const notes = notesOf(settings)
  const classified: Classified[] = []
  const tables: TableOf[] = []
  for (const place of places(options, settings, notes)) {
    const { set, traces } = place
    progress(`acl ${set.name}: ${grouped(set.rules.length)} rules`)
    const contenders: Contender[] = []
    for (const algorithm of await chosen(options, set.family)) {
      const built = await buildOne(algorithm, set, settings, notes)
      if (built === undefined) continue
      contenders.push(own(algorithm, built.built, set))
      tables.push(built.row)
    }
    const peers = settings.peers ? await peersOf(place, options, notes) : []
    try {
      if (peers[0] !== undefined) tables.push(rowOf(peers[0], set))
      contenders.push(...peers.map(ofPeer))
      for (const trace of traces) {
        classified.push(...(await measure(contenders, set, trace, settings)))
      }
    } finally {
      await closeAll(peers)
    }
  }
  return report({ classified, tables }, notes)
}

function settingsOf(options: Options): Settings {
  const base = options.quick ? QUICK : NORMAL
  return {
    ...base,
    rounds: Math.max(LEAST_ROUNDS, options.rounds ?? base.rounds),
    seconds: options.seconds ?? base.seconds,
    peers: (base.peers && options.only === undefined) || options.only?.some(isPeer) === true,
  }
}

/** The user's rules alone, or the sets and the grid. The user's headers take the place of generated ones. */
function* places(options: Options, settings: Settings, notes: string[]): Iterable<Place> {
  const headers = options.trace === undefined ? undefined : readHeaders(options.trace)
  if (headers !== undefined) tell(headers.intake.describe(), notes)
  const tracesOf = (set: RuleSet, flows: readonly number[]): Trace[] =>
    headers !== undefined && set.family === 4
      ? [answered(set, headers.headers, 'file')]
      : flows.map(count => traceOf(set, count, `${short(count)} flows`, settings.short))
  if (options.rules !== undefined) {
    const file = readRules(options.rules)
    tell(describeRules(file), notes)
    if (file.rules.length === 0) throw new Error(`${options.rules}: no rule`)
    const set: RuleSet = { name: 'file', family: file.family, rules: file.rules }
    yield { set, traces: tracesOf(set, settings.flows) }
    return
  }
  for (const name of settings.sets) {
    const set = ruleSet(name, notes)
    yield { set, traces: tracesOf(set, [settings.setFlows]) }
  }
  for (const count of settings.rules) {
    const rules = rulesLike('acl', count)
    const set: RuleSet = { name: `generated ${short(count)}`, family: 4, rules }
    yield { set, traces: tracesOf(set, settings.flows), peers: GRID_PEERS }
  }
}

const short = (count: number): string => (count >= 1000 ? `${count / 1000}k` : String(count))

function tell(lines: readonly string[], notes: string[]): void {
  for (const line of lines) progress(line)
  notes.push(lines.join('\n'))
}

/** What runs on sets of a family: `only` names algorithms (of IPv4 or IPv6) and peers; a file of the user's always runs. */
async function chosen(options: Options, family: 4 | 6): Promise<Algorithm[]> {
  const { only } = options
  const names = selected(
    [...aclNames(4), ...aclNames(6)],
    only === undefined ? {} : { only: only.filter(name => !isPeer(name)) },
  )
  const all = await algorithms(family, options.file)
  return all.filter(({ name, sort }) => sort === 'yours' || names.includes(name))
}

/** Builds an algorithm, and measures what only its writer shows. Undefined when it has no room for the rules. */
async function buildOne(
  algorithm: Algorithm,
  set: RuleSet,
  settings: Settings,
  notes: string[],
): Promise<{ built: Built; row: TableOf } | undefined> {
  const { name, sort, acl: of } = algorithm
  progress(`acl ${set.name}: building ${name}`)
  let built: Built
  try {
    built = await build(algorithm, set)
  } catch (error) {
    if (!(error instanceof RangeError)) throw error
    notes.push(`${name} is left out of ${set.name}: ${error.message}`)
    progress(notes.at(-1)!)
    return undefined
  }
  const buildMs = [built.ms]
  for (let spent = built.ms; buildMs.length < settings.builds; spent += built.ms) {
    if (spent > settings.buildSeconds * 1000) break
    built = await build(algorithm, set)
    buildMs.push(built.ms)
  }
  const used = usedBytes(built.memory)
  const row: TableOf = {
    contender: name,
    sort,
    set: set.name,
    rules: set.rules.length,
    buildMs,
    bytes: built.memory.byteLength,
    usedBytes: used,
  }
  // The twin's writer is the same.
  if (of.incremental && sort !== 'oracle' && sort !== 'native') {
    row.changesPerSecond = Array.from({ length: settings.rounds }, () =>
      changesPerSecond(built, set, settings.updateSeconds),
    )
  }
  return { built, row }
}

/** Peers with all rules; others answer otherwise rightly and are left out. */
async function peersOf(place: Place, options: Options, notes: string[]): Promise<Peer[]> {
  const { set } = place
  progress(`acl ${set.name}: building peers`)
  const asked = options.only?.includes(PEERS) ? undefined : options.only?.filter(isPeer)
  const { peers, missing } = await aclPeers(set.family, set.rules, asked ?? place.peers)
  for (const why of missing) if (!notes.includes(why)) notes.push(why)
  const lacking = peers.filter(({ refused }) => refused > 0)
  for (const { name, refused } of lacking) {
    notes.push(`${name} is left out of ${set.name}: no room for ${refused} rules`)
  }
  await closeAll(lacking)
  return peers.filter(peer => !lacking.includes(peer))
}

/** The instruction sets share one build. */
function rowOf({ buildMs, bytes }: Peer, set: RuleSet): TableOf {
  return {
    contender: 'rte_acl',
    sort: 'peer',
    set: set.name,
    rules: set.rules.length,
    buildMs: [buildMs],
    ...(bytes === undefined ? {} : { bytes, usedBytes: bytes }),
  }
}

/** All contenders take turns. */
async function measure(
  contenders: readonly Contender[],
  set: RuleSet,
  trace: Trace,
  settings: Settings,
): Promise<Classified[]> {
  progress(`acl ${set.name}: ${trace.name}`)
  for (const contender of contenders) await contender.take(trace)
  const byName = new Map(contenders.map(contender => [contender.name, contender]))
  const samples = await alternate([...byName.keys()], settings.rounds, name =>
    byName.get(name)!.rate(settings.seconds),
  )
  return contenders.map(({ name, sort }) => ({
    contender: name,
    sort,
    set: set.name,
    rules: set.rules.length,
    trace: trace.name,
    perSecond: samples[name]!,
  }))
}

function notesOf({ rounds, updateSeconds }: Settings): string[] {
  return [
    `medians of ${rounds} rounds, order rotated; batches of ${BATCH_SIZE}; flows are points of the ` +
      'rules’ boxes, all rules and all flows as likely',
    'every answer was compared with the naive ACL’s before it was timed; its sum is compared in each call',
    `updates: rules taken out and put back for ${updateSeconds} s, nobody reading beside`,
    '"generated" rules are access lists like ClassBench’s acl seeds (generate.ts)',
  ]
}
