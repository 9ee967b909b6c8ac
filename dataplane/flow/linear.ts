/**
 * Linear probing with a bounded distance, to compare with: a key lies in one of the WINDOW slots from
 * `hash & (m - 1)` on, m a power of two; WINDOW - 1 more slots at the end save the turn around. An
 * entry never moves, so a probe needs no second look; but without a mark where a chain ends, a miss
 * costs the whole window, and the window is what a table fills up by: half of the m slots are promised
 * to flows, and of as many, fewer than one in 100,000 is refused.
 *
 * The stripe of a key is its first slot's. Writers of other keys share the window: a slot is taken by
 * compare-and-swap. Else as cuckoo.ts, with one pass for the tags.
 */
import { native } from '../../native/native.ts'
import { FLOW_KEY_WORDS } from '../hash/flow-key.ts'
import { fence } from '../memory/fence.ts'
import {
  ENTRY,
  ENTRY_WORDS,
  type Flow,
  type FlowLimits,
  type FlowTable,
  FOUND,
  LOCK_TRIES,
  STATE,
} from './flow.ts'
import { checkFlowLimits, FlowRegion, layoutOf, tagOf } from './region.ts'
import { flowTable, holds, type Placement } from './table.ts'

const WINDOW = 64
const LOAD = 0.5
const LEAST_HOMES = 64

function homesFor(limits: FlowLimits): number {
  checkFlowLimits(limits)
  return Math.max(LEAST_HOMES, 2 ** Math.ceil(Math.log2(limits.flows / LOAD)))
}

function regionOf(memory: Uint8Array, limits: FlowLimits): FlowRegion {
  return new FlowRegion(memory, limits, homesFor(limits) + WINDOW - 1)
}

function placementOf(region: FlowRegion): Placement {
  const { tags, entries } = region
  const mask = region.slots - WINDOW
  return {
    lock: hash => region.lock(region.stripeOf(hash & mask)),
    unlock: hash => region.unlock(region.stripeOf(hash & mask)),
    find(hash, keys, at) {
      const home = hash & mask
      const tag = tagOf(hash)
      for (let slot = home; slot < home + WINDOW; slot++) {
        if (tags[slot] === tag && holds(entries, slot, keys, at)) return slot
      }
      return -1
    },
    vacancy(hash) {
      const home = hash & mask
      for (let slot = home; slot < home + WINDOW; slot++) {
        if (tags[slot] === 0 && region.claim(slot)) return slot
      }
      return -1
    },
    makeRoom: () => false,
  }
}

function prober(region: FlowRegion): FlowTable['probe'] {
  const { tags, entries } = region
  const mask = region.slots - WINDOW

  /** Whether the entry at `slot` has the key at `key`; plain loads, the caller looks at the state before and after. */
  function same(slot: number, words: Uint32Array, key: number): boolean {
    const at = slot * ENTRY_WORDS + ENTRY.KEY
    let differ = 0
    for (let w = 0; w < FLOW_KEY_WORDS; w++) differ |= entries[at + w]! ^ words[key + w]!
    return differ === 0
  }

  return (keys, n, generation, answers) => {
    const { words, hashes, directions } = keys
    for (let i = 0; i < n; i++) {
      const hash = hashes[i]! | 0
      const home = hash & mask
      const tag = tagOf(hash)
      answers.slots[i] = -1
      answers.found[i] = FOUND.MISS
      for (let slot = home, looks = 0; slot < home + WINDOW; slot++) {
        if (tags[slot] !== tag) continue
        const at = slot * ENTRY_WORDS
        const state = Atomics.load(entries, at)
        if ((state & 2) === 0 || !same(slot, words, i * FLOW_KEY_WORDS)) continue
        const current = entries[at + ENTRY.GENERATION] === (generation | 0)
        answers.actions[i] = entries[at + ENTRY.ACTION + (directions[i]! & 1)]!
        fence()
        if (Atomics.load(entries, at) === state) {
          answers.slots[i] = slot
          answers.found[i] = current && (state & 3) === STATE.LIVE ? FOUND.CURRENT : FOUND.STALE
          break
        }
        // It changed while it was read: the same slot again.
        if (++looks < LOCK_TRIES) slot--
      }
    }
  }
}

function open(memory: Uint8Array, limits: FlowLimits): FlowTable {
  const region = regionOf(memory, limits)
  return flowTable(region, placementOf(region), prober(region))
}

export const linear: Flow = {
  name: 'linear',
  places: WINDOW,
  bytes: limits => layoutOf(limits, homesFor(limits) + WINDOW - 1).bytes,
  create(memory, limits) {
    native.adviseHugePages(memory)
    regionOf(memory, limits).format()
    return open(memory, limits)
  },
  open,
}
