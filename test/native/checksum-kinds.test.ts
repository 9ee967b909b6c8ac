/** Every kind of checksum loop that this CPU has gives what the naive sum gives, and copies exactly. */
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import { native } from '../../native/native.ts'
import { Arena } from './arena.ts'

const BYTES = 1 << 20
/** Where copies go, batches have their descriptors, and sums: the upper half. */
const TO = BYTES / 2
const DESCRIPTORS = BYTES - 2 ** 17
const SUMS = BYTES - 2 ** 16
/** Longer than two rounds of every loop, and all their tails. */
const LENGTHS = 2112
const ALIGNMENTS = 67
const NO_SUM = 0xffff_ffff

const KINDS = native.checksumKinds()
const usual = native.checksumKind()

let arena: Arena
beforeAll(() => {
  arena = new Arena(BYTES)
  for (let i = 0; i < TO; i++) arena.bytes[i] = (Math.imul(i, 0x9e37_79b1) >>> 13) & 255
})
afterEach(() => native.checksumForce(usual))
afterAll(() => native.checksumForce(usual))

/** RFC 1071, byte by byte. */
function naive(from: number, length: number, seed: number): number {
  let sum = seed
  for (let i = 0; i < length; i++) sum += arena.bytes[from + i]! * (i % 2 === 0 ? 256 : 1)
  while (sum > 0xffff) sum = (sum % 0x1_0000) + Math.floor(sum / 0x1_0000)
  return sum
}

test('the best kind is the one in use, and scalar is always there', () => {
  expect(KINDS[0]).toBe(usual)
  expect(KINDS.at(-1)).toBe('scalar')
  expect(new Set(KINDS).size).toBe(KINDS.length)
})

test('a kind that is none is refused, and nothing changes', () => {
  expect(() => native.checksumForce('mmx')).toThrow(RangeError)
  expect(native.checksumKind()).toBe(usual)
})

describe.each(KINDS)('%s', kind => {
  test('is what is used when it is forced', () => {
    native.checksumForce(kind)
    expect(native.checksumKind()).toBe(kind)
  })

  test(`every length from 0 to ${LENGTHS}, at changing alignments, summed and copied`, () => {
    native.checksumForce(kind)
    let wrong = 0
    for (let length = 0; length <= LENGTHS; length++) {
      const from = 128 + ((length * 29) % ALIGNMENTS)
      const to = TO + 128 + ((length * 13) % ALIGNMENTS)
      const right = naive(from, length, length)
      if (native.checksum(from, length, length) !== right) wrong++
      arena.bytes.fill(0xa5, to - 64, to + length + 64)
      if (native.copyChecksum(to, from, length, length) !== right) wrong++
      const copy = arena.bytes.subarray(to, to + length)
      if (Buffer.compare(copy, arena.bytes.subarray(from, from + length)) !== 0) wrong++
      const around = [arena.bytes.subarray(to - 64, to), arena.bytes.subarray(to + length)]
      if (around.some(bytes => bytes.subarray(0, 64).some(byte => byte !== 0xa5))) wrong++
    }
    expect(wrong).toBe(0)
  })

  test(`every alignment of ${ALIGNMENTS}, at lengths around the steps of the loops`, () => {
    native.checksumForce(kind)
    const lengths = [0, 1, 2, 7, 8, 9, 20, 31, 33, 40, 63, 64, 65, 127, 128, 129, 191, 193, 1500]
    const wrong: string[] = []
    for (let from = 0; from < ALIGNMENTS; from++) {
      for (const length of lengths) {
        const found = native.checksum(from, length, 0xfffe)
        if (found !== naive(from, length, 0xfffe)) wrong.push(`${length} bytes at ${from}`)
      }
    }
    expect(wrong).toEqual([])
  })

  test('long pieces, of all ones too: no lane overflows', () => {
    native.checksumForce(kind)
    const lengths = [65_535, 65_536, 65_537, 131_072, 200_001]
    for (const length of lengths) {
      expect(native.checksum(1, length, 0), `${length}`).toBe(naive(1, length, 0))
    }
    arena.bytes.fill(0xff, TO, TO + 300_000)
    for (const length of lengths) {
      expect(native.checksum(TO, length, 0), `ones ${length}`).toBe(naive(TO, length, 0))
    }
  })

  test('only zeros sum up to 0', () => {
    native.checksumForce(kind)
    arena.bytes.fill(0, TO, TO + 70_000)
    for (const length of [0, 1, 64, 1500, 70_000]) {
      expect(native.checksum(TO, length, 0)).toBe(0)
    }
    // Words that cancel out: their sum is 0xffff, which is the other zero.
    arena.bytes[TO + 10] = 0xff
    arena.bytes[TO + 11] = 0xfe
    arena.bytes[TO + 1401] = 1
    expect(native.checksum(TO, 1500, 0)).toBe(0xffff)
  })

  test('a batch gives what single calls give, with a seed each', () => {
    native.checksumForce(kind)
    const packets = Array.from({ length: 300 }, (_, i) => ({
      offset: 1000 + i * 1201,
      length: (i * 97) % 1700,
    }))
    const seeds = packets.map((_, i) => (i * 7919) % 0x2_0000)
    arena.putDescriptors(DESCRIPTORS, packets)
    arena.put(SUMS, seeds)
    expect(native.checksumBatch(DESCRIPTORS, packets.length, SUMS)).toBe(packets.length)
    const sums = Array.from(arena.words.subarray(SUMS / 4, SUMS / 4 + packets.length))
    expect(sums).toEqual(packets.map(({ offset, length }, i) => naive(offset, length, seeds[i]!)))
  })
})

test('a batch sums no byte outside the arena, and says which it left out', () => {
  arena.putDescriptors(DESCRIPTORS, [
    { offset: BYTES - 10, length: 10 },
    { offset: BYTES - 10, length: 11 },
    { offset: 0xffff_ffff, length: 0xffff_ffff },
    { offset: BYTES, length: 0 },
  ])
  arena.put(SUMS, [0, 0, 0, 0x1_0000, 77])
  expect(native.checksumBatch(DESCRIPTORS, 4, SUMS)).toBe(2)
  const sums = Array.from(arena.words.subarray(SUMS / 4, SUMS / 4 + 5))
  expect(sums).toEqual([naive(BYTES - 10, 10, 0), NO_SUM, NO_SUM, 1, 77])
  expect(native.checksumBatch(DESCRIPTORS, 0, SUMS)).toBe(0)
  expect(native.checksumBatch(BYTES - 8, 2, SUMS)).toBe(-14)
  expect(native.checksumBatch(DESCRIPTORS, 1, BYTES - 2)).toBe(-14)
  expect(native.checksumBatch(DESCRIPTORS + 1, 1, SUMS)).toBe(-14)
  expect(native.checksumBatch(DESCRIPTORS, -1, SUMS)).toBe(-14)
})
