import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { VTEP_SLOTS } from '../../../dataplane/limits.ts'
import { VTEP_BYTES } from '../../../dataplane/memory/arena.ts'
import {
  knowsVtep,
  MAX_VTEPS,
  type VtepAddress,
  writeVteps,
} from '../../../dataplane/tables/vteps.ts'

const WORDS = VTEP_BYTES / 4
/** The table does not begin where the memory does. */
const AT = 64

function table(): Int32Array {
  return new Int32Array(AT + VTEP_SLOTS * WORDS + 64)
}

function four(word: number): VtepAddress {
  return { family: 4, words: Uint32Array.of(word, 0, 0, 0) }
}

function knows(words: Int32Array, { family, words: a }: VtepAddress): boolean {
  return knowsVtep(words, AT, family, a[0]!, a[1]!, a[2]!, a[3]!)
}

/** The slot that an address takes in an empty table. */
function slotOf(address: VtepAddress): number {
  const words = table()
  writeVteps(words, AT, [address])
  return Math.floor((words.findIndex(word => word !== 0) - AT) / WORDS)
}

describe('known VTEPs', () => {
  test('what is in the table is known, by family and by every word', () => {
    const words = table()
    const six: VtepAddress = {
      family: 6,
      words: Uint32Array.of(0xfd000000, 0xffff_ffff, 0, 0x8000_0001),
    }
    writeVteps(words, AT, [four(0xc0a8_4d01), six])
    expect(knows(words, four(0xc0a8_4d01))).toBe(true)
    expect(knows(words, six)).toBe(true)
    expect(knows(words, { ...four(0xc0a8_4d01), family: 6 })).toBe(false)
    for (let w = 0; w < 4; w++) {
      expect(knows(words, { family: 6, words: six.words.with(w, six.words[w]! ^ 1) })).toBe(false)
    }
    expect(knows(table(), six)).toBe(false)
    expect(knows(words, four(0))).toBe(false)
  })

  test('a full table: all are known, nothing else is, and looking ends', () => {
    const words = table()
    const all = Array.from({ length: MAX_VTEPS }, (_, i) => four(0x0a00_0000 + i * 7))
    writeVteps(words, AT, all)
    expect(all.every(each => knows(words, each))).toBe(true)
    for (let i = 0; i < 20_000; i++) {
      if (i % 7 !== 0 || i >= MAX_VTEPS * 7) expect(knows(words, four(0x0a00_0000 + i))).toBe(false)
    }
    // Nothing beyond the table was written.
    expect(words.subarray(0, AT).every(word => word === 0)).toBe(true)
    expect(words.subarray(AT + VTEP_SLOTS * WORDS).every(word => word === 0)).toBe(true)
  })

  test('one more than a full table is refused, and the table stays as it was', () => {
    const words = table()
    writeVteps(words, AT, [four(1)])
    const all = Array.from({ length: MAX_VTEPS + 1 }, (_, i) => four(i + 2))
    expect(() => writeVteps(words, AT, all)).toThrow(
      `${MAX_VTEPS + 1} VTEPs: the table takes ${MAX_VTEPS}`,
    )
    expect(knows(words, four(1))).toBe(true)
    expect(knows(words, four(2))).toBe(false)
  })

  test('addresses of one slot, and of the last one, stand side by side', () => {
    const bySlot = new Map<number, VtepAddress[]>()
    let last: VtepAddress[] = []
    let crowd: VtepAddress[] = []
    for (let word = 1; last.length < 3 || crowd.length < 3; word++) {
      const address = four(Math.imul(word, 0x9e37_79b1) >>> 0)
      const slot = slotOf(address)
      const there = [...(bySlot.get(slot) ?? []), address]
      bySlot.set(slot, there)
      // From the last slot the search goes on at the first.
      if (slot === VTEP_SLOTS - 1) last = there
      else if (there.length > crowd.length) crowd = there
      if (word > 60_000) break
    }
    expect(crowd.length).toBeGreaterThanOrEqual(3)
    expect(last.length).toBeGreaterThanOrEqual(3)
    for (const group of [crowd, last]) {
      for (let n = 1; n <= group.length; n++) {
        const words = table()
        writeVteps(words, AT, group.slice(0, n))
        expect(group.map(each => knows(words, each))).toEqual(group.map((_, i) => i < n))
        expect(words.subarray(AT + VTEP_SLOTS * WORDS).every(word => word === 0)).toBe(true)
      }
    }
  })

  test('as a naive list', () => {
    const word = fc.constantFrom(0, 1, 0x8000_0000, 0xffff_ffff, 0x0a00_0001)
    const address: fc.Arbitrary<VtepAddress> = fc
      .tuple(fc.constantFrom(4 as const, 6 as const), word, word, word, word)
      .map(([family, a, b, c, d]) => ({
        family,
        words: family === 4 ? Uint32Array.of(a, 0, 0, 0) : Uint32Array.of(a, b, c, d),
      }))
    const text = ({ family, words }: VtepAddress) => `${family} ${words.join(' ')}`
    const words = table()
    fc.assert(
      fc.property(fc.array(address, { maxLength: 40 }), fc.array(address), (inside, asked) => {
        writeVteps(words, AT, inside)
        const names = new Set(inside.map(text))
        for (const each of [...inside, ...asked])
          expect(knows(words, each)).toBe(names.has(text(each)))
      }),
    )
  })
})
