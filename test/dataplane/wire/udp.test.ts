import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { MALFORMED, OK, TRUNCATED } from '../../../dataplane/wire/reason.ts'
import * as udp from '../../../dataplane/wire/udp.ts'
import { pseudo, udp as udpPacket } from '../../harness/packets.ts'
import { exactly, keepsInside, u16 } from './inside.ts'

const flow = { src: '10.0.0.1', dst: '10.0.0.2', sport: 51_123, dport: 53 }
const DATAGRAM = udpPacket(flow, Uint8Array.of(1, 2, 3)).slice(20)

describe('UDP', () => {
  keepsInside(udp, [DATAGRAM], {
    further: (view, at) => {
      udp.verifyChecksum(view, at, 0)
    },
  })

  test('a datagram and its checksum', () => {
    const view = exactly(DATAGRAM)
    const seed = pseudo(flow.src, flow.dst, 17, 11)
    expect(udp.sourcePort(view, 0)).toBe(51_123)
    expect(udp.destinationPort(view, 0)).toBe(53)
    expect(udp.udpLength(view, 0)).toBe(11)
    expect(udp.verifyChecksum(view, 0, seed)).toBe(true)
    expect(udp.verifyChecksum(view, 0, seed + 1)).toBe(false)
    expect(udp.pretty(view, 0, 11)).toBe('UDP 51123 > 53 length 3')
    udp.setChecksum(view, 0, 0)
    expect(udp.verifyChecksum(view, 0, seed)).toBe(true)
    udp.fillChecksum(view, 0, seed)
    expect(new Uint8Array(view.buffer)).toEqual(DATAGRAM)
  })

  test('a sum of zero is sent as all ones', () => {
    const view = exactly(new Uint8Array(8))
    udp.emit(view, 0, { sourcePort: 1, destinationPort: 2, length: 8 })
    udp.fillChecksum(view, 0, 0xffff - 1 - 2 - 8)
    expect(udp.checksum(view, 0)).toBe(0xffff)
  })

  test('every reason', () => {
    const reason = (bytes: Uint8Array) => udp.check(exactly(bytes), 0, bytes.length)
    expect(reason(DATAGRAM.subarray(0, 7))).toBe(TRUNCATED)
    expect(reason(DATAGRAM.subarray(0, 10))).toBe(TRUNCATED)
    expect(udp.checkHeader(exactly(DATAGRAM), 0, 10)).toBe(OK)
    expect(reason(DATAGRAM.with(5, 7))).toBe(MALFORMED)
    expect(reason(new Uint8Array([...DATAGRAM, 0]))).toBe(OK)
  })

  test('what is emitted is read back', () => {
    fc.assert(
      fc.property(
        fc.record({
          sourcePort: u16,
          destinationPort: u16,
          length: fc.integer({ min: 8, max: 0xffff }),
          checksum: u16,
        }),
        fields => {
          const view = exactly(new Uint8Array(fields.length))
          expect(udp.emit(view, 0, fields)).toBe(8)
          expect(udp.check(view, 0, fields.length)).toBe(OK)
          expect({
            sourcePort: udp.sourcePort(view, 0),
            destinationPort: udp.destinationPort(view, 0),
            length: udp.udpLength(view, 0),
            checksum: udp.checksum(view, 0),
          }).toEqual(fields)
        },
      ),
    )
  })
})
