/**
 * What is known of the names that this node's pods have asked for: one region a port, which the worker that has the
 * port's lock reads and writes, and patterns (patterns.ts). A region, in words:
 *
 *     head       PORT.LOCK (memory/mutex.ts), counts of places that were ever used, what limits have refused
 *     questions  DNS_QUESTIONS of QUESTION.WORDS (questions.ts)
 *     names      DNS_NAMES of NAME.WORDS (learned.ts)
 *     chains     CHAINS: by the hash of an address the number of the first one, 0: none
 *     addresses  DNS_ADDRESSES of ADDRESS.WORDS (learned.ts)
 *     streams    DNS_STREAMS of STREAM.WORDS (streams.ts)
 *
 * Memory of a port that asks nothing is never touched.
 */
import type { Cidr } from '../addresses.ts'
import {
  DNS_ADDRESSES,
  DNS_NAMES,
  DNS_QUESTIONS,
  DNS_STREAM_BYTES,
  DNS_STREAMS,
  MAX_PORTS,
} from '../limits.ts'
import { type PatternMemory, patternMemory } from './patterns.ts'

export const PORT = {
  LOCK: 0,
  QUESTIONS: 1,
  NAMES: 2,
  ADDRESSES: 3,
  /** Names, addresses, and addresses of one name that there was no room for. */
  REFUSED_NAMES: 4,
  REFUSED_ADDRESSES: 5,
  REFUSED_OF_NAME: 6,
  /** Counts segments, so that a stream has its age. */
  STREAMS: 7,
  WORDS: 16,
} as const

export const QUESTION = {
  /** Second in which it was asked; 0: free. */
  SECOND: 0,
  PORTS: 1,
  /** id << 16 | bytes of the question. */
  ID: 2,
  /** Protocol | family << 8. */
  KIND: 3,
  /** The resolver; IPv4 in the last word. */
  ADDRESS: 4,
  BYTES: 8,
  WORDS: 8 + 65,
} as const

export const NAME = {
  /** Addresses that it has; 0: free. */
  COUNT: 0,
  LENGTH: 1,
  BYTES: 2,
  WORDS: 2 + 64,
} as const

export const ADDRESS = {
  NEXT: 0,
  /** Number of its name, from 1; 0: free. */
  NAME: 1,
  FAMILY: 2,
  /** IPv4 in the last word. */
  WORDS_AT: 3,
  /** Second from which on no new flow may go to it. */
  EXPIRES: 7,
  WORDS: 8,
} as const

export const STREAM = {
  /** Protocol | family << 8 | 1 << 16 from the pod; 0: free. */
  KIND: 0,
  PORTS: 1,
  /** The resolver's; IPv4 in the last word. */
  ADDRESS: 2,
  /** Sequence number that comes next. */
  EXPECTED: 6,
  /** Bytes of the message that comes in parts, its length's included; bytes of one that is passed over. */
  HAVE: 7,
  SKIP: 8,
  USED: 9,
  BYTES: 10,
  WORDS: 10 + DNS_STREAM_BYTES / 4,
} as const

export const CHAINS = 512

export const QUESTIONS_AT = PORT.WORDS
export const NAMES_AT = QUESTIONS_AT + DNS_QUESTIONS * QUESTION.WORDS
export const CHAINS_AT = NAMES_AT + DNS_NAMES * NAME.WORDS
export const ADDRESSES_AT = CHAINS_AT + CHAINS
export const STREAMS_AT = ADDRESSES_AT + DNS_ADDRESSES * ADDRESS.WORDS
export const REGION_WORDS = STREAMS_AT + DNS_STREAMS * STREAM.WORDS

/** Words of `DnsMemory.counts`, of the whole node. */
export const COUNT = {
  /** Addresses that were learned, or learned again. */
  LEARNED: 0,
  /** Answers that no question of the pod's belongs to. */
  UNASKED: 1,
  /** Messages that are no DNS, or have more records than are read. */
  MALFORMED: 2,
  /** Messages over TCP that could not be followed. */
  UNFOLLOWED: 3,
  /** Messages that were dropped, and flows that were judged as if nothing was learned, since others had the port's lock all the time. */
  BUSY: 4,
  /** Patterns of an address beyond PATTERNS_OF_ADDRESS. */
  PATTERNS: 5,
  WORDS: 16,
} as const

export interface DnsMemory {
  readonly regions: Int32Array
  readonly patterns: PatternMemory
  readonly counts: Uint32Array
  readonly resolvers: readonly Cidr[]
}

export function dnsMemory(resolvers: readonly Cidr[]): DnsMemory {
  return {
    regions: new Int32Array(new SharedArrayBuffer(MAX_PORTS * REGION_WORDS * 4)),
    patterns: patternMemory(),
    counts: new Uint32Array(new SharedArrayBuffer(COUNT.WORDS * 4)),
    resolvers,
  }
}

/** Word of a port's region. */
export function regionAt(port: number): number {
  return port * REGION_WORDS
}
