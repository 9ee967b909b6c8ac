import fc from 'fast-check'
import { expect, test } from 'vitest'
import {
  type Blocks,
  blocks,
  CHANGE_UNITS,
  MAX_UNITS,
  RECYCLE_UNITS,
} from '../../../dataplane/fib/poptrie/blocks.ts'

test('blocks never overlap, and none is given out again before it may be', () => {
  const count = 2000
  const step = fc.record({
    units: fc.integer({ min: 1, max: MAX_UNITS }),
    what: fc.constantFrom('take', 'take', 'retire', 'retire', 'quiesced'),
    pick: fc.nat(),
  })
  let fullRuns = 0
  const property = fc.property(fc.array(step, { maxLength: 400, size: 'max' }), steps => {
    /** By unit: 0 free, 1 in use, 2 waits. */
    const state = new Uint8Array(count)
    const free = () => {
      for (const [unit, is] of state.entries()) if (is === 2) state[unit] = 0
    }
    const memory = blocks(count, free)
    const held: { first: number; units: number }[] = []
    let used = 0
    for (const { units, what, pick } of steps) {
      if (what === 'take') {
        if (!memory.ready()) {
          fullRuns++
          continue
        }
        const first = memory.take(units)
        expect(first).toBeGreaterThanOrEqual(0)
        expect(first + units).toBeLessThanOrEqual(count)
        expect(state.subarray(first, first + units).every(s => s === 0)).toBe(true)
        state.fill(1, first, first + units)
        held.push({ first, units })
        used += units
      } else if (what === 'retire' && held.length > 0) {
        const [block] = held.splice(pick % held.length, 1)
        memory.retire(block!.first, block!.units)
        state.fill(2, block!.first, block!.first + block!.units)
        used -= block!.units
      } else if (what === 'quiesced') {
        memory.quiesced()
        free()
      }
      expect(memory.used).toBe(used)
    }
    for (const { first, units } of held) memory.retire(first, units)
    // Once to use up the spans that there are; then all is put together again.
    drain(memory)
    expect(drain(memory)).toBeGreaterThan(count - CHANGE_UNITS)
  })
  fc.assert(property, { numRuns: 200 })
  expect(fullRuns).toBeGreaterThan(0)
})

/** Takes single units as long as it may, and gives them back; returns how many. */
function drain(memory: Blocks): number {
  const taken: number[] = []
  while (memory.ready()) taken.push(memory.take(1))
  for (const first of taken) memory.retire(first, 1)
  memory.quiesced()
  return taken.length
}

test('only so much waits before it is recycled', () => {
  let recycled = 0
  const memory = blocks(4 * RECYCLE_UNITS, () => recycled++)
  for (let i = 0; i < RECYCLE_UNITS; i++) {
    expect(memory.ready()).toBe(true)
    memory.retire(memory.take(2), 2)
  }
  expect(recycled).toBe(1)
  expect(memory.used).toBe(0)
})

test('small free blocks become large ones', () => {
  const memory = blocks(CHANGE_UNITS * 4, () => {})
  expect(drain(memory)).toBeGreaterThan(CHANGE_UNITS * 2)
  expect(memory.ready()).toBe(true)
  expect(memory.take(MAX_UNITS)).toBe(0)
})
