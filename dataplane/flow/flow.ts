/**
 * The flow table: the interface of every one. It answers a packet's flow key with what was decided
 * for its flow: policy, service and route are looked at once, every later packet costs one probe.
 *
 * Storage is one region that all workers share, and **every worker probes and writes**; nobody waits
 * for anybody for long. A probe takes no lock and never answers with what belongs to another key. A
 * flow that is in the table is found at any moment, also while inserts move it about. Writers of the
 * same few places exclude each other by compare-and-swap on a word of a separate array; one that
 * doesn't get it within LOCK_TRIES gives up, and its caller forwards the packet without an entry.
 *
 * Entries are 64 bytes, one cache line, in a flat array that begins on a page: no pointers, the whole
 * key inside, a bounded number of places to look at (`places`), so that an eBPF program can read the
 * same pages. Little endian:
 *
 *     +0   u32  state: bits 0-1 STATE, bits 2-31 a version that every change of them advances
 *     +4   u32  hash of the key
 *     +8   40 B the key as hash/flow-key.ts has it: address A @8, address B @24, ports A << 16 | B @40,
 *               protocol u8 @44, family u8 @45, zone u16 @46
 *     +48  u32  generation of the tables that decided
 *     +52  u32  action for packets from A to B (direction 0)
 *     +56  u32  action for packets from B to A (direction 1)
 *     +60  u16  tick of the last packet that `touch` was told of
 *     +62  u16  owner: bits 0-11 port, bits 12-14 class of its timeout, bit 15 direction of the flow's
 *               first packet
 *
 * Beside it, an account of each flow, ACCOUNT_WORDS in an array of its own, for people: packets and
 * bytes, when it began, and two labels of whoever decided. Only who shows flows reads it.
 *
 * What actions and labels mean is the caller's matter. So is the tick: any clock that goes on evenly,
 * the same for all workers; entries have 16 bits of it.
 */

/** 32-bit words of an entry. */
export const ENTRY_WORDS = 16
/** Places of an entry's words. */
export const ENTRY = {
  STATE: 0,
  HASH: 1,
  KEY: 2,
  GENERATION: 12,
  /** + direction. */
  ACTION: 13,
  /** Tick in the low half, owner in the high one. */
  TAIL: 15,
} as const

/** 32-bit words of an account: see ACCOUNT. */
export const ACCOUNT_WORDS = 6
/**
 * Places of an account's words: packets, 40 bits, and the tick of the flow's beginning, 24, in two words, the low one
 * first; bytes in two words; labels, one word each.
 */
export const ACCOUNT = { PACKETS: 0, BEGUN: 1, BYTES: 2, LABELS: 4 } as const
/** Words of what `flows` gives: an entry, and its account behind it. */
export const FLOW_WORDS = ENTRY_WORDS + ACCOUNT_WORDS

/** FREE: nobody's. CLAIMED: a writer fills it. LIVE: a flow. CHANGING: a flow whose actions are being rewritten. Bit 1: the key is there. */
export const STATE = { FREE: 0, CLAIMED: 1, LIVE: 2, CHANGING: 3 } as const

/** Ports that may own flows: 0 .. MAX_FLOW_PORTS - 1, 12 bits. */
export const MAX_FLOW_PORTS = 1 << 12
/** Classes of timeouts: 3 bits. */
export const TIMEOUT_CLASSES = 8
/**
 * Classes of flows that are *pending*, as bits: begun, and perhaps never more than that. They count against a share of
 * their own, beside that of all flows of their port: who begins without end has no room left for beginnings only.
 */
export const PENDING_CLASSES = 0b0110_0001
/** Longest timeout, ticks: half of what a 16-bit tick can tell apart, halved for the sweep's round. */
export const MAX_TIMEOUT = 1 << 14
/** Most flows that limits may ask for: 1 GiB of entries. */
export const MAX_FLOWS = 14_680_064
/** Attempts at a lock before a writer gives up. */
export const LOCK_TRIES = 1 << 10

export interface FlowLimits {
  /** Flows that must fit, 1 .. MAX_FLOWS. There is room for some more; how much depends on the keys. */
  readonly flows: number
  /** Ports that may own flows, 1 .. MAX_FLOW_PORTS. */
  readonly ports: number
}

/** What is asked: one column a fact, one row a packet. Not shared with other threads. */
export interface FlowKeys {
  /** FLOW_KEY_WORDS each, as hash/flow-key.ts makes them: of an IPv4 key the unused words are zero. */
  readonly words: Uint32Array
  /** One a key, all by one hash with one seed. */
  readonly hashes: Uint32Array
  /** 0 or 1. */
  readonly directions: Uint8Array
}

/** What `FlowAnswers.found` says. */
export const FOUND = {
  MISS: 0,
  /** The action is what tables of this generation decided. */
  CURRENT: 1,
  /** There is a flow; its action was decided by other tables, so decide again (and insert). */
  STALE: 2,
  /** `insert` made it. */
  INSERTED: 3,
  /** `insert` gave a stale flow its new actions. */
  REFRESHED: 4,
  /** Not in the table: the port has its share. */
  REFUSED_QUOTA: 5,
  /** Not in the table: no room where the key may lie. */
  REFUSED_FULL: 6,
  /** Not in the table: other workers were in the way all the time. */
  REFUSED_BUSY: 7,
  /** Not in the table: it would be pending, and the port has its share of those. */
  REFUSED_PENDING: 8,
} as const

/** What comes back: rows as in FlowKeys. The caller's own arrays, not shared. */
export interface FlowAnswers {
  /** Number of the entry, for `touch`; -1 when there is none. */
  readonly slots: Int32Array
  /** Action for the packet's direction; untouched by a miss. */
  readonly actions: Uint32Array
  /** One of FOUND. */
  readonly found: Uint8Array
}

/** What was decided for flows that are to be inserted: rows as in FlowKeys. */
export interface FlowDecisions {
  /** Actions for packets that go as the one that asks, and for those that come back. */
  readonly forward: Uint32Array
  readonly reverse: Uint32Array
  /** The port that brought the packet: whose share the flow counts against. */
  readonly ports: Uint16Array
  /** 0 .. TIMEOUT_CLASSES - 1. */
  readonly classes: Uint8Array
  /** Two a flow, for its account. */
  readonly labels: Uint32Array
}

/** Copies of entries that are gone, ENTRY_WORDS each. */
export type EndedFlows = Uint32Array

export interface FlowCounters {
  /** Flows that are in it. */
  live: number
  inserted: number
  refreshed: number
  refusedQuota: number
  refusedFull: number
  refusedBusy: number
  refusedPending: number
  removed: number
  aged: number
  /** Entries that inserts moved to make room. */
  moved: number
}

/**
 * A flow table in one thread. Nothing here throws because of a key, and nothing but `flows` and
 * `counters` allocates. Arrays are at least as long as `n` asks for.
 */
export interface FlowTable {
  /** Places that an entry may have. */
  readonly slots: number
  /** Looks `n` keys up: slots, actions and one of MISS, CURRENT, STALE each. */
  probe(keys: FlowKeys, n: number, generation: number, answers: FlowAnswers): void
  /**
   * Inserts `n` flows that `generation` decided, one after another. A flow that is already there with
   * that generation (another packet or another worker was faster) stays as it is: CURRENT, and the
   * answer is its action. One of another generation gets these actions and labels: REFRESHED; its owner,
   * class and account stay. A new one's account begins at `tick`, with no packets. Two workers that insert one key at the same time end with one entry. Returns how many
   * were INSERTED.
   */
  insert(
    keys: FlowKeys,
    n: number,
    decisions: FlowDecisions,
    generation: number,
    tick: number,
    answers: FlowAnswers,
  ): number
  /**
   * Gives `n` flows that `generation` decided another action, each for the direction of its key alone; what is gone, or is
   * of another generation by now, is passed over.
   */
  redirect(keys: FlowKeys, n: number, actions: Uint32Array, generation: number): void
  /** Tells `n` slots that they had a packet at `tick`; -1 is passed over. A slot that is another flow's by now lives a little longer. */
  touch(slots: Int32Array, n: number, tick: number): void
  /** Adds a packet of `bytes` to the accounts of `n` slots; -1 is passed over. One that moves in that moment may lose some. */
  count(slots: Int32Array, n: number, bytes: Uint32Array): void
  /** Class of timeout of the flow at `slot`. */
  classAt(slot: number): number
  /**
   * Gives the flow at `slot` another class of timeout; one that becomes pending is counted, and not refused. May be lost when an
   * insert moves it in that moment.
   */
  classify(slot: number, timeoutClass: number): void
  /** Takes `n` flows out; one that other writers keep locked stays. Writes copies of what was there to `ended`, which has room for `n`, and returns how many. */
  remove(keys: FlowKeys, n: number, ended: EndedFlows): number
  /**
   * Takes out the flows that `gone` says: it is told where an entry begins in `words`, which may be another one's a moment
   * later (it is asked twice), and must not write. None is missed, also while others move flows about; it may wait for
   * them, so it is the main thread's. Returns how many are gone.
   */
  removeWhere(gone: (words: Int32Array, at: number) => boolean): number
  /**
   * Looks at the next `most` places of the wheel (as many as `ended` has room for), and takes out the
   * flows that had no packet for the timeout of their class. Workers share the wheel: each call takes
   * the places behind those of the last one, of any worker. A whole round (`slots` places) must come
   * in less than MAX_TIMEOUT ticks, else an old flow may look young. Writes copies of what it took
   * out to `ended`, and returns how many.
   */
  sweep(most: number, tick: number, ended: EndedFlows): number
  /** Timeout of a class, 1 .. MAX_TIMEOUT ticks; MAX_TIMEOUT when nothing was set. Throws RangeError. */
  setTimeout(timeoutClass: number, ticks: number): void
  /** Most flows of a port, 0 .. MAX_FLOWS; one that has more keeps them. `limits.flows` when nothing was set. Throws RangeError. */
  setQuota(port: number, flows: number): void
  /** The same of pending flows; MAX_FLOWS when nothing was set. */
  setPendingQuota(port: number, flows: number): void
  /** Flows that a port owns. Throws RangeError. */
  owned(port: number): number
  /** Those of them that are pending. Throws RangeError. */
  pending(port: number): number
  counters(): FlowCounters
  /** Copies of the entries and their accounts, FLOW_WORDS each, in no special order. One that is moved meanwhile may come twice or not at all. */
  flows(): Iterable<Uint32Array>
}

/** An algorithm. */
export interface Flow {
  readonly name: string
  /** Places that one key may have: what an eBPF program looks at, at the most. */
  readonly places: number
  /** Bytes of the region. Throws RangeError for limits out of range. */
  bytes(limits: FlowLimits): number
  /** An empty table in `memory` (zeroed, page aligned, `bytes(limits)` long at least), before any `open`. */
  create(memory: Uint8Array, limits: FlowLimits): FlowTable
  /** The table that `create` made in the same memory with the same limits, in any thread. */
  open(memory: Uint8Array, limits: FlowLimits): FlowTable
}
