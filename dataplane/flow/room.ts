/**
 * Makes room in a cuckoo table: a path of slots, each of whose entries may move to the next one's
 * bucket, ends in a free slot. The path is found first, by breadth and from the tags alone, without
 * a lock; then its entries move from the end, each under the stripes of its two buckets, which are
 * the places of its key. So at any moment each of them is in one of its buckets, or for a moment in
 * both, and a reader that comes by between copies finds it.
 *
 * Other writers may have changed what the path was made of: each step is checked under its stripes
 * (the slot ahead is free, the entry behind still has its tag, and the tag alone says where it may
 * go), and the rest is given up where one fails. What was moved stays: it is at home in either place.
 *
 * At most MAX_NODES buckets are looked at, so the longest path has five or six steps.
 */
import { ACCOUNT_WORDS, ENTRY_WORDS } from './flow.ts'
import { type FlowRegion, WORD } from './region.ts'

const MAX_NODES = 512

const BUCKET = 4

type Buckets = (one: number, other: number) => boolean

export function roomMaker(
  region: FlowRegion,
  otherBucket: (bucket: number, tag: number) => number,
  lock: Buckets,
  unlock: (one: number, other: number) => void,
): (first: number, second: number) => boolean {
  const { tags, entries, accounts, header, locks } = region
  /** The tree: a bucket, the node above it, and the slot there whose entry may move here. */
  const buckets = new Int32Array(MAX_NODES)
  const parents = new Int32Array(MAX_NODES)
  const slots = new Int32Array(MAX_NODES)
  /** The tag that the entry in that slot had. */
  const seen = new Uint16Array(MAX_NODES)

  let count = 0

  function add(bucket: number, parent: number, slot: number, tag: number): void {
    buckets[count] = bucket
    parents[count] = parent
    slots[count] = slot
    seen[count++] = tag
  }

  function vacant(bucket: number): number {
    for (let slot = bucket * BUCKET, end = slot + BUCKET; slot < end; slot++) {
      if (tags[slot] === 0) return slot
    }
    return -1
  }

  /** Moves the entry of `from`, in `bucket`, to `to`, in the other bucket of its tag. */
  function move(from: number, bucket: number, tag: number, to: number, toBucket: number): boolean {
    if (!lock(bucket, toBucket)) return false
    const done = tags[from] === tag && tags[to] === 0 && region.claim(to)
    if (done) {
      const source = from * ENTRY_WORDS
      const target = to * ENTRY_WORDS
      for (let w = 1; w < ENTRY_WORDS; w++) entries[target + w] = entries[source + w]!
      for (let w = 0; w < ACCOUNT_WORDS; w++) {
        accounts[to * ACCOUNT_WORDS + w] = accounts[from * ACCOUNT_WORDS + w]!
      }
      region.publish(to, entries[source + 1]!)
      Atomics.add(header, WORD.MOVES, 1)
      Atomics.add(locks, region.stripeOf(bucket), 2)
      region.free(from)
    }
    unlock(bucket, toBucket)
    return done
  }

  /** Empties the path of `node`, whose bucket has `free` free, from its end. False when others were faster. */
  function walk(node: number, free: number): boolean {
    let to = free
    for (let at = node; parents[at]! >= 0; at = parents[at]!) {
      const from = slots[at]!
      if (!move(from, buckets[parents[at]!]!, seen[at]!, to, buckets[at]!)) return false
      to = from
    }
    return true
  }

  return (first, second) => {
    count = 0
    add(first, -1, -1, 0)
    add(second, -1, -1, 0)
    for (let node = 0; node < count; node++) {
      const bucket = buckets[node]!
      const free = vacant(bucket)
      if (free >= 0) {
        walk(node, free)
        return true
      }
      for (
        let slot = bucket * BUCKET, end = slot + BUCKET;
        slot < end && count < MAX_NODES;
        slot++
      ) {
        const tag = tags[slot]!
        if (tag !== 0) add(otherBucket(bucket, tag), node, slot, tag)
      }
    }
    return false
  }
}
