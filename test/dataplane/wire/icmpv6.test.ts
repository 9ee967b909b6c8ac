import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { ipWords } from '../../../dataplane/addresses.ts'
import * as icmpv6 from '../../../dataplane/wire/icmpv6.ts'
import * as ipv6 from '../../../dataplane/wire/ipv6.ts'
import { PROTO_ICMPV6 } from '../../../dataplane/wire/numbers.ts'
import { MALFORMED, OK, TRUNCATED } from '../../../dataplane/wire/reason.ts'
import { pseudo, sum16 } from '../../harness/packets.ts'
import { address6, exactly, hex, keepsInside, u8, u16, u32 } from './inside.ts'

// A solicitation for fe80::1 from fe80::90ba:3dff:fe6f:1dc5, to ff02::1:ff00:1, with its IPv6 header.
const SOLICITED = hex(
  `60000000 0020 3aff fe80000000000000 90ba3dfffe6f1dc5 ff0200000000000000000001ff000001
   8700 a3bd 00000000 fe800000000000000000000000000001 0101 92ba3d6f1dc5`,
)
const SOLICITATION = SOLICITED.slice(40)
const ADVERTISEMENT = hex('8800 0000 e0000000 fd440000000000010000000000000003 0201 02cc00000001')
const ROUTER_SOLICITATION = hex('8500 0000 00000000 0101 92ba3d6f1dc5')
// Prefix information of 32 bytes, then an MTU.
const ROUTER_ADVERTISEMENT = hex(
  `8600 0000 40000708 00000000 00000000
   0304 40c0 00278d00 00093a80 00000000 20010db8000000000000000000000000
   0501 0000 000005dc`,
)
const TOO_BIG = hex('0200 0000 00000514')

describe('ICMPv6', () => {
  keepsInside(
    icmpv6,
    [SOLICITATION, ADVERTISEMENT, ROUTER_SOLICITATION, ROUTER_ADVERTISEMENT, TOO_BIG],
    {
      further(view, at, length) {
        icmpv6.verifyChecksum(view, at, length, 0)
        if (icmpv6.hasTarget(view, at)) {
          for (let word = 0; word < 4; word++) icmpv6.targetWord(view, at, word)
        }
        let option = icmpv6.nextOption(view, at, length)
        for (let count = 0; option !== 0; count++) {
          expect(count).toBeLessThan(16)
          const bytes = icmpv6.optionBytes(view, at, option)
          expect(bytes).toBeGreaterThanOrEqual(8)
          expect(option + bytes).toBeLessThanOrEqual(length)
          option = icmpv6.nextOption(view, at, length, option)
        }
        for (const kind of [1, 2, 5]) icmpv6.findOption(view, at, length, kind)
      },
    },
  )

  test('a neighbour solicitation from the wire', () => {
    const view = exactly(SOLICITED)
    expect(icmpv6.check(view, 40, 32)).toBe(OK)
    expect(icmpv6.type(view, 40)).toBe(icmpv6.ND_NEIGHBOUR_SOLICITATION)
    expect([0, 1, 2, 3].map(w => icmpv6.targetWord(view, 40, w))).toEqual([...ipWords('fe80::1')])
    const option = icmpv6.findOption(view, 40, 32, icmpv6.ND_SOURCE_MAC)
    expect(option).toBe(24)
    expect(view.getUint32(40 + option + icmpv6.ND_OPTION.MAC)).toBe(0x92ba3d6f)
    expect(icmpv6.findOption(view, 40, 32, icmpv6.ND_TARGET_MAC)).toBe(0)
    const seed = ipv6.pseudoHeader(view, 0, PROTO_ICMPV6, 32)
    expect(icmpv6.verifyChecksum(view, 40, 32, seed)).toBe(true)
    icmpv6.fillChecksum(view, 40, 32, seed)
    expect(new Uint8Array(view.buffer)).toEqual(SOLICITED)
    expect(icmpv6.pretty(view, 40, 32)).toBe('ICMPv6 neighbour solicitation of fe80::1')
  })

  test('an advertisement, a router advertisement, an error', () => {
    const [advertisement, router, error] = [ADVERTISEMENT, ROUTER_ADVERTISEMENT, TOO_BIG].map(
      exactly,
    ) as [DataView, DataView, DataView]
    const flags = icmpv6.ND_ROUTER + icmpv6.ND_SOLICITED + icmpv6.ND_OVERRIDE
    expect(icmpv6.rest(advertisement, 0)).toBe(flags)
    expect(icmpv6.pretty(advertisement, 0, 32)).toBe(
      'ICMPv6 neighbour advertisement of fd44:0:0:1::3 at 02:cc:00:00:00:01',
    )
    const first = icmpv6.nextOption(router, 0, 56)
    const second = icmpv6.nextOption(router, 0, 56, first)
    expect([first, second, icmpv6.nextOption(router, 0, 56, second)]).toEqual([16, 48, 0])
    expect(icmpv6.findOption(router, 0, 56, 5)).toBe(48)
    expect(icmpv6.isError(router, 0)).toBe(false)
    expect(icmpv6.isError(error, 0)).toBe(true)
    expect(icmpv6.pretty(error, 0, 8)).toBe('ICMPv6 too big mtu 1300')
  })

  test('every reason', () => {
    const reason = (bytes: Uint8Array) => icmpv6.check(exactly(bytes), 0, bytes.length)
    expect(reason(SOLICITATION.subarray(0, 7))).toBe(TRUNCATED)
    expect(reason(SOLICITATION.subarray(0, 23))).toBe(TRUNCATED)
    expect(reason(SOLICITATION.subarray(0, 24))).toBe(OK)
    expect(reason(SOLICITATION.subarray(0, 25))).toBe(TRUNCATED)
    expect(reason(SOLICITATION.with(25, 0))).toBe(MALFORMED)
    expect(reason(SOLICITATION.with(25, 2))).toBe(TRUNCATED)
  })

  test('what is emitted is read back, and its checksum is right', () => {
    fc.assert(
      fc.property(
        fc.constantFrom(icmpv6.ND_NEIGHBOUR_SOLICITATION, icmpv6.ND_NEIGHBOUR_ADVERTISEMENT),
        u8,
        u32,
        address6,
        u32,
        u16,
        (type, code, rest, target, macHigh, macLow) => {
          const view = exactly(new Uint8Array(32))
          const option = { kind: icmpv6.ND_TARGET_MAC, macHigh, macLow }
          expect(icmpv6.emit(view, 0, { type, code, rest, target, option })).toBe(32)
          expect(icmpv6.check(view, 0, 32)).toBe(OK)
          const seed = pseudo('fe80::1', 'fe80::2', PROTO_ICMPV6, 32)
          icmpv6.fillChecksum(view, 0, 32, seed)
          expect(sum16(new Uint8Array(view.buffer), seed)).toBe(0xffff)
          expect(icmpv6.verifyChecksum(view, 0, 32, seed)).toBe(true)
          expect([icmpv6.type(view, 0), icmpv6.code(view, 0), icmpv6.rest(view, 0)]).toEqual([
            type,
            code,
            rest,
          ])
          expect([0, 1, 2, 3].map(w => icmpv6.targetWord(view, 0, w))).toEqual(target)
          const at = icmpv6.findOption(view, 0, 32, icmpv6.ND_TARGET_MAC)
          expect(view.getUint32(at + icmpv6.ND_OPTION.MAC)).toBe(macHigh)
          expect(view.getUint16(at + icmpv6.ND_OPTION.MAC + 4)).toBe(macLow)
        },
      ),
    )
  })
})
