import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { macWords } from '../../../dataplane/tables/ports.ts'
import * as ethernet from '../../../dataplane/wire/ethernet.ts'
import { ETHERTYPE_IPV6 } from '../../../dataplane/wire/numbers.ts'
import { OK, TRUNCATED } from '../../../dataplane/wire/reason.ts'
import { exactly, hex, keepsInside, u16, u32 } from './inside.ts'

const FRAME = hex('3333ff000001 92ba3d6f1dc5 86dd')

describe('Ethernet', () => {
  keepsInside(ethernet, [FRAME, new Uint8Array([...FRAME, 1, 2, 3])])

  test('a frame to a group', () => {
    const view = exactly(FRAME)
    expect(ethernet.check(view, 0, 14)).toBe(OK)
    expect(ethernet.check(view, 0, 13)).toBe(TRUNCATED)
    const { high, low } = macWords('92:ba:3d:6f:1d:c5')
    expect([ethernet.sourceHigh(view, 0), ethernet.sourceLow(view, 0)]).toEqual([high, low])
    expect(ethernet.destinationHigh(view, 0)).toBe(0x3333ff00)
    expect(ethernet.destinationLow(view, 0)).toBe(0x0001)
    expect(ethernet.type(view, 0)).toBe(ETHERTYPE_IPV6)
    expect(ethernet.isGroup(view, 0)).toBe(true)
    expect(ethernet.pretty(view, 0, 14)).toBe('92:ba:3d:6f:1d:c5 > 33:33:ff:00:00:01 IPv6')
  })

  test('what is emitted is read back, at any offset', () => {
    fc.assert(
      fc.property(fc.nat(9), u32, u16, u32, u16, u16, (at, a, b, c, d, type) => {
        const view = exactly(new Uint8Array(at + ethernet.ETHERNET.BYTES))
        const fields = {
          destinationHigh: a,
          destinationLow: b,
          sourceHigh: c,
          sourceLow: d,
          type,
        }
        expect(ethernet.emit(view, at, fields)).toBe(ethernet.ETHERNET.BYTES)
        expect(ethernet.check(view, at, ethernet.ETHERNET.BYTES)).toBe(OK)
        expect({
          destinationHigh: ethernet.destinationHigh(view, at),
          destinationLow: ethernet.destinationLow(view, at),
          sourceHigh: ethernet.sourceHigh(view, at),
          sourceLow: ethernet.sourceLow(view, at),
          type: ethernet.type(view, at),
        }).toEqual(fields)
        expect(ethernet.isGroup(view, at)).toBe(((a >>> 24) & 1) === 1)
      }),
    )
  })
})
