/** Flow tables: every algorithm of dataplane/flow, DPDK's rte_hash, at several sizes. */
import { flowNames } from '../../dataplane/flow/index.ts'
import { hashByName, hashNames } from '../../dataplane/hash/index.ts'
import { BATCH_SIZE } from '../../dataplane/limits.ts'
import { callsPerSecond } from '../harness/micro.ts'
import { alternate } from '../harness/rounds.ts'
import { type Options, progress, type Report, type Suite, selected } from '../harness/suite.ts'
import type { Peer } from '../peers/peer.ts'
import { build, type Contender, type Workload } from './contenders.ts'
import { report, type Sample } from './report.ts'
import { flowKeys, type Trace, traceOf } from './workload.ts'

const SIZES = { '1k': 1000, '100k': 100_000, '1M': 1_000_000 }
const LEAST_ROUNDS = 3
const NORMAL = { rounds: 5, seconds: 0.1, flows: 1_000_000, peers: true }
const QUICK = { rounds: LEAST_ROUNDS, seconds: 0.01, flows: 1000, peers: false }
/** What the tables' keys are hashed by: rte_hash's own is not keyed either. */
const HASH = 'murmur3'
const SEED = [0x5eed_0001, 0x5eed_0002] as const
/** Name in `--only` for all peers together; and how single ones begin. */
const PEERS = 'peers'
const isPeer = (name: string): boolean => name === PEERS || name.startsWith('rte_')

export const flow: Suite = {
  name: 'flow',
  about: 'flow tables: every algorithm of dataplane/flow, DPDK',
  run,
}

async function run(options: Options): Promise<Report> {
  const base = options.quick ? QUICK : NORMAL
  const rounds = Math.max(LEAST_ROUNDS, options.rounds ?? base.rounds)
  const seconds = options.seconds ?? base.seconds
  const { only } = options
  const mine =
    only === undefined ? options : { ...options, only: only.filter(name => !isPeer(name)) }
  const names = selected(flowNames(), mine)
  const peersToo = only === undefined ? base.peers : only.some(isPeer)
  const named = only === undefined || only.includes(PEERS) ? undefined : only.filter(isPeer)
  const notes = notesOf(rounds)
  const samples: Sample[] = []
  for (const [size, count] of Object.entries(SIZES)) {
    if (count > base.flows) continue
    progress(`flow ${size}: building`)
    const workload = workloadOf(count)
    const contenders = await build(names, size, workload)
    const peers = peersToo ? await peersOf(size, workload, named, notes) : []
    try {
      samples.push(...(await probes(size, contenders, peers, workload, rounds, seconds)))
    } finally {
      for (const peer of peers) await peer.close()
    }
    samples.push(...(await changes(size, contenders, rounds)))
    if (size === '1k') samples.push(...(await hashes(workload.inside, rounds, seconds)))
  }
  return report(samples, notes)
}

function workloadOf(count: number): Workload {
  const hasher = hashByName(HASH).seeded(SEED)
  const inside = flowKeys(0, count)
  return {
    hasher,
    inside: traceOf(inside, hasher, 1),
    filling: traceOf(inside, hasher, 2),
    outside: traceOf(flowKeys(count, count), hasher, 3),
  }
}

/** The peers that hold all flows and answer rightly: the number of a key, from 1. */
async function peersOf(
  size: string,
  { filling, inside }: Workload,
  only: readonly string[] | undefined,
  notes: string[],
): Promise<Peer[]> {
  const { hashPeers } = await import('../peers/hash.ts')
  const { peers, missing } = await hashPeers(filling.keys.words, only)
  for (const why of missing) if (!notes.includes(why)) notes.push(why)
  /** Row in `filling` of each flow. */
  const rows = new Uint32Array(filling.order.length)
  for (const [row, number] of filling.order.entries()) rows[number] = row
  const good: Peer[] = []
  for (const peer of peers) {
    const answers = await peer.trace(inside.keys.words)
    if (peer.refused > 0) {
      notes.push(`${peer.name} is left out of ${size}: no room for ${peer.refused} flows`)
    } else if (inside.order.some((number, i) => answers[i] !== rows[number]! + 1)) {
      notes.push(`${peer.name} is left out of ${size}: it answers otherwise`)
    } else {
      good.push(peer)
      continue
    }
    await peer.close()
  }
  return good
}

/** All contenders take turns, kind by kind. */
async function probes(
  size: string,
  contenders: readonly Contender[],
  peers: readonly Peer[],
  { inside }: Workload,
  rounds: number,
  seconds: number,
): Promise<Sample[]> {
  const found: Sample[] = []
  const count = inside.order.length
  for (const [kind, callOf] of [
    ['hit', (of: Contender) => of.hit],
    ['miss', (of: Contender) => of.miss],
    ['hash and hit', (of: Contender) => of.hashAndHit],
  ] as const) {
    progress(`flow ${size}: ${kind}`)
    const rates = new Map<string, () => Promise<number>>()
    for (const of of contenders) {
      const call = callOf(of)
      const expected = call()
      const label = `${of.name} ${size} ${kind}`
      rates.set(of.name, async () => count * (await callsPerSecond(label, seconds, expected, call)))
    }
    if (kind === 'hash and hit')
      for (const peer of peers) rates.set(peer.name, () => peer.rate(seconds))
    const taken = await alternate([...rates.keys()], rounds, name => rates.get(name)!())
    for (const [contender, perSecond] of Object.entries(taken)) {
      const of = contenders.find(({ name }) => name === contender)
      const bytes = of?.bytes ?? peers.find(({ name }) => name === contender)?.bytes
      found.push({ contender, size, kind, perSecond, ...(bytes === undefined ? {} : { bytes }) })
    }
  }
  return found
}

/** The table empties and fills again, a contender after another, round by round. */
async function changes(
  size: string,
  contenders: readonly Contender[],
  rounds: number,
): Promise<Sample[]> {
  progress(`flow ${size}: age, insert`)
  const writers = contenders.filter(({ twin, name }) => {
    return !twin || !contenders.some(other => `${other.name}_native` === name)
  })
  const byName = new Map(writers.map(of => [of.name, of]))
  // One round more than is counted: the first one warms up.
  const taken = await alternate([...byName.keys()], rounds + 1, name => {
    const age = byName.get(name)!.age()
    return { age, insert: byName.get(name)!.insert() }
  })
  return Object.entries(taken).flatMap(([contender, samples]) =>
    (['insert', 'age'] as const).map(kind => ({
      contender,
      size,
      kind,
      perSecond: samples.slice(1).map(sample => sample[kind]),
    })),
  )
}

/** The hashes alone, of IPv4 flow keys. */
async function hashes(
  { batches, order }: Trace,
  rounds: number,
  seconds: number,
): Promise<Sample[]> {
  progress('flow: hashes')
  const out = new Uint32Array(BATCH_SIZE)
  const calls = new Map(
    hashNames().map(name => {
      const hasher = hashByName(name).seeded(SEED)
      const call = () => {
        let sum = 0
        for (const { keys, n } of batches) {
          hasher.flows(keys.words, n, out)
          sum += out[0]!
        }
        return sum
      }
      return [name, call] as const
    }),
  )
  const taken = await alternate([...calls.keys()], rounds, async name => {
    const call = calls.get(name)!
    return order.length * (await callsPerSecond(`${name} hash`, seconds, call(), call))
  })
  return Object.entries(taken).map(([contender, perSecond]) => ({
    contender,
    size: '1k',
    kind: 'hash',
    perSecond,
  }))
}

function notesOf(rounds: number): string[] {
  return [
    `medians of ${rounds} rounds, order rotated; IPv4 flows, all probed in an order unlike the one ` +
      `that they were inserted in, in batches of ${BATCH_SIZE}`,
    '"hit" and "miss" have the hashes given; "hash and hit" takes them too ' +
      `(${HASH}), as rte_hash does (CRC32) in its bulk lookup`,
    '"insert" fills an empty table to the last flow; "age" is a round of the wheel in which all are old',
    'every answer was compared with what was inserted, and the first ones with a Map, before anything was timed',
  ]
}
