import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { ipWords } from '../../../dataplane/addresses.ts'
import * as ipv6 from '../../../dataplane/wire/ipv6.ts'
import {
  PROTO_AH,
  PROTO_DESTINATION_OPTIONS,
  PROTO_ESP,
  PROTO_FRAGMENT,
  PROTO_HOP_BY_HOP,
  PROTO_NO_NEXT_HEADER,
  PROTO_ROUTING,
  PROTO_TCP,
  PROTO_UDP,
} from '../../../dataplane/wire/numbers.ts'
import { MALFORMED, OK, TRUNCATED, VERSION } from '../../../dataplane/wire/reason.ts'
import { pseudo } from '../../harness/packets.ts'
import { address6, exactly, hex, keepsInside, u8, u16 } from './inside.ts'

const SOURCE = 'fe80::90ba:3dff:fe6f:1dc5'
const HEADER = hex(
  '6120 0005 0004 11ff fe80000000000000 90ba3dfffe6f1dc5 ff020000000000000000000000000001',
)
const PACKET = new Uint8Array([...HEADER, 1, 2, 3, 4])

/** A packet of extension headers: [number, bytes] each; the last number is what follows them. */
function chain(headers: [number, number[]][], last: number, rest: number[] = []): Uint8Array {
  const numbers = [...headers.map(([number]) => number), last]
  const payload = headers.flatMap(([, bytes], i) => [numbers[i + 1]!, ...bytes.slice(1)])
  payload.push(...rest)
  const packet = new Uint8Array([...HEADER, ...payload])
  packet[6] = numbers[0]!
  new DataView(packet.buffer).setUint16(4, payload.length)
  return packet
}

const EIGHT = [0, 0, 1, 4, 0, 0, 0, 0]
const SIXTEEN = [0, 1, ...new Array(14).fill(0)]
const FRAGMENT = (offset: number, more: number) => {
  const field = (offset & ~7) | more
  return [0, 0, field >> 8, field & 255, 0, 0, 0, 9]
}
/** Authentication: (4 + 2) * 4 = 24 bytes. */
const AUTHENTICATION = [0, 4, ...new Array(22).fill(0)]

const ALL = chain(
  [
    [PROTO_HOP_BY_HOP, EIGHT],
    [PROTO_DESTINATION_OPTIONS, SIXTEEN],
    [PROTO_ROUTING, EIGHT],
    [PROTO_FRAGMENT, FRAGMENT(0, 1)],
    [PROTO_AH, AUTHENTICATION],
    [PROTO_DESTINATION_OPTIONS, EIGHT],
  ],
  PROTO_UDP,
  [1, 2, 3],
)

function walk(packet: Uint8Array): { reason: number } & ipv6.Ipv6Walk {
  const into = { protocol: 0, offset: 0, fragment: false }
  return { reason: ipv6.walk(exactly(packet), 0, into), ...into }
}

describe('IPv6', () => {
  keepsInside(ipv6, [PACKET, ALL], {
    further(view, at) {
      for (let word = 0; word < 4; word++) {
        ipv6.sourceWord(view, at, word)
        ipv6.destinationWord(view, at, word)
      }
      const found = { protocol: 0, offset: 0, fragment: false }
      const total = 40 + ipv6.payloadLength(view, at)
      if (ipv6.walk(view, at, found) === OK) expect(found.offset).toBeLessThanOrEqual(total)
    },
    except: ['addressText'],
  })

  test('a header that is known', () => {
    const view = exactly(PACKET)
    expect(ipv6.check(view, 0, 44)).toBe(OK)
    expect(ipv6.trafficClass(view, 0)).toBe(0x12)
    expect(ipv6.ecn(view, 0)).toBe(2)
    expect(ipv6.flowLabel(view, 0)).toBe(5)
    expect(ipv6.payloadLength(view, 0)).toBe(4)
    expect(ipv6.nextHeader(view, 0)).toBe(PROTO_UDP)
    expect(ipv6.hopLimit(view, 0)).toBe(255)
    const words = [0, 1, 2, 3]
    expect(words.map(w => ipv6.sourceWord(view, 0, w))).toEqual([...ipWords(SOURCE)])
    expect(words.map(w => ipv6.destinationWord(view, 0, w))).toEqual([...ipWords('ff02::1')])
    expect(ipv6.pseudoHeader(view, 0, 17, 4)).toBe(pseudo(SOURCE, 'ff02::1', 17, 4))
    expect(ipv6.pretty(view, 0, 44)).toBe(`${SOURCE} > ff02::1 hops 255 class 0x12 flow 0x5`)
  })

  test('every reason', () => {
    const reason = (bytes: Uint8Array) => ipv6.check(exactly(bytes), 0, bytes.length)
    expect(reason(PACKET.subarray(0, 39))).toBe(TRUNCATED)
    expect(reason(PACKET.subarray(0, 43))).toBe(TRUNCATED)
    expect(ipv6.checkHeader(exactly(HEADER), 0, 40)).toBe(OK)
    expect(reason(PACKET.with(0, 0x45))).toBe(VERSION)
    expect(reason(new Uint8Array([...PACKET, 0]))).toBe(OK)
  })

  test('what is emitted is read back', () => {
    const fields = fc.record({
      trafficClass: u8,
      flowLabel: fc.integer({ min: 0, max: 0xf_ffff }),
      payloadLength: u16,
      nextHeader: u8,
      hopLimit: u8,
      source: address6,
      destination: address6,
    })
    const words = [0, 1, 2, 3]
    fc.assert(
      fc.property(fields, fc.nat(5), (given, at) => {
        const view = exactly(new Uint8Array(at + 40 + given.payloadLength))
        expect(ipv6.emit(view, at, given)).toBe(40)
        expect(ipv6.check(view, at, 40 + given.payloadLength)).toBe(OK)
        const read = () => ({
          trafficClass: ipv6.trafficClass(view, at),
          flowLabel: ipv6.flowLabel(view, at),
          payloadLength: ipv6.payloadLength(view, at),
          nextHeader: ipv6.nextHeader(view, at),
          hopLimit: ipv6.hopLimit(view, at),
          source: words.map(w => ipv6.sourceWord(view, at, w)),
          destination: words.map(w => ipv6.destinationWord(view, at, w)),
        })
        expect(read()).toEqual(given)
        // A field that is set leaves those beside it alone.
        ipv6.setEcn(view, at, 1)
        ipv6.setFlowLabel(view, at, 0xabcde)
        const trafficClass = (given.trafficClass & ~3) | 1
        expect(read()).toEqual({ ...given, trafficClass, flowLabel: 0xabcde })
        expect(view.getUint8(at) >> 4).toBe(6)
      }),
    )
  })
})

describe('extension headers', () => {
  test('all kinds, one after the other', () => {
    const offset = 40 + 8 + 16 + 8 + 8 + 24 + 8
    expect(walk(ALL)).toEqual({ reason: OK, protocol: PROTO_UDP, offset, fragment: true })
  })

  test('none; what is encrypted; no next header', () => {
    expect(walk(PACKET)).toEqual({ reason: OK, protocol: PROTO_UDP, offset: 40, fragment: false })
    const encrypted = chain([[PROTO_HOP_BY_HOP, EIGHT]], PROTO_ESP, [1, 2, 3])
    expect(walk(encrypted)).toMatchObject({ reason: OK, protocol: PROTO_ESP, offset: 48 })
    const nothing = chain([[PROTO_DESTINATION_OPTIONS, EIGHT]], PROTO_NO_NEXT_HEADER)
    expect(walk(nothing)).toMatchObject({ reason: OK, protocol: 59, offset: 48 })
  })

  test('a later fragment has no transport header', () => {
    const first = chain([[PROTO_FRAGMENT, FRAGMENT(0, 1)]], PROTO_TCP, [1])
    expect(walk(first)).toEqual({ reason: OK, protocol: PROTO_TCP, offset: 48, fragment: true })
    const later = chain([[PROTO_FRAGMENT, FRAGMENT(1448, 0)]], PROTO_TCP, [1])
    expect(walk(later)).toEqual({ reason: OK, protocol: PROTO_TCP, offset: 0, fragment: true })
    const atomic = chain([[PROTO_FRAGMENT, FRAGMENT(0, 0)]], PROTO_TCP, [1])
    expect(walk(atomic)).toEqual({ reason: OK, protocol: PROTO_TCP, offset: 48, fragment: true })
  })

  test('lengths that reach beyond the packet, at every truncation', () => {
    for (let n = 40; n < ALL.length; n++) {
      const cut = ALL.slice(0, n)
      new DataView(cut.buffer).setUint16(4, n - 40)
      const { reason, offset } = walk(cut)
      // The last three bytes are payload behind the headers.
      expect(reason, `${n} bytes`).toBe(n < ALL.length - 3 ? TRUNCATED : OK)
      expect(offset).toBeLessThanOrEqual(n)
    }
    const long = chain([[PROTO_ROUTING, EIGHT.with(1, 255)]], PROTO_TCP, [1])
    expect(walk(long).reason).toBe(TRUNCATED)
  })

  test('no more than MAX_EXTENSIONS', () => {
    const many = (n: number) =>
      chain(
        Array.from({ length: n }, () => [PROTO_DESTINATION_OPTIONS, EIGHT] as [number, number[]]),
        PROTO_UDP,
      )
    expect(walk(many(ipv6.MAX_EXTENSIONS))).toMatchObject({ reason: OK, protocol: PROTO_UDP })
    expect(walk(many(ipv6.MAX_EXTENSIONS + 1)).reason).toBe(MALFORMED)
  })
})
