/**
 * The port table: one record a port in the arena, PORT_RECORD_BYTES bytes of little-endian words. The
 * main thread writes it inside a change of the tables (tables.ts); workers read their copy. FIELDS
 * says where each field is, and how; nothing else knows.
 */
import { macBytes } from '../addresses.ts'
import { MAX_WORKERS } from '../limits.ts'
import { type Arena, PORT_RECORD_BYTES } from '../memory/arena.ts'
import { markMoved } from './blocks.ts'
import { NO_RATE, type Rate } from './rates.ts'

export const PORT_STATE = {
  FREE: 0,
  /** Workers serve it. */
  ACTIVE: 1,
  /** Workers stop serving it; the kernel may still hold frames. */
  CLOSING: 2,
  /** The kernel has let go of it: workers take back its frames. */
  CLOSED: 3,
} as const

export const PORT_FLAG = {
  /** TX checksum metadata works on this device (kernel 6.8+). */
  TX_METADATA: 1,
  HAS_IPV4: 2,
  HAS_IPV6: 4,
  /** `udp`: what it receives is whole packets of a raw socket (native.udpOpenRaw), in one queue for all workers. */
  RAW: 8,
  /** A pod that policy may have a word for: its flows are kept, so that a policy that comes later knows how they began. */
  POLICED: 16,
} as const

export interface PortRecord {
  state: number
  kind: number
  role: number
  flags: number
  ifindex: number
  mtu: number
  /** Six bytes as two numbers: the first four and the last two. */
  macHigh: number
  macLow: number
  peerMacHigh: number
  peerMacLow: number
  ip4: number
  fillFrames: number
  ip6: readonly [number, number, number, number]
  fds: readonly number[]
  rings: readonly number[]
  moreFds: readonly number[]
  /** What the pod may receive and send. */
  ingress: Rate
  egress: Rate
  /** What a pod sends is of this network; of an underlay the packets themselves say it. */
  network: number
  /** Of a pod: what policy knows it as, and its programs (policy/tables.ts); 0: none. */
  identity: number
  ingressProgram: number
  egressProgram: number
}

/** The record of a free place; what a port has beyond it is laid over. */
export const NO_PORT: PortRecord = {
  state: PORT_STATE.FREE,
  kind: 0,
  role: 0,
  flags: 0,
  ifindex: 0,
  mtu: 0,
  macHigh: 0,
  macLow: 0,
  peerMacHigh: 0,
  peerMacLow: 0,
  ip4: 0,
  fillFrames: 0,
  ip6: [0, 0, 0, 0],
  fds: [],
  rings: [],
  moreFds: [],
  ingress: NO_RATE,
  egress: NO_RATE,
  network: 0,
  identity: 0,
  ingressProgram: 0,
  egressProgram: 0,
}

/** `02:68:…` as the two numbers of a record. Throws RangeError. */
export function macWords(mac: string): { high: number; low: number } {
  const view = new DataView(macBytes(mac).buffer)
  return { high: view.getUint32(0), low: view.getUint16(4) }
}

const WORDS = PORT_RECORD_BYTES / 4

/** How a field lies in a record. */
export interface Field<T> {
  /** Its first word, and how many words it has. */
  readonly at: number
  readonly words: number
  /** `at`: index of the first word. */
  read(words: Int32Array, at: number): T
  write(words: Int32Array, at: number, value: T): void
}

export const FIELDS: { readonly [K in keyof PortRecord]: Field<PortRecord[K]> } = {
  state: word(0),
  kind: word(1),
  role: word(2),
  flags: word(3),
  ifindex: word(4),
  mtu: word(5),
  macHigh: word(6),
  macLow: word(7),
  peerMacHigh: word(8),
  peerMacLow: word(9),
  ip4: word(10),
  fillFrames: word(11),
  /** Most significant word first. */
  ip6: {
    at: 12,
    words: 4,
    read: (words, at) => [
      words[at]! >>> 0,
      words[at + 1]! >>> 0,
      words[at + 2]! >>> 0,
      words[at + 3]! >>> 0,
    ],
    write: (words, at, value) => words.set(value, at),
  },
  /** By worker. */
  fds: list(16, -1),
  rings: list(24, 0),
  moreFds: list(32, -1),
  ingress: rate(40),
  egress: rate(42),
  network: word(44),
  identity: word(45),
  ingressProgram: word(46),
  egressProgram: word(47),
}

/** Word of a record where its two buckets are: the workers', in the arena alone, in a cache line that nothing else is written in. */
export const BUCKETS = 48

const KEYS = Object.keys(FIELDS) as (keyof PortRecord)[]

function word(at: number): Field<number> {
  return {
    at,
    words: 1,
    read: (words, from) => words[from]! >>> 0,
    write: (words, to, value) => {
      words[to] = value
    },
  }
}

/** One number a worker; `none`: of a queue that the port lacks. */
function list(at: number, none: number): Field<readonly number[]> {
  return {
    at,
    words: MAX_WORKERS,
    read: (words, from) => Array.from(words.subarray(from, from + MAX_WORKERS)),
    write: (words, to, value) => {
      for (let w = 0; w < MAX_WORKERS; w++) words[to + w] = value[w] ?? none
    },
  }
}

function rate(at: number): Field<Rate> {
  return {
    at,
    words: 2,
    read: (words, from) => ({ rate: words[from]! >>> 0, burst: words[from + 1]! }),
    write: (words, to, { rate, burst }) => words.set([rate, burst], to),
  }
}

export function writePort(arena: Arena, port: number, record: PortRecord): void {
  const at = arena.layout.ports.offset / 4 + port * WORDS
  for (const key of KEYS) put(arena.words, at, record, key)
  markMoved(arena, 'ports', port * PORT_RECORD_BYTES, PORT_RECORD_BYTES)
}

/** `tableAt`: byte offset of the table in `words`. */
export function readPort(words: Int32Array, tableAt: number, port: number): PortRecord {
  const record: PortRecord = { ...NO_PORT }
  for (const key of KEYS) take(words, tableAt / 4 + port * WORDS, record, key)
  return record
}

function put<K extends keyof PortRecord>(
  words: Int32Array,
  at: number,
  record: PortRecord,
  key: K,
): void {
  FIELDS[key].write(words, at + FIELDS[key].at, record[key])
}

function take<K extends keyof PortRecord>(
  words: Int32Array,
  at: number,
  record: PortRecord,
  key: K,
): void {
  record[key] = FIELDS[key].read(words, at + FIELDS[key].at)
}

/** Whether policy has a word for any of the first `count` ports. */
export function anyPoliced(words: Int32Array, tableAt: number, count: number): boolean {
  for (let port = 0; port < count; port++) {
    if ((words[tableAt / 4 + port * WORDS + FIELDS.flags.at]! & PORT_FLAG.POLICED) !== 0)
      return true
  }
  return false
}

/** Whether what any of the first `count` ports receives is limited. */
export function limitsIngress(words: Int32Array, tableAt: number, count: number): boolean {
  for (let port = 0; port < count; port++) {
    if (words[tableAt / 4 + port * WORDS + FIELDS.ingress.at] !== 0) return true
  }
  return false
}

/** Index, among the arena's words, of a port's bucket. `portsAt`: arena offset of the port table; `direction`: INGRESS or EGRESS (rates.ts). */
export function bucketAt(portsAt: number, port: number, direction: number): number {
  return portsAt / 4 + port * WORDS + BUCKETS + direction
}
