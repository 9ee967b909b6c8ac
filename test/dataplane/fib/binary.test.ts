/** What only the binary tries have: a node for each bit, and chains of them that come and go. */
import { describe, expect, test } from 'vitest'
import { fibByName } from '../../../dataplane/fib/index.ts'
import { clip, lookUp, table, wordsOf } from './tables.ts'

const HOST = { 4: [0x0af4_0102], 6: [0xfd44_0000, 0x0000_0001, 0, 2] }

describe.each([4, 6] as const)('binary%i', family => {
  const name = `binary${family}`
  const words = wordsOf(family)
  const bits = 32 * words
  const host = HOST[family]

  test('bytes: twelve a node, two for each that the routes can need, and node 0', () => {
    for (const routes of [1, 3, 1000]) {
      let nodes = 0
      for (let depth = 0; depth <= bits; depth++) nodes += Math.min(2 ** depth, routes)
      expect(fibByName(name, family).bytes({ routes })).toBe(64 + 12 * (2 * nodes + 1))
    }
  })

  test('nodes come back: a table of one route changes for ever', () => {
    const { writer, reader } = table(name, family, 1)
    const address = Uint32Array.from(host)
    for (let round = 0; round < 300; round++) {
      const prefix = round % (bits + 1)
      writer.insert(clip(host, prefix), prefix, 1 + round)
      expect([...lookUp(reader, address, words)]).toEqual([1 + round])
      expect(writer.remove(clip(host, prefix), prefix)).toBe(true)
      expect([...lookUp(reader, address, words)]).toEqual([0])
      writer.quiesced()
    }
  })

  test('without quiesced its nodes end, with an error that says so and no change', () => {
    const { writer, reader } = table(name, family, 1)
    const address = Uint32Array.from(host)
    const churn = () => {
      for (let i = 0; i < 10; i++) {
        writer.insert(host, bits, 3)
        writer.remove(host, bits)
      }
    }
    expect(churn).toThrow(RangeError)
    expect(churn).toThrow('wait for quiesced()')
    expect([writer.size, ...lookUp(reader, address, words)]).toEqual([0, 0])
    writer.quiesced()
    writer.insert(host, bits, 3)
    expect([...lookUp(reader, address, words)]).toEqual([3])
  })

  test('a chain goes as far up as nothing else needs it', () => {
    const { writer, reader } = table(name, family, 4)
    const half = bits / 2
    const beside = [...host]
    beside[words - 1]! ^= 1
    const probes = Uint32Array.from([...host, ...beside])
    const found = () => [...lookUp(reader, probes, words)]
    writer.insert(clip(host, half), half, 1)
    writer.insert(host, bits, 2)
    writer.insert(beside, bits, 3)
    expect(found()).toEqual([2, 3])
    writer.remove(clip(host, half), half)
    expect(found()).toEqual([2, 3])
    writer.remove(host, bits)
    expect(found()).toEqual([0, 3])
    writer.remove(beside, bits)
    expect(found()).toEqual([0, 0])
    expect([...writer.routes()]).toEqual([])
  })
})
