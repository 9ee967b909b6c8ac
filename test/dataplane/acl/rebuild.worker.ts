/**
 * A reader in a thread of its own: asks about the same batch again and again and counts what it
 * finds. Rule `i` of set 0 has the id 2 i + 1, of set 1 the id 2 i + 2; header `i` matches rule `i`.
 */
import { workerData } from 'node:worker_threads'
import { aclByName } from '../../../dataplane/acl/index.ts'

export interface ReaderTask {
  name: string
  family: 4 | 6
  memory: Uint8Array
  rules: number
  headers: Uint32Array
  /** Words COUNTERS and on. */
  counters: Int32Array
}

/** Batches that are done; of those, how many were answered by another set than the one before. */
export const BATCHES = 0
export const TURNS = 1
/** Batches with answers of two sets, or of none. */
export const WRONG = 2
/** The main thread's: not 0 ends it. */
export const STOP = 3
export const COUNTERS = 4

/** The set that answered all headers, or -1. */
function setOf(found: Uint16Array, rules: number): number {
  const set = (found[0]! - 1) & 1
  for (let i = 0; i < rules; i++) if (found[i] !== 2 * i + 1 + set) return -1
  return set
}

if (workerData?.counters !== undefined) {
  const { name, family, memory, rules, headers, counters } = workerData as ReaderTask
  const reader = aclByName(name, family).reader(memory, { rules })
  const found = new Uint16Array(rules)
  let before = -1
  while (Atomics.load(counters, STOP) === 0) {
    reader.classify(headers, rules, found)
    const set = setOf(found, rules)
    if (set < 0) counters[WRONG]!++
    else if (set !== before) counters[TURNS]!++
    before = set
    Atomics.add(counters, BATCHES, 1)
  }
}
