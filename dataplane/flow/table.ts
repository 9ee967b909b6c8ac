/**
 * What every flow table does the same way, given where its keys may lie: inserting, removing, ageing,
 * shares and counters. An algorithm brings its placement and its probe.
 */
import { FLOW_KEY_WORDS } from '../hash/flow-key.ts'
import { fence } from '../memory/fence.ts'
import {
  ACCOUNT_WORDS,
  ENTRY,
  ENTRY_WORDS,
  FLOW_WORDS,
  type FlowAnswers,
  type FlowDecisions,
  type FlowKeys,
  type FlowTable,
  FOUND,
  LOCK_TRIES,
  MAX_FLOWS,
  MAX_TIMEOUT,
  STATE,
  TIMEOUT_CLASSES,
} from './flow.ts'
import {
  classOf,
  type FlowRegion,
  isPending,
  nextState,
  PORT_WORDS,
  portOf,
  SHARE,
  tailOf,
  WORD,
  withClass,
} from './region.ts'

/** Times that an insert makes room and finds it taken before it gives up. */
const ROOM_ATTEMPTS = 4
/** Times that a scan goes over all places, while flows move. */
const SCANS = 8
/** Milliseconds that a scan waits for the stripes of a flow that is to go. */
const PATIENCE_MS = 100
const NOTHING = new Int32Array(new SharedArrayBuffer(4))
/** Ages from here on are ticks that lie ahead: another worker's clock is a little faster. */
const AHEAD = 0x8000

/** Where keys may lie. */
export interface Placement {
  /** Takes the stripes of all places of keys with this hash; false, and none taken, when others have them. */
  lock(hash: number): boolean
  unlock(hash: number): void
  /** Slot of the key `keys[at ..)`, whose stripes the caller has; else -1. */
  find(hash: number, keys: Uint32Array, at: number): number
  /** A slot for a key of this hash, claimed, whose stripes the caller has; else -1. */
  vacancy(hash: number): number
  /** Moves flows so that a key of this hash has a free place; the caller has no stripe. False when there is no way. */
  makeRoom(hash: number): boolean
}

/** Whether the entry at `slot` is a flow with the key `keys[at ..)`, all the time that this looks. */
export function holds(entries: Int32Array, slot: number, keys: Uint32Array, key: number): boolean {
  const at = slot * ENTRY_WORDS
  const state = Atomics.load(entries, at)
  if ((state & 2) === 0) return false
  for (let w = 0; w < FLOW_KEY_WORDS; w++) {
    if (entries[at + ENTRY.KEY + w] !== (keys[key + w]! | 0)) return false
  }
  fence()
  // A refresh changes the state and leaves the key.
  const now = Atomics.load(entries, at)
  return now === state || (now & 2) !== 0
}

export function flowTable(
  region: FlowRegion,
  placement: Placement,
  probe: FlowTable['probe'],
): FlowTable {
  const { header, ports, entries, tags, halves, slots, limits } = region

  /** Takes one of what the port may have: SHARE.OWNED or SHARE.PENDING, whose quota is the next word. */
  function share(port: number, of: number): boolean {
    if (port >= limits.ports) return false
    const at = PORT_WORDS * port + of
    if (Atomics.add(ports, at, 1) < Atomics.load(ports, at + 1)) return true
    Atomics.sub(ports, at, 1)
    return false
  }

  function giveBack(port: number, pending: boolean): void {
    Atomics.sub(ports, PORT_WORDS * port + SHARE.OWNED, 1)
    if (pending) Atomics.sub(ports, PORT_WORDS * port + SHARE.PENDING, 1)
  }

  /** A flow that is there: its action, or new ones for it. The caller has its stripes. */
  function met(
    slot: number,
    direction: number,
    forward: number,
    reverse: number,
    labels: Uint32Array,
    generation: number,
    answers: FlowAnswers,
    i: number,
  ): number {
    const at = slot * ENTRY_WORDS
    answers.slots[i] = slot
    if (entries[at + ENTRY.GENERATION] === generation) {
      answers.actions[i] = entries[at + ENTRY.ACTION + direction]!
      return FOUND.CURRENT
    }
    const state = entries[at]!
    const changing = nextState(state, STATE.CHANGING)
    Atomics.store(entries, at, changing)
    Atomics.store(entries, at + ENTRY.ACTION + direction, forward | 0)
    Atomics.store(entries, at + ENTRY.ACTION + 1 - direction, reverse | 0)
    Atomics.store(entries, at + ENTRY.GENERATION, generation)
    Atomics.store(entries, at, nextState(changing, STATE.LIVE))
    region.label(slot, labels, 2 * i)
    return FOUND.REFRESHED
  }

  function insertOne(
    keys: FlowKeys,
    i: number,
    decisions: FlowDecisions,
    generation: number,
    tick: number,
    answers: FlowAnswers,
  ): number {
    const hash = keys.hashes[i]! | 0
    const key = i * FLOW_KEY_WORDS
    const direction = keys.directions[i]! & 1
    const forward = decisions.forward[i]!
    const reverse = decisions.reverse[i]!
    const port = decisions.ports[i]!
    const timeoutClass = decisions.classes[i]! & (TIMEOUT_CLASSES - 1)
    const pending = isPending(timeoutClass)
    answers.slots[i] = -1
    answers.actions[i] = forward
    for (let attempt = 0; attempt < ROOM_ATTEMPTS; attempt++) {
      if (!placement.lock(hash)) return FOUND.REFUSED_BUSY
      const there = placement.find(hash, keys.words, key)
      if (there >= 0) {
        const found = met(
          there,
          direction,
          forward,
          reverse,
          decisions.labels,
          generation,
          answers,
          i,
        )
        placement.unlock(hash)
        return found
      }
      if (!share(port, SHARE.OWNED)) {
        placement.unlock(hash)
        return FOUND.REFUSED_QUOTA
      }
      if (pending && !share(port, SHARE.PENDING)) {
        giveBack(port, false)
        placement.unlock(hash)
        return FOUND.REFUSED_PENDING
      }
      const slot = placement.vacancy(hash)
      if (slot >= 0) {
        const at = slot * ENTRY_WORDS
        entries[at + ENTRY.HASH] = hash
        for (let w = 0; w < FLOW_KEY_WORDS; w++) entries[at + ENTRY.KEY + w] = keys.words[key + w]!
        entries[at + ENTRY.GENERATION] = generation
        entries[at + ENTRY.ACTION + direction] = forward
        entries[at + ENTRY.ACTION + 1 - direction] = reverse
        entries[at + ENTRY.TAIL] = tailOf(tick, port, timeoutClass, direction)
        region.openAccount(slot, tick, decisions.labels, 2 * i)
        region.publish(slot, hash)
        placement.unlock(hash)
        answers.slots[i] = slot
        return FOUND.INSERTED
      }
      giveBack(port, pending)
      placement.unlock(hash)
      if (!placement.makeRoom(hash)) return FOUND.REFUSED_FULL
    }
    return FOUND.REFUSED_BUSY
  }

  /** Whether the flow with this tail had no packet for its timeout. */
  function isOld(tail: number, tick: number): boolean {
    const age = (tick - tail) & 0xffff
    return age < AHEAD && age >= header[WORD.TIMEOUTS + classOf(tail)]!
  }

  /** Takes the flow at `slot` out if it is old. */
  function endOld(slot: number, tick: number, ended: Uint32Array, row: number): boolean {
    const at = slot * ENTRY_WORDS
    const state = Atomics.load(entries, at)
    if ((state & 3) !== STATE.LIVE) return false
    const hash = entries[at + ENTRY.HASH]!
    if (!placement.lock(hash)) return false
    const same = Atomics.load(entries, at) === state && isOld(entries[at + ENTRY.TAIL]!, tick)
    if (same) region.end(slot, ended, row)
    placement.unlock(hash)
    return same
  }

  function checkPort(port: number): void {
    if (!Number.isInteger(port) || port < 0 || port >= limits.ports) {
      throw new RangeError(`flow port ${port} is not in 0..${limits.ports - 1}`)
    }
  }

  function checkQuota(port: number, flows: number): void {
    checkPort(port)
    if (Number.isInteger(flows) && flows >= 0 && flows <= MAX_FLOWS) return
    throw new RangeError(`quota of port ${port}: ${flows} is not in 0..${MAX_FLOWS} (MAX_FLOWS)`)
  }

  /** For the main thread: a worker that has the stripes and lost its core gets it back meanwhile. */
  function lockPatiently(hash: number): boolean {
    for (let tries = 0; tries < PATIENCE_MS; tries++) {
      if (placement.lock(hash)) return true
      Atomics.wait(NOTHING, 0, 0, 1)
    }
    return false
  }

  const counts = new Int32Array(FOUND.REFUSED_PENDING + 1)

  return {
    slots,
    probe,

    insert(keys, n, decisions, generation, tick, answers) {
      counts.fill(0)
      for (let i = 0; i < n; i++) {
        const found = insertOne(keys, i, decisions, generation | 0, tick, answers)
        answers.found[i] = found
        counts[found]!++
      }
      const inserted = counts[FOUND.INSERTED]!
      region.count(WORD.LIVE, inserted)
      region.count(WORD.INSERTED, inserted)
      region.count(WORD.REFRESHED, counts[FOUND.REFRESHED]!)
      region.count(WORD.REFUSED_QUOTA, counts[FOUND.REFUSED_QUOTA]!)
      region.count(WORD.REFUSED_FULL, counts[FOUND.REFUSED_FULL]!)
      region.count(WORD.REFUSED_BUSY, counts[FOUND.REFUSED_BUSY]!)
      region.count(WORD.REFUSED_PENDING, counts[FOUND.REFUSED_PENDING]!)
      return inserted
    },

    redirect(keys, n, actions, generation) {
      for (let i = 0; i < n; i++) {
        const hash = keys.hashes[i]! | 0
        if (!placement.lock(hash)) continue
        const slot = placement.find(hash, keys.words, i * FLOW_KEY_WORDS)
        const at = slot * ENTRY_WORDS
        if (slot >= 0 && entries[at + ENTRY.GENERATION] === (generation | 0)) {
          const changing = nextState(entries[at]!, STATE.CHANGING)
          Atomics.store(entries, at, changing)
          Atomics.store(entries, at + ENTRY.ACTION + (keys.directions[i]! & 1), actions[i]! | 0)
          Atomics.store(entries, at, nextState(changing, STATE.LIVE))
        }
        placement.unlock(hash)
      }
    },

    touch(touched, n, tick) {
      const now = tick & 0xffff
      for (let i = 0; i < n; i++) {
        const slot = touched[i]!
        if (slot < 0) continue
        const at = slot * (2 * ENTRY_WORDS) + 2 * ENTRY.TAIL
        // A line that nobody writes stays in every core's cache.
        if (halves[at] !== now) halves[at] = now
      }
    },

    count(counted, n, bytes) {
      for (let i = 0; i < n; i++) if (counted[i]! >= 0) region.account(counted[i]!, bytes[i]!)
    },
    classAt: slot => classOf(entries[slot * ENTRY_WORDS + ENTRY.TAIL]!),

    classify(slot, timeoutClass) {
      const at = slot * ENTRY_WORDS
      const hash = entries[at + ENTRY.HASH]!
      // Nobody ends or moves the flow meanwhile: it is counted once, by the class that it has then.
      if (!placement.lock(hash)) return
      const live = (Atomics.load(entries, at) & 2) !== 0 && entries[at + ENTRY.HASH] === hash
      // `touch` writes the other half of the word at any time.
      for (let tries = 0; live && tries < LOCK_TRIES; tries++) {
        const tail = Atomics.load(entries, at + ENTRY.TAIL)
        const next = withClass(tail, timeoutClass & (TIMEOUT_CLASSES - 1)) | 0
        if (Atomics.compareExchange(entries, at + ENTRY.TAIL, tail, next) !== tail) continue
        const more = Number(isPending(timeoutClass)) - Number(isPending(classOf(tail)))
        if (more !== 0) Atomics.add(ports, PORT_WORDS * portOf(tail) + SHARE.PENDING, more)
        break
      }
      placement.unlock(hash)
    },

    remove(keys, n, ended) {
      let removed = 0
      for (let i = 0; i < n; i++) {
        const hash = keys.hashes[i]! | 0
        if (!placement.lock(hash)) continue
        const slot = placement.find(hash, keys.words, i * FLOW_KEY_WORDS)
        if (slot >= 0) region.end(slot, ended, removed++)
        placement.unlock(hash)
      }
      region.count(WORD.REMOVED, removed)
      return removed
    },

    removeWhere(gone) {
      const ended = new Uint32Array(ENTRY_WORDS)
      let removed = 0
      for (let round = 0; round < SCANS; round++) {
        const moves = Atomics.load(header, WORD.MOVES)
        for (let slot = 0; slot < slots; slot++) {
          if (tags[slot] === 0) continue
          const at = slot * ENTRY_WORDS
          if (!gone(entries, at)) continue
          const hash = entries[at + ENTRY.HASH]!
          if (!lockPatiently(hash)) continue
          const still = (Atomics.load(entries, at) & 2) !== 0 && entries[at + ENTRY.HASH] === hash
          if (still && gone(entries, at)) {
            region.end(slot, ended, 0)
            removed++
          }
          placement.unlock(hash)
        }
        // A flow that moved may have gone by the one way while this went the other.
        if (Atomics.load(header, WORD.MOVES) === moves) break
      }
      region.count(WORD.REMOVED, removed)
      return removed
    },

    sweep(most, tick, ended) {
      const places = Math.min(most, Math.floor(ended.length / ENTRY_WORDS), slots)
      const from = Atomics.add(header, WORD.HAND, places) >>> 0
      let aged = 0
      for (let place = from % slots, i = 0; i < places; i++) {
        if (tags[place] !== 0 && isOld(entries[place * ENTRY_WORDS + ENTRY.TAIL]!, tick)) {
          if (endOld(place, tick, ended, aged)) aged++
        }
        place = place + 1 === slots ? 0 : place + 1
      }
      region.count(WORD.AGED, aged)
      return aged
    },

    setTimeout(timeoutClass, ticks) {
      if (!Number.isInteger(timeoutClass) || timeoutClass < 0 || timeoutClass >= TIMEOUT_CLASSES) {
        throw new RangeError(`timeout class ${timeoutClass} is not in 0..${TIMEOUT_CLASSES - 1}`)
      }
      if (!Number.isInteger(ticks) || ticks < 1 || ticks > MAX_TIMEOUT) {
        throw new RangeError(
          `timeout of class ${timeoutClass}: ${ticks} ticks, not in 1..${MAX_TIMEOUT} (MAX_TIMEOUT)`,
        )
      }
      Atomics.store(header, WORD.TIMEOUTS + timeoutClass, ticks)
    },

    setQuota(port, flows) {
      checkQuota(port, flows)
      Atomics.store(ports, PORT_WORDS * port + SHARE.QUOTA, flows)
    },

    setPendingQuota(port, flows) {
      checkQuota(port, flows)
      Atomics.store(ports, PORT_WORDS * port + SHARE.PENDING_QUOTA, flows)
    },

    owned(port) {
      checkPort(port)
      return Atomics.load(ports, PORT_WORDS * port + SHARE.OWNED)
    },

    pending(port) {
      checkPort(port)
      return Atomics.load(ports, PORT_WORDS * port + SHARE.PENDING)
    },

    counters: () => region.counters(),

    *flows() {
      for (let slot = 0; slot < slots; slot++) {
        if (tags[slot] === 0) continue
        const copy = new Uint32Array(FLOW_WORDS)
        const account = region.accounts.subarray(slot * ACCOUNT_WORDS, (slot + 1) * ACCOUNT_WORDS)
        copy.set(account, ENTRY_WORDS)
        if (region.snapshot(slot, copy)) yield copy
      }
    },
  }
}
