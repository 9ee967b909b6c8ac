/** What only trie6 has: nodes, and how few of them a table needs. */
import { expect, test } from 'vitest'
import { lookUp, table } from './tables.ts'

const PREFIX = [0xfd44_0000, 0x0000_0001]

test('nodes come back: a small table changes for ever', () => {
  const { writer, reader } = table('trie6', 6, 2)
  const addresses = new Uint32Array(8)
  for (let round = 0; round < 500; round++) {
    // Two hosts that part at another bit each time.
    const bit = 16 + (round % 112)
    addresses.set([...PREFIX, 0, 2], 0)
    addresses.set([...PREFIX, 0, 2], 4)
    addresses[4 + (bit >>> 5)]! ^= 1 << (31 - (bit & 31))
    writer.insert(addresses.subarray(0, 4), 128, 1)
    writer.insert(addresses.subarray(4, 8), 128, 2)
    expect([...lookUp(reader, addresses, 4)]).toEqual([1, 2])
    expect(writer.remove(addresses.subarray(0, 4), 128)).toBe(true)
    expect([...lookUp(reader, addresses, 4)]).toEqual([0, 2])
    expect(writer.remove(addresses.subarray(4, 8), 128)).toBe(true)
    writer.quiesced()
  }
  expect(writer.size).toBe(0)
})

test('without quiesced its memory ends, with an error that says so and no change', () => {
  const { writer, reader } = table('trie6', 6, 2)
  const host = (i: number) => [...PREFIX, i, 2]
  const address = Uint32Array.from(host(1))
  const churn = () => {
    for (let i = 1; i < 100; i++) {
      writer.insert(host(i), 128, 3)
      writer.remove(host(i), 128)
    }
  }
  expect(churn).toThrow(RangeError)
  expect(churn).toThrow('8 nodes, 8 of them wait for quiesced()')
  expect(writer.size).toBe(0)
  expect([...lookUp(reader, address, 4)]).toEqual([0])
  writer.quiesced()
  writer.insert(host(1), 128, 3)
  expect([...lookUp(reader, address, 4)]).toEqual([3])
})

test('a route between two nodes, above one, and at the same place as a branch', () => {
  const { writer, reader } = table('trie6', 6, 8)
  const near = [...PREFIX, 0, 2]
  const far = [...PREFIX, 0x8000_0000, 2]
  const probes = Uint32Array.from([near, far, [PREFIX[0]!, 9, 0, 0], [0xfd44_0001, 0, 0, 0]].flat())
  const found = () => [...lookUp(reader, probes, 4)]
  writer.insert(near, 128, 1)
  writer.insert(far, 128, 2)
  expect(found()).toEqual([1, 2, 0, 0])
  // The hosts part in bit 64: the branch is the node that these belong to.
  writer.insert([...PREFIX, 0x8000_0000, 0], 65, 3)
  writer.insert([...PREFIX, 0, 0], 64, 4)
  writer.insert([PREFIX[0]!, 0, 0, 0], 32, 5)
  writer.insert([0xfd44_0000, 0, 0, 0], 31, 6)
  expect(found()).toEqual([1, 2, 5, 6])
  writer.remove(near, 128)
  writer.remove(far, 128)
  expect(found()).toEqual([4, 3, 5, 6])
  writer.remove([...PREFIX, 0x8000_0000, 0], 65)
  expect(found()).toEqual([4, 4, 5, 6])
  writer.remove([PREFIX[0]!, 0, 0, 0], 32)
  expect(found()).toEqual([4, 4, 6, 6])
})
