/** The thread of vet.ts. */
import { once } from 'node:events'
import { parentPort, workerData } from 'node:worker_threads'
import { wordsToIp } from '../../addresses.ts'
import { MAX_NEXT_HOPS } from '../../limits.ts'
import { type RouteColumns, seeded, seededRoutes } from '../columns.ts'
import type { Fib, FibReader, FibWriter } from '../fib.ts'
import { fibSource, openFib } from '../load.ts'
import { mapOracle } from '../map-oracle.ts'
import { wordMask } from '../route.ts'
import { readerRefusal, writerRefusal } from '../shape.ts'
import { bytesOf, memoryOf, newTable } from '../table.ts'
import type { VetMessage, VetTask } from './vet.ts'

/** Addresses that are asked each time. */
const SAMPLES = 1 << 15
const BATCH = 64
/** Routes that are taken out and put back, at most. */
const MOST_REMOVED = 4096
/** Seeded routes for a node that has none. */
const SEEDED_ROUTES = 2048

const port = parentPort!
const say = (message: VetMessage): void => port.postMessage(message)

/** Not at the top level: a file that awaits for ever just lets the thread end. */
async function vet({ text, family, limits }: VetTask): Promise<VetMessage> {
  const source = await fibSource(text, family)
  const answered = once(port, 'message')
  say({ source })
  const [given] = (await answered) as [RouteColumns | undefined]
  const fib = await openFib(source)
  const words = fib.family === 4 ? 1 : 4
  const routes =
    given === undefined || given.count === 0
      ? seededRoutes(words, Math.min(SEEDED_ROUTES, limits.routes), MAX_NEXT_HOPS - 1)
      : given
  const memory = memoryOf(newTable(source, bytesOf(fib, limits), limits))
  const writer = fib.writer(memory, limits)
  const reader = fib.reader(memory, limits)
  const cause = refusalOf(fib, writer, reader) ?? trial(words, writer, reader, routes)
  return cause === undefined ? { good: true } : { refused: `${text}: ${cause}` }
}

const task = workerData as VetTask
vet(task).then(say, error => {
  const message = error instanceof Error ? error.message : String(error)
  say({ refused: message.startsWith(task.text) ? message : `${task.text}: ${message}` })
})

function refusalOf(fib: Fib, writer: FibWriter, reader: FibReader): string | undefined {
  const lack = (what: string, cause: string | undefined) =>
    cause === undefined ? undefined : `${fib.name}: the ${what}: ${cause}`
  return lack('writer', writerRefusal(writer)) ?? lack('reader', readerRefusal(reader))
}

/** What the FIB does wrong with these routes; undefined when nothing was found. */
function trial(
  words: 1 | 4,
  writer: FibWriter,
  reader: FibReader,
  routes: RouteColumns,
): string | undefined {
  const oracle = mapOracle(words)
  const addressOf = (i: number) => routes.addresses.subarray(i * words, (i + 1) * words)
  const insert = (i: number) => {
    writer.insert(addressOf(i), routes.prefixes[i]!, routes.nextHops[i]!)
    oracle.insert(addressOf(i), routes.prefixes[i]!, routes.nextHops[i]!)
  }
  const sample = (when: string, seed: number, count: number): string | undefined => {
    if (writer.size !== count) return `${when}: its size is ${writer.size}, not ${count}`
    const wrong = firstWrong(words, reader, routes, oracle.lookup, seed)
    return wrong === undefined ? undefined : `${when}: ${wrong}`
  }
  for (let i = 0; i < routes.count; i++) insert(i)
  const filled = sample('filled', 1, routes.count)
  if (filled !== undefined) return filled

  const step = Math.max(2, Math.ceil(routes.count / MOST_REMOVED))
  let removed = 0
  for (let i = 0; i < routes.count; i += step, removed++) {
    if (!writer.remove(addressOf(i), routes.prefixes[i]!)) {
      return `remove: says that ${wordsToIp(addressOf(i))}/${routes.prefixes[i]} was not there`
    }
    oracle.remove(addressOf(i), routes.prefixes[i]!)
  }
  const less = sample(`with ${removed} routes removed`, 2, routes.count - removed)
  if (less !== undefined) return less
  let listed = 0
  for (const _ of writer.routes()) listed++
  if (listed !== routes.count - removed) {
    return `routes: gives ${listed} routes, not ${routes.count - removed}`
  }
  writer.quiesced()
  for (let i = 0; i < routes.count; i += step) insert(i)
  return sample(`with ${removed} routes put back`, 3, routes.count)
}

/** The first address that is answered otherwise than by the oracle. */
function firstWrong(
  words: 1 | 4,
  reader: FibReader,
  routes: RouteColumns,
  right: (addresses: Uint32Array, from: number) => number,
  seed: number,
): string | undefined {
  const random = seeded(seed * 0x9e37_79b1)
  const addresses = new Uint32Array(BATCH * words)
  const found = new Uint16Array(BATCH)
  for (let done = 0; done < SAMPLES; done += BATCH) {
    for (let k = 0; k < BATCH; k++) pick(words, routes, random, addresses, k * words)
    const asked = addresses.slice()
    reader.lookup(addresses, BATCH, found)
    for (let k = 0; k < BATCH; k++) {
      const expected = right(asked, k * words)
      if (found[k] === expected) continue
      const address = wordsToIp(asked.subarray(k * words, (k + 1) * words))
      return `${address} has next hop ${found[k]}, the oracle says ${expected}`
    }
  }
  return undefined
}

/** Writes an address: inside a route, at its ends, beside them, or anywhere. */
function pick(
  words: 1 | 4,
  routes: RouteColumns,
  random: () => number,
  into: Uint32Array,
  at: number,
): void {
  const kind = random() % 6
  const route = random() % Math.max(1, routes.count)
  const prefix = kind === 0 || routes.count === 0 ? 0 : routes.prefixes[route]!
  for (let w = 0; w < words; w++) {
    const mask = wordMask(prefix, w)
    const behind = kind === 2 || kind === 4 ? 0 : kind === 3 || kind === 5 ? 0xffff_ffff : random()
    into[at + w] = (routes.addresses[route * words + w]! & mask) | (behind & ~mask)
  }
  if (kind === 4) add(into, at, words, -1)
  if (kind === 5) add(into, at, words, 1)
}

/** Adds 1 or -1 to an address of several words, modulo its width. */
function add(into: Uint32Array, at: number, words: number, by: 1 | -1): void {
  for (let w = at + words - 1; w >= at; w--) {
    into[w]! += by
    if (by === 1 ? into[w] !== 0 : into[w] !== 0xffff_ffff) return
  }
}
