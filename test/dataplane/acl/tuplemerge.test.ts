/** Inside of the tuple spaces: tables, their slots, memory; the scalar native twin. */

import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import type { AclRule } from '../../../dataplane/acl/acl.ts'
import { rankHeap } from '../../../dataplane/acl/rank-heap.ts'
import { flatten, NO_RANK } from '../../../dataplane/acl/rule.ts'
import {
  DIRECTORY,
  DIRECTORY_HEADER,
  firstSlot,
  open,
  placesOf,
  SLOTS,
  shiftOf,
  TAG_BITS,
  tupleOf,
} from '../../../dataplane/acl/tuple/memory.ts'
import { tupleTables } from '../../../dataplane/acl/tuple/tables.ts'
import { CROWD } from '../../../dataplane/acl/tuple/tuplemerge.ts'
import { native } from '../../../native/native.ts'
import { anyRule, classify, dice, edgeHeaders, table } from './tables.ts'

/** Rules in each of the tables that are valid, in their order. */
function tablesIn(memory: Uint8Array, family: 4 | 6, rules: number): number[] {
  const { words, header, places } = open(memory, placesOf(family, { rules }))
  const directory = places.directories[header[DIRECTORY]!]!
  return Array.from({ length: words[directory]! }, (_, t) => {
    const word = words[directory + DIRECTORY_HEADER + t * places.stride + SLOTS]!
    const slots = words.subarray(firstSlot(word), firstSlot(word) + 2 ** (32 - shiftOf(word)))
    const nodes = slots.filter(slot => slot !== 0).map(slot => slot >>> TAG_BITS)
    expect(new Set(nodes).size).toBe(nodes.length)
    expect(slots.length).toBeGreaterThanOrEqual(4 * nodes.length)
    return nodes.length
  })
}

test('bytes of a region', () => {
  const line = (words: number) => Math.ceil(words / 16) * 16
  for (const rules of [1, 16, 1000, 65_535]) {
    for (const [family, stride] of [
      [4, 8],
      [6, 16],
    ] as const) {
      const R = rules + 1
      const words = 16 + 2 * line(16 + stride * R) + line(stride * (R + 1)) + 2 * line(16 * R)
      for (const name of ['tss', 'tuplemerge']) {
        expect(table(`${name}${family}`, family, rules).memory.length).toBe(4 * words)
      }
    }
  }
})

test('tuples of rules', () => {
  const rule: AclRule = {
    id: 1,
    priority: 1,
    protocol: 6,
    sourcePorts: { first: 1024, last: 2047 },
  }
  expect(tupleOf(flatten(4, rule))).toEqual({
    source: 0,
    destination: 0,
    sourcePort: 6,
    destinationPort: 0,
    protocol: 8,
  })
  expect(tupleOf(flatten(4, { ...rule, sourcePorts: { first: 9, last: 9 } })).sourcePort).toBe(16)
  expect(
    tupleOf(flatten(4, { ...rule, sourcePorts: { first: 0x7fff, last: 0x8000 } })).sourcePort,
  ).toBe(0)
})

describe('tables', () => {
  const pair = (id: number, source: number, destination: number): AclRule => ({
    id,
    priority: id,
    source: { address: [id * 0x0101_0000], prefix: source },
    destination: { address: [id * 0x0100_0000], prefix: destination },
  })

  test('tss has one for each pair of lengths; tuplemerge shares them', () => {
    const rules = [
      pair(1, 32, 32),
      pair(2, 31, 32),
      pair(3, 32, 31),
      pair(4, 30, 29),
      pair(5, 32, 32),
    ]
    const tables = (name: string) => {
      const { writer, memory } = table(name, 4, 8)
      for (const rule of rules) writer.insert(rule)
      return tablesIn(memory, 4, 8)
    }
    expect(tables('tss4')).toEqual([2, 1, 1, 1])
    expect(tables('tuplemerge4')).toEqual([5])
  })

  test('a crowd is split when its rules have more in common, and stays when not', () => {
    const { writer, memory, reader } = table('tuplemerge4', 4, 64)
    const ported = (id: number, first: number, last = first): AclRule => ({
      id,
      priority: id,
      protocol: 6,
      source: { address: [0x0a00_0001], prefix: 32 },
      destinationPorts: { first, last },
    })
    for (let id = 1; id <= CROWD; id++) writer.insert(ported(id, id))
    expect(tablesIn(memory, 4, 64)).toEqual([CROWD])
    writer.insert(ported(CROWD + 1, 100))
    // What they have in common is all of their lengths: they move, and no two share a key.
    expect(tablesIn(memory, 4, 64)).toEqual([CROWD + 1])
    // Ranges across the middle have no bit in common, so these can't be told apart by a key.
    for (let id = 20; id < 40; id++) writer.insert(ported(id, 0x7fff - id, 0x8000 + id))
    expect(tablesIn(memory, 4, 64).reduce((sum, rules) => sum + rules, 0)).toBe(CROWD + 21)
    const header = Uint32Array.from([0x0a00_0001, 0, 0x8000, 6])
    expect(classify(reader, header, 4)[0]).toBe(20)
  })

  test.each([4, 6] as const)('slots move from half to half and nothing is lost (IPv%i)', family => {
    const rules = 64
    const memory = new Uint8Array(new SharedArrayBuffer(placesOf(family, { rules }).end * 4))
    const space = open(memory, placesOf(family, { rules }))
    const tables = tupleTables(space)
    const halves = new Set<number>()
    const roll = dice(family)
    const inside: ReturnType<typeof flatten>[] = []
    for (let i = 0; i < 6000; i++) {
      if (inside.length > 0 && (inside.length === rules || roll(5) < 2)) {
        const at = roll(inside.length)
        tables.remove(inside[at]!)
        inside[at] = inside.at(-1)!
        inside.pop()
      } else {
        const free = 1 + (i % 60_000)
        const address = family === 4 ? [roll(2 ** 32)] : [1, 2, 3, roll(2 ** 32)]
        const prefix = family === 4 ? 32 : 128
        const rule = flatten(family, { id: free, priority: roll(9), source: { address, prefix } })
        const bits = 1 + roll(32)
        tables.insert(rule, tables.of({ ...tupleOf(rule), source: bits }))
        inside.push(rule)
      }
      const first = tables.tables[0]
      if (first !== undefined) halves.add(first.slots < space.places.halves[1] ? 0 : 1)
      const best = tables.tables.map(each => each.best)
      expect(best).toEqual([...best].sort((a, b) => a - b))
    }
    expect(halves.size).toBe(2)
    const count = tablesIn(memory, family, rules).reduce((sum, each) => sum + each, 0)
    expect(count).toBe(inside.length)
    for (const rule of inside) tables.remove(rule)
    expect([...tables.tables, ...tablesIn(memory, family, rules)]).toEqual([])
  })
})

test('the smallest rank of those that are still there', () => {
  const heap = rankHeap()
  const there = new Map<number, number>()
  const roll = dice(3)
  for (let round = 0; round < 2000; round++) {
    const node = roll(64)
    if (there.has(node)) {
      there.delete(node)
    } else {
      const rank = roll(4) === 0 ? NO_RANK - 1 : roll(2 ** 32 - 1)
      there.set(node, rank)
      heap.push(rank, node)
    }
    const best = heap.best((at, rank) => there.get(at) === rank, NO_RANK)
    expect(best).toBe(Math.min(NO_RANK, ...there.values()))
  }
})

describe.each([4, 6] as const)('native twins of IPv%i', family => {
  const scalar = family === 4 ? native.classifyTuples4Scalar : native.classifyTuples6Scalar
  const wide = family === 4 ? native.classifyTuples4 : native.classifyTuples6

  test('with and without AVX-512 answer as TypeScript, for any batch', () => {
    const rules = 400
    const { writer, reader, memory } = table(`tuplemerge${family}`, family, rules)
    const handle = native.openTable(memory)
    const roll = dice(family)
    const some = fc.sample(anyRule(family, rules), { numRuns: 1200, seed: 7 })
    const words = family === 4 ? 4 : 10
    for (const [i, rule] of some.entries()) {
      writer.insert(rule)
      if (i % 3 === 0) writer.remove(1 + roll(rules))
      if (i % 40 !== 39) continue
      const headers = edgeHeaders(some.slice(0, i + 1), family, 1100, roll)
      const expected = classify(reader, headers, family)
      for (const n of [0, 1, 3, 4, 15, 16, 17, 255, 256, 257, 1 + roll(1100), 1100]) {
        for (const twin of [wide, scalar]) {
          const found = new Uint16Array(1101).fill(7)
          twin(handle, headers, n, found)
          expect(found.subarray(0, n)).toEqual(expected.subarray(0, n))
          expect(found.subarray(n).every(id => id === 7)).toBe(true)
        }
      }
      // Arrays that are too short: as many as they hold.
      const short = new Uint16Array(5)
      wide(handle, headers.subarray(0, words * 3), 256, short)
      expect([...short]).toEqual([...expected.subarray(0, 3), 0, 0])
    }
  })
})
