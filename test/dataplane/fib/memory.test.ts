/** The formulae of dataplane/fib/README.md, and the blocks behind them. */
import { expect, test } from 'vitest'
import { fibByName } from '../../../dataplane/fib/index.ts'
import { covering, lengthOf, numberOf, paint } from '../../../dataplane/fib/prefix-heap.ts'
import { slots } from '../../../dataplane/fib/slots.ts'
import { GROUPS } from './tables.ts'

test('bytes of a region', () => {
  for (const routes of [1, 1000, 16_384, 1_000_000]) {
    const groups = Math.min(32_768, 2 * routes)
    const bytes = (name: string, family: 4 | 6) => fibByName(name, family).bytes({ routes })
    expect(bytes('dir24_8', 4)).toBe(64 + 2 ** 25 + 512 * groups)
    expect(bytes('trie6', 6)).toBe(64 + 6 * 2 ** 16 + 128 * (4 * routes + 1))
    expect(bytes('planb6', 6)).toBe(
      128 + 6 * 2 ** 20 + 128 * (4 * routes + 64) + 2 ** 14 * Math.min(2048, Math.ceil(routes / 8)),
    )
    expect([bytes('linear4', 4), bytes('linear6', 6)]).toEqual([16 + 8 * routes, 16 + 20 * routes])
  }
})

test('a native twin has the bytes of its algorithm', () => {
  for (const { names, family } of GROUPS) {
    const [bytes, ...others] = names.map(name => fibByName(name, family).bytes({ routes: 1000 }))
    for (const other of others) expect(other).toBe(bytes)
  }
})

test('a retired slot waits for quiesced', () => {
  const three = slots(1, 4)
  expect([three.take(), three.take(), three.take()].sort()).toEqual([1, 2, 3])
  expect([three.available, three.waiting]).toEqual([0, 0])
  three.retire(2)
  expect([three.available, three.waiting]).toEqual([0, 1])
  three.quiesced()
  expect([three.available, three.waiting]).toEqual([1, 0])
  expect(three.take()).toBe(2)
})

test('numbers of prefixes', () => {
  expect(numberOf(0b1011, 4, 0)).toBe(1)
  expect(numberOf(0b1011, 4, 2)).toBe(0b110)
  expect(numberOf(0b1011, 4, 4)).toBe(0b11011)
  expect([1, 0b110, 0b11011].map(lengthOf)).toEqual([0, 2, 4])
})

test('a route covers the cells that no longer one has', () => {
  const book = new Uint16Array(2 * 8 + 1)
  const cells = new Uint16Array(8 + 2)
  const set = (length: number, value: number, nextHop: number) => {
    const number = numberOf(value, 3, length)
    book[1 + number] = nextHop
    const shown = nextHop !== 0 ? nextHop : covering(book, 1, number)
    paint(book, 1, 8, number, shown, cells, 1)
  }
  set(3, 0b101, 9)
  set(1, 0b100, 5)
  expect([...cells]).toEqual([0, 0, 0, 0, 0, 5, 9, 5, 5, 0])
  set(0, 0, 1)
  expect([...cells]).toEqual([0, 1, 1, 1, 1, 5, 9, 5, 5, 0])
  set(3, 0b101, 0)
  expect([...cells]).toEqual([0, 1, 1, 1, 1, 5, 5, 5, 5, 0])
  set(1, 0b100, 0)
  expect([...cells]).toEqual([0, 1, 1, 1, 1, 1, 1, 1, 1, 0])
})
