/**
 * The underlay over UDP sockets, for hosts where the network card must not be touched.
 *
 * To the stages it looks like any underlay: a received payload gets an outer IP and UDP header
 * written in front of it from what the kernel told about the sender, and a packet that is sent
 * carries a finished outer header, from which destination, source port and TOS are taken. The
 * kernel verifies and writes the outer checksums (UDP over IPv4 none, over IPv6 full).
 *
 * A socket has one source port, so flows are spread over UDP_ENTROPY_SOCKETS sockets by the source
 * port that `encap` chose.
 */
import { native } from '../../native/native.ts'
import { DROP_TX_ERROR, DROP_TX_FULL } from '../drops.ts'
import { FRAME_BYTES, FRAME_HEADROOM, RECEIVE_BURST, UDP_ENTROPY_SOCKETS } from '../limits.ts'
import { type Arena, COUNTER, PORT_COUNTER, portCounters } from '../memory/arena.ts'
import type { Frames } from '../memory/frames.ts'
import { type Batch, F_IPV6 } from '../packet/batch.ts'
import type { PortRecord } from '../tables/ports.ts'
import { PROTO_UDP } from '../wire/numbers.ts'
import { PORT_KIND, type Port } from './port.ts'
import { META_BYTES, type Scratch, TRANSMIT_BURST } from './scratch.ts'

const IPV4_HEADER = 20
const IPV6_HEADER = 40
const UDP_HEADER = 8
/** Where the payload is read to: room for the larger outer header in front. */
const PAYLOAD_AT = FRAME_HEADROOM + IPV6_HEADER + UDP_HEADER

/** What the node's own VTEP is, for the destination of a received packet. */
export interface UdpUnderlay {
  vxlanPort: number
  vtep4: number
  vtep6: readonly [number, number, number, number]
}

export class UdpPort implements Port {
  readonly index: number
  readonly kind = PORT_KIND.UDP
  readonly role: number
  readonly ethernet = false
  /** The inner packet of a kernel peer on this machine: only a network card would have completed it. */
  readonly hiddenPartial = true
  readonly superframes = false
  readonly partialChecksums = false
  readonly polled = false
  readonly fd: number
  private readonly senders: readonly number[]
  private readonly node: UdpUnderlay
  private readonly arena: Arena
  private readonly frames: Frames
  private readonly scratch: Scratch
  private readonly counters: Float64Array
  private readonly countersAt: number
  /** Queued payloads of each lane: offset, length, and the outer header's place. */
  private readonly queuedAt = new Uint32Array(UDP_ENTROPY_SOCKETS * TRANSMIT_BURST)
  private readonly queuedLength = new Uint32Array(UDP_ENTROPY_SOCKETS * TRANSMIT_BURST)
  private readonly outerAt = new Uint32Array(UDP_ENTROPY_SOCKETS * TRANSMIT_BURST)
  private readonly queued = new Uint32Array(UDP_ENTROPY_SOCKETS)

  constructor(
    index: number,
    record: PortRecord,
    fd: number,
    node: UdpUnderlay,
    arena: Arena,
    frames: Frames,
    scratch: Scratch,
    counters: Float64Array,
  ) {
    this.index = index
    this.role = record.role
    this.fd = fd
    this.senders = record.moreFds
    this.node = node
    this.arena = arena
    this.frames = frames
    this.scratch = scratch
    this.counters = counters
    this.countersAt = portCounters(index)
  }

  receive(batch: Batch, max: number): number {
    const { frames, scratch } = this
    const { view } = this.arena
    const want = Math.min(max, RECEIVE_BURST)
    let n = 0
    for (; n < want; n++) {
      const frame = frames.small.take()
      if (frame === 0) break
      view.setUint32(scratch.small + n * 4, frame + PAYLOAD_AT, true)
    }
    const cap = FRAME_BYTES - PAYLOAD_AT
    const got = native.udpReceive(
      this.fd,
      n,
      scratch.small,
      cap,
      scratch.received,
      scratch.receivedMeta,
    )
    for (let k = 0; k < got; k++) {
      const at = view.getUint32(scratch.received + k * 8, true)
      const length = view.getUint32(scratch.received + k * 8 + 4, true)
      const outer = this.writeOuter(at, length, scratch.receivedMeta + k * META_BYTES)
      batch.push(at - PAYLOAD_AT, outer, at - outer + length)
    }
    for (let k = Math.max(0, got); k < n; k++) {
      frames.release(view.getUint32(scratch.small + k * 4, true))
    }
    return Math.max(got, 0)
  }

  /** Writes the outer headers in front of the payload at `at`; returns where they begin. */
  private writeOuter(at: number, length: number, meta: number): number {
    const { view } = this.arena
    const { node } = this
    const udp = at - UDP_HEADER
    view.setUint16(udp, view.getUint16(meta + 4, true))
    view.setUint16(udp + 2, node.vxlanPort)
    view.setUint16(udp + 4, UDP_HEADER + length)
    view.setUint16(udp + 6, 0)
    const tos = view.getUint8(meta + 1)
    const ttl = view.getUint8(meta + 2)
    if (view.getUint8(meta) === 4) {
      const ip = udp - IPV4_HEADER
      view.setUint32(ip, (0x4500_0000 | (tos << 16) | (IPV4_HEADER + UDP_HEADER + length)) >>> 0)
      view.setUint32(ip + 4, 0x4000)
      view.setUint32(ip + 8, ((ttl << 24) | (PROTO_UDP << 16)) >>> 0)
      view.setUint32(ip + 12, view.getUint32(meta + 8))
      view.setUint32(ip + 16, node.vtep4)
      view.setUint16(ip + 10, ~native.checksum(ip, IPV4_HEADER, 0))
      return ip
    }
    const ip = udp - IPV6_HEADER
    view.setUint32(ip, (0x6000_0000 | (tos << 20)) >>> 0)
    view.setUint32(ip + 4, (((UDP_HEADER + length) << 16) | (PROTO_UDP << 8) | ttl) >>> 0)
    for (let w = 0; w < 4; w++) {
      view.setUint32(ip + 8 + w * 4, view.getUint32(meta + 8 + w * 4))
      view.setUint32(ip + 24 + w * 4, node.vtep6[w]!)
    }
    return ip
  }

  send(batch: Batch, i: number): number {
    const { view } = this.arena
    const outer = batch.l3[i]!
    const header = (batch.flags[i]! & F_IPV6) !== 0 ? IPV6_HEADER : IPV4_HEADER
    const lane = view.getUint16(outer + header) & (UDP_ENTROPY_SOCKETS - 1)
    if (this.queued[lane] === TRANSMIT_BURST) this.flushLane(lane)
    if (this.queued[lane] === TRANSMIT_BURST) return DROP_TX_FULL
    const k = lane * TRANSMIT_BURST + this.queued[lane]!++
    this.outerAt[k] = outer
    this.queuedAt[k] = outer + header + UDP_HEADER
    this.queuedLength[k] = batch.len[i]! - header - UDP_HEADER
    return 0
  }

  flush(): void {
    for (let lane = 0; lane < UDP_ENTROPY_SOCKETS; lane++) {
      if (this.queued[lane] !== 0) this.flushLane(lane)
    }
  }

  private flushLane(lane: number): void {
    const { view } = this.arena
    const { counters, countersAt } = this
    const first = lane * TRANSMIT_BURST
    const n = this.queued[lane]!
    const descriptors = this.scratch.lane(lane)
    const metadata = this.scratch.laneMeta(lane)
    for (let k = 0; k < n; k++) {
      view.setUint32(descriptors + k * 8, this.queuedAt[first + k]!, true)
      view.setUint32(descriptors + k * 8 + 4, this.queuedLength[first + k]!, true)
      this.writeDestination(this.outerAt[first + k]!, metadata + k * META_BYTES)
    }
    native.udpSend(this.senders[lane]!, descriptors, metadata, n)
    for (let k = 0; k < n; k++) {
      if (view.getUint32(descriptors + k * 8 + 4, true) === 0) {
        counters[countersAt + PORT_COUNTER.TX_PACKETS]!++
        counters[countersAt + PORT_COUNTER.TX_BYTES]! += this.queuedLength[first + k]!
      } else {
        counters[countersAt + PORT_COUNTER.TX_DROPS]!++
        counters[COUNTER.DROPS + DROP_TX_ERROR]!++
      }
      this.frames.release(this.queuedAt[first + k]!)
    }
    this.queued[lane] = 0
  }

  private writeDestination(outer: number, meta: number): void {
    const { view } = this.arena
    const first = view.getUint32(outer)
    if (first >>> 28 === 4) {
      view.setUint8(meta, 4)
      view.setUint8(meta + 1, (first >>> 16) & 0xff)
      view.setUint32(meta + 8, view.getUint32(outer + 16))
    } else {
      view.setUint8(meta, 6)
      view.setUint8(meta + 1, (first >>> 20) & 0xff)
      for (let w = 0; w < 4; w++) {
        view.setUint32(meta + 8 + w * 4, view.getUint32(outer + 24 + w * 4))
      }
    }
    view.setUint16(meta + 4, this.node.vxlanPort, true)
  }

  service(): void {}

  pending(): boolean {
    return false
  }

  gone(): boolean {
    return false
  }
}
