/**
 * The region of a flow table, what every algorithm has in it. Page aligned, in this order:
 *
 *     header   one page of i32: WORD says where what lies, one cache line each for what many write
 *     ports    PORT_WORDS i32 a port: flows that it owns, may own; pending flows that it owns, may own
 *     locks    one i32 a stripe (LOCK_STRIPES): bit 0 a writer has it, bits 1-31 count the moves in it
 *     tags     one u16 a slot: 0 nobody there, else `tagOf` its hash. A flow is in the table exactly
 *              while its slot has its tag; the array is small enough to be searched first
 *     accounts ACCOUNT_WORDS u32 a slot, for people: flow.ts has their layout
 *     entries  on a page of their own; flow.ts has their layout
 *
 * A stripe stands for every STRIPES-th bucket: a writer that has the stripes of all places of a key
 * is the only one that may insert, remove, refresh or move that key.
 *
 * Order of stores, which is what a reader without a lock relies on (Atomics; flow/README.md):
 *   insert   claim, fields, LIVE, tag
 *   end      tag 0, FREE
 *   refresh  CHANGING, actions, generation, LIVE
 *   move     claim, copy, LIVE, tag, count the move, old tag 0, old FREE
 */
import { fence } from '../memory/fence.ts'
import {
  ACCOUNT,
  ACCOUNT_WORDS,
  ENTRY,
  ENTRY_WORDS,
  type FlowCounters,
  type FlowLimits,
  LOCK_TRIES,
  MAX_FLOW_PORTS,
  MAX_FLOWS,
  MAX_TIMEOUT,
  PENDING_CLASSES,
  STATE,
  TIMEOUT_CLASSES,
} from './flow.ts'

const PAGE = 4096
/** Stripes of the locks; a power of two. 32 KiB: they stay in a cache. */
const LOCK_STRIPES = 1 << 13

/** Words of the header. */
export const WORD = {
  /** Moves of entries, in all. */
  MOVES: 0,
  /** Places that the wheel has gone by, in all. */
  HAND: 16,
  LIVE: 32,
  INSERTED: 33,
  REFRESHED: 34,
  REFUSED_QUOTA: 35,
  REFUSED_FULL: 36,
  REFUSED_BUSY: 37,
  REMOVED: 38,
  AGED: 39,
  REFUSED_PENDING: 40,
  /** TIMEOUT_CLASSES words. */
  TIMEOUTS: 64,
} as const

/** Words of a port, and what they are. */
export const PORT_WORDS = 4
export const SHARE = { OWNED: 0, QUOTA: 1, PENDING: 2, PENDING_QUOTA: 3 } as const

/** Bits of an entry's owner, which is the high half of its tail. */
const PORT_MASK = MAX_FLOW_PORTS - 1
const CLASS_SHIFT = 12
const INITIATOR_SHIFT = 15

/** The tag of a hash: never 0. */
export function tagOf(hash: number): number {
  return (hash >>> 16) | 1
}

/** The tail of an entry. */
export function tailOf(
  tick: number,
  port: number,
  timeoutClass: number,
  initiator: number,
): number {
  const owner = (port & PORT_MASK) | (timeoutClass << CLASS_SHIFT) | (initiator << INITIATOR_SHIFT)
  return (tick & 0xffff) | (owner << 16)
}

export function portOf(tail: number): number {
  return (tail >>> 16) & PORT_MASK
}

export function classOf(tail: number): number {
  return (tail >>> (16 + CLASS_SHIFT)) & (TIMEOUT_CLASSES - 1)
}

export function initiatorOf(tail: number): number {
  return tail >>> (16 + INITIATOR_SHIFT)
}

export function isPending(timeoutClass: number): boolean {
  return ((PENDING_CLASSES >>> timeoutClass) & 1) !== 0
}

/** `tail` with another class. */
export function withClass(tail: number, timeoutClass: number): number {
  const shift = 16 + CLASS_SHIFT
  return (tail & ~((TIMEOUT_CLASSES - 1) << shift)) | (timeoutClass << shift)
}

/** The next version of a state word, with that STATE. */
export function nextState(state: number, kind: number): number {
  return ((state & ~3) + 4) | kind
}

export function checkFlowLimits({ flows, ports }: FlowLimits): void {
  if (!Number.isInteger(flows) || flows < 1 || flows > MAX_FLOWS) {
    throw new RangeError(`flows: ${flows} is not in 1..${MAX_FLOWS} (MAX_FLOWS)`)
  }
  if (!Number.isInteger(ports) || ports < 1 || ports > MAX_FLOW_PORTS) {
    throw new RangeError(`ports: ${ports} is not in 1..${MAX_FLOW_PORTS} (MAX_FLOW_PORTS)`)
  }
}

interface Layout {
  ports: number
  locks: number
  tags: number
  accounts: number
  entries: number
  bytes: number
}

const paged = (bytes: number) => Math.ceil(bytes / PAGE) * PAGE

/** Where the parts lie, bytes from the region's start. */
export function layoutOf(limits: FlowLimits, slots: number): Layout {
  const ports = PAGE
  const locks = ports + paged(limits.ports * PORT_WORDS * 4)
  const tags = locks + LOCK_STRIPES * 4
  const accounts = tags + paged(slots * 2)
  const entries = accounts + paged(slots * ACCOUNT_WORDS * 4)
  return { ports, locks, tags, accounts, entries, bytes: entries + slots * ENTRY_WORDS * 4 }
}

export class FlowRegion {
  readonly limits: FlowLimits
  readonly slots: number
  readonly header: Int32Array
  readonly ports: Int32Array
  readonly locks: Int32Array
  readonly tags: Uint16Array
  readonly accounts: Int32Array
  readonly entries: Int32Array
  /** The entries as halves: `touch` writes the tick alone. */
  readonly halves: Uint16Array

  constructor({ buffer, byteOffset, byteLength }: Uint8Array, limits: FlowLimits, slots: number) {
    const layout = layoutOf(limits, slots)
    if (byteLength < layout.bytes) {
      throw new RangeError(`flow table: ${byteLength} bytes, it takes ${layout.bytes}`)
    }
    this.limits = limits
    this.slots = slots
    this.header = new Int32Array(buffer, byteOffset, PAGE / 4)
    this.ports = new Int32Array(buffer, byteOffset + layout.ports, limits.ports * PORT_WORDS)
    this.locks = new Int32Array(buffer, byteOffset + layout.locks, LOCK_STRIPES)
    this.tags = new Uint16Array(buffer, byteOffset + layout.tags, slots)
    this.accounts = new Int32Array(buffer, byteOffset + layout.accounts, slots * ACCOUNT_WORDS)
    this.entries = new Int32Array(buffer, byteOffset + layout.entries, slots * ENTRY_WORDS)
    this.halves = new Uint16Array(buffer, byteOffset + layout.entries, slots * ENTRY_WORDS * 2)
  }

  /** What a new table has to say before anybody opens it. */
  format(): void {
    for (let port = 0; port < this.limits.ports; port++) {
      this.ports[PORT_WORDS * port + SHARE.QUOTA] = this.limits.flows
      this.ports[PORT_WORDS * port + SHARE.PENDING_QUOTA] = MAX_FLOWS
    }
    this.header.fill(MAX_TIMEOUT, WORD.TIMEOUTS, WORD.TIMEOUTS + TIMEOUT_CLASSES)
  }

  // ---- locks -----------------------------------------------------------------------------------

  /** The stripe of a bucket. */
  stripeOf(bucket: number): number {
    return bucket & (LOCK_STRIPES - 1)
  }

  /** Takes a stripe; false when others have it all the time. */
  lock(stripe: number): boolean {
    const { locks } = this
    for (let tries = 0; tries < LOCK_TRIES; tries++) {
      const word = Atomics.load(locks, stripe)
      if ((word & 1) === 0 && Atomics.compareExchange(locks, stripe, word, word | 1) === word) {
        return true
      }
    }
    return false
  }

  unlock(stripe: number): void {
    Atomics.sub(this.locks, stripe, 1)
  }

  // ---- entries; the caller has the stripes of the key ------------------------------------------

  /** Takes a free slot by compare-and-swap; false when it is not free. */
  claim(slot: number): boolean {
    const at = slot * ENTRY_WORDS
    const state = Atomics.load(this.entries, at)
    if ((state & 3) !== STATE.FREE) return false
    const claimed = nextState(state, STATE.CLAIMED)
    return Atomics.compareExchange(this.entries, at, state, claimed) === state
  }

  /** Makes a claimed slot, all of whose fields are written, a flow of the table. */
  publish(slot: number, hash: number): void {
    const at = slot * ENTRY_WORDS
    Atomics.store(this.entries, at, nextState(this.entries[at]!, STATE.LIVE))
    Atomics.store(this.tags, slot, tagOf(hash))
  }

  /** Makes a flow's slot free. */
  free(slot: number): void {
    const at = slot * ENTRY_WORDS
    Atomics.store(this.tags, slot, 0)
    Atomics.store(this.entries, at, nextState(this.entries[at]!, STATE.FREE))
  }

  /** Ends a flow: a copy of it goes to row `row` of `ended`, its port gets its share back. */
  end(slot: number, ended: Uint32Array, row: number): void {
    const { entries } = this
    const at = slot * ENTRY_WORDS
    const to = row * ENTRY_WORDS
    for (let w = 0; w < ENTRY_WORDS; w++) ended[to + w] = entries[at + w]!
    const tail = entries[at + ENTRY.TAIL]!
    const share = PORT_WORDS * portOf(tail)
    this.free(slot)
    Atomics.sub(this.ports, share + SHARE.OWNED, 1)
    if (isPending(classOf(tail))) Atomics.sub(this.ports, share + SHARE.PENDING, 1)
    Atomics.sub(this.header, WORD.LIVE, 1)
  }

  /** Copies a flow that is whole at some moment to `copy`; false when there is none. */
  snapshot(slot: number, copy: Uint32Array): boolean {
    const { entries } = this
    const at = slot * ENTRY_WORDS
    for (let tries = 0; tries < LOCK_TRIES; tries++) {
      const state = Atomics.load(entries, at)
      if ((state & 2) === 0) return false
      for (let w = 0; w < ENTRY_WORDS; w++) copy[w] = entries[at + w]!
      fence()
      if (Atomics.load(entries, at) === state && (state & 3) === STATE.LIVE) return true
    }
    return false
  }

  // ---- accounts --------------------------------------------------------------------------------

  /** The account of a flow that begins at `tick`, before it is published. Labels: words `from` and behind it of `labels`. */
  openAccount(slot: number, tick: number, labels: Uint32Array, from: number): void {
    const { accounts } = this
    const at = slot * ACCOUNT_WORDS
    accounts[at + ACCOUNT.PACKETS] = 0
    accounts[at + ACCOUNT.BEGUN] = tick << 8
    accounts[at + ACCOUNT.BYTES] = 0
    accounts[at + ACCOUNT.BYTES + 1] = 0
    accounts[at + ACCOUNT.LABELS] = labels[from]!
    accounts[at + ACCOUNT.LABELS + 1] = labels[from + 1]!
  }

  /** Writes both labels: words `from` and behind it of `labels`. */
  label(slot: number, labels: Uint32Array, from: number): void {
    const at = slot * ACCOUNT_WORDS + ACCOUNT.LABELS
    Atomics.store(this.accounts, at, labels[from]! | 0)
    Atomics.store(this.accounts, at + 1, labels[from + 1]! | 0)
  }

  /** Adds a packet. */
  account(slot: number, bytes: number): void {
    const at = slot * ACCOUNT_WORDS
    this.add(at + ACCOUNT.PACKETS, 1)
    this.add(at + ACCOUNT.BYTES, bytes)
  }

  /** Adds to a number of two words, the low one first. */
  private add(at: number, by: number): void {
    const before = Atomics.add(this.accounts, at, by) >>> 0
    if (before + by > 0xffff_ffff) Atomics.add(this.accounts, at + 1, 1)
  }

  // ---- counters --------------------------------------------------------------------------------

  count(word: number, by: number): void {
    if (by !== 0) Atomics.add(this.header, word, by)
  }

  counters(): FlowCounters {
    const of = (word: number) => Atomics.load(this.header, word) >>> 0
    return {
      live: of(WORD.LIVE),
      inserted: of(WORD.INSERTED),
      refreshed: of(WORD.REFRESHED),
      refusedQuota: of(WORD.REFUSED_QUOTA),
      refusedFull: of(WORD.REFUSED_FULL),
      refusedBusy: of(WORD.REFUSED_BUSY),
      refusedPending: of(WORD.REFUSED_PENDING),
      removed: of(WORD.REMOVED),
      aged: of(WORD.AGED),
      moved: of(WORD.MOVES),
    }
  }
}
