import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import {
  checksumOf,
  fold,
  sum,
  udpChecksumOf,
  update,
  update32,
} from '../../../dataplane/wire/checksum.ts'
import { native } from '../../../native/native.ts'
import { sum16 } from '../../harness/packets.ts'
import { exactly, hex, u16, u32 } from './inside.ts'

describe('RFC 1071', () => {
  test('its example, in both parities and from any offset', () => {
    const bytes = hex('0001f203f4f5f6f7')
    expect(sum(exactly(bytes), 0, 8)).toBe(0xddf2)
    expect(checksumOf(sum(exactly(bytes), 0, 8))).toBe(0x220d)
    expect(sum(exactly([9, ...bytes]), 1, 8)).toBe(0xddf2)
    expect(sum(exactly(bytes), 0, 7)).toBe(sum(exactly([...bytes.subarray(0, 7), 0]), 0, 8))
    expect(sum(exactly(bytes), 0, 0, 0x1_2345)).toBe(0x2346)
  })

  test('as the native twin and a naive loop', () => {
    const arena = new Uint8Array(new SharedArrayBuffer(4096))
    native.bind(arena)
    const view = new DataView(arena.buffer)
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 2000 }), fc.nat(7), fc.nat(), (bytes, at, seed) => {
        arena.set(bytes, at)
        const here = sum(view, at, bytes.length, seed)
        expect(here).toBe(sum16(bytes, seed))
        expect(here).toBe(native.checksum(at, bytes.length, seed))
      }),
    )
  })

  test('parts may be summed one after the other', () => {
    fc.assert(
      fc.property(
        fc.uint8Array({ maxLength: 64 }),
        fc.uint8Array({ maxLength: 64 }),
        (left, right) => {
          const first = left.subarray(0, left.length & ~1)
          const whole = exactly([...first, ...right])
          const seed = sum(whole, 0, first.length)
          expect(sum(whole, first.length, right.length, seed)).toBe(sum(whole, 0, whole.byteLength))
        },
      ),
    )
  })

  test('large sums are folded exactly', () => {
    expect(fold(0xffff)).toBe(0xffff)
    expect(fold(0x1_0000)).toBe(1)
    expect(fold(0xffff_ffff)).toBe(0xffff)
    expect(fold(0xffff * 0x1_0000_0000)).toBe(0xffff)
  })

  test('UDP sends no zero', () => {
    expect(checksumOf(0xffff)).toBe(0)
    expect(udpChecksumOf(0xffff)).toBe(0xffff)
    expect(udpChecksumOf(0x1234)).toBe(checksumOf(0x1234))
  })
})

describe('RFC 1624', () => {
  test('its example, which RFC 1141 gets wrong', () => {
    expect(update(0xdd2f, 0x5555, 0x3285)).toBe(0x0000)
  })

  test('a header that was changed has the checksum that it would be given anew', () => {
    fc.assert(
      fc.property(
        fc.uint8Array({ minLength: 20, maxLength: 20 }),
        fc.nat(9),
        u16,
        (bytes, word, value) => {
          // Something that is not zero: of a header of zeros alone the checksum would be ambiguous.
          bytes[0] = 0x45
          const view = exactly(bytes)
          const at = word === 0 ? 2 : word * 2
          const before = checksumOf(sum(view, 0, 20))
          const old = view.getUint16(at)
          view.setUint16(at, value)
          expect(update(before, old, value)).toBe(checksumOf(sum(view, 0, 20)))
        },
      ),
    )
  })

  test('of 32-bit words as of their halves', () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 12, maxLength: 12 }), u32, (bytes, value) => {
        bytes[0] = 0x45
        const view = exactly(bytes)
        const before = checksumOf(sum(view, 0, 12))
        const old = view.getUint32(4)
        view.setUint32(4, value)
        expect(update32(before, old, value)).toBe(checksumOf(sum(view, 0, 12)))
      }),
    )
  })
})
