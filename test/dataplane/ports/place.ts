/** What a port needs around it, for tests that play the worker: an arena, frames, a batch. */
import { FillShares } from '../../../dataplane/afxdp/fill-level.ts'
import { FRAME_HEADROOM, MAX_SMALL_PACKET } from '../../../dataplane/limits.ts'
import { type Arena, COUNTER, PORT_COUNTER, portCounters } from '../../../dataplane/memory/arena.ts'
import { Frames } from '../../../dataplane/memory/frames.ts'
import { Batch, F_FRAGMENT, F_IPV6 } from '../../../dataplane/packet/batch.ts'
import type { PortContext } from '../../../dataplane/ports/context.ts'
import { Members } from '../../../dataplane/ports/context.ts'
import type { Port } from '../../../dataplane/ports/port.ts'
import { ReadFrames } from '../../../dataplane/ports/read-frames.ts'
import { DESCRIPTOR_LENGTH, Scratch } from '../../../dataplane/ports/scratch.ts'
import { META, META_BYTES } from '../../../dataplane/ports/udp-meta.ts'
import { READ_AT } from '../../../dataplane/ports/vnet.ts'
import type { PortRecord } from '../../../dataplane/tables/ports.ts'
import { NO_RATE } from '../../../dataplane/tables/rates.ts'
import { TableReader } from '../../../dataplane/tables/tables.ts'
import { ipv4, ipv6, OK } from '../../../dataplane/wire/index.ts'
import { native } from '../../../native/native.ts'
import { smallArena } from '../memory/plan.ts'

export const NOTHING: PortRecord = {
  state: 1,
  kind: 0,
  role: 1,
  flags: 0,
  ifindex: 0,
  mtu: 1500,
  macHigh: 0,
  macLow: 0,
  peerMacHigh: 0,
  peerMacLow: 0,
  ip4: 0,
  fillFrames: 64,
  ip6: [0, 0, 0, 0],
  fds: [],
  rings: [],
  moreFds: [],
  ingress: NO_RATE,
  egress: NO_RATE,
  network: 0,
  identity: 0,
  ingressProgram: 0,
  egressProgram: 0,
}

const EPOLLIN = 1
const TIMEOUT_MS = 5000

export class Place {
  readonly arena: Arena
  readonly frames: Frames
  readonly scratch: Scratch
  readonly counters: Float64Array
  readonly reading: ReadFrames
  readonly fills: FillShares
  readonly members = new Members()
  readonly batch = new Batch()

  constructor(
    arena = smallArena({ smallFrames: 512, largeFrames: 32 }),
    frames = new Frames(arena, 0),
  ) {
    native.bind(arena.bytes)
    this.arena = arena
    this.frames = frames
    this.scratch = new Scratch(arena, 0)
    this.counters = arena.counters(0)
    this.reading = new ReadFrames(arena, frames, this.scratch, READ_AT)
    this.fills = new FillShares(frames.small)
  }

  /** What a port of this worker works with. */
  context(index: number, record: PortRecord, fd: number): PortContext {
    const { arena, frames, counters, scratch, reading, fills, members } = this
    const node = { vxlanPort: 0, vtep4: 0, vtep6: [0, 0, 0, 0] as const }
    const tables = new TableReader(arena)
    const own = { index, record, fd }
    const shared = { arena, frames, counters, tables, node, scratch, reading, fills, members }
    return { ...own, ...shared }
  }

  /** Appends `packet` (an IP packet, behind `link` bytes) to the batch in a frame of its own. */
  put(packet: Uint8Array, link = 0): number {
    const { frames, arena, batch } = this
    const large = packet.length - link > MAX_SMALL_PACKET
    const frame = large ? frames.large.take() : frames.small.take()
    if (frame === 0) throw new Error('no free frame')
    const at = frame + FRAME_HEADROOM
    arena.bytes.set(packet, at)
    const i = batch.push(frame, at + link, packet.length - link)
    this.parse(i)
    return i
  }

  /** Fills the columns that `parse` would fill, by the wire formats. */
  parse(i: number): void {
    const { batch, arena } = this
    const at = batch.l3[i]!
    const { view } = arena
    if (ipv4.check(view, at, batch.len[i]!) === OK) {
      batch.proto[i] = ipv4.protocol(view, at)
      batch.l4[i] = at + ipv4.headerLength(view, at)
    } else if (ipv6.check(view, at, batch.len[i]!) === OK) {
      const found = { protocol: 0, offset: 0, fragment: false }
      ipv6.walk(view, at, found)
      batch.proto[i] = found.protocol
      batch.l4[i] = at + found.offset
      batch.flags[i]! |= F_IPV6 | (found.fragment ? F_FRAGMENT : 0)
    }
  }

  /** A copy of packet `i`. */
  packet(i: number): Uint8Array {
    const at = this.batch.l3[i]!
    return this.arena.bytes.slice(at, at + this.batch.len[i]!)
  }

  /** Sends every packet of the batch and flushes; gives back the frames of those that were refused. */
  sendAll(port: Port): number[] {
    const { batch } = this
    const reasons = Array.from({ length: batch.n }, (_, i) => port.send(batch, i))
    for (const [i, reason] of reasons.entries()) {
      if (reason !== 0) this.frames.release(batch.frame[i]!)
    }
    port.flush()
    batch.reset(port.index)
    return reasons
  }

  /** Gives back the frames of the batch. */
  releaseAll(): void {
    for (let i = 0; i < this.batch.n; i++) this.frames.release(this.batch.frame[i]!)
    this.batch.reset(this.batch.inPort)
  }

  /** Waits until `fd` is readable. Throws when it does not become so. */
  await(fd: number): void {
    const epoll = native.epollCreate()
    try {
      native.epollAdd(epoll, fd, 1, EPOLLIN)
      const ready = native.epollWait(epoll, this.scratch.events, 1, TIMEOUT_MS)
      if (ready !== 1) throw new Error(`nothing came within ${TIMEOUT_MS} ms`)
    } finally {
      native.close(epoll)
    }
  }

  /** Waits for packets on a port and receives what is there. */
  receive(port: Port, max = 256): number {
    this.await(port.fd)
    this.batch.reset(port.index)
    return port.receive(this.batch, max)
  }

  /** A datagram from a UDP socket of the kernel, which frames take up for a moment. */
  datagram(fd: number): { data: Uint8Array; port: number; tos: number } {
    const { view, bytes } = this.arena
    const { scratch } = this
    this.await(fd)
    const frame = this.frames.small.take()
    view.setUint32(scratch.small, frame, true)
    const { small, received, receivedMeta } = scratch
    if (native.udpReceive(fd, 1, small, 2048, 0, 0, received, receivedMeta) !== 1) {
      throw new Error('no datagram came')
    }
    const length = view.getUint32(received + DESCRIPTOR_LENGTH, true)
    const data = bytes.slice(frame, frame + length)
    this.frames.release(frame)
    return {
      data,
      port: view.getUint16(receivedMeta + META.PORT, true),
      tos: view.getUint8(receivedMeta + META.TOS),
    }
  }

  /** Sends a datagram from a UDP socket of the kernel. */
  sendDatagram(fd: number, data: Uint8Array, address: Uint8Array, port: number, tos = 0): void {
    const { view, bytes } = this.arena
    const frame = this.frames.small.take()
    const [descriptor, meta] = [this.scratch.lane(0), this.scratch.laneMeta(0)]
    bytes.set(data, frame)
    view.setUint32(descriptor, frame, true)
    view.setUint32(descriptor + DESCRIPTOR_LENGTH, data.length, true)
    bytes.fill(0, meta, meta + META_BYTES)
    view.setUint8(meta + META.FAMILY, address.length === 4 ? 4 : 6)
    view.setUint8(meta + META.TOS, tos)
    view.setUint16(meta + META.PORT, port, true)
    bytes.set(address, meta + META.ADDRESS)
    const sent = native.udpSend(fd, descriptor, meta, 1, 1)
    const error = view.getUint32(descriptor + DESCRIPTOR_LENGTH, true)
    this.frames.release(frame)
    if (sent !== 1) throw new Error(`the datagram was not sent: errno ${error}`)
  }

  /** Counters of a port, by their names. */
  portCounters(index: number): Record<keyof typeof PORT_COUNTER, number> {
    const at = portCounters(index)
    const entries = Object.entries(PORT_COUNTER).map(([name, i]) => [name, this.counters[at + i]])
    return Object.fromEntries(entries) as Record<keyof typeof PORT_COUNTER, number>
  }

  drops(reason: number): number {
    return this.counters[COUNTER.DROPS + reason]!
  }
}
