/**
 * Readers in threads of their own while the table changes, one of the algorithm and one of its
 * native twin (or two of the algorithm). The writer goes round and round through
 * a list of changes that ends where it began, so that each address has a known set of right
 * answers; what a reader sees beside them is a third value.
 */
import { once } from 'node:events'
import { Worker } from 'node:worker_threads'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { FibWriter } from '../../../dataplane/fib/fib.ts'
import { CHANGED, type ReaderReport, type ReaderTask, SEEN, STOP } from './reader.worker.ts'
import { clip, GROUPS, lookUp, step, table, wordsOf } from './tables.ts'

const READERS = 2
/** Room for what BURST rounds without quiescence leave behind. */
const ROUTES = 4096
/** Rounds of a short script between two quiescences, at most, and how often. */
const BURST = 1000
const BURSTS = 12
/** A burst of slow changes ends before: it bounds the effort, and decides nothing. ms */
const BURST_MS = 50
/** How long a reader may take for one batch on a busy machine, ms. */
const PATIENCE = 60_000

interface Change {
  /** 0: take out. */
  nextHop: number
  address: number[]
  prefix: number
}

interface Script {
  changes: Change[]
  probes: number[][]
  /** Routes that stay. */
  stable: Change[]
  /** Rounds between two quiescences. */
  burst: number
  bursts: number
}

const HOST = { 4: [0x0af4_0102], 6: [0xfd44_0000, 0x0000_0001, 0x8000_0000, 0x0102_0304] }
const NESTED = {
  4: [0, 8, 15, 16, 20, 24, 25, 31, 32],
  6: [0, 15, 16, 17, 20, 21, 31, 32, 48, 64, 65, 127, 128],
}

/**
 * Exactly one or two of the nested prefixes are there at any time, another one after each change:
 * who mixes two moments finds none. The address is never without a route.
 */
function stairs(family: 4 | 6): Script {
  const host = HOST[family]
  const lengths = NESTED[family]
  const routes = lengths.map((prefix, i) => ({
    address: clip(host, prefix),
    prefix,
    nextHop: i + 1,
  }))
  const up = routes.map((_, i) => i)
  const order = [...up, ...up.slice(1, -1).reverse()]
  const changes: Change[] = []
  for (const [k, at] of order.entries()) {
    const next = order[(k + 1) % order.length]!
    changes.push(routes[next]!, { ...routes[at]!, nextHop: 0 })
  }
  const all = [routes[0]!, ...changes]
  return { changes: all, probes: [host], stable: [], burst: 1, bursts: 2 * all.length }
}

/** Routes come and go right beside and above an address that has one of its own and must not notice. */
function neighbours(family: 4 | 6): Script {
  const host = HOST[family]
  const bits = 32 * host.length
  const around = NESTED[family].filter(prefix => prefix > 0 && prefix < bits)
  const changes: Change[] = []
  const add = (address: number[], prefix: number, nextHop: number) =>
    changes.push({ address, prefix, nextHop })
  const beside = [step(host, 1), step(host, -1)]
  for (const [i, prefix] of around.entries()) add(clip(host, prefix), prefix, 10 + i)
  for (const address of beside) add(address, bits, 40)
  for (const address of beside) add(address, bits, 41)
  for (const address of beside) add(address, bits, 0)
  for (const prefix of around.reverse()) add(clip(host, prefix), prefix, 0)
  const stable = [{ address: host, prefix: bits, nextHop: 1 }]
  return { changes, probes: [host, ...beside], stable, burst: 1, bursts: 2 * changes.length }
}

const PAIRS = {
  4: [
    [0, 24],
    [0, 32],
    [23, 24],
    [24, 32],
  ],
  6: [
    [17, 20],
    [32, 128],
    [48, 64],
    [64, 128],
  ],
} as const

/** Two nested prefixes, by turns one or both: as fast as can be, so that changes meet inside a lookup. */
function flicker([short, long]: readonly [number, number]): (family: 4 | 6) => Script {
  return family => {
    const host = HOST[family]
    const above = { address: clip(host, short), prefix: short, nextHop: 1 }
    const below = { address: clip(host, long), prefix: long, nextHop: 2 }
    const changes = [below, { ...above, nextHop: 0 }, above, { ...below, nextHop: 0 }]
    return { changes, probes: [host], stable: [above], burst: BURST, bursts: BURSTS }
  }
}

/**
 * Host routes beside two addresses come and go, each time with a group, or a node and the branch to
 * it. The two have different next hops: memory that goes from one to the other would show.
 */
function flickerBeside(family: 4 | 6): Script {
  const bits = 32 * HOST[family].length
  const stable: Change[] = []
  const changes: Change[] = []
  const probes: number[][] = []
  for (const [i, host] of [HOST[family], clip(HOST[family], 16)].entries()) {
    const beside = { address: step(host, 1), prefix: bits, nextHop: 10 + i }
    stable.push({ address: clip(host, bits - 8), prefix: bits - 8, nextHop: 1 + i })
    changes.push(beside, { ...beside, nextHop: 0 })
    probes.push(host, beside.address)
  }
  return { changes, probes, stable, burst: BURST, bursts: BURSTS }
}

/** Sixteen routes beside each other grow to a crowd and go: nodes split, change their kind, unite. */
function crowd(family: 4 | 6): Script {
  const host = HOST[family]
  const short = family === 4 ? 16 : 20
  const siblings = Array.from({ length: 16 }, (_, i) => {
    const address = clip(host, short)
    address[0] = (address[0]! | ((2 * i + 1) << (32 - short - 8))) >>> 0
    return { address, prefix: short + 8, nextHop: 10 + i }
  })
  const gone = siblings.map(route => ({ ...route, nextHop: 0 }))
  const beside = step(siblings[5]!.address, -1)
  const stable = [
    { address: host, prefix: 32 * host.length, nextHop: 1 },
    { address: clip(host, short), prefix: short, nextHop: 2 },
  ]
  const probes = [host, beside, siblings[5]!.address, siblings[11]!.address]
  return { changes: [...siblings, ...gone], probes, stable, burst: BURST / 10, bursts: 2 * BURSTS }
}

function apply(writer: FibWriter, { address, prefix, nextHop }: Change): void {
  if (nextHop === 0) writer.remove(address, prefix)
  else writer.insert(address, prefix, nextHop)
}

/** By probe, the answers after each change, by the linear FIB. */
function truths(script: Script, family: 4 | 6): Set<number>[] {
  const { writer, reader } = table(`linear${family}`, family, ROUTES)
  const probes = Uint32Array.from(script.probes.flat())
  const sets = script.probes.map(() => new Set<number>())
  for (const route of script.stable) apply(writer, route)
  // The first round starts from nothing, the others where one ends.
  for (const route of script.changes) apply(writer, route)
  for (const route of script.changes) {
    apply(writer, route)
    for (const [i, hop] of lookUp(reader, probes, wordsOf(family)).entries()) sets[i]!.add(hop)
  }
  return sets
}

/** Waits until every reader has done a whole batch since now. */
function readersPass(controls: readonly Int32Array[], change: number): void {
  for (const control of controls) Atomics.store(control, CHANGED, change)
  for (const control of controls) {
    for (;;) {
      const seen = Atomics.load(control, SEEN)
      if (seen === change) break
      if (Atomics.wait(control, SEEN, seen, PATIENCE) === 'timed-out') {
        throw new Error('a reader does not answer')
      }
    }
  }
}

const CASES = GROUPS.flatMap(({ name, family, names }) => {
  const scripts = [
    { script: 'stairs', of: stairs },
    { script: 'neighbours', of: neighbours },
    { script: 'a route beside, fast', of: flickerBeside },
    { script: 'a crowd, fast', of: crowd },
    ...PAIRS[family].map(pair => ({
      script: `/${pair[0]} and /${pair[1]}, fast`,
      of: flicker(pair),
    })),
  ]
  return scripts.map(each => ({ ...each, name, family, names }))
})

describe('a reader sees the old or the new next hop, never a third', () => {
  let workers: Worker[] = []

  beforeAll(() => {
    workers = Array.from(
      { length: READERS },
      () => new Worker(new URL('./reader.worker.ts', import.meta.url)),
    )
  })

  afterAll(async () => {
    await Promise.all(workers.map(worker => worker.terminate()))
  })

  test.each(CASES)('$names: $script', async ({ name, family, names, of }) => {
    const script = of(family)
    const { changes, probes, stable } = script
    const sets = truths(script, family)
    const { memory, writer } = table(name, family, ROUTES)
    for (const route of [...stable, ...changes]) apply(writer, route)
    const controls = workers.map(() => new Int32Array(new SharedArrayBuffer(64)))
    const reports = workers.map(async (worker, i) => {
      const task: ReaderTask = {
        name: names[i % names.length]!,
        family,
        routes: ROUTES,
        memory,
        control: controls[i]!,
        addresses: Uint32Array.from(probes.flat()),
        allowed: sets.map(hops => [...hops]),
      }
      worker.postMessage(task)
      return (await once(worker, 'message'))[0] as ReaderReport
    })
    try {
      // Nothing is waited for: a reader answers the first time when it has begun.
      for (let burst = 0; burst < script.bursts; burst++) {
        const end = performance.now() + BURST_MS
        for (let round = 1; round < script.burst && performance.now() < end; round++) {
          for (const route of changes) apply(writer, route)
        }
        // The last round stops behind another change each time: every state is seen for certain.
        for (const [i, route] of changes.entries()) {
          apply(writer, route)
          if (i !== burst % changes.length) continue
          readersPass(controls, burst + 1)
          writer.quiesced()
        }
      }
    } finally {
      for (const control of controls) Atomics.store(control, STOP, 1)
    }
    for (const { wrong, seen, lookups } of await Promise.all(reports)) {
      expect(wrong).toEqual([])
      expect(seen).toEqual(sets.map(hops => [...hops].sort((a, b) => a - b)))
      expect(lookups).toBeGreaterThan(script.bursts)
    }
  })
})
