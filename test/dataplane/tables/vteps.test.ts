import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { DEFAULT_PEERS, MAX_PEERS } from '../../../dataplane/limits.ts'
import { type Arena, VTEP_BYTES, vtepSlots } from '../../../dataplane/memory/arena.ts'
import {
  knowsVtep,
  type VtepAddress,
  vtepTable,
  writeVteps,
} from '../../../dataplane/tables/vteps.ts'
import { smallArena } from '../memory/plan.ts'

const WORDS = VTEP_BYTES / 4

function four(word: number): VtepAddress {
  return { family: 4, words: Uint32Array.of(word, 0, 0, 0) }
}

/** An arena whose table has these. */
function table(vteps: readonly VtepAddress[], peers = DEFAULT_PEERS): Arena {
  const arena = smallArena({ peers })
  writeVteps(arena, vtepTable(vteps))
  return arena
}

function knows(arena: Arena, { family, words: a }: VtepAddress): boolean {
  const at = arena.layout.vteps.offset / 4
  return knowsVtep(arena.words, at, family, a[0]!, a[1]!, a[2]!, a[3]!)
}

/** The slot that an address takes in a table of its own. */
function slotOf(address: VtepAddress): number {
  const words = vtepTable([address])
  return Math.floor(words.findIndex((word, i) => i >= WORDS && word !== 0) / WORDS) - 1
}

describe('known VTEPs', () => {
  test('what is in the table is known, by family and by every word', () => {
    const six: VtepAddress = {
      family: 6,
      words: Uint32Array.of(0xfd000000, 0xffff_ffff, 0, 0x8000_0001),
    }
    const arena = table([four(0xc0a8_4d01), six])
    expect(knows(arena, four(0xc0a8_4d01))).toBe(true)
    expect(knows(arena, six)).toBe(true)
    expect(knows(arena, { ...four(0xc0a8_4d01), family: 6 })).toBe(false)
    for (let w = 0; w < 4; w++) {
      const other = six.words.with(w, six.words[w]! ^ 1)
      expect(knows(arena, { family: 6, words: other })).toBe(false)
    }
    expect(knows(arena, four(0))).toBe(false)
  })

  test('a table of none, and one that nobody has written, know nobody', () => {
    for (const arena of [smallArena(), table([])]) {
      expect(knows(arena, four(0))).toBe(false)
      expect(knows(arena, four(1))).toBe(false)
    }
  })

  test.each([1, DEFAULT_PEERS, MAX_PEERS])(
    'a full table of %i: all are known, nothing else is, and looking ends',
    peers => {
      const all = Array.from({ length: peers }, (_, i) => four(0x0a00_0000 + i * 7))
      const arena = table(all, peers)
      expect(all.every(each => knows(arena, each))).toBe(true)
      for (let i = 0; i < 20_000; i++) {
        if (i % 7 !== 0 || i >= peers * 7) {
          expect(knows(arena, four(0x0a00_0000 + i))).toBe(false)
        }
      }
      // Nothing beyond the table was written.
      const { nextHops, networks } = arena.layout
      for (const region of [nextHops, networks]) {
        expect(Buffer.compare(arena.slice(region), new Uint8Array(region.bytes))).toBe(0)
      }
    },
  )

  test('a small table touches little memory, and grows and shrinks with its VTEPs', () => {
    expect(vtepTable([four(1)]).byteLength).toBeLessThan(4096)
    const arena = table([four(1)])
    const used = () => arena.slice(arena.layout.vteps).findLastIndex(byte => byte !== 0)
    expect(used()).toBeLessThan(4096)
    writeVteps(arena, vtepTable(Array.from({ length: 5000 }, (_, i) => four(i + 1))))
    expect(knows(arena, four(5000))).toBe(true)
    writeVteps(arena, vtepTable([four(2)]))
    expect([1, 2, 5000].map(each => knows(arena, four(each)))).toEqual([false, true, false])
  })

  test('looking takes few probes, however many there are', () => {
    // Words of a table that is read, not its memory: slots that stand side by side.
    for (const peers of [100, 5000, MAX_PEERS]) {
      const words = vtepTable(Array.from({ length: peers }, (_, i) => four(0x0a00_0001 + i)))
      const taken = Array.from({ length: vtepSlots(peers) }, (_, slot) =>
        words[(slot + 1) * WORDS] === 0 ? '.' : 'x',
      ).join('')
      expect(Math.max(...taken.split('.').map(run => run.length)), `${peers}`).toBeLessThan(64)
    }
  })

  test('one more than the arena has room for is refused, and the table stays as it was', () => {
    const arena = table([four(1)], 64)
    const all = Array.from({ length: 65 }, (_, i) => four(i + 2))
    expect(() => writeVteps(arena, vtepTable(all))).toThrow(/VTEP table of .* bytes: its place has/)
    expect(knows(arena, four(1))).toBe(true)
    expect(knows(arena, four(2))).toBe(false)
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
      if (slot === vtepSlots(1) - 1) last = there
      else if (there.length > crowd.length) crowd = there
      if (word > 60_000) break
    }
    expect(crowd.length).toBeGreaterThanOrEqual(3)
    expect(last.length).toBeGreaterThanOrEqual(3)
    for (const group of [crowd, last]) {
      for (let n = 1; n <= group.length; n++) {
        const arena = table(group.slice(0, n))
        expect(group.map(each => knows(arena, each))).toEqual(group.map((_, i) => i < n))
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
    const arena = smallArena()
    fc.assert(
      fc.property(fc.array(address, { maxLength: 40 }), fc.array(address), (inside, asked) => {
        writeVteps(arena, vtepTable(inside))
        const names = new Set(inside.map(text))
        for (const each of [...inside, ...asked])
          expect(knows(arena, each)).toBe(names.has(text(each)))
      }),
    )
  })
})
