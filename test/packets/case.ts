/**
 * A packet case: what goes in, what must come out, and what is counted. A folder holds one:
 *
 *   in-PORT.pcap   out-PORT.pcap   PORT is host, underlay, tun or veth (test/harness/engine.ts)
 *   counters.json  what the case is about, the engine's options, every counter that is not 0
 *
 * Packets go in by the order of their time stamps, whatever file they lie in; those of one port that
 * follow each other make one batch. Files of underlay and veth are Ethernet, those of host and tun raw
 * IP. Where a packet has offloads, a struct virtio_net_hdr stands in front of each one of that file, as
 * on the descriptor of a TUN device: LINKTYPE_USER0 for IP, LINKTYPE_USER1 for Ethernet.
 *
 * What leaves by the underlay is compared with its entropy set to zero: the outer source port, over
 * IPv4 the identification and the header's checksum, over IPv6 the flow label and the checksum that
 * covers both. `withoutEntropy` proves them first.
 */
import { createHash } from 'node:crypto'
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { COUNTER, PORT_COUNTER, portCounters } from '../../dataplane/memory/arena.ts'
import type { MemPacket } from '../../dataplane/ports/mem.ts'
import type { TestEngine, TestEngineOptions } from '../harness/engine.ts'
import { checksumsRight, completed } from '../harness/packets.ts'
import {
  LINKTYPE_ETHERNET,
  LINKTYPE_RAW,
  LINKTYPE_USER0,
  LINKTYPE_USER1,
  readCaptures,
  writeCaptures,
} from '../harness/pcap.ts'

/** In the order of the engine's port numbers. */
export const PORTS = ['host', 'underlay', 'tun', 'veth'] as const
export type PortName = (typeof PORTS)[number]

export interface PacketCase {
  about: string
  engine: TestEngineOptions
  in: { port: PortName; packet: MemPacket }[]
  out: Partial<Record<PortName, MemPacket[]>>
  drops: Record<string, number>
  /** By COUNTER_NAMES. */
  counters: Record<string, number>
}

/** Counters that a case states: all but those of rounds and time. */
export const COUNTER_NAMES = {
  encapsulated: COUNTER.ENCAPSULATED,
  decapsulated: COUNTER.DECAPSULATED,
  icmpErrors: COUNTER.ICMP_ERRORS,
  icmpLimited: COUNTER.ICMP_LIMITED,
  segmented: COUNTER.SEGMENTED,
  segments: COUNTER.SEGMENTS,
  coalesced: COUNTER.COALESCED,
  checksums: COUNTER.CHECKSUMS,
} as const

const VNET_BYTES = 10
const MOST_PRINTED = 160

function linkTypeOf(port: PortName, packets: readonly MemPacket[]): number {
  const ethernet = port === 'underlay' || port === 'veth'
  if (packets.some(each => each.partial === true || each.gsoType)) {
    return ethernet ? LINKTYPE_USER1 : LINKTYPE_USER0
  }
  return ethernet ? LINKTYPE_ETHERNET : LINKTYPE_RAW
}

/** struct virtio_net_hdr (linux/virtio_net.h): flags, type, header length, segment size, sum. */
function withVnet(packet: MemPacket): Uint8Array {
  const bytes = Buffer.alloc(VNET_BYTES + packet.bytes.length)
  bytes[0] = packet.partial === true ? 1 : 0
  bytes[1] = packet.gsoType ?? 0
  bytes.writeUInt16LE(packet.gsoSize ?? 0, 4)
  bytes.writeUInt16LE(packet.csumStart ?? 0, 6)
  bytes.writeUInt16LE(packet.csumOffset ?? 0, 8)
  bytes.set(packet.bytes, VNET_BYTES)
  return new Uint8Array(bytes)
}

function withoutVnet(bytes: Uint8Array): MemPacket {
  const view = new DataView(bytes.buffer, bytes.byteOffset)
  return {
    bytes: bytes.slice(VNET_BYTES),
    partial: (bytes[0]! & 1) === 1,
    gsoType: bytes[1]!,
    gsoSize: view.getUint16(4, true),
    csumStart: view.getUint16(6, true),
    csumOffset: view.getUint16(8, true),
  }
}

/** The files of a case, by name. */
export function filesOf(one: PacketCase): Map<string, Uint8Array> {
  const files = new Map<string, Uint8Array>()
  const add = (name: string, port: PortName, packets: { time: number; packet: MemPacket }[]) => {
    const linkType = linkTypeOf(
      port,
      packets.map(each => each.packet),
    )
    const captures = packets.map(({ time, packet }) => ({
      time,
      bytes:
        linkType === LINKTYPE_USER0 || linkType === LINKTYPE_USER1
          ? withVnet(packet)
          : packet.bytes,
    }))
    files.set(name, writeCaptures(linkType, captures))
  }
  for (const port of PORTS) {
    const sent = one.in
      .map(({ port: by, packet }, time) => ({ by, time, packet }))
      .filter(({ by }) => by === port)
    if (sent.length > 0) add(`in-${port}.pcap`, port, sent)
    const expected = one.out[port] ?? []
    if (expected.length > 0) {
      const timed = expected.map((packet, time) => ({ time, packet }))
      add(`out-${port}.pcap`, port, timed)
    }
  }
  const { about, engine, drops, counters } = one
  const text = JSON.stringify({ about, engine, drops, counters }, null, 2)
  files.set('counters.json', new TextEncoder().encode(`${text}\n`))
  return files
}

export function writeCase(folder: string, one: PacketCase): void {
  mkdirSync(folder, { recursive: true })
  for (const [name, bytes] of filesOf(one)) writeFileSync(join(folder, name), bytes)
}

function readPackets(path: string): { time: number; packet: MemPacket }[] {
  if (!existsSync(path)) return []
  return readCaptures(new Uint8Array(readFileSync(path))).map(({ time, linkType, bytes }) => ({
    time,
    packet:
      linkType === LINKTYPE_USER0 || linkType === LINKTYPE_USER1 ? withoutVnet(bytes) : { bytes },
  }))
}

export function readCase(folder: string): PacketCase {
  const counters = JSON.parse(readFileSync(join(folder, 'counters.json'), 'utf8')) as PacketCase
  const sent = PORTS.flatMap(port =>
    readPackets(join(folder, `in-${port}.pcap`)).map(each => ({ port, ...each })),
  )
  sent.sort((a, b) => a.time - b.time)
  const out: PacketCase['out'] = {}
  for (const port of PORTS) {
    out[port] = readPackets(join(folder, `out-${port}.pcap`)).map(each => each.packet)
  }
  return { ...counters, in: sent.map(({ port, packet }) => ({ port, packet })), out }
}

/** Sends the packets of a case through an engine; what came out by each port, in order. */
export function runCase(world: TestEngine, one: PacketCase): Record<PortName, MemPacket[]> {
  const out: Record<PortName, MemPacket[]> = { host: [], underlay: [], tun: [], veth: [] }
  for (let from = 0; from < one.in.length; ) {
    const { port } = one.in[from]!
    let to = from
    while (to < one.in.length && one.in[to]!.port === port) to++
    const packets = one.in.slice(from, to).map(each => each.packet)
    for (const [index, sent] of world.send(PORTS.indexOf(port), ...packets).entries()) {
      out[PORTS[index]!].push(...sent)
    }
    from = to
  }
  return out
}

/** Every counter that a case states and that is not 0. */
export function countersOf(world: TestEngine): Record<string, number> {
  const found: Record<string, number> = {}
  for (const [name, index] of Object.entries(COUNTER_NAMES)) {
    if (world.counter(index) !== 0) found[name] = world.counter(index)
  }
  return found
}

/** Packets that a port has sent, and that came in by it and were dropped. */
export function portCount(world: TestEngine, port: PortName, what: 'TX_PACKETS' | 'RX_DROPS') {
  return world.counter(portCounters(PORTS.indexOf(port)) + PORT_COUNTER[what])
}

/** One line a packet, to compare and to read: flags, size of a segment, length, bytes in hexadecimal. */
export function printed(port: PortName, packet: MemPacket): string {
  const bytes = port === 'underlay' ? withoutEntropy(packet) : packet.bytes
  const gso = packet.gsoType ? ` segments ${packet.gsoType}/${packet.gsoSize}` : ''
  return `${packet.partial ? 'partial' : 'complete'}${gso} ${bytes.length} ${hex(bytes)}`
}

/** Long packets by their first bytes and a hash, so that a difference can be read. */
function hex(bytes: Uint8Array): string {
  if (bytes.length <= MOST_PRINTED) return Buffer.from(bytes).toString('hex')
  const head = Buffer.from(bytes.subarray(0, MOST_PRINTED)).toString('hex')
  return `${head}... sha256 ${createHash('sha256').update(bytes).digest('hex')}`
}

/** Of an outer packet, once the source port is proven dynamic and the checksums right: for an inner packet that is partial, those of the completed one. */
export function withoutEntropy({ bytes, partial }: MemPacket): Uint8Array {
  const copy = bytes.slice()
  const ipv6 = copy[12] === 0x86
  const udp = 14 + (ipv6 ? 40 : 20)
  const view = new DataView(copy.buffer)
  if (view.getUint16(udp) < 0xc000) throw new Error('the outer source port is not a dynamic one')
  const sent = bytes.slice()
  if (partial === true) sent.set(completed(sent.subarray(udp + 30)), udp + 30)
  if (!checksumsRight(sent.subarray(14))) throw new Error('an outer checksum is wrong')
  view.setUint16(udp, 0)
  if (ipv6) {
    view.setUint32(14, (view.getUint32(14) & 0xfff0_0000) >>> 0)
    view.setUint16(udp + 6, 0)
  } else {
    view.setUint16(18, 0)
    view.setUint16(24, 0)
  }
  return copy
}
