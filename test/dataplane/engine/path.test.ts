// How a batch goes down a path: in order, whole, however much an expansion makes of it.
import { expect, test } from 'vitest'
import { CONSUMED } from '../../../dataplane/drops.ts'
import type { Engine } from '../../../dataplane/engine/engine.ts'
import {
  type Entry,
  type Expansion,
  pathOf,
  run,
  type Stage,
} from '../../../dataplane/engine/path.ts'
import { BATCH_SIZE } from '../../../dataplane/limits.ts'
import { Batch } from '../../../dataplane/packet/batch.ts'

/** These stages look at no engine. */
const NONE = {} as Engine
const ROLE = 1

/** Makes `gsoSize` packets of one, whose `len` says which one it is; leaves the others be. */
const multiply: Expansion = {
  needed(_, b) {
    return b.gsoSize.subarray(0, b.n).some(size => size > 0)
  },
  fill(_, b, out) {
    for (; out.next < b.n; out.next++) {
      const i = out.next
      if (b.drop[i] === CONSUMED) continue
      do {
        if (out.batch.n === BATCH_SIZE) return false
        const s = out.batch.copy(b, i)
        out.batch.gsoSize[s] = 0
        out.batch.len[s] = out.done
      } while (++out.done < b.gsoSize[i]!)
      out.done = 0
    }
    return true
  },
}

/** A last stage that writes down what it gets: `frame.len`, one list a batch. */
function recorder(): { seen: string[][]; batches: Set<Batch>; stage: Stage } {
  const seen: string[][] = []
  const batches = new Set<Batch>()
  return {
    seen,
    batches,
    stage(_, b) {
      batches.add(b)
      seen.push(Array.from({ length: b.n }, (_, i) => `${b.frame[i]}.${b.len[i]}`))
    },
  }
}

function batchOf(sizes: readonly number[]): Batch {
  const batch = new Batch()
  batch.reset(3)
  for (const [k, size] of sizes.entries()) batch.gsoSize[batch.push(k, 0, 0)] = size
  return batch
}

const entry = (run: Stage): Entry => ({ name: 'stage', roles: ROLE, run })
const expansion: Entry = { name: 'multiply', roles: ROLE, expand: multiply }

test('where nothing is to be expanded the batch goes on itself', () => {
  const { seen, batches, stage } = recorder()
  const batch = batchOf([0, 0, 0])
  run(NONE, pathOf([expansion, entry(stage)], ROLE), batch)
  expect(seen).toEqual([['0.0', '1.0', '2.0']])
  expect([...batches]).toEqual([batch])
})

test('what is made stands where it was made, and what was consumed is left out', () => {
  const { seen, batches, stage } = recorder()
  const batch = batchOf([0, 3, 0, 0, 2, 0])
  batch.drop[3] = CONSUMED
  batch.drop[5] = 7
  run(NONE, pathOf([expansion, entry(stage)], ROLE), batch)
  expect(seen).toEqual([['0.0', '1.0', '1.1', '1.2', '2.0', '4.0', '4.1', '5.0']])
  expect(batches.has(batch)).toBe(false)
  // Every packet is in one batch.
  expect(batch.n).toBe(0)
})

test('more than a batch holds comes in several, full but for the last, in order', () => {
  const { seen, stage } = recorder()
  const sizes = [0, 700, 0, 300, ...Array<number>(BATCH_SIZE - 4).fill(0)]
  run(NONE, pathOf([expansion, entry(stage)], ROLE), batchOf(sizes))
  const all = sizes.flatMap((size, k) =>
    Array.from({ length: Math.max(1, size) }, (_, n) => `${k}.${n}`),
  )
  expect(seen.map(each => each.length)).toEqual([256, 256, 256, 256, 230])
  expect(seen.flat()).toEqual(all)
})

test('the output keeps the port that the packets came in by', () => {
  const ports: number[] = []
  const stage: Stage = (_, b) => {
    ports.push(b.inPort)
  }
  run(NONE, pathOf([expansion, entry(stage)], ROLE), batchOf([500]))
  expect(ports).toEqual([3, 3])
})

test('one expansion behind another, with stages between, before and behind', () => {
  const before: number[] = []
  const between: number[] = []
  const { seen, stage } = recorder()
  // Each packet that the first one makes becomes 100 more.
  const again: Stage = (_, b) => {
    between.push(b.n)
    for (let i = 0; i < b.n; i++) {
      b.frame[i] = b.frame[i]! * 1000 + b.len[i]!
      b.gsoSize[i] = 100
    }
  }
  const path = pathOf(
    [
      entry((_, b) => {
        before.push(b.n)
      }),
      expansion,
      entry(again),
      expansion,
      entry(stage),
    ],
    ROLE,
  )
  run(NONE, path, batchOf([0, 400, 0]))
  expect(before).toEqual([3])
  expect(between).toEqual([256, 146])
  const firsts = [0, ...Array.from({ length: 400 }, (_, n) => 1000 + n), 2000]
  expect(seen.flat()).toEqual(
    firsts.flatMap(first => Array.from({ length: 100 }, (_, n) => `${first}.${n}`)),
  )
  expect(Math.max(...seen.map(each => each.length))).toBe(BATCH_SIZE)
  // The same path again: nothing of the last batch is left in it.
  seen.length = 0
  run(NONE, path, batchOf([2]))
  expect(seen.flat()).toHaveLength(200)
})

test('a role has its own stages only', () => {
  const seen: string[] = []
  const named = (name: string, roles: number): Entry => ({
    name,
    roles,
    run: () => {
      seen.push(name)
    },
  })
  const entries = [named('a', 1), named('b', 2), { ...expansion, roles: 2 }, named('c', 3)]
  run(NONE, pathOf(entries, 1), batchOf([5]))
  expect(seen.splice(0)).toEqual(['a', 'c'])
  run(NONE, pathOf(entries, 2), batchOf([5]))
  expect(seen).toEqual(['b', 'c'])
})
