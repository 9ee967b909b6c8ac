/**
 * The order of a change's stores, one thread, no luck: before and after every Atomics.store of the
 * writer a reader looks every probe up, and must get what was right before the change or after it.
 * (linear4 and linear6 are left out: their readers wait for the end of a change.)
 */
import fc from 'fast-check'
import { afterEach, describe, expect, test, vi } from 'vitest'
import { ALL, anyNextHop, anyPrefix, edges, lookUp, table, wordsOf } from './tables.ts'

const LIMIT = 32

afterEach(() => {
  vi.restoreAllMocks()
})

describe.each(ALL.filter(({ name }) => !name.startsWith('linear')))('$name', ({ name, family }) => {
  test('every step of a change shows the old or the new next hop', () => {
    const words = wordsOf(family)
    const { writer, reader, memory } = table(name, family, LIMIT)
    const step = fc.record({ at: anyPrefix(family), nextHop: anyNextHop, remove: fc.boolean() })
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
    const property = fc.property(fc.array(step, { maxLength: LIMIT, size: 'max' }), changes => {
      const probes = Uint32Array.from(changes.flatMap(({ at }) => edges(at)).flat())
      const known: (typeof changes)[number]['at'][] = []
      const watched = (change: () => void) => {
        const before = lookUp(reader, probes, words)
        const during: Uint16Array[] = []
        look = () => {
          during.push(lookUp(reader, probes, words))
        }
        change()
        look = undefined
        const after = lookUp(reader, probes, words)
        steps += during.length
        for (const found of during) {
          for (const [i, nextHop] of found.entries()) {
            if (nextHop !== before[i]) expect(nextHop).toBe(after[i])
          }
        }
      }
      for (const { at, nextHop, remove } of changes) {
        const gone = remove ? known.pop() : undefined
        if (gone !== undefined) watched(() => writer.remove(gone.address, gone.prefix))
        watched(() => writer.insert(at.address, at.prefix, nextHop))
        known.push(at)
      }
      for (const { address, prefix } of known) watched(() => writer.remove(address, prefix))
      expect(writer.size).toBe(0)
      writer.quiesced()
    })
    fc.assert(property, { numRuns: 40 })
    expect(steps).toBeGreaterThan(100)
  })
})
