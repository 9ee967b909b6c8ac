import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { prettyFrame, prettyPacket } from '../../../dataplane/wire/index.ts'
import { concat, ethernet, icmp, ip, tcp, udp, vxlan } from '../../harness/packets.ts'
import { exactly, hex } from './inside.ts'

const macs = ['02:00:00:00:00:01', '02:00:00:00:00:02'] as const
const inner = tcp({ src: 'fd44::2', dst: 'fd44::9', sport: 40_000, dport: 80 }, new Uint8Array(9))
const tunnel = vxlan({
  src: '192.0.2.1',
  dst: '192.0.2.2',
  innerDst: macs[0],
  innerSrc: macs[1],
  inner,
})

const frame = (bytes: Uint8Array): string => prettyFrame(exactly(bytes), 0, bytes.length)
const packet = (bytes: Uint8Array): string => prettyPacket(exactly(bytes), 0, bytes.length)

describe('one line a packet', () => {
  test('from the outside in', () => {
    expect(frame(ethernet(macs[0], macs[1], 0x0800, tunnel))).toBe(
      [
        '02:00:00:00:00:02 > 02:00:00:00:00:01 IPv4',
        '192.0.2.1 > 192.0.2.2 ttl 64',
        'UDP 50000 > 4789 length 91',
        'VXLAN vni 1',
        '02:00:00:00:00:02 > 02:00:00:00:00:01 IPv6',
        'fd44::2 > fd44::9 hops 64',
        'TCP 40000 > 80 ACK seq 1 ack 0 win 65535 length 9',
      ].join(' | '),
    )
  })

  test('an error quotes what it is about, cut or whole', () => {
    const about = udp({ src: '10.0.0.2', dst: '10.0.0.1' }, new Uint8Array(40))
    const error = (quoted: Uint8Array) =>
      packet(icmp({ src: '10.0.0.1', dst: '10.0.0.2' }, 3, 1, concat(new Uint8Array(4), quoted)))
    const head = '10.0.0.1 > 10.0.0.2 ttl 64 | ICMP unreachable code 1 about '
    expect(error(about)).toBe(`${head}[10.0.0.2 > 10.0.0.1 ttl 64 | UDP 1000 > 2000 length 40]`)
    expect(error(about.subarray(0, 28))).toBe(
      `${head}[10.0.0.2 > 10.0.0.1 ttl 64 (28 of 68 bytes) | UDP 1000 > 2000 length 40]`,
    )
    expect(error(about.subarray(0, 12))).toBe(`${head}[IPv4 truncated]`)
  })

  test('ARP, other ethertypes, extension headers, fragments, what is no packet', () => {
    const request = hex('0001080006040001020900000001 0a090001 000000000000 0a090002')
    const ends = (bytes: Uint8Array, type: number) => frame(ethernet(macs[0], macs[1], type, bytes))
    expect(ends(request, 0x0806)).toMatch(/ ARP \| ARP who has 10\.9\.0\.2\? tell 10\.9\.0\.1$/)
    expect(ends(request, 0x88cc)).toMatch(/ type 0x88cc length 28$/)
    const six = { src: 'fd00::1', dst: 'fd00::2' }
    const extended = concat(hex('3c00 010400000000'), hex('3b00 010400000000'))
    expect(packet(ip({ ...six, proto: 0, payload: extended }))).toBe(
      'fd00::1 > fd00::2 hops 64 | no next header',
    )
    expect(packet(ip({ ...six, proto: 44, payload: hex('1100 0568 00000007 aabb') }))).toBe(
      'fd00::1 > fd00::2 hops 64 fragment protocol 17',
    )
    expect(packet(ip({ ...six, proto: 0, payload: hex('3cff') }))).toMatch(
      /extension headers truncated$/,
    )
    expect(packet(ip({ src: '10.0.0.1', dst: '10.0.0.2', proto: 132, payload: hex('00') }))).toBe(
      '10.0.0.1 > 10.0.0.2 ttl 64 | protocol 132 length 1',
    )
    expect(packet(hex(''))).toBe('IP truncated')
    expect(packet(hex('50'))).toBe('IP truncated')
    expect(packet(new Uint8Array(20).fill(0x50))).toBe('IP wrong version')
  })

  test('tunnels in tunnels come to an end', () => {
    let nested = inner
    for (let depth = 0; depth < 8; depth++) {
      nested = vxlan({
        src: '192.0.2.1',
        dst: '192.0.2.2',
        innerDst: macs[0],
        innerSrc: macs[1],
        inner: nested,
      })
    }
    const line = packet(nested)
    expect(line.match(/VXLAN/g)).toHaveLength(4)
    expect(line).toMatch(/…$/)
  })

  test('any bytes make a line', () => {
    const start = fc.constantFrom(
      ethernet(macs[0], macs[1], 0x0800, tunnel),
      ethernet(macs[0], macs[1], 0x86dd, inner),
    )
    const change = fc.record({ at: fc.nat(160), to: fc.integer({ min: 0, max: 255 }) })
    fc.assert(
      fc.property(start, fc.array(change, { maxLength: 6 }), fc.nat(200), (bytes, changes, cut) => {
        const copy = bytes.slice(0, cut)
        for (const { at, to } of changes) if (at < copy.length) copy[at] = to
        expect(frame(copy).length).toBeGreaterThan(0)
        expect(packet(copy).length).toBeGreaterThan(0)
      }),
      { numRuns: 1000 },
    )
  })
})
