/**
 * Real captures, malformed ones among them, when they are there (HAWSER_DATA, see
 * `packets/smoltcp` and `packets/tcpdump` in it): every frame is read through a view of exactly its
 * bytes, in which a read outside throws.
 */
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { describe, expect, test } from 'vitest'
import {
  ethernet,
  ipv4,
  ipv6,
  OK,
  prettyFrame,
  prettyPacket,
} from '../../../dataplane/wire/index.ts'
import { noData } from '../../harness/needs.ts'
import { type CapturedPacket, readCapture } from './capture.ts'
import { exactly } from './inside.ts'

const data =
  process.env['HAWSER_DATA'] ?? fileURLToPath(new URL('../../../../shared/data', import.meta.url))
const packets = join(data, 'packets')
const there = noData(packets) === undefined

const LINKTYPE_ETHERNET = 1
const LINKTYPE_RAW = [12, 101, 228, 229]

/** The line of a packet, and every packet that is a truncation of it. */
function read({ linkType, bytes }: CapturedPacket): string {
  const pretty = linkType === LINKTYPE_ETHERNET ? prettyFrame : prettyPacket
  for (const n of [0, 1, 13, 14, 20, 33, 34, 41, 42, 53, 54, 61, 62, 74, bytes.length - 1]) {
    if (n >= 0 && n < bytes.length) pretty(exactly(bytes.subarray(0, n)), 0, n)
  }
  return pretty(exactly(bytes), 0, bytes.length)
}

describe.skipIf(!there)('captures', () => {
  test('raw frames of another stack', () => {
    const folder = join(packets, 'smoltcp')
    const names = readdirSync(folder).filter(name => name.endsWith('.bin'))
    const lines = Object.fromEntries(
      names.map(name => {
        const bytes = readFileSync(join(folder, name))
        for (let n = 0; n < bytes.length; n++) prettyFrame(exactly(bytes.subarray(0, n)), 0, n)
        return [name, prettyFrame(exactly(bytes), 0, bytes.length)]
      }),
    )
    expect(lines['tcpv4_syn.bin']).toMatch(
      / IPv4 \| .* \| TCP 47472 > 443 SYN .* mss 1460 length 0$/,
    )
    expect(lines['icmpv6_nbr_solicitation.bin']).toMatch(/neighbour solicitation of fe80::1$/)
    expect(lines['arp.bin']).toMatch(/ ARP \| ARP /)
    expect(lines['udpv4.bin']).toMatch(/ \| UDP \d+ > \d+ length \d+$/)
    expect(lines['icmpv4_request.bin']).toMatch(/ICMP echo request id \d+ seq \d+$/)
    expect(Object.values(lines).filter(line => /truncated|malformed|wrong|bad/.test(line))).toEqual(
      [],
    )
  })

  test('captures of many kinds, hostile ones among them', () => {
    const folder = join(packets, 'tcpdump')
    const seen = { files: 0, packets: 0, ipv4: 0, ipv6: 0, rightSums: 0 }
    for (const name of readdirSync(folder)) {
      if (!/\.pcap(ng)?$/.test(name)) continue
      seen.files++
      for (const captured of readCapture(readFileSync(join(folder, name)))) {
        const { linkType, bytes } = captured
        const raw = LINKTYPE_RAW.includes(linkType)
        if (linkType !== LINKTYPE_ETHERNET && !raw) continue
        seen.packets++
        let line: string
        try {
          line = read(captured)
        } catch (error) {
          throw new Error(`${name}, a packet of ${bytes.length} bytes`, { cause: error })
        }
        expect(line.length).toBeGreaterThan(0)
        const at = raw ? 0 : ethernet.ETHERNET.BYTES
        const left = bytes.length - at
        const view = exactly(bytes)
        if (left <= 0) continue
        if (raw || ethernet.type(view, 0) === 0x0800) {
          if (ipv4.check(view, at, left) === OK) {
            seen.ipv4++
            if (ipv4.verifyChecksum(view, at)) seen.rightSums++
          }
        }
        if (raw || ethernet.type(view, 0) === 0x86dd) {
          if (ipv6.check(view, at, left) === OK) seen.ipv6++
        }
      }
    }
    expect(seen.files).toBeGreaterThan(100)
    expect(seen.packets).toBeGreaterThan(1000)
    expect(seen.ipv6).toBeGreaterThan(100)
    // Nearly all were really on a wire.
    expect(seen.rightSums / seen.ipv4).toBeGreaterThan(0.8)
  })
})
