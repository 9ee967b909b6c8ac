/** `hawser ping`: what it takes for an answer among all that a raw socket receives, and what it counts. */
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { echoReply, echoRequest, type Run } from '../../../cni/cli/echo.ts'
import { loadRawSocket, type OpenSocket, ping, showPinged } from '../../../cni/cli/ping.ts'
import { parseAddress } from '../../../cni/netip/cidr.ts'
import { icmp, icmpv6, ipv4, PROTO_ICMP, PROTO_UDP } from '../../../dataplane/wire/index.ts'

const COOKIE = Uint8Array.from({ length: 56 }, (_, k) => k * 3)
const RUN4: Run = { family: 4, id: 0xbeef, cookie: COOKIE }
const RUN6: Run = { ...RUN4, family: 6 }

/** What comes back for a request, as a raw socket gives it: of IPv4 with 24 bytes of header in front. */
function answered(
  { family }: Run,
  request: Uint8Array,
  change = (_: DataView): void => {},
): Buffer {
  const at = family === 4 ? 24 : 0
  const bytes = Buffer.alloc(at + request.length)
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length)
  bytes.set(request, at)
  bytes[at] = family === 4 ? icmp.ICMP_ECHO_REPLY : icmpv6.ICMPV6_ECHO_REPLY
  if (family === 4) {
    icmp.fillChecksum(view, at, request.length)
    view.setUint8(0, 0x46)
    ipv4.setTotalLength(view, 0, bytes.length)
    ipv4.setTtl(view, 0, 64)
    ipv4.setProtocol(view, 0, PROTO_ICMP)
    ipv4.fillChecksum(view, 0)
  }
  change(view)
  return bytes
}

describe.each([RUN4, RUN6])('IPv$family', run => {
  const at = run.family === 4 ? 24 : 0
  const request = echoRequest(run, 7)
  const reply = answered(run, request)

  test('a request has its id, its number and a checksum; its reply is known', () => {
    expect(request).toHaveLength(64)
    const view = new DataView(request.buffer, request.byteOffset, request.length)
    expect([icmp.id(view, 0), icmp.sequence(view, 0)]).toEqual([0xbeef, 7])
    if (run.family === 4) expect(icmp.verifyChecksum(view, 0, request.length)).toBe(true)
    expect(echoReply(run, reply)).toBe(7)
    expect(echoReply(run, echoReplyOf(0xffff))).toBe(0xffff)
  })

  const echoReplyOf = (sequence: number): Buffer => answered(run, echoRequest(run, sequence))

  test('the request itself, and what is of another run, are none', () => {
    expect(
      echoReply(
        run,
        answered(run, request, view => view.setUint8(at, 8)),
      ),
    ).toBeUndefined()
    expect(echoReply({ ...run, id: 1 }, reply)).toBeUndefined()
    expect(echoReply({ ...run, cookie: COOKIE.toReversed() }, reply)).toBeUndefined()
    expect(echoReply({ ...run, cookie: COOKIE.subarray(1) }, reply)).toBeUndefined()
    const other = run.family === 4 ? RUN6 : RUN4
    expect(echoReply(other, reply)).toBeUndefined()
  })

  test('what is cut, long, or has another byte somewhere, is none', () => {
    for (let length = 0; length < reply.length; length++) {
      expect(echoReply(run, reply.subarray(0, length))).toBeUndefined()
    }
    const longer = echoReply(run, Buffer.concat([reply, Buffer.alloc(1)]))
    // What lies behind an IPv4 packet is padding.
    expect(longer).toBe(run.family === 4 ? 7 : undefined)
    for (let k = at; k < reply.length; k++) {
      const wrong = Buffer.from(reply)
      wrong[k]! ^= 0x40
      // The kernel looks at the checksum of ICMPv6, and the number has a meaning.
      const seen = echoReply(run, wrong)
      if (run.family === 6 && k >= 2 && k <= 3) expect(seen).toBe(7)
      else if (run.family === 6 && k >= 6 && k <= 7) expect(seen).not.toBe(7)
      else expect(seen).toBeUndefined()
    }
  })

  test('any bytes give a number or nothing', () => {
    const nearly = fc
      .array(fc.tuple(fc.nat(reply.length - 1), fc.nat(255)), { maxLength: 4 })
      .map(changes => {
        const bytes = Buffer.from(reply)
        for (const [where, byte] of changes) bytes[where] = byte
        return bytes
      })
    fc.assert(
      fc.property(fc.oneof(nearly, fc.uint8Array({ maxLength: 200 })), bytes => {
        const seen = echoReply(run, bytes)
        expect(seen === undefined || (Number.isInteger(seen) && seen >= 0)).toBe(true)
      }),
    )
  })
})

test('an IPv4 packet of another protocol, or with a broken header, is none', () => {
  const reply = (change: (view: DataView) => void): number | undefined =>
    echoReply(RUN4, answered(RUN4, echoRequest(RUN4, 7), change))
  expect(reply(view => ipv4.setProtocol(view, 0, PROTO_UDP))).toBeUndefined()
  expect(reply(view => view.setUint8(0, 0x4f))).toBeUndefined()
  expect(reply(view => view.setUint8(0, 0x66))).toBeUndefined()
  expect(reply(view => ipv4.setTotalLength(view, 0, 0xffff))).toBeUndefined()
  expect(reply(view => ipv4.setTotalLength(view, 0, 10))).toBeUndefined()
})

describe('a run', () => {
  const parsed = parseAddress('10.244.1.2')
  if (!parsed.ok) throw new Error('no address')
  const address = parsed.value

  /** A socket that does with each request what `act` says. */
  function answering(
    act: (request: Buffer, give: (bytes: Buffer, from?: string) => void) => void,
  ): {
    open: OpenSocket
    closed: () => number
  } {
    let closed = 0
    const open: OpenSocket = () => {
      let heard: (message: Buffer, source: string) => void = () => {}
      return {
        on(event: string, listener: never) {
          if (event === 'message') heard = listener
        },
        send(message, _offset, _length, _address, sent) {
          sent(null)
          act(message, (bytes, from = '10.244.1.2') => heard(bytes, from))
        },
        close: () => void closed++,
      }
    }
    return { open, closed: () => closed }
  }

  test('counts an answer once, from whom was asked, and ends when all have come', async () => {
    const { open, closed } = answering((request, give) => {
      const reply = answered(RUN4, request)
      give(reply, '10.244.1.3')
      give(reply, 'nobody')
      give(request)
      give(reply)
      give(reply)
    })
    const lines: string[] = []
    const pinged = await ping(address, 2, open, line => lines.push(line))
    expect(pinged).toEqual({ sent: 2, ms: [expect.any(Number), expect.any(Number)] })
    expect(lines).toHaveLength(2)
    expect(lines[0]).toMatch(/^10\.244\.1\.2: echo 1, \d+\.\d{3} ms$/)
    expect(closed()).toBe(1)
  })

  test('without an answer has none, and its last line says so', async () => {
    const { open, closed } = answering(() => {})
    const pinged = await ping(address, 1, open, () => {})
    expect(pinged).toEqual({ sent: 1, ms: [] })
    expect(showPinged(pinged)).toBe('1 sent, 0 answered')
    expect(closed()).toBe(1)
  })

  test('the last line has the least, the mean and the greatest', () => {
    expect(showPinged({ sent: 4, ms: [1, 2, 4.5] })).toBe(
      '4 sent, 3 answered; round trip min 1.000, avg 2.500, max 4.500 ms',
    )
  })

  test('a package that is not there is named, with the cause', async () => {
    await expect(loadRawSocket('no-such-package')).rejects.toThrow(
      /^ping needs the package no-such-package, which can not be loaded: Cannot find package/,
    )
  })
})
