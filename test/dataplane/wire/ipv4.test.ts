import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { update } from '../../../dataplane/wire/checksum.ts'
import * as ipv4 from '../../../dataplane/wire/ipv4.ts'
import { PROTO_UDP } from '../../../dataplane/wire/numbers.ts'
import { MALFORMED, OK, TRUNCATED, VERSION } from '../../../dataplane/wire/reason.ts'
import { pseudo } from '../../harness/packets.ts'
import { exactly, hex, keepsInside, options, u8, u16, u32 } from './inside.ts'

// 192.168.0.1 to 192.168.0.199, UDP, 115 bytes; the header with 95 bytes behind it.
const HEADER = hex('4500 0073 0000 4000 4011 b861 c0a80001 c0a800c7')
const PACKET = new Uint8Array([...HEADER, ...new Uint8Array(95)])
// Router alert (RFC 2113) as an option.
const OPTIONS = hex('4600 0018 0000 0000 0102 3ac9 0a000001 e0000016 94040000')

describe('IPv4', () => {
  keepsInside(ipv4, [PACKET, OPTIONS])

  test('a header that is known', () => {
    const view = exactly(PACKET)
    expect(ipv4.check(view, 0, 115)).toBe(OK)
    expect(ipv4.headerLength(view, 0)).toBe(20)
    expect(ipv4.totalLength(view, 0)).toBe(115)
    expect(ipv4.ttl(view, 0)).toBe(64)
    expect(ipv4.protocol(view, 0)).toBe(PROTO_UDP)
    expect(ipv4.fragment(view, 0)).toBe(ipv4.IPV4_DONT_FRAGMENT)
    expect(ipv4.isFragment(view, 0)).toBe(false)
    expect(ipv4.source(view, 0)).toBe(0xc0a80001)
    expect(ipv4.destination(view, 0)).toBe(0xc0a800c7)
    expect(ipv4.checksum(view, 0)).toBe(0xb861)
    expect(ipv4.verifyChecksum(view, 0)).toBe(true)
    expect(ipv4.pseudoHeader(view, 0, 17, 95)).toBe(pseudo('192.168.0.1', '192.168.0.199', 17, 95))
    expect(ipv4.pretty(view, 0, 115)).toBe('192.168.0.1 > 192.168.0.199 ttl 64')
    ipv4.fillChecksum(view, 0)
    expect(new Uint8Array(view.buffer)).toEqual(PACKET)
  })

  test('options', () => {
    const view = exactly(OPTIONS)
    expect(ipv4.headerLength(view, 0)).toBe(24)
    expect(ipv4.verifyChecksum(view, 0)).toBe(true)
    expect(ipv4.pretty(view, 0, 24)).toBe('10.0.0.1 > 224.0.0.22 ttl 1 options 4')
  })

  test('which addresses may be one host', () => {
    const hosts = [0x0100_0000, 0x7eff_ffff, 0x8000_0000, 0xdfff_ffff]
    const others = [0, 0x00ff_ffff, 0x7f00_0000, 0x7fff_ffff, 0xe000_0000, 0xffff_ffff]
    expect(hosts.map(ipv4.isUnicast)).toEqual(hosts.map(() => true))
    expect(others.map(ipv4.isUnicast)).toEqual(others.map(() => false))
  })

  test('every reason', () => {
    const reason = (bytes: Uint8Array) => ipv4.check(exactly(bytes), 0, bytes.length)
    expect(reason(PACKET.subarray(0, 19))).toBe(TRUNCATED)
    expect(reason(PACKET.subarray(0, 114))).toBe(TRUNCATED)
    expect(ipv4.checkHeader(exactly(HEADER), 0, 20)).toBe(OK)
    expect(reason(PACKET.with(0, 0x65))).toBe(VERSION)
    expect(reason(PACKET.with(0, 0x44))).toBe(MALFORMED)
    expect(reason(PACKET.with(3, 19))).toBe(MALFORMED)
    // A header that is longer than the packet is there.
    expect(reason(PACKET.with(0, 0x4f).subarray(0, 59))).toBe(TRUNCATED)
    // Ethernet pads.
    expect(reason(new Uint8Array([...PACKET, 0, 0, 0]))).toBe(OK)
  })

  test('fragments', () => {
    const view = exactly(PACKET)
    ipv4.setId(view, 0, 77)
    ipv4.setFragment(view, 0, ipv4.IPV4_MORE_FRAGMENTS | 185)
    ipv4.fillChecksum(view, 0)
    expect(ipv4.fragmentOffset(view, 0)).toBe(1480)
    expect(ipv4.isFragment(view, 0)).toBe(true)
    expect(ipv4.pretty(view, 0, 115)).toBe('192.168.0.1 > 192.168.0.199 ttl 64 fragment 77@1480+')
    ipv4.setFragment(view, 0, ipv4.IPV4_MORE_FRAGMENTS)
    expect(ipv4.isFragment(view, 0)).toBe(true)
  })

  test('one hop further, by the incremental checksum', () => {
    const view = exactly(PACKET)
    const before = view.getUint16(ipv4.IPV4.TTL)
    ipv4.setTtl(view, 0, 63)
    expect(ipv4.verifyChecksum(view, 0)).toBe(false)
    expect(ipv4.pretty(view, 0, 115)).toContain('(bad checksum)')
    const after = view.getUint16(ipv4.IPV4.TTL)
    ipv4.setChecksum(view, 0, update(ipv4.checksum(view, 0), before, after))
    expect(ipv4.verifyChecksum(view, 0)).toBe(true)
  })

  test('what is emitted is read back, with a right checksum', () => {
    const fields = fc.record({
      tos: u8,
      id: u16,
      fragment: u16,
      ttl: u8,
      protocol: u8,
      source: u32,
      destination: u32,
      options,
    })
    fc.assert(
      fc.property(fields, fc.nat(500), fc.nat(5), (given, payload, at) => {
        const header = 20 + given.options.length
        const totalLength = header + payload
        const view = exactly(new Uint8Array(at + totalLength))
        expect(ipv4.emit(view, at, { ...given, totalLength })).toBe(header)
        expect(ipv4.check(view, at, totalLength)).toBe(OK)
        expect(ipv4.verifyChecksum(view, at)).toBe(true)
        expect(ipv4.headerLength(view, at)).toBe(header)
        expect(ipv4.totalLength(view, at)).toBe(totalLength)
        expect({
          tos: ipv4.tos(view, at),
          id: ipv4.id(view, at),
          fragment: ipv4.fragment(view, at),
          ttl: ipv4.ttl(view, at),
          protocol: ipv4.protocol(view, at),
          source: ipv4.source(view, at),
          destination: ipv4.destination(view, at),
          options: new Uint8Array(view.buffer, at + 20, given.options.length),
        }).toEqual(given)
        ipv4.setEcn(view, at, 3)
        expect(ipv4.tos(view, at)).toBe(given.tos | 3)
        expect(ipv4.ecn(view, at)).toBe(3)
      }),
    )
  })

  test('options that do not fit are refused', () => {
    const fields = { totalLength: 20, ttl: 1, protocol: 1, source: 1, destination: 2 }
    const view = exactly(new Uint8Array(80))
    for (const bytes of [44, 3]) {
      expect(() => ipv4.emit(view, 0, { ...fields, options: new Uint8Array(bytes) })).toThrow(
        RangeError,
      )
    }
  })
})
