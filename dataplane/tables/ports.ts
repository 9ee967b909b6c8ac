/**
 * The port table: one record a port in the arena. The main thread writes it inside a change of the
 * tables (tables.ts); workers read their copy.
 *
 * Record, PORT_RECORD_BYTES bytes, little-endian words:
 *
 *   0 state (PORT_STATE)       1 kind (PORT_KIND)        2 role (PORT_ROLE)     3 flags (PORT_FLAG)
 *   4 ifindex                  5 MTU                     6 own MAC, bytes 0-3   7 own MAC, bytes 4-5 << 16
 *   8 peer MAC, bytes 0-3      9 peer MAC, bytes 4-5     10 IPv4 (host order)   11 fill frames
 *   12-15 IPv6, most significant word first
 *   16-23 descriptor of queue w  24-31 arena offset of the rings of queue w
 *   32-39 further descriptors (`udp`: the sockets that send)
 *   40 ingress rate, bytes a second   41 ingress burst, bytes   42 egress rate   43 egress burst
 *   44 network (networks.ts)
 *   48 ingress bucket   49 egress bucket: the workers', in the arena alone (rates.ts)
 */
import { macBytes } from '../addresses.ts'
import { MAX_WORKERS } from '../limits.ts'
import { type Arena, PORT_RECORD_BYTES } from '../memory/arena.ts'
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
} as const

const WORDS = PORT_RECORD_BYTES / 4
const FDS = 16
const RINGS = FDS + MAX_WORKERS
const MORE_FDS = RINGS + MAX_WORKERS
const RATES = MORE_FDS + MAX_WORKERS
const NETWORK = RATES + 4

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
}

/** `02:68:…` as the two numbers of a record. Throws RangeError. */
export function macWords(mac: string): { high: number; low: number } {
  const view = new DataView(macBytes(mac).buffer)
  return { high: view.getUint32(0), low: view.getUint16(4) }
}

export function writePort(arena: Arena, port: number, record: PortRecord): void {
  const { words } = arena
  const at = arena.layout.ports.offset / 4 + port * WORDS
  const head = [
    record.state,
    record.kind,
    record.role,
    record.flags,
    record.ifindex,
    record.mtu,
    record.macHigh,
    record.macLow,
    record.peerMacHigh,
    record.peerMacLow,
    record.ip4,
    record.fillFrames,
    ...record.ip6,
  ]
  head.forEach((value, i) => {
    words[at + i] = value
  })
  for (let w = 0; w < MAX_WORKERS; w++) {
    words[at + FDS + w] = record.fds[w] ?? -1
    words[at + RINGS + w] = record.rings[w] ?? 0
    words[at + MORE_FDS + w] = record.moreFds[w] ?? -1
  }
  const { ingress, egress } = record
  words.set([ingress.rate, ingress.burst, egress.rate, egress.burst], at + RATES)
  words[at + NETWORK] = record.network
}

/** Whether what any of the first `count` ports receives is limited. */
export function limitsIngress(words: Int32Array, tableAt: number, count: number): boolean {
  for (let port = 0; port < count; port++) {
    if (words[tableAt / 4 + port * WORDS + RATES] !== 0) return true
  }
  return false
}

export function readPort(words: Int32Array, tableAt: number, port: number): PortRecord {
  const at = tableAt / 4 + port * WORDS
  const word = (i: number): number => words[at + i]!
  const list = (i: number): number[] => Array.from(words.subarray(at + i, at + i + MAX_WORKERS))
  return {
    state: word(0),
    kind: word(1),
    role: word(2),
    flags: word(3),
    ifindex: word(4),
    mtu: word(5),
    macHigh: word(6) >>> 0,
    macLow: word(7),
    peerMacHigh: word(8) >>> 0,
    peerMacLow: word(9),
    ip4: word(10) >>> 0,
    fillFrames: word(11),
    ip6: [word(12) >>> 0, word(13) >>> 0, word(14) >>> 0, word(15) >>> 0],
    fds: list(FDS),
    rings: list(RINGS),
    moreFds: list(MORE_FDS),
    ingress: { rate: word(RATES) >>> 0, burst: word(RATES + 1) },
    egress: { rate: word(RATES + 2) >>> 0, burst: word(RATES + 3) },
    network: word(NETWORK),
  }
}
