import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { MALFORMED, OK, TRUNCATED } from '../../../dataplane/wire/reason.ts'
import * as tcp from '../../../dataplane/wire/tcp.ts'
import { pseudo } from '../../harness/packets.ts'
import { exactly, hex, keepsInside, options, u8, u16, u32 } from './inside.ts'

// 192.168.101.106:47472 to 178.62.108.238:443, SYN with MSS, SACK permitted, timestamps, scale.
// Caught before the card completed its checksum, which is only the pseudo-header's sum.
const SYN = hex(
  `b970 01bb defc5037 00000000 a002 7210 456e 0000
   020405b4 0402 080a 27053e35 00000000 01 030307`,
)
const OPTIONS = 20

function withOptions(text: string): DataView {
  const bytes = hex(text)
  const view = exactly(new Uint8Array(20 + bytes.length))
  const fields = { sourcePort: 1, destinationPort: 2, sequence: 3, flags: 0, window: 4 }
  tcp.emit(view, 0, { ...fields, options: bytes })
  return view
}

function optionsOf(view: DataView): number[] {
  const found: number[] = []
  let option = tcp.nextOption(view, 0)
  while (option !== 0) {
    found.push(view.getUint8(option))
    option = tcp.nextOption(view, 0, option)
  }
  return found
}

describe('TCP', () => {
  keepsInside(tcp, [SYN], {
    further(view, at, length) {
      tcp.verifyChecksum(view, at, length, 0)
      const end = tcp.headerLength(view, at)
      let last = 0
      for (let o = tcp.nextOption(view, at); o !== 0; o = tcp.nextOption(view, at, o)) {
        expect(o).toBeGreaterThan(last)
        expect(o + view.getUint8(at + o + tcp.TCP_OPTION.LENGTH)).toBeLessThanOrEqual(end)
        last = o
      }
      for (const kind of [2, 3, 4, 5, 8]) tcp.findOption(view, at, kind)
    },
  })

  test('a SYN from the wire', () => {
    const view = exactly(SYN)
    expect(tcp.check(view, 0, 40)).toBe(OK)
    expect([tcp.sourcePort(view, 0), tcp.destinationPort(view, 0)]).toEqual([47_472, 443])
    expect(tcp.sequence(view, 0)).toBe(0xdefc5037)
    expect(tcp.headerLength(view, 0)).toBe(40)
    expect(tcp.flags(view, 0)).toBe(tcp.TCP_SYN)
    expect(tcp.window(view, 0)).toBe(0x7210)
    const seed = pseudo('192.168.101.106', '178.62.108.238', 6, 40)
    expect(tcp.checksum(view, 0)).toBe(seed)
    expect(tcp.verifyChecksum(view, 0, 40, seed)).toBe(false)
    tcp.fillChecksum(view, 0, 40, seed)
    expect(tcp.checksum(view, 0)).toBe(0x4116)
    expect(tcp.verifyChecksum(view, 0, 40, seed)).toBe(true)
    expect(optionsOf(view)).toEqual([
      tcp.TCP_OPTION_MSS,
      tcp.TCP_OPTION_SACK_PERMITTED,
      tcp.TCP_OPTION_TIMESTAMPS,
      tcp.TCP_OPTION_WINDOW_SCALE,
    ])
    expect(tcp.mss(view, 0)).toBe(1460)
    expect(tcp.findOption(view, 0, tcp.TCP_OPTION_TIMESTAMPS)).toBe(OPTIONS + 6)
    expect(tcp.pretty(view, 0, 40)).toBe(
      'TCP 47472 > 443 SYN seq 3741077559 win 29200 mss 1460 length 0',
    )
  })

  test('options end at their end, and at nonsense', () => {
    expect(optionsOf(withOptions('01010101'))).toEqual([])
    expect(optionsOf(withOptions('0101 0402 00 020405b4 01 01 01'))).toEqual([4])
    // Lengths 0, 1, beyond the header, and one that is cut off.
    for (const bad of ['0200', '0201', '02ff', '0206']) {
      expect(optionsOf(withOptions(`0402 ${bad}`)), bad).toEqual([4])
    }
    expect(optionsOf(withOptions('04020102'))).toEqual([4])
    // An MSS option of another length is not read.
    expect(tcp.mss(withOptions('0203ff01'), 0)).toBe(0)
    expect(tcp.mss(withOptions('0103030702040200'), 0)).toBe(512)
  })

  test('every reason', () => {
    const reason = (bytes: Uint8Array) => tcp.check(exactly(bytes), 0, bytes.length)
    expect(reason(SYN.subarray(0, 19))).toBe(TRUNCATED)
    expect(reason(SYN.subarray(0, 39))).toBe(TRUNCATED)
    expect(reason(SYN.with(12, 0x40))).toBe(MALFORMED)
    expect(reason(SYN.with(12, 0xf0))).toBe(TRUNCATED)
  })

  test('what is emitted is read back', () => {
    const fields = fc.record({
      sourcePort: u16,
      destinationPort: u16,
      sequence: u32,
      acknowledgement: u32,
      flags: u8,
      window: u16,
      checksum: u16,
      urgent: u16,
      options,
    })
    fc.assert(
      fc.property(fields, fc.nat(5), (given, at) => {
        const header = 20 + given.options.length
        const view = exactly(new Uint8Array(at + header))
        expect(tcp.emit(view, at, given)).toBe(header)
        expect(tcp.check(view, at, header)).toBe(OK)
        expect(tcp.headerLength(view, at)).toBe(header)
        expect({
          sourcePort: tcp.sourcePort(view, at),
          destinationPort: tcp.destinationPort(view, at),
          sequence: tcp.sequence(view, at),
          acknowledgement: tcp.acknowledgement(view, at),
          flags: tcp.flags(view, at),
          window: tcp.window(view, at),
          checksum: tcp.checksum(view, at),
          urgent: tcp.urgent(view, at),
          options: new Uint8Array(view.buffer, at + OPTIONS, given.options.length),
        }).toEqual(given)
      }),
    )
    expect(() => withOptions('010101')).toThrow(RangeError)
    expect(() => withOptions('01'.repeat(44))).toThrow(RangeError)
  })
})
