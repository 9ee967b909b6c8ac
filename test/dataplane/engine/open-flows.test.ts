// The table of a batch's flows: one hash one place, few probes, nothing of the batch before.
import { expect, test } from 'vitest'
import { NONE, OpenFlows } from '../../../dataplane/engine/open-flows.ts'
import { BATCH_SIZE } from '../../../dataplane/limits.ts'

test('a hash has one place for the whole batch, and no other hash has it', () => {
  const flows = new OpenFlows()
  flows.begin()
  const hashes = Array.from({ length: BATCH_SIZE / 2 }, (_, k) => Math.imul(k, 0x9e37_79b1))
  const places = hashes.map(hash => flows.place(hash))
  expect(new Set(places).size).toBe(hashes.length)
  expect(places).not.toContain(NONE)
  expect(hashes.map(hash => flows.place(hash))).toEqual(places)
  expect([...flows.places.subarray(0, flows.taken)]).toEqual(places)
})

test('a place that is taken has nothing open, whatever was there before', () => {
  const flows = new OpenFlows()
  for (const column of Object.values(flows))
    if (ArrayBuffer.isView(column)) new Uint8Array(column.buffer).fill(1)
  flows.begin()
  flows.begin()
  expect(flows.count[flows.place(77)]).toBe(0)
})

test('the search ends: what finds only others in its places has none', () => {
  const flows = new OpenFlows()
  flows.begin()
  const alike = Array.from({ length: 12 }, (_, k) => 5 + k * 0x1_0000)
  const places = alike.map(hash => flows.place(hash))
  expect(places.slice(0, 8)).not.toContain(NONE)
  expect(places.slice(8)).toEqual([NONE, NONE, NONE, NONE])
  expect(flows.taken).toBe(8)
  expect(alike.map(hash => flows.place(hash))).toEqual(places)
})

test('a whole batch of flows has places, and a new batch finds them free', () => {
  const flows = new OpenFlows()
  for (let batch = 0; batch < 3; batch++) {
    flows.begin()
    for (let k = 0; k < BATCH_SIZE; k++) flows.place(k)
    expect(flows.taken).toBe(BATCH_SIZE)
  }
})

test('the number of batches goes round', () => {
  const flows = new OpenFlows()
  flows.begin()
  flows.count[flows.place(9)] = 3
  Object.assign(flows, { batch: 0xffff_ffff })
  flows.begin()
  expect(flows.count[flows.place(9)]).toBe(0)
  expect(flows.taken).toBe(1)
})
