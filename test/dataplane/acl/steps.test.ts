/**
 * The order of a change's stores, one thread, no luck: before and after every Atomics.store of the
 * writer a reader classifies every probe, and must get what was right before the change or after it.
 * (Of the algorithms that change in place; linear4 and linear6 are left out: their readers wait for
 * the end of a change.)
 */
import fc from 'fast-check'
import { afterEach, describe, expect, test, vi } from 'vitest'
import { aclByName } from '../../../dataplane/acl/index.ts'
import { anyRule, BUT_LINEAR, classify, dice, edgeHeaders, table } from './tables.ts'

const LIMIT = 24
const IN_PLACE = BUT_LINEAR.filter(({ name, family }) => aclByName(name, family).incremental)

afterEach(() => {
  vi.restoreAllMocks()
})

describe.each(IN_PLACE)('$name', ({ name, family }) => {
  test('every step of a change shows the old or the new answer', () => {
    const { writer, reader, memory } = table(name, family, LIMIT)
    const store = Atomics.store
    let look: (() => void) | undefined
    let steps = 0
    const spy = vi.spyOn(Atomics, 'store') as unknown as {
      mockImplementation(call: (array: Int32Array, index: number, value: number) => number): void
    }
    spy.mockImplementation((array, index, value) => {
      // The reader's own fence is not the writer's step.
      const writers = look !== undefined && array.buffer === memory.buffer
      if (writers) look?.()
      store(array, index, value)
      if (writers) look?.()
      return value
    })
    const rules = fc.array(anyRule(family, LIMIT), { minLength: 8, maxLength: 40, size: 'max' })
    const property = fc.property(rules, fc.nat(), (changes, seed) => {
      const roll = dice(seed)
      const probes = edgeHeaders(changes, family, 64, roll)
      const watched = (change: () => void) => {
        const before = classify(reader, probes, family)
        const during: Uint16Array[] = []
        look = () => {
          during.push(classify(reader, probes, family))
        }
        change()
        look = undefined
        const after = classify(reader, probes, family)
        steps += during.length
        for (const found of during) {
          for (const [i, rule] of found.entries()) {
            if (rule !== before[i]) expect(rule).toBe(after[i])
          }
        }
      }
      for (const rule of changes) {
        watched(() => writer.insert(rule))
        if (roll(3) === 0) watched(() => writer.remove(1 + roll(LIMIT)))
      }
      for (let id = 1; id <= LIMIT; id++) watched(() => writer.remove(id))
      expect(writer.size).toBe(0)
    })
    fc.assert(property, { numRuns: 40, seed: 1 })
    expect(steps).toBeGreaterThan(1000)
  })
})
