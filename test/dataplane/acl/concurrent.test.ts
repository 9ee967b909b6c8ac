/**
 * Readers in threads of their own while the rules change. The writer goes round and round through a
 * list of changes that ends where it began, so that each header has a known set of right answers;
 * what a reader sees beside them is a third one.
 */
import { once } from 'node:events'
import { Worker } from 'node:worker_threads'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { AclRule, AclWriter } from '../../../dataplane/acl/acl.ts'
import { CHANGED, type ReaderReport, type ReaderTask, SEEN, STOP } from './reader.worker.ts'
import { ALL, classify, dice, headerOf, table } from './tables.ts'

const READERS = 2
const RULES = 512
/** How long a reader may take for one batch on a busy machine, ms. */
const PATIENCE = 60_000
/** Rounds between two quiescences of an algorithm that changes in place, and how often. */
const BURST = 200
const BURSTS = 4

/** A rule to insert, or the id of one to remove. */
type Change = AclRule | number

interface Script {
  stable: AclRule[]
  changes: Change[]
  headers: number[][]
}

const HOST = { 4: [0x0af4_0102], 6: [0xfd44_0000, 0x0000_0001, 0x8000_0000, 0x0102_0304] }
const OTHER = { 4: [0xc0a8_0001], 6: [0x2001_0db8, 0, 0, 1] }

function prefixOf(address: readonly number[], prefix: number) {
  const bits = (w: number) => Math.min(32, Math.max(0, prefix - 32 * w))
  return {
    address: address.map((word, w) => (bits(w) === 0 ? 0 : (word & (-1 << (32 - bits(w)))) >>> 0)),
    prefix,
  }
}

/** Two rules that match one header, by turns one or both: there is always an answer. */
function flicker(family: 4 | 6): Script {
  const host = HOST[family]
  const narrow = { id: 1, priority: 1, source: prefixOf(host, 32 * host.length), protocol: 6 }
  const wide = { id: 2, priority: 2, destination: prefixOf(OTHER[family], 16) }
  return {
    stable: [wide],
    changes: [narrow, 2, wide, 1],
    headers: [headerOf(host, OTHER[family], [1, 2], 6)],
  }
}

/** One id goes from one shape to another, of another rank: never none, never the rule below. */
function replaced(family: 4 | 6): Script {
  const host = HOST[family]
  const bits = 32 * host.length
  const below = { id: 9, priority: 100 }
  const source = (prefix: number, priority: number): AclRule => ({
    id: 5,
    priority,
    source: prefixOf(host, prefix),
  })
  const ported = { id: 5, priority: 7, protocol: 17, destinationPorts: { first: 50, last: 60 } }
  return {
    stable: [below],
    changes: [source(bits, 1), source(8, 9), ported, source(bits - 1, 3)],
    headers: [headerOf(host, OTHER[family], [1, 55], 17)],
  }
}

/**
 * Many rules come and go around two headers whose own rules stay: tables grow, are split, are
 * emptied, move. Some of the rules are better than the second header's own one, and match it.
 */
function churn(family: 4 | 6): Script {
  const host = HOST[family]
  const other = OTHER[family]
  const bits = 32 * host.length
  const roll = dice(family)
  const changes: AclRule[] = []
  for (let i = 0; i < 32; i++) {
    const at = [...host]
    at[at.length - 1] = (at[at.length - 1]! ^ roll(256)) >>> 0
    const first = roll(1000)
    const prefix = bits - roll(12)
    changes.push({
      id: 100 + i,
      priority: 10 + roll(20),
      destination: prefixOf(at, prefix),
      protocol: 6,
      destinationPorts: { first, last: first + roll(200) },
    })
  }
  const own = { id: 1, priority: 5, source: prefixOf(host, bits) }
  const second = { id: 2, priority: 20, destination: prefixOf(host, bits - 8), protocol: 6 }
  return {
    stable: [own, second],
    changes: [...changes, ...changes.map(({ id }) => id)],
    headers: [
      headerOf(host, host, [1, 500], 6),
      headerOf(other, host, [1, 500], 6),
      headerOf(other, host, [1, 500], 17),
    ],
  }
}

function apply(writer: AclWriter, change: Change): void {
  if (typeof change === 'number') writer.remove(change)
  else writer.insert(change)
}

/** By header, the answers after each change, by the linear ACL. */
function truths({ stable, changes, headers }: Script, family: 4 | 6): Set<number>[] {
  const { writer, reader } = table(`linear${family}`, family, RULES)
  const probes = Uint32Array.from(headers.flat())
  const sets = headers.map(() => new Set<number>())
  // The first round starts from nothing, the others where one ends.
  for (const change of [...stable, ...changes]) apply(writer, change)
  for (const change of changes) {
    apply(writer, change)
    for (const [i, id] of classify(reader, probes, family).entries()) sets[i]!.add(id)
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

const SCRIPTS = { flicker, replaced, churn }
const CASES = ALL.flatMap(({ name, family }) =>
  Object.keys(SCRIPTS).map(script => ({ name, family, script: script as keyof typeof SCRIPTS })),
)

let workers: Worker[] = []
/** Settles when a reader dies. */
let died: Promise<unknown>

beforeAll(async () => {
  workers = Array.from(
    { length: READERS },
    () => new Worker(new URL('./reader.worker.ts', import.meta.url)),
  )
  await Promise.all(workers.map(worker => once(worker, 'online')))
  died = Promise.race(workers.map(worker => once(worker, 'exit')))
})

afterAll(async () => {
  await Promise.all(workers.map(worker => worker.terminate()))
})

describe('a reader sees the old or the new answer, never a third', () => {
  test.each(CASES)('$name $script', async ({ name, family, script }) => {
    const of = SCRIPTS[script](family)
    const { changes, headers, stable } = of
    const sets = truths(of, family)
    const { acl, memory, writer } = table(name, family, RULES)
    for (const change of [...stable, ...changes]) apply(writer, change)
    await writer.commit()
    const controls = workers.map(() => new Int32Array(new SharedArrayBuffer(64)))
    const reports = workers.map(async (worker, i) => {
      const task: ReaderTask = {
        name,
        family,
        rules: RULES,
        memory,
        control: controls[i]!,
        headers: Uint32Array.from(headers.flat()),
        allowed: sets.map(ids => [...ids]),
      }
      worker.postMessage(task)
      return (await once(worker, 'message'))[0] as ReaderReport
    })
    let passes = 0
    try {
      const pass = () => {
        readersPass(controls, ++passes)
        writer.quiesced()
      }
      pass()
      if (acl.incremental) {
        const rounds = Math.ceil((BURST * 4) / changes.length)
        for (let burst = 0; burst < BURSTS; burst++) {
          for (let round = 0; round < rounds; round++) {
            for (const change of changes) apply(writer, change)
          }
          pass()
        }
      }
      // One round that stops behind each change: every state is seen for certain.
      for (const change of changes) {
        apply(writer, change)
        await writer.commit()
        pass()
      }
    } finally {
      for (const control of controls) Atomics.store(control, STOP, 1)
      await Promise.race([Promise.all(reports), died])
    }
    for (const { wrong, seen, classified } of await Promise.all(reports)) {
      expect(wrong).toEqual([])
      expect(seen).toEqual(sets.map(ids => [...ids].sort((a, b) => a - b)))
      expect(classified).toBeGreaterThan(passes)
    }
  })
})
