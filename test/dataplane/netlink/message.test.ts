import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { NetlinkError } from '../../../dataplane/netlink/error.ts'
import {
  Attributes,
  header,
  MessageBuilder,
  NLM_F_ACK,
  NLM_F_ACK_TLVS,
  NLM_F_CAPPED,
  NLM_F_REQUEST,
  NLMSG_DONE,
  NLMSG_ERROR,
  NLMSG_HDRLEN,
  parseMessages,
} from '../../../dataplane/netlink/message.ts'
import { parseResult } from '../../../dataplane/netlink/socket.ts'
import { hex } from '../wire/inside.ts'

/** Runs `read`; an answer is fine, and so is EBADMSG. Anything else fails. */
function readsOrRefuses(read: () => unknown): boolean {
  try {
    read()
    return true
  } catch (error) {
    if (!(error instanceof NetlinkError && error.code === 'EBADMSG')) throw error
    return false
  }
}

describe('MessageBuilder', () => {
  test('bytes as the kernel wants them', () => {
    const message = new MessageBuilder(16, 0x600)
    message.u8(1).u8(0).u16(0x0203).u32(0x04050607)
    message.attribute(3, Uint8Array.of(0xaa))
    message.attributeU8(4, 0xbb)
    message.attributeU16be(5, 4789)
    message.attributeU32(6, 0xfffffffe)
    message.attributeString(7, 'hwä')
    message.nest(18, info => info.attributeString(1, 'tun'))
    expect(message.finish(9, NLM_F_ACK)).toEqual(
      hex(
        `50000000 1000 0506 09000000 00000000
         01 00 0302 07060504
         0500 0300 aa 000000   0500 0400 bb 000000   0600 0500 12b5 0000   0800 0600 feffffff
         0900 0700 6877c3a400 000000
         0c00 1280 0800 0100 74756e00`,
      ),
    )
  })

  test('a message grows as it needs', () => {
    const message = new MessageBuilder(1)
    for (let i = 0; i < 100; i++) message.attribute(i, new Uint8Array(i).fill(i))
    const attributes = new Attributes(parseMessages(message.finish(1))[0]!.payload)
    for (let i = 0; i < 100; i++) {
      expect(attributes.bytes(i)).toEqual(new Uint8Array(i).fill(i))
    }
  })

  test('values that a field does not hold are refused', () => {
    const build = () => new MessageBuilder(1)
    for (const bad of [-1, 1.5, Number.NaN, 2 ** 32]) {
      expect(() => build().u8(bad), `u8 ${bad}`).toThrow(RangeError)
      expect(() => build().u16(bad)).toThrow(RangeError)
      expect(() => build().u32(bad)).toThrow(RangeError)
      expect(() => build().attributeU8(1, bad)).toThrow(RangeError)
      expect(() => build().attributeU16be(1, bad)).toThrow(RangeError)
      expect(() => build().attributeU32(1, bad)).toThrow(RangeError)
      expect(() => build().finish(bad)).toThrow(RangeError)
    }
    expect(() => new MessageBuilder(0x10000)).toThrow(RangeError)
    expect(() => build().attribute(0x4000, new Uint8Array(0))).toThrow(RangeError)
    expect(() => build().attribute(1, new Uint8Array(0xfffc))).toThrow('65536 bytes')
    expect(() => build().attributeString(1, 'a\0b')).toThrow('NUL in text')
    expect(() =>
      build().nest(1, m => {
        for (let i = 0; i < 3; i++) m.attribute(2, new Uint8Array(30_000))
      }),
    ).toThrow(RangeError)
  })
})

describe('reading', () => {
  const values = fc.record({
    type: fc.integer({ min: 0, max: 0xffff }),
    flags: fc.integer({ min: 0, max: 0xffff }),
    sequence: fc.integer({ min: 0, max: 0xffff_ffff }),
    attributes: fc.uniqueArray(
      fc.tuple(fc.integer({ min: 0, max: 0x3fff }), fc.uint8Array({ maxLength: 40 })),
      { selector: ([type]) => type, maxLength: 8 },
    ),
  })

  test('what is built is read back, several to a datagram', () => {
    fc.assert(
      fc.property(fc.array(values, { maxLength: 4 }), given => {
        const datagram = given.flatMap(({ type, flags, sequence, attributes }) => {
          const message = new MessageBuilder(type, flags)
          for (const [kind, bytes] of attributes) message.attribute(kind, bytes)
          return [...message.finish(sequence)]
        })
        const read = parseMessages(Uint8Array.from(datagram))
        expect(read.length).toBe(given.length)
        for (const [i, { type, flags, sequence, attributes }] of given.entries()) {
          expect(read[i]).toMatchObject({ type, sequence, flags: flags | NLM_F_REQUEST })
          const found = new Attributes(read[i]!.payload)
          for (const [kind, bytes] of attributes) expect(found.bytes(kind)).toEqual(bytes)
        }
      }),
    )
  })

  test('numbers, text and nests by type; flags of a type are masked; the last one counts', () => {
    const attributes = new Attributes(
      hex(
        `0c00 0100 ffffffff 01000000   0800 0280 0500 0300 7f 000000
         0800 0400 61620063   0500 0540 09 000000   0600 0600 3412 0000   0600 0600 7856 0000`
          // The nest of type 2 takes 8 bytes in all; what follows it is an attribute again.
          .replace('0800 0280', '0c00 0280'),
      ),
    )
    expect(attributes.u32(1)).toBe(0xffffffff)
    expect(attributes.s32(1)).toBe(-1)
    expect(attributes.nested(2)!.u8(3)).toBe(0x7f)
    expect(attributes.string(4)).toBe('ab')
    expect(attributes.u8(5)).toBe(9)
    expect(attributes.u16(6)).toBe(0x5678)
    expect(attributes.u32(99)).toBeUndefined()
    expect(attributes.nested(99)).toBeUndefined()
    expect(attributes.string(99)).toBeUndefined()
    expect(() => attributes.u32(5)).toThrow(
      'netlink attribute 5: Bad message (EBADMSG): 1 bytes of 4',
    )
  })

  test('lengths that lie are refused by name', () => {
    const good = new MessageBuilder(1).attributeU32(1, 2).finish(1).slice()
    const length = (value: number) => {
      const copy = good.slice()
      new DataView(copy.buffer).setUint32(0, value, true)
      return copy
    }
    for (const bad of [0, 15, good.length + 1, 0xffff_ffff]) {
      expect(() => parseMessages(length(bad)), `${bad}`).toThrow(
        `netlink message: Bad message (EBADMSG): length ${bad} with 24 bytes left`,
      )
    }
    expect(() => parseMessages(good.subarray(0, 7))).toThrow('length 7 with 7 bytes left')
    for (const bad of [0, 3, 9, 0xffff]) {
      const attribute = hex('0800 0100 00000000')
      new DataView(attribute.buffer).setUint16(0, bad, true)
      expect(() => new Attributes(attribute), `${bad}`).toThrow(/netlink attribute: .* length/)
    }
    expect(() => new Attributes(hex('080001'))).toThrow('length 3 with 3 bytes left')
    expect(() => header(hex('0102'), 16, 'ifinfomsg')).toThrow('ifinfomsg')
  })

  test('the last message and attribute may lack their padding', () => {
    const message = new MessageBuilder(1)
      .attribute(1, Uint8Array.of(1, 2, 3, 4, 5))
      .finish(1)
      .slice()
    new DataView(message.buffer).setUint32(0, message.length - 3, true)
    const [read] = parseMessages(message.subarray(0, message.length - 3))
    expect(new Attributes(read!.payload).bytes(1)).toEqual(Uint8Array.of(1, 2, 3, 4, 5))
  })

  test('any bytes are read or refused', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), bytes => {
        readsOrRefuses(() => {
          for (const { payload } of parseMessages(bytes)) new Attributes(payload)
        })
        readsOrRefuses(() => {
          const attributes = new Attributes(bytes)
          for (let type = 0; type < 4; type++) {
            attributes.u32(type)
            attributes.string(type)
            attributes.nested(type)
          }
        })
      }),
      { numRuns: 2000 },
    )
  })
})

describe('results', () => {
  const message = (type: number, flags: number, payload: Uint8Array) => ({
    type,
    flags,
    sequence: 1,
    payload,
  })
  const text = hex('0c000100 6e6f20776179 0000')
  const offset = hex('08000200 14000000')
  const request = hex('14000000 10000500 01000000 00000000 00000000')
  const join = (...parts: Uint8Array[]) => Uint8Array.from(parts.flatMap(part => [...part]))
  const EEXIST = hex('efffffff')

  test('success, an error, and what the kernel adds', () => {
    const ok = join(hex('00000000'), request)
    expect(parseResult(message(NLMSG_ERROR, 0, ok))).toEqual({ errno: 0, extendedAck: '' })
    expect(parseResult(message(NLMSG_DONE, 0, new Uint8Array(0))).errno).toBe(0)
    const error = join(EEXIST, request)
    expect(parseResult(message(NLMSG_ERROR, 0, error))).toEqual({ errno: 17, extendedAck: '' })
    const whole = message(NLMSG_ERROR, NLM_F_ACK_TLVS, join(error, text, offset))
    expect(parseResult(whole)).toEqual({
      errno: 17,
      extendedAck: 'no way (at byte 20 of the request)',
    })
    const capped = join(EEXIST, request.subarray(0, NLMSG_HDRLEN), offset)
    expect(parseResult(message(NLMSG_ERROR, NLM_F_ACK_TLVS | NLM_F_CAPPED, capped))).toEqual({
      errno: 17,
      extendedAck: 'at byte 20 of the request',
    })
    expect(parseResult(message(NLMSG_DONE, NLM_F_ACK_TLVS, join(EEXIST, text)))).toEqual({
      errno: 17,
      extendedAck: 'no way',
    })
  })

  test('errors that are none and echoes that lie are refused', () => {
    const all = join(EEXIST, request, text)
    for (const bad of ['01000000', '00000080', '00f0ffff']) {
      expect(() => parseResult(message(NLMSG_ERROR, 0, join(hex(bad), request))), bad).toThrow(
        'EBADMSG',
      )
    }
    for (const echoed of [0, 15, 1000, 0xffff_ffff]) {
      const copy = all.slice()
      new DataView(copy.buffer).setUint32(4, echoed, true)
      expect(() => parseResult(message(NLMSG_ERROR, NLM_F_ACK_TLVS, copy)), `${echoed}`).toThrow(
        `echo of ${echoed} bytes`,
      )
    }
    let refused = 0
    for (let n = 0; n < all.length; n++) {
      for (const flags of [0, NLM_F_ACK_TLVS, NLM_F_ACK_TLVS | NLM_F_CAPPED]) {
        const cut = message(NLMSG_ERROR, flags, all.subarray(0, n))
        if (!readsOrRefuses(() => parseResult(cut))) refused++
      }
    }
    expect(refused).toBeGreaterThan(20 * 3)
  })
})
