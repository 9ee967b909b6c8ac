/** What is measured: the ACLs of the registry, one of the user's, and peers, as one interface. */
import { resolve } from 'node:path'
import { pathToFileURL } from 'node:url'
import { type Acl, type AclReader, type AclWriter, HEADER_WORDS } from '../../dataplane/acl/acl.ts'
import { aclByName, aclNames } from '../../dataplane/acl/index.ts'
import { BATCH_SIZE } from '../../dataplane/limits.ts'
import { sharedPages } from '../../dataplane/memory/pages.ts'
import { type Sort, sortOf, type Contender as Turn } from '../harness/contender.ts'
import { fresh } from '../harness/fresh.ts'
import { callsPerSecond } from '../harness/micro.ts'
import type { Peer } from '../peers/peer.ts'
import type { RuleSet, Trace } from './workload.ts'

export type Contender = Turn<Trace>

/** An algorithm that can be built. */
export interface Algorithm {
  name: string
  sort: Sort
  acl: Acl
}

/** Those of a family, and the user's if the file exports one for it. */
export async function algorithms(family: 4 | 6, file?: string): Promise<Algorithm[]> {
  const found = aclNames(family).map(
    (name): Algorithm => ({ name, sort: sortOf(name), acl: aclByName(name, family) }),
  )
  if (file === undefined) return found
  const exported = Object.values(await import(pathToFileURL(resolve(file)).href)) as Acl[]
  const mine = exported.filter(acl => acl?.family === family && typeof acl.reader === 'function')
  if (mine.length === 0) throw new Error(`${file}: exports no ACL for IPv${family}`)
  return [...found, ...mine.map((acl): Algorithm => ({ name: acl.name, sort: 'yours', acl }))]
}

/** An ACL with all rules of a set. */
export interface Built {
  memory: Uint8Array
  limits: { rules: number }
  writer: AclWriter
  ms: number
}

/** Builds the ACL rule by rule, and waits until readers see all of them. Rejects with RangeError when they have no room. */
export async function build({ acl }: Algorithm, { rules }: RuleSet): Promise<Built> {
  const limits = { rules: rules.length }
  const memory = sharedPages(acl.bytes(limits))
  const started = performance.now()
  const writer = acl.writer(memory, limits)
  for (const rule of rules) writer.insert(rule)
  await writer.commit()
  return { memory, limits, writer, ms: performance.now() - started }
}

/** Bytes in pages that are not all zero: what of the region the rules need. */
export function usedBytes(memory: Uint8Array): number {
  const PAGE = 4096
  const words = new Uint32Array(memory.buffer, memory.byteOffset, memory.byteLength >>> 2)
  let used = 0
  for (let at = 0; at < words.length; at += PAGE / 4) {
    const end = Math.min(words.length, at + PAGE / 4)
    let i = at
    while (i < end && words[i] === 0) i++
    if (i < end) used++
  }
  return used * PAGE
}

/**
 * Changes a second of an incremental ACL: each rule in turn, from the middle of the list on, is taken
 * out and put back; nobody reads meanwhile. Ends with the rules that there were.
 */
export function changesPerSecond({ writer }: Built, { rules }: RuleSet, seconds: number): number {
  const started = performance.now()
  let changes = 0
  let elapsed = 0
  for (let i = rules.length >>> 1; elapsed < seconds * 1000; i++) {
    const rule = rules[i % rules.length]!
    writer.remove(rule.id)
    writer.insert(rule)
    writer.quiesced()
    changes += 2
    elapsed = performance.now() - started
  }
  return (changes * 1000) / elapsed
}

/** Seconds that one pass over a trace may take: slow algorithms classify only its beginning. */
const PASS_SECONDS = 0.1
const ORACLE_PASS_SECONDS = 0.02

/** Sums the answers of batches. */
function sumBatches(
  reader: AclReader,
  batches: readonly Uint32Array[],
  words: number,
  found: Uint16Array,
): number {
  let sum = 0
  for (let b = 0; b < batches.length; b++) {
    const n = batches[b]!.length / words
    reader.classify(batches[b]!, n, found)
    for (let i = 0; i < n; i++) sum += found[i]!
  }
  return sum
}

/** An algorithm that has been built, as a contender. */
export function own({ name, sort, acl }: Algorithm, built: Built, set: RuleSet): Contender {
  const words = HEADER_WORDS[acl.family]
  const reader = acl.reader(built.memory, built.limits)
  const sum = fresh(sumBatches)
  const found = new Uint16Array(BATCH_SIZE)
  let label = ''
  let some: Uint32Array[] = []
  let headers = 0
  let expected = 0
  return {
    name,
    sort,
    async take(trace) {
      label = `${name} ${set.name} ${trace.name}`
      const answers = new Uint16Array(trace.n)
      some = []
      headers = 0
      const oracle = sort === 'oracle'
      const most = (oracle ? ORACLE_PASS_SECONDS : PASS_SECONDS) * 1000
      const started = performance.now()
      let elapsed = 0
      // What made the answers needn't be compared with all of them.
      while (headers < trace.n && (!oracle || elapsed < most)) {
        const n = Math.min(BATCH_SIZE, trace.n - headers)
        const batch = trace.headers.subarray(headers * words, (headers + n) * words)
        reader.classify(batch, n, answers.subarray(headers, headers + n))
        if (elapsed < most) some.push(batch)
        headers += n
        elapsed = performance.now() - started
      }
      compare(label, trace, headers, answers)
      headers = some.reduce((total, batch) => total + batch.length / words, 0)
      expected = 0
      for (let i = 0; i < headers; i++) expected += trace.answers[i]!
    },
    rate: async seconds =>
      headers *
      (await callsPerSecond(label, seconds, expected, () => sum(reader, some, words, found))),
  }
}

/** Throws for the first of `n` answers that is not the oracle's. */
function compare(who: string, { answers }: Trace, n: number, found: ArrayLike<number>): void {
  for (let i = 0; i < n; i++) {
    if (found[i] === answers[i]) continue
    throw new Error(`${who}: header ${i} is decided by rule ${answers[i]}, not ${found[i]}`)
  }
}

/** A peer as a contender. One that answers otherwise stops the bench. */
export function ofPeer(peer: Peer): Contender {
  return {
    name: peer.name,
    sort: 'peer',
    async take(trace) {
      const found = await peer.trace(trace.headers)
      if (found.length !== trace.n) throw new Error(`${peer.name}: ${found.length} answers`)
      compare(peer.name, trace, trace.n, found)
    },
    rate: seconds => peer.rate(seconds),
  }
}
