import { expect, test } from 'vitest'
import { BATCH_SIZE, MAX_NEXT_HOPS, MAX_PORTS } from '../../../dataplane/limits.ts'
import {
  Batch,
  F_CSUM_PARTIAL,
  F_FRAGMENT,
  F_IPV6,
  F_L2_READY,
  F_L4_SUM,
  F_OUTER,
} from '../../../dataplane/packet/batch.ts'

function columns(batch: Batch): [string, { length: number; fill(value: number): unknown }][] {
  return Object.entries(batch).filter(([, value]) => ArrayBuffer.isView(value)) as never
}

test('every column has room for a whole batch', () => {
  const batch = new Batch()
  for (const [name, { length }] of columns(batch)) {
    expect(length, name).toBe(name === 'dst6' ? BATCH_SIZE * 4 : BATCH_SIZE)
  }
})

test('a packet that is appended has nothing of the one that was there before', () => {
  const batch = new Batch()
  for (const [, column] of columns(batch)) column.fill(0xff)
  batch.n4 = 3
  batch.n6 = 4
  batch.n = 9
  batch.reset(5)
  expect([batch.n, batch.n4, batch.n6, batch.inPort]).toEqual([0, 0, 0, 5])
  expect(batch.push(4096, 4366, 60)).toBe(0)
  expect(batch.push(8192, 8462, 0xffff_fff2)).toBe(1)
  expect(batch.n).toBe(2)
  expect([...batch.frame.subarray(0, 2)]).toEqual([4096, 8192])
  expect([...batch.l3.subarray(0, 2)]).toEqual([4366, 8462])
  // A frame shorter than its Ethernet header: the length stays above every real one.
  expect([...batch.len.subarray(0, 2)]).toEqual([60, 0xffff_fff2])
  for (const name of ['l4', 'flags', 'gsoType', 'csumStart', 'error', 'drop', 'nextHop'] as const) {
    expect([...batch[name].subarray(0, 3)], name).toEqual([0, 0, batch[name][2]])
    expect(batch[name][2], name).not.toBe(0)
  }
})

test('a packet that is copied has every column of the other one, and counts by its family', () => {
  const from = new Batch()
  for (const [k, [, column]] of columns(from).entries()) column.fill(k + 1)
  from.flags.fill(F_IPV6 | F_OUTER)
  from.n = 9
  const to = new Batch()
  to.reset(5)
  to.push(4096, 4366, 60)
  expect(to.copy(from, 7)).toBe(1)
  expect([to.n, to.n4, to.n6, to.inPort]).toEqual([2, 0, 1, 5])
  for (const [name, column] of columns(to)) {
    const [width, at] = name === 'dst6' ? [4, 4] : [1, 1]
    const other = columns(from).find(([each]) => each === name)![1]
    const values = (of: typeof column, first: number) =>
      [...(of as unknown as Uint8Array)].slice(first, first + width)
    expect(values(column, at), name).toEqual(values(other, 7 * width))
    expect(values(column, at)[0], name).not.toBe(0)
  }
  from.flags[3] = 0
  to.copy(from, 3)
  expect([to.n, to.n4, to.n6]).toEqual([3, 1, 1])
})

test('a packet that is made of another one has what was decided, and no offloads of its own', () => {
  const from = new Batch()
  for (const [, column] of columns(from)) column.fill(9)
  from.l3[7] = 300
  from.l4[7] = 340
  from.flags[7] = F_IPV6 | F_CSUM_PARTIAL | F_L4_SUM | F_FRAGMENT
  const to = new Batch()
  for (const [, column] of columns(to)) column.fill(5)
  to.reset(1)
  expect(to.derive(from, 7, 4096, 4366, 60)).toBe(0)
  expect([to.n, to.n4, to.n6]).toEqual([1, 0, 1])
  expect([to.frame[0], to.l3[0], to.len[0], to.l4[0]]).toEqual([4096, 4366, 60, 4406])
  expect(to.flags[0]).toBe(F_IPV6 | F_FRAGMENT)
  expect([...to.dst6.subarray(0, 4)]).toEqual([9, 9, 9, 9])
  for (const name of ['proto', 'src4', 'dst4', 'network', 'nextHop', 'outPort'] as const) {
    expect(to[name][0], name).toBe(9)
  }
  for (const name of ['gsoType', 'csumStart', 'error', 'drop'] as const) {
    expect(to[name][0], name).toBe(0)
  }
})

test('columns hold what is written into them', () => {
  const batch = new Batch()
  const flags = [F_IPV6, F_CSUM_PARTIAL, F_FRAGMENT, F_L2_READY, F_OUTER, F_L4_SUM]
  expect(new Set(flags).size).toBe(flags.length)
  for (const flag of flags) expect(Math.log2(flag) % 1).toBe(0)
  batch.nextHop[0] = MAX_NEXT_HOPS - 1
  batch.outPort[0] = MAX_PORTS - 1
  batch.len[0] = 65_575
  batch.gsoSize[0] = 0xffff
  expect([batch.nextHop[0], batch.outPort[0]]).toEqual([MAX_NEXT_HOPS - 1, MAX_PORTS - 1])
  expect([batch.len[0], batch.gsoSize[0]]).toEqual([65_575, 0xffff])
})
