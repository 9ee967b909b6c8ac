/** Flows for the benches: keys that are in a table, keys that are not, and memory for tables. */
import type { FlowKeys } from '../../dataplane/flow/flow.ts'
import { FLOW_KEY_WORDS, flowKeys4, kindOf } from '../../dataplane/hash/flow-key.ts'
import type { Hasher } from '../../dataplane/hash/hash.ts'
import { BATCH_SIZE } from '../../dataplane/limits.ts'
import { sharedPages } from '../../dataplane/memory/pages.ts'

/** Huge pages begin where this divides an address. */
const HUGE_PAGE = 2 ** 21
const TCP = 6

/** A region for a table, where huge pages can lie. */
export function region(bytes: number): Uint8Array {
  return sharedPages(bytes, HUGE_PAGE)
}

/**
 * `n` different flows from number `first` on: pods of one /16 as clients, each with ports in turn,
 * and services; packets of both directions.
 */
export function flowKeys(first: number, n: number): Omit<FlowKeys, 'hashes'> {
  const tuples = {
    source: new Uint32Array(n),
    destination: new Uint32Array(n),
    ports: new Uint32Array(n),
    kinds: new Uint32Array(n).fill(kindOf(4, TCP, 0)),
  }
  for (let i = 0; i < n; i++) {
    const number = first + i
    const client = 0x0af4_0000 + (number & 0xffff)
    const service = 0x0a60_0000 + (Math.imul(number, 0x9e37_79b9) >>> 20)
    const back = ((number >>> 16) & 1) === 1
    const [source, destination] = back ? [service, client] : [client, service]
    const clientPort = 32_768 + (number >>> 16)
    tuples.source[i] = source
    tuples.destination[i] = destination
    tuples.ports[i] = back ? (443 << 16) | clientPort : (clientPort << 16) | 443
  }
  const words = new Uint32Array(n * FLOW_KEY_WORDS)
  const directions = new Uint8Array(n)
  flowKeys4(tuples, n, words, directions)
  return { words, directions }
}

export interface Trace {
  /** By row: which of the keys it is. */
  order: Uint32Array
  /** All rows behind each other. */
  keys: FlowKeys
  /** Views of the same, BATCH_SIZE rows each but the last. */
  batches: { keys: FlowKeys; n: number; at: number }[]
}

/** All keys in an order that is the same in each run. */
export function traceOf(keys: Omit<FlowKeys, 'hashes'>, hasher: Hasher, shuffle: number): Trace {
  const n = keys.directions.length
  const order = Uint32Array.from({ length: n }, (_, i) => i)
  let state = shuffle
  for (let i = n - 1; i > 0; i--) {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0
    const j = Math.floor((state / 2 ** 32) * (i + 1))
    const kept = order[i]!
    order[i] = order[j]!
    order[j] = kept
  }
  const words = new Uint32Array(n * FLOW_KEY_WORDS)
  const directions = new Uint8Array(n)
  const hashes = new Uint32Array(n)
  for (let i = 0; i < n; i++) {
    const from = order[i]! * FLOW_KEY_WORDS
    words.set(keys.words.subarray(from, from + FLOW_KEY_WORDS), i * FLOW_KEY_WORDS)
    directions[i] = keys.directions[order[i]!]!
  }
  hasher.flows(words, n, hashes)
  const batches: Trace['batches'] = []
  for (let at = 0; at < n; at += BATCH_SIZE) {
    const end = Math.min(n, at + BATCH_SIZE)
    batches.push({
      keys: {
        words: words.subarray(at * FLOW_KEY_WORDS, end * FLOW_KEY_WORDS),
        hashes: hashes.subarray(at, end),
        directions: directions.subarray(at, end),
      },
      n: end - at,
      at,
    })
  }
  return { order, keys: { words, hashes, directions }, batches }
}
