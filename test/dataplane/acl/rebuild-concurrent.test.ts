/** A reader in another thread while the rules change whole: each batch is of one set of rules. */
import { once } from 'node:events'
import { Worker } from 'node:worker_threads'
import { expect, test } from 'vitest'
import { type AclRule, HEADER_WORDS } from '../../../dataplane/acl/acl.ts'
import { aclByName, aclNames } from '../../../dataplane/acl/index.ts'
import { BATCHES, COUNTERS, type ReaderTask, STOP, TURNS, WRONG } from './rebuild.worker.ts'
import { FAMILIES, type Family, table } from './rebuild-sets.ts'

const RULES = 200
const ROUNDS = 20

const REBUILT = FAMILIES.flatMap(family =>
  aclNames(family)
    .filter(name => !aclByName(name, family).incremental)
    .map(name => ({ name, family })),
)

/** Address of host `i`, in /24s side by side. */
const host = (family: Family, i: number) => {
  const low = 0x0a00_0000 + 97 * i
  return family === 4 ? [low] : [0xfd00_0000, 0, 7, low]
}

function rule(family: Family, set: 0 | 1, i: number): AclRule {
  return {
    id: 2 * i + 1 + set,
    // The two sets have opposite orders.
    priority: set === 0 ? i : RULES - i,
    destination: { address: host(family, i), prefix: 32 * host(family, i).length },
    protocol: 6,
  }
}

test.each(REBUILT)('$name', async ({ name, family }) => {
  const { writer, memory } = table(aclByName(name, family), RULES)
  const words = HEADER_WORDS[family]
  const headers = new Uint32Array(RULES * words)
  for (let i = 0; i < RULES; i++) {
    headers.set([...host(family, 1), ...host(family, i), 0x0050_0050, 6], i * words)
  }
  const counters = new Int32Array(new SharedArrayBuffer(COUNTERS * 4))
  const task: ReaderTask = { name, family, memory, rules: RULES, headers, counters }
  for (let i = 0; i < RULES; i++) writer.insert(rule(family, 0, i))
  await writer.commit()

  const worker = new Worker(new URL('./rebuild.worker.ts', import.meta.url), { workerData: task })
  const failed = once(worker, 'error').then(([error]) => Promise.reject(error))
  /** Two batches later the reader has begun and ended one on what is published now. */
  async function quiescence(): Promise<void> {
    const until = Atomics.load(counters, BATCHES) + 2
    while (Atomics.load(counters, BATCHES) < until) {
      await Promise.race([failed, new Promise<void>(resolve => setImmediate(resolve))])
    }
  }
  try {
    await quiescence()
    for (let round = 1; round <= ROUNDS; round++) {
      for (let i = 0; i < RULES; i++) {
        writer.remove(rule(family, round % 2 === 0 ? 1 : 0, i).id)
        writer.insert(rule(family, round % 2 === 0 ? 0 : 1, i))
      }
      await writer.commit()
      await quiescence()
      writer.quiesced()
    }
  } finally {
    Atomics.store(counters, STOP, 1)
    failed.catch(() => {})
    await once(worker, 'exit')
  }
  expect(counters[WRONG]).toBe(0)
  expect(counters[TURNS]).toBe(ROUNDS + 1)
})
