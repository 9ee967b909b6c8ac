/** What only planb6 has: trees of nodes that fill, split, unite and go; its searches; what a change costs. */
import { describe, expect, test } from 'vitest'
import { seeded } from '../../../dataplane/fib/columns.ts'
import type { FibReader } from '../../../dataplane/fib/fib.ts'
import { native } from '../../../native/native.ts'
import { rangeOracle } from './range-oracle.ts'
import { lookUp, table } from './tables.ts'

const HEAD = [0xfd44_0000, 0x0000_0001]
/** Bits 32 .. 47 of an address: many /48s in one tree. */
const net = (i: number) => [HEAD[0]!, i << 16, 0, 0]
const host = (i: number) => [...HEAD, i >>> 0, 2]

/** A tree of `count` routes, put in and taken out in an order of its own. */
function fill(count: number, order: (i: number) => number, address: (i: number) => number[]) {
  const bits = address(0)[3] === 0 ? 48 : 128
  const { writer, reader } = table('planb6', 6, count)
  const all = Uint32Array.from(Array.from({ length: count }, (_, i) => address(i)).flat())
  const expected = new Uint16Array(count)
  for (let i = 0; i < count; i++) {
    const at = order(i)
    writer.insert(address(at), bits, 1 + at)
    expected[at] = 1 + at
  }
  expect(lookUp(reader, all, 4)).toEqual(expected)
  for (let i = 0; i < count; i++) {
    const at = order(count - 1 - i)
    expect(writer.remove(address(at), bits)).toBe(true)
    expected[at] = 0
    if (i % 97 === 0) expect(lookUp(reader, all, 4)).toEqual(expected)
  }
  expect(writer.size).toBe(0)
}

describe('a tree of thousands of routes grows and goes', () => {
  const COUNT = 2500
  test.each([
    ['upwards', (i: number) => i],
    ['downwards', (i: number) => COUNT - 1 - i],
    ['from both ends', (i: number) => (i % 2 === 0 ? i >>> 1 : COUNT - 1 - (i >>> 1))],
    ['in disorder', (i: number) => (i * 1237) % COUNT],
  ])('%s', (_, order) => {
    fill(COUNT, order, net)
    fill(COUNT, order, host)
  })
})

test('nodes come back: four for the only route, for ever, without quiesced', () => {
  const { writer, reader } = table('planb6', 6, 1)
  for (let i = 0; i < 2000; i++) {
    const address = [i << 16, i, i << 8, i]
    writer.insert(address, 128, 7)
    expect([...lookUp(reader, Uint32Array.from(address), 4)]).toEqual([7])
    writer.remove(address, 128)
    expect([...lookUp(reader, Uint32Array.from(address), 4)]).toEqual([0])
  }
})

test('fans come and go, and a table with more large trees than fans does without', () => {
  // Three fans; a tree of ten /48s takes one. The trees' /20s are 16 /20s apart.
  const routes = 24
  const { writer, reader } = table('planb6', 6, routes)
  const at = (tree: number, i: number) => [
    (0x2a00_0000 + 0x0001_0000 * tree) >>> 0,
    (i << 28) >>> 0,
    0,
    0,
  ]
  const all = (tree: number) =>
    Uint32Array.from(Array.from({ length: 12 }, (_, i) => at(tree, i)).flat())
  for (let round = 0; round < 400; round++) {
    const trees = [round % 7, 7 + (round % 5)]
    for (const [k, tree] of trees.entries()) {
      for (let i = 0; i < 12; i++) writer.insert(at(tree, i), 36, 1 + 12 * k + i)
    }
    for (const [k, tree] of trees.entries()) {
      expect([...lookUp(reader, all(tree), 4)]).toEqual(
        Array.from({ length: 12 }, (_, i) => 1 + 12 * k + i),
      )
      for (let i = 0; i < 12; i++) writer.remove(at(tree, (i * 5) % 12), 36)
      expect([...lookUp(reader, all(tree), 4)]).toEqual(new Array(12).fill(0))
    }
  }
  // Hosts in one cell beside routes over whole cells, and over more than one.
  writer.insert([0x2a00_0000, 0, 0, 0], 22, 1)
  writer.insert([0x2a00_0000, 0, 0, 0], 32, 2)
  for (let i = 1; i < 12; i++) writer.insert(at(0, i), 128, 10 + i)
  writer.insert([0x2a00_0001, 0, 0, 0], 32, 3)
  writer.insert([0x2a00_0001, 5, 0, 0], 64, 4)
  const probes = Uint32Array.from(
    [
      at(0, 1),
      at(0, 12),
      [0x2a00_0001, 5, 9, 9],
      [0x2a00_0001, 6, 0, 0],
      [0x2a00_0002, 0, 0, 0],
    ].flat(),
  )
  expect([...lookUp(reader, probes, 4)]).toEqual([11, 2, 4, 3, 1])
  writer.remove([0x2a00_0000, 0, 0, 0], 22)
  writer.remove([0x2a00_0000, 0, 0, 0], 32)
  expect([...lookUp(reader, probes, 4)]).toEqual([11, 0, 4, 3, 0])
})

test('4R nodes are enough: hosts that share nothing, and routes beside each other', () => {
  const routes = 512
  for (const address of [
    (i: number) => [i << 22, 0, 0, 0], // a tree of each layer for every route
    (i: number) => [HEAD[0]!, HEAD[1]!, i << 16, 1], // one tree of layers 0 and 1
    (i: number) => [HEAD[0]!, HEAD[1]!, 0, 3 * i], // one tree of each layer
  ]) {
    const { writer, reader } = table('planb6', 6, routes)
    for (let i = 0; i < routes; i++) writer.insert(address(i), 128, 1 + i)
    for (let i = 0; i < routes; i++) {
      expect(lookUp(reader, Uint32Array.from(address(i)), 4)[0]).toBe(1 + i)
    }
    for (let i = 0; i < routes; i++) writer.remove(address(i), 128)
    expect(writer.size).toBe(0)
  }
})

test('a border that two routes share stays until both are gone', () => {
  const { writer, reader } = table('planb6', 6, 8)
  const probe = Uint32Array.from([net(1), net(2), net(3), net(4)].flat())
  const found = () => [...lookUp(reader, probe, 4)]
  writer.insert(net(2), 47, 1)
  writer.insert(net(2), 48, 2)
  writer.insert(net(4), 48, 3)
  writer.insert([HEAD[0]!, 0, 0, 0], 32, 4)
  expect(found()).toEqual([4, 2, 1, 3])
  writer.remove(net(2), 47)
  expect(found()).toEqual([4, 2, 4, 3])
  writer.insert(net(3), 48, 5)
  writer.remove(net(4), 48)
  expect(found()).toEqual([4, 2, 5, 4])
  writer.remove([HEAD[0]!, 0, 0, 0], 32)
  expect(found()).toEqual([0, 2, 5, 0])
})

test('below the /52 of a deeper tree, shorter routes show through', () => {
  const { writer, reader } = table('planb6', 6, 8)
  const probes = Uint32Array.from([host(1), host(2), [...HEAD, 0x1000_0000, 0], net(0x900)].flat())
  const found = () => [...lookUp(reader, probes, 4)]
  writer.insert(host(1), 128, 1)
  expect(found()).toEqual([1, 0, 0, 0])
  writer.insert([HEAD[0]!, 0, 0, 0], 16, 2)
  expect(found()).toEqual([1, 2, 2, 2])
  writer.insert([HEAD[0]!, 0, 0, 0], 40, 3)
  expect(found()).toEqual([1, 3, 3, 2])
  writer.insert([...HEAD, 0, 0], 64, 4)
  expect(found()).toEqual([1, 4, 4, 2])
  writer.remove([...HEAD, 0, 0], 64)
  writer.insert([HEAD[0]!, 0, 0, 0], 40, 5)
  expect(found()).toEqual([1, 5, 5, 2])
  writer.remove(host(1), 128)
  expect(found()).toEqual([5, 5, 5, 2])
})

test('each native search answers as the TypeScript one', () => {
  const count = 3000
  const random = seeded(11)
  const { writer, memory, reader } = table('planb6', 6, count)
  const routes = {
    count: 0,
    addresses: new Uint32Array(4 * count),
    lengths: [] as number[],
    nextHops: [] as number[],
  }
  const probes: number[] = []
  const seen = new Set<string>()
  for (let i = 0; i < count; i++) {
    // Few values a word, so that trees become deep; all of the last layer's bits too.
    const words = [0xfd44_0000, random() & 0xff00_0ff0, random() & 0xf000_000f, random() & 0xffff]
    const prefix = 21 + (random() % 108)
    const address = words.map((word, w) => {
      const bits = Math.min(32, Math.max(0, prefix - 32 * w))
      return bits === 0 ? 0 : (word & (-1 << (32 - bits))) >>> 0
    })
    probes.push(...words.map(word => word >>> 0), ...address)
    if (seen.has(`${address}/${prefix}`)) continue
    seen.add(`${address}/${prefix}`)
    writer.insert(address, prefix, 1 + i)
    routes.addresses.set(address, 4 * routes.count++)
    routes.lengths.push(prefix)
    routes.nextHops.push(1 + i)
  }
  const addresses = Uint32Array.from(probes)
  const right = rangeOracle(4, routes)(addresses)
  expect(lookUp(reader, addresses, 4)).toEqual(right)
  const handle = native.openTable(memory)
  for (const lookup of [native.lookupPlanb6, native.lookupPlanb6Avx2, native.lookupPlanb6Scalar]) {
    const each: FibReader = { lookup: (of, n, nextHops) => lookup(handle, of, n, nextHops) }
    expect(lookUp(each, addresses, 4)).toEqual(right)
  }
})
