/** What is measured: the FIBs of the registry, one of the user's, and peers, as one interface. */
import type { Fib, FibReader, FibWriter } from '../../dataplane/fib/fib.ts'
import { fibNames } from '../../dataplane/fib/index.ts'
import { type FibSource, fibSource, openFib } from '../../dataplane/fib/load.ts'
import { bytesOf, type FibTable, memoryOf, newTable } from '../../dataplane/fib/table.ts'
import { BATCH_SIZE } from '../../dataplane/limits.ts'
import { type RouteTable, wordsOf } from '../data/routes.ts'
import { type Sort, sortOf, type Contender as Turn } from '../harness/contender.ts'
import { fresh } from '../harness/fresh.ts'
import { callsPerSecond } from '../harness/micro.ts'
import type { Peer } from '../peers/peer.ts'
import type { Trace } from './traces.ts'

export type Contender = Turn<Trace>

/** An algorithm that can be built. */
export interface Algorithm {
  name: string
  sort: Sort
  source: FibSource
  fib: Fib
}

/** Those of a family, and the user's if the file has one for it. */
export async function algorithms(family: 4 | 6, file?: string): Promise<Algorithm[]> {
  const found: Algorithm[] = []
  for (const name of fibNames(family)) {
    const source: FibSource = { family, name }
    found.push({ name, sort: sortOf(name), source, fib: await openFib(source) })
  }
  if (file !== undefined) {
    const source = await fibSource(file, family)
    const fib = await openFib(source)
    const name = found.some(other => other.name === fib.name) ? `${fib.name} (yours)` : fib.name
    found.push({ name, sort: 'yours', source, fib })
  }
  return found
}

/** A FIB with all routes of a table. */
export interface Built {
  memory: FibTable
  writer: FibWriter
  ms: number
}

/** Builds the FIB route by route. Throws when a route has no room. */
export function build({ fib, source }: Algorithm, table: RouteTable): Built {
  const limits = { routes: table.count }
  const memory = newTable(source, bytesOf(fib, limits), limits)
  const words = wordsOf(table.family)
  const address = new Uint32Array(words)
  const { addresses, lengths, nextHops, count } = table
  const started = performance.now()
  const writer = fib.writer(memoryOf(memory), limits)
  for (let i = 0; i < count; i++) {
    for (let w = 0; w < words; w++) address[w] = addresses[i * words + w]!
    writer.insert(address, lengths[i]!, nextHops[i]!)
  }
  return { memory, writer, ms: performance.now() - started }
}

/** Bytes in pages that are not all zero: what of the region the table needs. */
export function usedBytes(memory: FibTable): number {
  const PAGE = 4096
  const words = new Uint32Array(memory.buffer, memory.offset, memory.bytes >>> 2)
  let pages = 0
  for (let at = 0; at < words.length; at += PAGE / 4) {
    const end = Math.min(words.length, at + PAGE / 4)
    let i = at
    while (i < end && words[i] === 0) i++
    if (i < end) pages++
  }
  return pages * PAGE
}

/**
 * Seconds that one pass over a trace may take: an algorithm that needs more than 200 ns a lookup gets
 * fewer addresses. A faster one must not: its caches would hold more of the table.
 */
const PASS_SECONDS = 0.06
/** Batches before the pass is timed, in which V8 finds out what is hot. */
const COLD_BATCHES = 64

/**
 * Sums answers of batches, modulo 2^32: of each 16 the first two, as `sumOf` does. All of them would
 * cost a tenth of the fastest lookups, and the peers' drivers don't pay for it.
 */
function sumBatches(
  reader: FibReader,
  batches: readonly Uint32Array[],
  words: number,
  found: Uint16Array,
  pairs: Int32Array,
): number {
  let sum = 0
  for (let b = 0; b < batches.length; b++) {
    const n = batches[b]!.length / words
    reader.lookup(batches[b]!, n, found)
    for (let i = 0; i + 8 <= n >> 1; i += 8) sum = (sum + pairs[i]!) | 0
  }
  return sum
}

/** What `sumBatches` finds when the first `n` answers are right. */
function sumOf(answers: Uint16Array, n: number): number {
  let sum = 0
  for (let i = 0; i + 16 <= n; i += 16) sum = (sum + answers[i]! + (answers[i + 1]! << 16)) | 0
  return sum
}

/** One address a call, each made with the answer to the one before: `zero` holds a 0, which only the reader of this line knows. */
function sumChain(
  reader: FibReader,
  addresses: Uint32Array,
  n: number,
  words: number,
  one: Uint32Array,
  found: Uint16Array,
  zero: Uint32Array,
): number {
  let sum = 0
  found[0] = 0
  for (let i = 0; i < n; i++) {
    const at = i * words
    one[0] = addresses[at]! ^ (found[0]! & zero[0]!)
    for (let w = 1; w < words; w++) one[w] = addresses[at + w]!
    reader.lookup(one, 1, found)
    sum += found[0]!
  }
  return sum
}

/** An algorithm that has been built, as a contender. */
export function own(
  { name, sort, fib }: Algorithm,
  memory: FibTable,
  table: RouteTable,
  size: string,
): Contender {
  const words = wordsOf(table.family)
  const reader = fib.reader(memoryOf(memory), memory.limits)
  const batchwise = fresh(sumBatches)
  const chained = fresh(sumChain)
  const found = new Uint16Array(BATCH_SIZE)
  const pairs = new Int32Array(found.buffer)
  const one = new Uint32Array(words)
  const zero = new Uint32Array(1)
  let work = () => 0
  let expected = 0
  let lookups = 0
  let label = ''
  return {
    name,
    sort,
    async take(trace) {
      label = `${name} IPv${table.family} ${size} ${trace.kind}`
      const batches = batchesOf(trace, words)
      const n = affordable(reader, batches, words, found)
      compare(name, trace, words, n, answersOf(reader, batches, words, n))
      const some = batches.slice(0, Math.ceil(n / BATCH_SIZE))
      work =
        trace.kind === 'dependent'
          ? () => chained(reader, trace.addresses, n, words, one, found, zero)
          : () => batchwise(reader, some, words, found, pairs)
      lookups = n
      expected = sumOf(trace.answers, n)
      if (trace.kind !== 'dependent') return
      expected = 0
      for (let i = 0; i < n; i++) expected += trace.answers[i]!
    },
    rate: async seconds => lookups * (await callsPerSecond(label, seconds, expected, work)),
  }
}

function batchesOf({ addresses, n }: Trace, words: number): Uint32Array[] {
  const batches: Uint32Array[] = []
  for (let i = 0; i < n; i += BATCH_SIZE) {
    batches.push(addresses.subarray(i * words, Math.min(n, i + BATCH_SIZE) * words))
  }
  return batches
}

/** Addresses of whole batches that are looked up in PASS_SECONDS. */
function affordable(
  reader: FibReader,
  batches: readonly Uint32Array[],
  words: number,
  found: Uint16Array,
): number {
  const pass = (some: readonly Uint32Array[]) => {
    const end = performance.now() + PASS_SECONDS * 1000
    let n = 0
    for (const batch of some) {
      reader.lookup(batch, batch.length / words, found)
      n += batch.length / words
      if (performance.now() > end) break
    }
    return n
  }
  pass(batches.slice(0, COLD_BATCHES))
  return pass(batches)
}

function answersOf(
  reader: FibReader,
  batches: readonly Uint32Array[],
  words: number,
  n: number,
): Uint16Array {
  const answers = new Uint16Array(n)
  for (let i = 0, b = 0; i < n; b++) {
    const count = batches[b]!.length / words
    reader.lookup(batches[b]!, count, answers.subarray(i, i + count))
    i += count
  }
  return answers
}

/** Throws for the first of `n` answers that is not the oracle's. */
function compare(
  name: string,
  { kind, addresses, answers }: Trace,
  words: number,
  n: number,
  found: ArrayLike<number>,
): void {
  for (let i = 0; i < n; i++) {
    if (found[i] === answers[i]) continue
    const address = addresses.subarray(i * words, (i + 1) * words)
    throw new Error(`${name}, ${kind}: ${address} has next hop ${answers[i]}, not ${found[i]}`)
  }
}

/** A peer as a contender. A peer that answers otherwise stops the bench. */
export function ofPeer(peer: Peer, family: 4 | 6): Contender {
  let dependent = false
  return {
    name: peer.name,
    sort: 'peer',
    async take(trace) {
      dependent = trace.kind === 'dependent'
      const found = await peer.trace(trace.addresses)
      if (found.length !== trace.n) throw new Error(`${peer.name}: ${found.length} answers`)
      compare(peer.name, trace, wordsOf(family), trace.n, found)
    },
    rate: seconds => peer.rate(seconds, dependent),
  }
}
