import fc from 'fast-check'
import { beforeAll, describe, expect, test } from 'vitest'
import { native } from '../../native/native.ts'
import { Arena } from './arena.ts'

const BYTES = 1 << 20
/** Where copies go: the upper half. */
const TO = BYTES / 2

let arena: Arena
beforeAll(() => {
  arena = new Arena(BYTES)
})

/** RFC 1071 word by word: the naive twin. */
function oracle(bytes: Uint8Array, seed: number): number {
  let sum = BigInt(seed)
  for (let i = 0; i < bytes.length; i += 2) sum += BigInt(bytes[i]! * 256 + (bytes[i + 1] ?? 0))
  while (sum > 0xffffn) sum = (sum & 0xffffn) + (sum >> 16n)
  return Number(sum)
}

/** All three functions over [from, from + length) agree with the oracle, and the copy is one. */
function check(from: number, length: number, seed: number, to = TO): void {
  const source = arena.bytes.slice(from, from + length)
  const expected = oracle(source, seed)
  const where = `offset ${from} length ${length} seed ${seed} to ${to}`
  expect(native.checksum(from, length, seed), where).toBe(expected)
  expect(native.checksumScalar(from, length, seed), where).toBe(expected)
  const before = arena.bytes[to - 1]
  const after = arena.bytes[to + length]
  expect(native.copyChecksum(to, from, length, seed), where).toBe(expected)
  expect(Buffer.compare(arena.bytes.subarray(to, to + length), source), where).toBe(0)
  if (to >= from + length) expect(arena.bytes[to - 1], where).toBe(before)
  expect(arena.bytes[to + length], where).toBe(after)
}

function fill(at: number, length: number, next: (i: number) => number): void {
  for (let i = 0; i < length; i++) arena.bytes[at + i] = next(i)
}

describe('checksum', () => {
  test('says which loop it uses', () => {
    expect(['avx512', 'avx2', 'scalar']).toContain(native.checksumKind())
  })

  test('the example of RFC 1071 section 3', () => {
    arena.bytes.set([0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7])
    expect(native.checksum(0, 8, 0)).toBe(0xddf2)
  })

  test('every length from 0 to 300 at every alignment', () => {
    fill(0, 512, i => (i * 131 + 17) & 255)
    for (let length = 0; length <= 300; length++) {
      for (let offset = 0; offset < 9; offset++) check(offset, length, 0, TO + 1 + (length & 7))
    }
  })

  test('carries: all ones, and sums that are a multiple of 65535', () => {
    fill(0, 70_000, () => 0xff)
    for (const length of [1, 2, 31, 32, 33, 63, 64, 65, 127, 128, 129, 1500, 65_535, 65_536]) {
      for (const seed of [0, 1, 0xffff, 0xffff_ffff]) check(0, length, seed)
    }
  })

  test('zeroes are 0, and only they', () => {
    fill(0, 4096, () => 0)
    check(0, 4096, 0)
    check(0, 4096, 0xffff)
    expect(native.checksum(0, 4096, 0)).toBe(0)
    expect(native.checksum(0, 4096, 0xffff)).toBe(0xffff)
    for (const one of [0, 1, 63, 64, 4095]) {
      arena.bytes[one] = 1
      check(0, 4096, 0)
      arena.bytes[one] = 0
    }
  })

  test('any bytes, offset, length, seed', () => {
    const bytes = fc.uint8Array({ minLength: 0, maxLength: 3000, size: 'max' })
    const offset = fc.integer({ min: 0, max: 64 })
    const seed = fc.maxSafeNat()
    fc.assert(
      fc.property(bytes, offset, offset, seed, (data, from, skew, start) => {
        arena.bytes.set(data, from)
        check(from, data.length, start, TO + 1 + skew)
      }),
      { numRuns: 1000 },
    )
  })

  test('a sum may be made in parts that start at even offsets', () => {
    fill(0, 2000, i => (i * i) & 255)
    const head = native.checksum(0, 34, 0x1234)
    expect(native.checksum(34, 1961, head)).toBe(native.checksum(0, 1995, 0x1234))
  })

  test('copies over themselves, forwards and backwards', () => {
    for (const distance of [-200, -64, -33, -8, -1, 0, 1, 8, 33, 64, 200]) {
      fill(4096, 1024, i => (i * 7 + (i >> 8)) & 255)
      check(4096, 1024, 0, 4096 + distance)
    }
  })

  test('bytes outside the arena, and negative seeds, are refused', () => {
    for (const call of [native.checksum, native.checksumScalar]) {
      expect(call(BYTES - 10, 10, 0)).toBeGreaterThanOrEqual(0)
      expect(call(BYTES - 10, 11, 0)).toBe(-14)
      expect(call(-1, 1, 0)).toBe(-14)
      expect(call(0, 1, -1)).toBe(-22)
    }
    expect(native.copyChecksum(BYTES - 10, 0, 11, 0)).toBe(-14)
    expect(native.copyChecksum(0, BYTES - 10, 11, 0)).toBe(-14)
    expect(native.copyChecksum(0, 0, 10, -1)).toBe(-22)
  })
})
