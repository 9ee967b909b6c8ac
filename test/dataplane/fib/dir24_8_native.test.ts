/** The native twins of the IPv4 tables, held against TypeScript: every answer, while the table changes. */
import { describe, expect, test } from 'vitest'
import { seeded } from '../../../dataplane/fib/columns.ts'
import { MAX_NEXT_HOP_ID } from '../../../dataplane/fib/fib.ts'
import { native, type TableHandle } from '../../../native/native.ts'
import { table } from './tables.ts'

const BATCH = 256
const LOOKUPS = 1_000_000
/** Changes between two batches. */
const CHANGES = 4
const ROUTES = 20_000

type Lookup = (table: TableHandle, keys: Uint32Array, n: number, answers: Uint16Array) => void

const TWINS: { name: string; functions: [string, Lookup][] }[] = [
  {
    name: 'dir24_8',
    functions: [
      ['best', native.lookupDir24_8],
      ['scalar', native.lookupDir24_8Scalar],
    ],
  },
  {
    name: 'dxr',
    functions: [
      ['best', native.lookupDxr],
      ['portable', native.lookupDxrPortable],
    ],
  },
]

describe.each(TWINS)('$name', ({ name, functions }) => {
  test(`${LOOKUPS} lookups between changes`, () => {
    const random = seeded(42)
    const { writer, reader, memory } = table(name, 4, ROUTES)
    const handle = native.openTable(memory)
    const known: [number, number][] = []
    /** Dense in 16 /16s, so that chunks and groups of every kind come about; and anywhere. */
    const anyAddress = () =>
      random() % 8 === 0 ? random() : (0x0a00_0000 | (random() & 0x000f_ffff)) >>> 0
    const change = () => {
      if (known.length > 0 && (known.length >= ROUTES || random() % 3 === 0)) {
        const i = random() % known.length
        const [address, prefix] = known[i]!
        writer.remove([address], prefix)
        known[i] = known.at(-1)!
        known.pop()
        return
      }
      const prefix = random() % 4 === 0 ? random() % 33 : 17 + (random() % 8)
      const address = prefix === 0 ? 0 : (anyAddress() & (-1 << (32 - prefix))) >>> 0
      const before = writer.size
      const nextHop = 1 + (random() % (random() % 16 === 0 ? MAX_NEXT_HOP_ID : 255))
      writer.insert([address], prefix, nextHop)
      if (writer.size > before) known.push([address, prefix])
    }
    const addresses = new Uint32Array(BATCH)
    const expected = new Uint16Array(BATCH)
    const found = new Uint16Array(BATCH)
    let answered = 0
    for (let lookups = 0; lookups < LOOKUPS; lookups += BATCH) {
      for (let i = 0; i < CHANGES; i++) change()
      for (let i = 0; i < BATCH; i++) addresses[i] = anyAddress()
      // Every length from 0 on: the last addresses of a batch go another way than whole vectors.
      const n = lookups % (4 * BATCH) === 0 ? random() % (BATCH + 1) : BATCH
      expected.fill(0xffff)
      reader.lookup(addresses, n, expected)
      for (const [kind, lookup] of functions) {
        found.fill(0xffff)
        lookup(handle, addresses, n, found)
        if (Buffer.compare(Buffer.from(found.buffer), Buffer.from(expected.buffer)) !== 0) {
          expect([kind, ...found]).toEqual([kind, ...expected])
        }
      }
      for (let i = 0; i < n; i++) if (expected[i] !== 0) answered++
      if (lookups % (64 * BATCH) === 0) writer.quiesced()
    }
    expect(answered).toBeGreaterThan(LOOKUPS / 2)
  })

  test('arguments that are none, a region that is none', () => {
    const { writer, memory } = table(name, 4, 4)
    writer.insert([0], 0, 7)
    const handle = native.openTable(memory)
    const short = native.openTable(new Uint8Array(4096))
    for (const [, lookup] of functions) {
      const found = new Uint16Array(4).fill(9)
      lookup(short, new Uint32Array(4), 4, found)
      lookup(handle, [0, 0, 0, 0] as unknown as Uint32Array, 4, found)
      lookup(handle, new Uint8Array(3) as unknown as Uint32Array, 4, found)
      lookup({} as TableHandle, new Uint32Array(4), 4, found)
      expect([...found]).toEqual([9, 9, 9, 9])
      // Never more than the arrays hold.
      lookup(handle, new Uint32Array(3), 1000, found)
      expect([...found]).toEqual([7, 7, 7, 9])
    }
  })
})

describe('huge pages', () => {
  test('a table keeps what it holds', () => {
    const memory = new Uint8Array(new SharedArrayBuffer(6 << 20))
    for (let i = 0; i < memory.length; i += 4099) memory[i] = i
    // 0 where the kernel grants none.
    expect([0, 2, 3]).toContain(native.adviseHugePages(memory))
    native.adviseHugePages(memory.subarray(5))
    for (let i = 0; i < memory.length; i++) {
      const right = i % 4099 === 0 ? i & 255 : 0
      if (memory[i] !== right) expect([i, memory[i]]).toEqual([i, right])
    }
  })

  test('memory without a whole one, no memory', () => {
    expect(native.adviseHugePages(new Uint8Array(4096))).toBe(0)
    expect(() => native.adviseHugePages('' as unknown as Uint8Array)).toThrow(/memory/)
  })
})
