/**
 * Bucketed cuckoo hashing: R. Pagh, F. F. Rodler, "Cuckoo Hashing" (ESA 2001) with buckets of four
 * (M. Dietzfelbinger, C. Weidling, ICALP 2005), partial keys that tell an entry's other bucket and
 * are compared before keys, and readers without locks (B. Fan, D. Andersen, M. Kaminsky, "MemC3",
 * NSDI 2013), displacement along a path found first by breadth (X. Li et al., "Algorithmic
 * Improvements for Fast Concurrent Cuckoo Hashing", EuroSys 2014; room.ts).
 *
 * Slots are a power of two; four of them are a bucket. With m buckets and `tag = hash >>> 16 | 1`:
 *
 *     first  = hash & (m - 1)
 *     second = (first ^ (tag * SPREAD | 1)) & (m - 1)      and first = the same of second
 *
 * The tags of a bucket are two 32-bit words of a compact array (region.ts), eight buckets a cache
 * line: a probe looks at one or two of its lines and, when a tag is the right one, at one entry. An
 * eBPF program that has only the entries looks at eight of them.
 *
 * A probe goes over its batch several times, so that what one key waits for is loaded while the
 * others are looked at. A core has as many loads under way as fit into the few hundred instructions
 * that it looks ahead, so the loops that wait for memory do nothing else:
 *
 *     1  tags of the first bucket
 *     2  the slot whose tag is right
 *     3  the same in the second bucket, for those that have none in the first
 *     4  states of the entries: their lines come with them
 *     5  key, action, generation
 *     6  the state again
 *
 * with fences between 4, 5 and 6. V8 compiles this best where it is the probe of one table, as in a
 * worker: then the arrays are constants. (A second table in a thread costs a quarter more.) Why an answer never belongs to another key: the state word has a
 * version that every writer advances before it touches the fields and after it; who finds one state,
 * live, before and after it compared the key and took the action has read one flow's. Why a flow is
 * never missed: it is found by its tag, and a move sets the new tag, counts the move, clears the old
 * one. Who found no tag in either bucket, and the same count of moves before and after, met no move
 * that went from where it hadn't looked to where it had. What fails one of these checks, and the few
 * whose tag is another key's, are looked up again one by one (`settle`).
 */
import { native } from '../../native/native.ts'
import { FLOW_KEY_WORDS } from '../hash/flow-key.ts'
import { fence } from '../memory/fence.ts'
import {
  ENTRY,
  ENTRY_WORDS,
  type Flow,
  type FlowAnswers,
  type FlowKeys,
  type FlowLimits,
  type FlowTable,
  FOUND,
  LOCK_TRIES,
  STATE,
} from './flow.ts'
import { checkFlowLimits, FlowRegion, layoutOf, tagOf, WORD } from './region.ts'
import { roomMaker } from './room.ts'
import { flowTable, holds, type Placement } from './table.ts'

export const BUCKET = 4
const SPREAD = 0x5bd1e995
/** The part of the slots that flows are promised. */
const LOAD = 0.875
const LEAST_SLOTS = 64
/** Keys that a probe takes in one go; a longer batch is several. */
export const PROBE_BATCH = 256

/** The other bucket of an entry with this tag in `bucket`, of `mask + 1` buckets. */
export function otherBucket(bucket: number, tag: number, mask: number): number {
  return (bucket ^ (Math.imul(tag, SPREAD) | 1)) & mask
}

function slotsFor(limits: FlowLimits): number {
  checkFlowLimits(limits)
  return Math.max(LEAST_SLOTS, 2 ** Math.ceil(Math.log2(limits.flows / LOAD)))
}

function cuckooPlacement(region: FlowRegion): Placement {
  const { tags, entries } = region
  const mask = region.slots / BUCKET - 1

  /** Two stripes, always the smaller one first. */
  function lockBuckets(one: number, other: number): boolean {
    const a = Math.min(region.stripeOf(one), region.stripeOf(other))
    const b = Math.max(region.stripeOf(one), region.stripeOf(other))
    if (!region.lock(a)) return false
    if (a === b || region.lock(b)) return true
    region.unlock(a)
    return false
  }

  function unlockBuckets(one: number, other: number): void {
    region.unlock(region.stripeOf(one))
    if (region.stripeOf(one) !== region.stripeOf(other)) region.unlock(region.stripeOf(other))
  }

  function findIn(bucket: number, tag: number, keys: Uint32Array, at: number): number {
    for (let slot = bucket * BUCKET, end = slot + BUCKET; slot < end; slot++) {
      if (tags[slot] === tag && holds(entries, slot, keys, at)) return slot
    }
    return -1
  }

  function vacancyIn(bucket: number): number {
    for (let slot = bucket * BUCKET, end = slot + BUCKET; slot < end; slot++) {
      if (tags[slot] === 0 && region.claim(slot)) return slot
    }
    return -1
  }

  const other = (hash: number) => otherBucket(hash & mask, tagOf(hash), mask)
  const makeRoom = roomMaker(
    region,
    (bucket, tag) => otherBucket(bucket, tag, mask),
    lockBuckets,
    unlockBuckets,
  )

  return {
    lock: hash => lockBuckets(hash & mask, other(hash)),
    unlock: hash => unlockBuckets(hash & mask, other(hash)),
    find(hash, keys, at) {
      const slot = findIn(hash & mask, tagOf(hash), keys, at)
      return slot >= 0 ? slot : findIn(other(hash), tagOf(hash), keys, at)
    },
    vacancy(hash) {
      const slot = vacancyIn(hash & mask)
      return slot >= 0 ? slot : vacancyIn(other(hash))
    },
    makeRoom: hash => makeRoom(hash & mask, other(hash)),
  }
}

const HALVES = 0x7fff_7fff

/**
 * Which of the four tags in `low` and `high` is the hash's: bit 0 the first, 16 the second, 2 the
 * third, 18 the fourth. No branch: the place of a tag is a coin that a CPU can't predict.
 */
function match(low: number, high: number, hash: number): number {
  const tag = (hash >>> 16) | 1
  const both = tag | (tag << 16)
  const x = low ^ both
  const y = high ^ both
  // Bits 15 and 31 are set where a half is zero.
  const inLow = ~(((x & HALVES) + HALVES) | 0 | x | HALVES)
  const inHigh = ~(((y & HALVES) + HALVES) | 0 | y | HALVES)
  return (inLow >>> 15) | (inHigh >>> 13)
}

/** Place in the bucket of the lowest bit of what `match` found. */
function offset(matched: number): number {
  const bit = 31 - Math.clz32(matched & -matched)
  return (bit & 2) | (bit >> 4)
}

/** One key, with everything that passes 1 to 6 leave out. */
function settler(
  region: FlowRegion,
): (keys: FlowKeys, i: number, generation: number, answers: FlowAnswers) => void {
  const { tags, entries, locks } = region
  const mask = region.slots / BUCKET - 1

  /** The answer from `slot`, 0 when it isn't the key's, -1 when it changed meanwhile. */
  function from(slot: number, keys: FlowKeys, i: number, generation: number, answers: FlowAnswers) {
    const at = slot * ENTRY_WORDS
    const key = i * FLOW_KEY_WORDS
    const state = Atomics.load(entries, at)
    if ((state & 2) === 0) return -1
    let differ = 0
    for (let w = 0; w < FLOW_KEY_WORDS; w++) {
      differ |= entries[at + ENTRY.KEY + w]! ^ keys.words[key + w]!
    }
    const action = entries[at + ENTRY.ACTION + (keys.directions[i]! & 1)]!
    const current = entries[at + ENTRY.GENERATION] === generation
    fence()
    if (Atomics.load(entries, at) !== state) return -1
    if (differ !== 0) return 0
    answers.slots[i] = slot
    answers.actions[i] = action
    return current && (state & 3) === STATE.LIVE ? FOUND.CURRENT : FOUND.STALE
  }

  return (keys, i, generation, answers) => {
    const hash = keys.hashes[i]! | 0
    const tag = tagOf(hash)
    const first = hash & mask
    const second = otherBucket(first, tag, mask)
    for (let looks = 0; looks < LOCK_TRIES; looks++) {
      const movesFirst = Atomics.load(locks, region.stripeOf(first)) >>> 1
      const movesSecond = Atomics.load(locks, region.stripeOf(second)) >>> 1
      let changed = false
      for (let k = 0; k < 2 * BUCKET; k++) {
        const slot = (k < BUCKET ? first : second) * BUCKET + (k & (BUCKET - 1))
        if (tags[slot] !== tag) continue
        const found = from(slot, keys, i, generation, answers)
        if (found > 0) {
          answers.found[i] = found
          return
        }
        if (found < 0) changed = true
      }
      fence()
      const still =
        Atomics.load(locks, region.stripeOf(first)) >>> 1 === movesFirst &&
        Atomics.load(locks, region.stripeOf(second)) >>> 1 === movesSecond
      if (still && !changed) break
    }
    answers.slots[i] = -1
    answers.found[i] = FOUND.MISS
  }
}

function prober(region: FlowRegion): FlowTable['probe'] {
  const { header, entries } = region
  const mask = region.slots / BUCKET - 1
  const { buffer, byteOffset, length } = region.tags
  /** Two words a bucket, two tags a word. */
  const pairs = new Int32Array(buffer, byteOffset, length / 2)
  const settle = settler(region)
  const low = new Int32Array(PROBE_BATCH)
  const high = new Int32Array(PROBE_BATCH)
  const states = new Int32Array(PROBE_BATCH + 1)
  const seconds = new Int32Array(PROBE_BATCH)
  /** Not 0 where the entry's key is another one. */
  const unlike = new Int32Array(PROBE_BATCH)
  /** Rows whose tag was found, and the first words of their entries; `states` and `unlike` go with it. */
  const rows = new Int32Array(PROBE_BATCH + 1)
  /** Some more: pass 4 takes four at a time, and behind the last one what an earlier batch left. */
  const places = new Int32Array(PROBE_BATCH + 4)
  /** Rows whose tag is not in the first bucket; later, places in `rows` of IPv6 keys. */
  const rest = new Int32Array(PROBE_BATCH + 1)

  /** Rows `begin .. end`, at most PROBE_BATCH. Small loops: V8 takes out of them what stays the same. */
  function some(
    keys: FlowKeys,
    begin: number,
    end: number,
    generation: number,
    answers: FlowAnswers,
  ): void {
    const { words, hashes, directions } = keys
    const { slots, actions, found } = answers
    // What another module exports is looked up again wherever a loop names it; a local isn't.
    const { MISS, CURRENT } = FOUND
    const { ACTION, GENERATION } = ENTRY
    const from = begin | 0
    const to = end | 0
    const moves = Atomics.load(header, WORD.MOVES)
    // 1
    for (let i = from; i < to; i++) {
      const at = (hashes[i]! & mask) << 1
      low[(i - from) | 0] = pairs[at]!
      high[(i - from) | 0] = pairs[at + 1]!
    }
    // 2
    let others = 0
    for (let i = from; i < to; i++) {
      const hash = hashes[i]! | 0
      const at = match(low[(i - from) | 0]!, high[(i - from) | 0]!, hash)
      // All ones when there is a match.
      const hit = (at | -at) >> 31
      slots[i] = (((hash & mask) << 2) + offset(at)) | ~hit
      rest[others] = i
      seconds[others] = otherBucket(hash, (hash >>> 16) | 1, mask)
      others = (others + 1 + hit) | 0
    }
    // 3
    for (let k = 0; k < others; k++) {
      const at = seconds[k]! << 1
      low[k] = pairs[at]!
      high[k] = pairs[at + 1]!
    }
    for (let k = 0; k < others; k++) {
      const i = rest[k]!
      const at = match(low[k]!, high[k]!, hashes[i]! | 0)
      const hit = (at | -at) >> 31
      slots[i] = ((seconds[k]! << 2) + offset(at)) | ~hit
    }
    // 4
    let hits = 0
    for (let i = from; i < to; i++) {
      const slot = slots[i]!
      const there = ~(slot >> 31)
      found[i] = there & CURRENT
      rows[hits] = i
      places[hits] = (slot & there) << 4
      hits = (hits - there) | 0
    }
    let sum = 0
    for (let k = 0; k < hits; k = (k + 4) | 0) {
      sum |=
        entries[places[k]!]! |
        entries[places[k + 1]!]! |
        entries[places[k + 2]!]! |
        entries[places[k + 3]!]!
    }
    // Nobody needs it, but then nothing that is loaded for it can be left out.
    rest[PROBE_BATCH] = sum
    for (let k = 0; k < hits; k++) states[k] = entries[places[k]!]!
    fence()
    // 5
    let sixes = 0
    for (let k = 0; k < hits; k++) {
      const i = rows[k]!
      const at = places[k]!
      const key = Math.imul(i, 10)
      const kind = words[(key + 9) | 0]! | 0
      unlike[k] =
        (entries[(at + 5) | 0]! ^ words[(key + 3) | 0]!) |
        (entries[(at + 9) | 0]! ^ words[(key + 7) | 0]!) |
        (entries[(at + 10) | 0]! ^ words[(key + 8) | 0]!) |
        (entries[(at + 11) | 0]! ^ kind)
      // Families are 4 and 6.
      rest[sixes] = k
      sixes = (sixes + ((kind >>> 9) & 1)) | 0
    }
    for (let s = 0; s < sixes; s++) {
      const k = rest[s]!
      const at = places[k]!
      const key = Math.imul(rows[k]!, 10)
      unlike[k]! |=
        (entries[(at + 2) | 0]! ^ words[key]!) |
        (entries[(at + 3) | 0]! ^ words[(key + 1) | 0]!) |
        (entries[(at + 4) | 0]! ^ words[(key + 2) | 0]!) |
        (entries[(at + 6) | 0]! ^ words[(key + 4) | 0]!) |
        (entries[(at + 7) | 0]! ^ words[(key + 5) | 0]!) |
        (entries[(at + 8) | 0]! ^ words[(key + 6) | 0]!)
    }
    for (let k = 0; k < hits; k++) {
      const i = rows[k]!
      const at = places[k]!
      actions[i] = entries[(at + ACTION + (directions[i]! & 1)) | 0]!
      // Not 0 when it is being changed, or of another generation.
      const stale = (entries[(at + GENERATION) | 0]! ^ generation) | (states[k]! & 1)
      found[i] = CURRENT + ((stale | -stale) >>> 31)
    }
    fence()
    // 6
    const moved = Atomics.load(header, WORD.MOVES) !== moves
    let bad = 0
    for (let k = 0; k < hits; k++) {
      const state = states[k]!
      bad |= (entries[places[k]!]! ^ state) | (~state & 2) | unlike[k]!
    }
    if (bad !== 0) {
      for (let k = 0; k < hits; k++) {
        const state = states[k]!
        if (entries[places[k]!] !== state || (state & 2) === 0 || unlike[k] !== 0) {
          settle(keys, rows[k]!, generation, answers)
        }
      }
    }
    if (moved) {
      for (let i = from; i < to; i++) {
        if (found[i] === MISS) settle(keys, i, generation, answers)
      }
    }
  }

  return (keys, n, generation, answers) => {
    for (let from = 0; from < n; from += PROBE_BATCH) {
      some(keys, from, Math.min(n, from + PROBE_BATCH), generation | 0, answers)
    }
  }
}

function bytes(limits: FlowLimits): number {
  return layoutOf(limits, slotsFor(limits)).bytes
}

/** A table of this placement with the probe that `probeOf` makes. */
export function cuckooWith(
  name: string,
  probeOf: (region: FlowRegion, memory: Uint8Array) => FlowTable['probe'],
): Flow {
  function open(memory: Uint8Array, limits: FlowLimits): FlowTable {
    const region = new FlowRegion(memory, limits, slotsFor(limits))
    return flowTable(region, cuckooPlacement(region), probeOf(region, memory))
  }
  return {
    name,
    places: 2 * BUCKET,
    bytes,
    create(memory, limits) {
      native.adviseHugePages(memory)
      new FlowRegion(memory, limits, slotsFor(limits)).format()
      return open(memory, limits)
    },
    open,
  }
}

export const cuckoo = cuckooWith('cuckoo', prober)
