// Real captures, malformed ones among them, into every kind of port: nothing throws, no packet and
// no frame is lost. The captures lie outside the project, in HAWSER_DATA (default ../shared/data).
import { readdirSync, readFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { afterAll, describe, expect, test } from 'vitest'
import { LARGE_FRAME_BYTES } from '../../dataplane/limits.ts'
import {
  HOST,
  POD_MAC,
  TUN_POD,
  testEngine,
  UNDERLAY,
  UNDERLAY_MAC,
  VETH_MAC,
  VETH_POD,
} from '../harness/engine.ts'
import { noData } from '../harness/needs.ts'
import { bytesOf, concat, ip4Bytes, ip6Bytes, sum16 } from '../harness/packets.ts'
import { LINKTYPE_ETHERNET, readCaptures } from '../harness/pcap.ts'
import { Accounts } from './accounting.ts'
import { fromPeer } from './cases/frames.ts'

const root = resolve(import.meta.dirname, '../..')
const folder = join(process.env['HAWSER_DATA'] ?? join(root, '../shared/data'), 'packets')
/** Longest frame that a port can hold, with room for what the tests put in front. */
const MOST = LARGE_FRAME_BYTES - 1024

function framesOf(path: string): { linkType: number; bytes: Uint8Array }[] {
  const file = readFileSync(path)
  if (path.endsWith('.bin')) return [{ linkType: LINKTYPE_ETHERNET, bytes: new Uint8Array(file) }]
  return readCaptures(new Uint8Array(file))
}

function corpus(): { linkType: number; bytes: Uint8Array }[] {
  return readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter(entry => entry.isFile() && /\.(pcap|pcapng|bin)$/.test(entry.name))
    .map(entry => join(entry.parentPath, entry.name))
    .sort()
    .flatMap(framesOf)
    .filter(({ bytes }) => bytes.length <= MOST)
}

/** The packet as if the pod had sent it: its own source address and a right header checksum, so that more stages see it. */
function asOwn(packet: Uint8Array, four: string, six: string): Uint8Array {
  const copy = packet.slice()
  if (copy.length >= 20 && copy[0]! >> 4 === 4) {
    copy.set(ip4Bytes(four), 12)
    copy.set([0, 0], 10)
    const header = copy.subarray(0, Math.min((copy[0]! & 15) * 4, copy.length))
    const sum = ~sum16(header) & 0xffff
    copy.set([sum >> 8, sum & 255], 10)
  } else if (copy.length >= 40 && copy[0]! >> 4 === 6) copy.set(ip6Bytes(six), 8)
  return copy
}

const macs = (dst: string, src: string, frame: Uint8Array) =>
  frame.length < 12 ? frame : concat(bytesOf(dst), bytesOf(src), frame.slice(12))

const there = noData(folder) === undefined

describe.skipIf(!there)('captures from outside', () => {
  const frames = there ? corpus() : []
  const tally: Record<string, number> = {}
  afterAll(() =>
    console.log(`${frames.length} frames; reasons met: ${Object.keys(tally).join(', ')}`),
  )

  function feed(port: number, variants: (frame: Uint8Array, l3: Uint8Array) => Uint8Array[]): void {
    const world = testEngine({ smallFrames: 1024 })
    const accounts = new Accounts(world)
    for (const { linkType, bytes } of frames) {
      const l3 = linkType === LINKTYPE_ETHERNET ? bytes.slice(14) : bytes
      accounts.send(port, ...variants(bytes, l3))
      expect(world.leaked()).toBe(0)
    }
    expect(accounts.packets).toBeGreaterThan(frames.length)
    expect(accounts.missing).toBe(0)
    for (const reason of Object.keys(world.drops())) tally[reason] = 1
    // They got further than the first check.
    expect(Object.keys(world.drops()).length).toBeGreaterThan(4)
  }

  test('there are frames to feed', () => {
    expect(frames.length).toBeGreaterThan(500)
  })

  test('as frames of a veth pod', () => {
    feed(VETH_POD, (frame, l3) => [
      frame,
      macs(VETH_MAC, POD_MAC, frame),
      concat(macs(VETH_MAC, POD_MAC, frame).slice(0, 14), asOwn(l3, '10.244.1.3', 'fd44:0:0:1::3')),
    ])
  })

  test('as packets of a TUN pod, and of the node', () => {
    for (const port of [TUN_POD, HOST]) {
      feed(port, (frame, l3) => [frame, l3, asOwn(l3, '10.244.1.2', 'fd44:0:0:1::2')])
    }
  })

  test('as frames of the underlay, and inside VXLAN', () => {
    feed(UNDERLAY, (frame, l3) => [
      frame,
      macs(UNDERLAY_MAC, POD_MAC, frame),
      ...(l3.length > 0 && l3.length < 1600 ? [fromPeer(l3), fromPeer(l3, { underlay: 6 })] : []),
    ])
  })
})
