import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { VXLAN_OVERHEAD_IPV4, VXLAN_OVERHEAD_IPV6 } from '../../../dataplane/limits.ts'
import { type OuterHeaderSpec, outerHeader } from '../../../dataplane/manage/outer-header.ts'
import { checksumOf } from '../../../dataplane/wire/checksum.ts'
import { ethernet, ipv4, ipv6, OK, udp, vxlan } from '../../../dataplane/wire/index.ts'
import { pseudo, vxlan as vxlanPacket } from '../../harness/packets.ts'

const MACS = { sourceMac: '02:aa:00:00:00:01', destinationMac: '02:aa:00:00:00:02' }
const FOUR: OuterHeaderSpec = {
  source: '192.0.2.1',
  destination: '192.0.2.2',
  vxlanPort: 4789,
  vni: 0xabcdef,
  ...MACS,
}
const SIX = { ...FOUR, source: '2001:db8::1', destination: '2001:db8::2' }

const view = (bytes: Uint8Array) => new DataView(bytes.buffer, bytes.byteOffset, bytes.length)

describe('outer header templates', () => {
  test.each([
    ['IPv4', FOUR, VXLAN_OVERHEAD_IPV4],
    ['IPv6', SIX, VXLAN_OVERHEAD_IPV6],
  ] as const)(
    '%s: what a packet made by hand has, without what differs from packet to packet',
    (_, spec, bytes) => {
      const made = outerHeader(spec)
      expect(made.length).toBe(bytes)
      const packet = vxlanPacket({
        src: spec.source,
        dst: spec.destination,
        vni: spec.vni,
        innerDst: MACS.destinationMac,
        innerSrc: MACS.sourceMac,
        inner: new Uint8Array(1).fill(0x45),
      }).slice(0, bytes)
      const by = view(packet)
      const four = bytes === VXLAN_OVERHEAD_IPV4
      const at = four ? 20 : 40
      if (four) {
        ipv4.setTotalLength(by, 0, 0)
        // Routers may fragment (RFC 7348 section 4.3): no DF.
        ipv4.fillChecksum(by, 0)
      } else {
        ipv6.setPayloadLength(by, 0, 0)
      }
      udp.setSourcePort(by, at, 0)
      udp.setLength(by, at, 0)
      udp.setChecksum(by, at, four ? 0 : pseudo(spec.source, spec.destination, 17, 0))
      ethernet.setType(by, at + 16, 0)
      expect(made).toEqual(packet)
      expect(vxlan.check(view(made), at + 8, bytes - at - 8)).toBe(OK)
      expect(vxlan.vni(view(made), at + 8)).toBe(spec.vni)
    },
  )

  test('the IPv4 checksum is a seed for every length and ECN', () => {
    const octet = fc.nat(255)
    const address = fc.tuple(octet, octet, octet, octet).map(parts => parts.join('.'))
    fc.assert(
      fc.property(
        address,
        address,
        fc.integer({ min: 50, max: 0xffff }),
        fc.nat(3),
        (source, destination, total, ecn) => {
          const by = view(outerHeader({ ...FOUR, source, destination }))
          const sum = (~ipv4.checksum(by, 0) & 0xffff) + total + ecn
          ipv4.setTotalLength(by, 0, total)
          ipv4.setEcn(by, 0, ecn)
          ipv4.setChecksum(by, 0, checksumOf(sum))
          expect(ipv4.verifyChecksum(by, 0)).toBe(true)
        },
      ),
    )
  })

  test('fields of their full width', () => {
    const by = view(outerHeader({ ...FOUR, vni: 0xffffff, vxlanPort: 65_535 }))
    expect(vxlan.vni(by, 28)).toBe(0xffffff)
    expect(by.getUint8(35)).toBe(0)
    expect(udp.destinationPort(by, 20)).toBe(65_535)
  })

  test('what is no address, or of two families, is refused', () => {
    expect(() => outerHeader({ ...FOUR, destination: SIX.destination })).toThrow(
      'VTEPs 192.0.2.1 and 2001:db8::2 are of two families',
    )
    expect(() => outerHeader({ ...FOUR, source: '192.0.2.1/24' })).toThrow(RangeError)
    expect(() => outerHeader({ ...FOUR, sourceMac: '02:aa' })).toThrow(RangeError)
  })
})
