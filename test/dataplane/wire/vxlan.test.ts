import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { FOREIGN, OK, TRUNCATED } from '../../../dataplane/wire/reason.ts'
import * as vxlan from '../../../dataplane/wire/vxlan.ts'
import { exactly, hex, keepsInside } from './inside.ts'

const HEADER = hex('08000000 00007b00')

describe('VXLAN', () => {
  keepsInside(vxlan, [HEADER])

  test('a header, and one without a VNI', () => {
    const view = exactly(HEADER)
    expect(vxlan.vni(view, 0)).toBe(123)
    expect(vxlan.flags(view, 0)).toBe(vxlan.VXLAN_FLAG_VNI)
    expect(vxlan.pretty(view, 0, 8)).toBe('VXLAN vni 123')
    expect(vxlan.check(view, 0, 7)).toBe(TRUNCATED)
    // Reserved bits are ignored, the I flag is not.
    expect(vxlan.check(exactly(HEADER.with(0, 0xff).with(7, 9)), 0, 8)).toBe(OK)
    expect(vxlan.check(exactly(HEADER.with(0, 0xf7)), 0, 8)).toBe(FOREIGN)
  })

  test('what is emitted is read back', () => {
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 0xff_ffff }), fc.nat(5), (vni, at) => {
        const view = exactly(new Uint8Array(at + 8).fill(0xff))
        expect(vxlan.emit(view, at, { vni })).toBe(8)
        expect(vxlan.check(view, at, 8)).toBe(OK)
        expect(vxlan.vni(view, at)).toBe(vni)
        expect(new Uint8Array(view.buffer, at, 8).with(4, 0).with(5, 0).with(6, 0)).toEqual(
          hex('0800000000000000'),
        )
      }),
    )
  })
})
