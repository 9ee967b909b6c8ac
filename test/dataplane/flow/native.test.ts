/** What only the native twin has: its arguments; and that it answers as its TypeScript over one table. */
import { describe, expect, test } from 'vitest'
import { flowByName } from '../../../dataplane/flow/index.ts'
import { layoutOf } from '../../../dataplane/flow/region.ts'
import { Batch } from '../../../dataplane/packet/batch.ts'
import { type BatchHandle, type KnownFlowsHandle, native } from '../../../native/native.ts'
import { random } from '../hash/random.ts'
import { answersFor, collidingKeys, decisionsOf, keysOf, range, table } from './tables.ts'

const LIMITS = { flows: 3584, ports: 1 }

test('any keys, any generation, any length of a batch: the same answers', () => {
  const { memory, flows } = table('cuckoo', LIMITS)
  const twin = flowByName('cuckoo_native').open(memory, LIMITS)
  flows.setQuota(0, 10_000)
  const draw = random(5)
  for (const generation of [1, 0xffff_ffff]) {
    const numbers = Array.from({ length: 2200 }, () => draw() % 5000)
    const n = numbers.length
    flows.insert(keysOf(numbers), n, decisionsOf(numbers), generation, 0, answersFor(n))
  }
  // Some with tags and buckets that others have, too.
  const others = range(9000, 9006)
  flows.insert(collidingKeys(others, 0x1234_5678), 6, decisionsOf(others), 1, 0, answersFor(6))
  for (const n of [0, 1, 2, 127, 128, 129, 255, 256, 257, 1000, 5006]) {
    const numbers = [...range(0, 5000), ...others].slice(-n)
    const keys = n === 0 ? keysOf([]) : keysOf(numbers)
    if (n >= 6) keys.hashes.fill(0x1234_5678, n - 6)
    for (const generation of [1, 2, 0xffff_ffff]) {
      const [mine, right] = [answersFor(n), answersFor(n)]
      twin.probe(keys, n, generation, mine)
      flows.probe(keys, n, generation, right)
      expect(mine.slots).toEqual(right.slots)
      expect(mine.found).toEqual(right.found)
      for (let i = 0; i < n; i++) {
        if (right.found[i] !== 0) expect(mine.actions[i]).toBe(right.actions[i])
      }
    }
  }
})

describe('arguments', () => {
  const { memory, flows } = table('cuckoo_native', LIMITS)
  const { locks, tags, entries, accounts } = layoutOf(LIMITS, flows.slots)
  const open = (...parts: [number, number, number, number]) =>
    native.openFlowTable(memory, ...parts, accounts)
  const handle = open(locks, tags, entries, flows.slots)

  test('a table whose parts do not lie in the memory is refused', () => {
    expect(() => open(memory.length, tags, entries, flows.slots)).toThrow('flow table')
    expect(() => open(locks, tags + 4, entries, flows.slots)).toThrow('flow table')
    expect(() => open(locks, tags, entries + 32, flows.slots)).toThrow('flow table')
    expect(() => open(locks, tags, entries, flows.slots * 2)).toThrow('flow table')
    expect(() => open(locks, tags, entries, flows.slots - 4)).toThrow('flow table')
    expect(() => open(locks, tags, -1, flows.slots)).toThrow('argument entries')
  })

  test('columns that are too short or of another kind are left alone', () => {
    const keys = keysOf(range(0, 4))
    const { slots, actions, found } = answersFor(4)
    type Columns = Parameters<typeof native.probeFlows>
    const right: Columns = [
      handle,
      keys.words,
      keys.hashes,
      keys.directions,
      4,
      1,
      slots,
      actions,
      found,
    ]
    /** Slots behind a call whose argument `index` is another one. */
    const probe = (index: number, value: unknown) => {
      slots.fill(77)
      native.probeFlows(...(right.with(index, value as never) as Columns))
      return [...slots]
    }
    expect(probe(4, 4)).toEqual([-1, -1, -1, -1])
    const wrong: [number, unknown][] = [
      [0, {}],
      [1, keys.words.subarray(1)],
      [2, keys.hashes.subarray(1)],
      [3, slots],
      [4, 5],
      [5, 'one'],
      [7, actions.subarray(1)],
      [8, found.subarray(1)],
    ]
    for (const [index, value] of wrong) expect(probe(index, value)).toEqual([77, 77, 77, 77])
  })

  test('known flows: what is no table, or no batch, and more packets than one has, are refused', () => {
    expect(() => native.openKnownFlows('none' as never, 1, 2)).toThrow('known flows')
    const known = native.openKnownFlows(handle, 1, 2)
    const { batch } = columnsOf(new Batch())
    expect(native.knownFlows(known, batch, 0, 0, 1, 0, 0)).toBe(0)
    expect(native.knownFlows(known, batch, 257, 0, 1, 0, 0)).toBe(-22)
    expect(native.knownFlows({} as KnownFlowsHandle, batch, 1, 0, 1, 0, 0)).toBe(-22)
    expect(native.knownFlows(known, {} as BatchHandle, 1, 0, 1, 0, 0)).toBe(-22)
  })

  test('a batch: columns of another kind or length are refused', () => {
    const { columns, arena } = columnsOf(new Batch())
    const open = (of: readonly ArrayBufferView[]) =>
      native.openBatch(arena, new Uint8Array(256), of)
    expect(() => open(columns.slice(1))).toThrow('columns must be those of a batch')
    expect(() => open(columns.with(10, new Uint32Array(255)))).toThrow('columns must be')
    expect(() => open(columns.with(0, columns[3]!))).toThrow('columns must be')
    // Four words a packet.
    expect(() => open(columns.with(11, new Uint32Array(256)))).toThrow('columns must be')
  })

  test('what lies outside of the arena is neither read nor written', () => {
    const b = new Batch()
    const { batch, arena, nextHops } = columnsOf(b)
    const known = native.openKnownFlows(handle, 1, 2)
    // A next hop that is encapsulated to.
    nextHops[128 + 12] = 50
    for (const [l3, l4] of [
      [4096, 4116],
      [4060, 4080],
      [4056, 4096],
      [0xffff_fff0, 20],
      [100, 0xffff_fff0],
    ] as const) {
      b.reset(0)
      b.push(0, l3, 40)
      b.l4[0] = l4
      b.proto[0] = 17
      b.nextHop[0] = 1
      expect(native.knownFlows(known, batch, 1, 0, 1, 0, 0)).toBe(1)
      expect(b.known[0]).toBe(0)
      expect(native.encapIpv4(batch, 1, 0, 8)).toBe(0x1_0000)
      expect(native.parse(batch, 1, 0, 0, 0, 0, 0, 0, 0)).toBe(1)
      // Of a next hop that there is not, nothing is known.
      b.nextHop[0] = 2
      expect(native.encapIpv4(batch, 1, 0, 8)).toBe(0)
    }
    b.l3[0] = 49
    b.l4[0] = 69
    b.nextHop[0] = 1
    expect(native.encapIpv4(batch, 1, 0, 8)).toBe(0x1_0000)
    expect(arena.every(byte => byte === 0)).toBe(true)
  })
})

function columnsOf(b: Batch) {
  const { drop, flags, proto, l3, l4, len, src4, dst4, network, nextHop, known } = b
  const columns: ArrayBufferView[] = [drop, flags, proto, l3, l4, len, src4, dst4, network]
  columns.push(nextHop, known, b.dst6, b.gsoType, b.csumStart, b.parsed, b.source)
  const arena = new Uint8Array(4096)
  const nextHops = new Uint8Array(256)
  return { columns, arena, nextHops, batch: native.openBatch(arena, nextHops, columns) }
}
