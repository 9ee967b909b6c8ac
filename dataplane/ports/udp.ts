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
 *
 * The kernel's work is once a message, so packets that follow each other to one VTEP leave as one
 * (UDP_SEGMENT: what `segment` has cut goes through the kernel whole), and so they come in (UDP_GRO):
 * as one datagram and the size at which it is cut into packets here. A segmented datagram carries an
 * outer checksum. A message that the kernel won't have whole is sent packet by packet; where it will
 * have none (a device without checksum offload), all packets go one by one until UDP_RETRY_MS later.
 *
 * A kernel VXLAN peer on this machine (veth) sends another kind of long datagram: one outer header
 * and a superframe of its pod's. Its inner length says so, and it stays one packet, in a large frame
 * if it needs one. A UDP superframe comes with its segment size; of a TCP one nothing is told, so
 * `route` cuts it to the MTU of its next hop.
 *
 * Beside AF_XDP the same port is the kernel's own way: it sends what must be fragmented, or goes by a
 * device without AF_XDP, and receives by a raw socket what no XDP program has taken (fragments put
 * together, packets that came in by another device), while the UDP port stays free for others.
 */
import { native } from '../../native/native.ts'
import { DROP_NO_FRAMES, DROP_PORT_DOWN, DROP_TX_ERROR, DROP_TX_FULL } from '../drops.ts'
import { ERRNO } from '../errno.ts'
import {
  FRAME_BYTES,
  FRAME_HEADROOM,
  UDP_DATAGRAM_BYTES,
  UDP_ENTROPY_SOCKETS,
  UDP_REFUSALS,
  UDP_RETRY_MS,
  UDP_SEGMENTS,
} from '../limits.ts'
import { type Arena, COUNTER, PORT_COUNTER, portCounters } from '../memory/arena.ts'
import type { Frames } from '../memory/frames.ts'
import { type Batch, F_IPV6 } from '../packet/batch.ts'
import { PORT_FLAG } from '../tables/ports.ts'
import { ETHERTYPE_IPV4, ETHERTYPE_IPV6, PROTO_UDP } from '../wire/numbers.ts'
import type { PortContext, VtepFacts } from './context.ts'
import { DEVICE, DeviceState } from './device-state.ts'
import { PORT_KIND, type Port } from './port.ts'
import {
  DESCRIPTOR_BYTES,
  DESCRIPTOR_LENGTH,
  type Scratch,
  TRANSMIT_BURST,
  UDP_MESSAGES,
} from './scratch.ts'
import { META, META_BYTES, SENT } from './udp-meta.ts'

const IPV4_HEADER = 20
const IPV6_HEADER = 40
const UDP_HEADER = 8
/** Where the payload is read to: room for the larger outer header in front. */
const PAYLOAD_AT = FRAME_HEADROOM + IPV6_HEADER + UDP_HEADER
/** Longest payload in a small frame. */
const SMALL_CAP = FRAME_BYTES - PAYLOAD_AT
/** VXLAN header and inner Ethernet header. */
const INNER_AT = 8 + 14

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
  /** See PORT_FLAG.RAW. */
  private readonly raw: boolean
  /** The destination of a received packet. */
  private readonly node: VtepFacts
  private readonly arena: Arena
  private readonly frames: Frames
  private readonly scratch: Scratch
  private readonly counters: Float64Array
  private readonly countersAt: number
  private readonly device: DeviceState
  /** Queued payloads of each lane: offset, length, and the outer header's place. */
  private readonly queuedAt = new Uint32Array(UDP_ENTROPY_SOCKETS * TRANSMIT_BURST)
  private readonly queuedLength = new Uint32Array(UDP_ENTROPY_SOCKETS * TRANSMIT_BURST)
  private readonly outerAt = new Uint32Array(UDP_ENTROPY_SOCKETS * TRANSMIT_BURST)
  private readonly queued = new Uint32Array(UDP_ENTROPY_SOCKETS)
  /** Packets that may leave as one message; 1 while segments are refused. */
  private segments = UDP_SEGMENTS
  /** Flushes in a row in which the kernel refused segments and took none; when it is asked again. */
  private refusals = 0
  private retryAt = 0

  constructor({ index, record, fd, node, arena, frames, scratch, counters }: PortContext) {
    this.index = index
    this.role = record.role
    this.fd = fd
    this.senders = record.moreFds
    this.raw = (record.flags & PORT_FLAG.RAW) !== 0
    this.node = node
    this.arena = arena
    this.frames = frames
    this.scratch = scratch
    this.counters = counters
    this.countersAt = portCounters(index)
    this.device = new DeviceState(counters, index)
  }

  receive(batch: Batch, max: number): number {
    const { frames, scratch } = this
    const { view } = this.arena
    // There is room for what the datagrams of one call are cut into, so none has to wait here.
    for (;;) {
      const messages = Math.min(UDP_MESSAGES, Math.floor((max - batch.n) / UDP_SEGMENTS))
      let n = 0
      for (; n < messages; n++) {
        const frame = frames.small.take()
        if (frame === 0) break
        view.setUint32(scratch.small + n * 4, frame + PAYLOAD_AT, true)
      }
      if (n === 0) return batch.n
      let large = 0
      for (; large < n; large++) {
        const frame = frames.large.take()
        if (frame === 0) break
        view.setUint32(scratch.large + large * 4, frame + PAYLOAD_AT, true)
      }
      // Without large frames long datagrams are cut off; better than that none is taken.
      const got = native.udpReceive(
        this.fd,
        large > 0 ? large : n,
        scratch.small,
        SMALL_CAP,
        scratch.large,
        large > 0 ? UDP_DATAGRAM_BYTES : 0,
        scratch.received,
        scratch.receivedMeta,
      )
      for (let k = 0; k < n; k++) {
        const small = view.getUint32(scratch.small + k * 4, true)
        if (k >= got) {
          frames.release(small)
          if (k < large) frames.release(view.getUint32(scratch.large + k * 4, true))
          continue
        }
        const at = view.getUint32(scratch.received + k * DESCRIPTOR_BYTES, true)
        // The frame that it is not in.
        if (at !== small) frames.release(small)
        else if (k < large) frames.release(view.getUint32(scratch.large + k * 4, true))
      }
      for (let k = 0; k < got; k++) this.take(batch, max, k)
      if (got < n) return batch.n
    }
  }

  /** Appends what datagram `k` of the burst carries. */
  private take(batch: Batch, max: number, k: number): void {
    const { scratch } = this
    const { view } = this.arena
    const descriptor = scratch.received + k * DESCRIPTOR_BYTES
    const at = view.getUint32(descriptor, true)
    const length = view.getUint32(descriptor + DESCRIPTOR_LENGTH, true)
    const meta = scratch.receivedMeta + k * META_BYTES
    const size = view.getUint16(meta + META.SEGMENT, true)
    const cut = view.getUint8(meta + META.FLAGS) !== 0
    if (size !== 0 && size < length && !cut && !this.isOne(at, length)) {
      this.cut(batch, max, at, length, meta, size)
      return
    }
    const i = this.append(batch, at, length, meta)
    batch.gsoSize[i] = size < length ? size : 0
    if (cut) batch.drop[i] = DROP_NO_FRAMES
  }

  /** Whether the inner packet behind the VXLAN header at `at` is as long as the whole datagram. */
  private isOne(at: number, length: number): boolean {
    const { view } = this.arena
    if (length < INNER_AT + IPV6_HEADER) return false
    const type = view.getUint16(at + INNER_AT - 2)
    const inner = at + INNER_AT
    if (type === ETHERTYPE_IPV4) return view.getUint16(inner + 2) === length - INNER_AT
    return type === ETHERTYPE_IPV6 && IPV6_HEADER + view.getUint16(inner + 4) === length - INNER_AT
  }

  /** Appends the packets of `size` bytes that the datagram at `at` was sent as, and gives its frame back. */
  private cut(
    batch: Batch,
    max: number,
    at: number,
    length: number,
    meta: number,
    size: number,
  ): void {
    const { frames, scratch, counters } = this
    const { view } = this.arena
    const packets = Math.ceil(length / size)
    const room = Math.min(packets, max - batch.n, UDP_SEGMENTS)
    let n = 0
    for (; n < room && size <= SMALL_CAP; n++) {
      const frame = frames.small.take()
      if (frame === 0) break
      view.setUint32(scratch.segments + n * 4, frame + PAYLOAD_AT, true)
    }
    native.scatter(at, length, size, scratch.segments, n)
    for (let k = 0; k < n; k++) {
      const to = view.getUint32(scratch.segments + k * 4, true)
      const i = this.append(batch, to, Math.min(size, length - k * size), meta)
      batch.gsoSize[i] = 0
    }
    // Larger ones than a frame, more than a sender may make, or no frame: they came in, and end here.
    if (n < packets) {
      counters[COUNTER.PACKETS]! += packets - n
      counters[COUNTER.DROPS + DROP_NO_FRAMES]! += packets - n
      counters[this.countersAt + PORT_COUNTER.RX_PACKETS]! += packets - n
      counters[this.countersAt + PORT_COUNTER.RX_BYTES]! += length - n * size
      counters[this.countersAt + PORT_COUNTER.RX_DROPS]! += packets - n
    }
    frames.release(at)
  }

  private append(batch: Batch, at: number, length: number, meta: number): number {
    const outer = this.raw ? this.rawOuter(at, length, meta) : this.writeOuter(at, length, meta)
    return batch.push(at - PAYLOAD_AT, outer, at - outer + length)
  }

  /** A raw socket gives an IPv4 packet whole, an IPv6 one from its UDP header on. */
  private rawOuter(at: number, length: number, meta: number): number {
    const { view } = this.arena
    if (view.getUint8(meta + META.FAMILY) === 4) return at
    const tos = view.getUint8(meta + META.TOS)
    return this.writeIpv6(at, length, tos, view.getUint8(meta + META.TTL), meta)
  }

  /** Writes the outer headers in front of the payload at `at`; returns where they begin. */
  private writeOuter(at: number, length: number, meta: number): number {
    const { view } = this.arena
    const { node } = this
    const udp = at - UDP_HEADER
    view.setUint16(udp, view.getUint16(meta + META.PORT, true))
    view.setUint16(udp + 2, node.vxlanPort)
    view.setUint16(udp + 4, UDP_HEADER + length)
    view.setUint16(udp + 6, 0)
    const tos = view.getUint8(meta + META.TOS)
    const ttl = view.getUint8(meta + META.TTL)
    if (view.getUint8(meta + META.FAMILY) === 4) {
      const ip = udp - IPV4_HEADER
      view.setUint32(ip, (0x4500_0000 | (tos << 16) | (IPV4_HEADER + UDP_HEADER + length)) >>> 0)
      view.setUint32(ip + 4, 0x4000)
      view.setUint32(ip + 8, ((ttl << 24) | (PROTO_UDP << 16)) >>> 0)
      view.setUint32(ip + 12, view.getUint32(meta + META.ADDRESS))
      view.setUint32(ip + 16, node.vtep4)
      let sum =
        (0x4500 | tos) + IPV4_HEADER + UDP_HEADER + length + 0x4000 + ((ttl << 8) | PROTO_UDP)
      for (let word = 12; word < IPV4_HEADER; word += 2) sum += view.getUint16(ip + word)
      sum = (sum >>> 16) + (sum & 0xffff)
      view.setUint16(ip + 10, ~((sum >>> 16) + (sum & 0xffff)))
      return ip
    }
    return this.writeIpv6(udp, UDP_HEADER + length, tos, ttl, meta)
  }

  /** Writes the IPv6 header in front of the UDP header at `udp`; returns where it begins. */
  private writeIpv6(udp: number, length: number, tos: number, ttl: number, meta: number): number {
    const { view } = this.arena
    const { node } = this
    const ip = udp - IPV6_HEADER
    view.setUint32(ip, (0x6000_0000 | (tos << 20)) >>> 0)
    view.setUint32(ip + 4, ((length << 16) | (PROTO_UDP << 8) | ttl) >>> 0)
    for (let w = 0; w < 4; w++) {
      view.setUint32(ip + 8 + w * 4, view.getUint32(meta + META.ADDRESS + w * 4))
      view.setUint32(ip + 24 + w * 4, node.vtep6[w]!)
    }
    return ip
  }

  send(batch: Batch, i: number): number {
    if (this.device.state !== DEVICE.UP && !this.device.mayTry()) return this.device.reason()
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
      const descriptor = descriptors + k * DESCRIPTOR_BYTES
      view.setUint32(descriptor, this.queuedAt[first + k]!, true)
      view.setUint32(descriptor + DESCRIPTOR_LENGTH, this.queuedLength[first + k]!, true)
      this.writeDestination(this.outerAt[first + k]!, metadata + k * META_BYTES)
    }
    if (this.segments === 1 && native.monotonic() >= this.retryAt) this.segments = UDP_SEGMENTS
    const taken = native.udpSend(this.senders[lane]!, descriptors, metadata, n, this.segments)
    this.judge(view.getUint8(metadata + META.FLAGS))
    if (taken > 0) this.device.up()
    for (let k = 0; k < n; k++) {
      const error = view.getUint32(descriptors + k * DESCRIPTOR_BYTES + DESCRIPTOR_LENGTH, true)
      if (error === 0) {
        counters[countersAt + PORT_COUNTER.TX_PACKETS]!++
        const headers = this.queuedAt[first + k]! - this.outerAt[first + k]!
        counters[countersAt + PORT_COUNTER.TX_BYTES]! += headers + this.queuedLength[first + k]!
      } else {
        this.count(error, taken)
      }
      this.frames.release(this.queuedAt[first + k]!)
    }
    this.queued[lane] = 0
  }

  /** Whether segments are worth a try, from what a burst tells of them (SENT). */
  private judge(sent: number): void {
    if ((sent & SENT.SEGMENTS_TAKEN) !== 0) this.refusals = 0
    else if ((sent & SENT.SEGMENTS_REFUSED) !== 0 && ++this.refusals >= UDP_REFUSALS) {
      this.segments = 1
      this.retryAt = native.monotonic() + UDP_RETRY_MS * 1e6
    }
  }

  /** Counts a packet that the kernel refused; `taken` of its burst it took. */
  private count(error: number, taken: number): void {
    const { counters } = this
    let reason = DROP_TX_ERROR
    // Other errors may be those of one peer: no route to it, a packet too long for the way.
    if (error === ERRNO.ENETDOWN || error === ERRNO.ENODEV || error === ERRNO.EADDRNOTAVAIL) {
      if (taken === 0) this.device.down()
      reason = DROP_PORT_DOWN
    }
    counters[this.countersAt + PORT_COUNTER.TX_DROPS]!++
    counters[COUNTER.DROPS + reason]!++
  }

  private writeDestination(outer: number, meta: number): void {
    const { view } = this.arena
    const first = view.getUint32(outer)
    if (first >>> 28 === 4) {
      view.setUint8(meta + META.FAMILY, 4)
      view.setUint8(meta + META.TOS, (first >>> 16) & 0xff)
      view.setUint32(meta + META.ADDRESS, view.getUint32(outer + 16))
    } else {
      view.setUint8(meta + META.FAMILY, 6)
      view.setUint8(meta + META.TOS, (first >>> 20) & 0xff)
      for (let w = 0; w < 4; w++) {
        view.setUint32(meta + META.ADDRESS + w * 4, view.getUint32(outer + 24 + w * 4))
      }
    }
    view.setUint16(meta + META.PORT, this.node.vxlanPort, true)
  }

  service(): void {}

  pending(): boolean {
    return false
  }

  gone(): boolean {
    return false
  }

  look(): boolean {
    return false
  }

  close(): void {}
}
