import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import * as arp from '../../../dataplane/wire/arp.ts'
import { FOREIGN, OK, TRUNCATED } from '../../../dataplane/wire/reason.ts'
import { exactly, hex, keepsInside, u16, u32 } from './inside.ts'

const REQUEST = hex('0001 0800 0604 0001 020900000001 0a090001 000000000000 0a090002')
const REPLY = hex('0001 0800 0604 0002 020900000002 0a090002 020900000001 0a090001')

describe('ARP', () => {
  keepsInside(arp, [REQUEST, REPLY])

  test('a request and its reply', () => {
    const view = exactly(REQUEST)
    expect(arp.operation(view, 0)).toBe(arp.ARP_REQUEST)
    expect(arp.senderIp(view, 0)).toBe(0x0a090001)
    expect(arp.targetIp(view, 0)).toBe(0x0a090002)
    expect(arp.pretty(view, 0, 28)).toBe('ARP who has 10.9.0.2? tell 10.9.0.1')
    // The reply that is made of it.
    arp.setOperation(view, 0, arp.ARP_REPLY)
    arp.setTarget(view, 0, arp.senderMacHigh(view, 0), arp.senderMacLow(view, 0), 0x0a090001)
    arp.setSender(view, 0, 0x02090000, 2, 0x0a090002)
    expect(new Uint8Array(view.buffer)).toEqual(REPLY)
    expect(arp.pretty(view, 0, 28)).toBe('ARP 10.9.0.2 is at 02:09:00:00:00:02, to 10.9.0.1')
  })

  test('other hardware and protocols are another kind', () => {
    for (const [at, value] of [
      [1, 6],
      [2, 0x86],
      [4, 8],
      [5, 16],
    ] as const) {
      const changed = REQUEST.with(at, value)
      expect(arp.check(exactly(changed), 0, 28), `byte ${at}`).toBe(FOREIGN)
    }
    expect(arp.check(exactly(REQUEST), 0, 27)).toBe(TRUNCATED)
  })

  test('what is emitted is read back', () => {
    fc.assert(
      fc.property(u16, u32, u16, u32, u32, u16, u32, (operation, a, b, c, d, e, f) => {
        const view = exactly(new Uint8Array(28))
        const fields = {
          operation,
          senderMacHigh: a,
          senderMacLow: b,
          senderIp: c,
          targetMacHigh: d,
          targetMacLow: e,
          targetIp: f,
        }
        expect(arp.emit(view, 0, fields)).toBe(28)
        expect(arp.check(view, 0, 28)).toBe(OK)
        expect({
          operation: arp.operation(view, 0),
          senderMacHigh: arp.senderMacHigh(view, 0),
          senderMacLow: arp.senderMacLow(view, 0),
          senderIp: arp.senderIp(view, 0),
          targetMacHigh: arp.targetMacHigh(view, 0),
          targetMacLow: arp.targetMacLow(view, 0),
          targetIp: arp.targetIp(view, 0),
        }).toEqual(fields)
      }),
    )
  })
})
