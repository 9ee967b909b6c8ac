import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import * as icmp from '../../../dataplane/wire/icmp.ts'
import { OK, TRUNCATED } from '../../../dataplane/wire/reason.ts'
import { sum16 } from '../../harness/packets.ts'
import { exactly, hex, keepsInside, u8, u32 } from './inside.ts'

// Echo request, id 0x1234, sequence 7, and "fragmentation needed" for 1,400 bytes.
const ECHO = hex('0800 e5c4 1234 0007 0000')
const TOO_BIG = hex('0304 f783 0000 0578')

describe('ICMP', () => {
  keepsInside(icmp, [ECHO, TOO_BIG], {
    further: (view, at, length) => {
      icmp.verifyChecksum(view, at, length)
    },
  })

  test('an echo request', () => {
    const view = exactly(ECHO)
    expect(icmp.type(view, 0)).toBe(icmp.ICMP_ECHO_REQUEST)
    expect([icmp.id(view, 0), icmp.sequence(view, 0)]).toEqual([0x1234, 7])
    expect(icmp.verifyChecksum(view, 0, 10)).toBe(true)
    expect(icmp.isError(view, 0)).toBe(false)
    expect(icmp.pretty(view, 0, 10)).toBe('ICMP echo request id 4660 seq 7')
    expect(icmp.check(view, 0, 7)).toBe(TRUNCATED)
  })

  test('fragmentation needed', () => {
    const view = exactly(TOO_BIG)
    expect(icmp.mtu(view, 0)).toBe(1400)
    expect(icmp.verifyChecksum(view, 0, 8)).toBe(true)
    expect(icmp.pretty(view, 0, 8)).toBe('ICMP unreachable code 4 mtu 1400')
  })

  test('errors are unreachable, quench, redirect, time, parameter', () => {
    const view = exactly(ECHO)
    const errors = Array.from({ length: 256 }, (_, type) => type).filter(type => {
      icmp.setType(view, 0, type)
      return icmp.isError(view, 0)
    })
    expect(errors).toEqual([3, 4, 5, 11, 12])
  })

  test('what is emitted is read back, and its checksum is right', () => {
    fc.assert(
      fc.property(u8, u8, u32, fc.uint8Array({ maxLength: 40 }), (type, code, rest, data) => {
        const bytes = new Uint8Array(8 + data.length)
        bytes.set(data, 8)
        const view = new DataView(bytes.buffer)
        expect(icmp.emit(view, 0, { type, code, rest })).toBe(8)
        icmp.fillChecksum(view, 0, bytes.length)
        expect(icmp.check(view, 0, bytes.length)).toBe(OK)
        expect([icmp.type(view, 0), icmp.code(view, 0), icmp.rest(view, 0)]).toEqual([
          type,
          code,
          rest,
        ])
        expect(bytes.subarray(8)).toEqual(data)
        expect(sum16(bytes)).toBe(0xffff)
        expect(icmp.verifyChecksum(view, 0, bytes.length)).toBe(true)
      }),
    )
  })
})
