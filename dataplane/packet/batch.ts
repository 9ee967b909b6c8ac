/**
 * A batch: up to BATCH_SIZE packets that came in together by one port, one typed-array column a
 * fact. Stages read some columns and write others; a packet is its index.
 *
 * Offsets are arena offsets. Everything that a stage behind `parse` reads through `l3`, `l4` and
 * `len` has been proven by `parse` to lie inside the frame.
 */
import { BATCH_SIZE } from '../limits.ts'

/** The packet is IPv6 (else IPv4). */
export const F_IPV6 = 1
/** The layer 4 checksum field holds only the folded pseudo-header sum. */
export const F_CSUM_PARTIAL = 2
/** A fragment: `l4` is 0 unless it is the first. */
export const F_FRAGMENT = 4
/** The Ethernet header in front of `l3` is finished: the port sends it as it is. */
export const F_L2_READY = 8
/** `encap` has put an outer header in front: the next hop's MAC goes into the Ethernet header. */
export const F_OUTER = 16
/** `l4Sum` is known. A stage that changes a byte of the transport segment clears this, or keeps the sum true. */
export const F_L4_SUM = 32

/** virtio_net_hdr gso_type values (linux/virtio_net.h). */
export const GSO_NONE = 0
export const GSO_TCPV4 = 1
export const GSO_TCPV6 = 4
export const GSO_UDP_L4 = 5

export class Batch {
  /** Packets in the batch. */
  n = 0
  /** Index of the port that they came in by. */
  inPort = 0
  /** The frame's first byte. */
  readonly frame = new Uint32Array(BATCH_SIZE)
  /** The network header. */
  readonly l3 = new Uint32Array(BATCH_SIZE)
  /** Bytes from `l3` to the end of the packet. */
  readonly len = new Uint32Array(BATCH_SIZE)
  /** The transport header; 0 where there is none (not the first fragment). */
  readonly l4 = new Uint32Array(BATCH_SIZE)
  readonly flags = new Uint16Array(BATCH_SIZE)
  /** IP protocol number. */
  readonly proto = new Uint8Array(BATCH_SIZE)
  /** IPv4 addresses, host order. */
  readonly src4 = new Uint32Array(BATCH_SIZE)
  readonly dst4 = new Uint32Array(BATCH_SIZE)
  /** IPv6 destination, four words a packet, most significant first. */
  readonly dst6 = new Uint32Array(BATCH_SIZE * 4)
  /** Superframes: GSO_* and the payload bytes of a segment. */
  readonly gsoType = new Uint8Array(BATCH_SIZE)
  readonly gsoSize = new Uint16Array(BATCH_SIZE)
  /** F_CSUM_PARTIAL as the device told it: where the sum begins and where it goes, from `l3` and from there. */
  readonly csumStart = new Uint16Array(BATCH_SIZE)
  readonly csumOffset = new Uint16Array(BATCH_SIZE)
  /** With F_L4_SUM: sum of the bytes from `l4` to the end of the packet, its checksum included (RFC 1071, not inverted). */
  readonly l4Sum = new Uint16Array(BATCH_SIZE)
  /** Of what came from an underlay: its network, by `decap`. What a pod sent is of its port's. */
  readonly network = new Uint8Array(BATCH_SIZE)
  /** Of what came by the kernel's vxlan device: the next hop that leads back to its sender. */
  readonly source = new Uint16Array(BATCH_SIZE)
  /** Next hop id; 0 none. */
  readonly nextHop = new Uint16Array(BATCH_SIZE)
  /** Port to send by. */
  readonly outPort = new Uint16Array(BATCH_SIZE)
  /** ICMP error to send for this packet: 0 none, else ICMP_ERROR_*. */
  readonly error = new Uint8Array(BATCH_SIZE)
  /** 0 goes on, DELIVER_AS_IS goes straight to transmit, else the reason of the drop. */
  readonly drop = new Uint8Array(BATCH_SIZE)
  /** 1: the native twin of `parse` has read it. */
  readonly parsed = new Uint8Array(BATCH_SIZE)
  /** What policy and routes say of a flow that is known and allowed (policy/action.ts); 0 of any other. Written by `flow`. */
  readonly known = new Uint32Array(BATCH_SIZE)
  /** Packets that are not dropped and whose flow is not known; BATCH_SIZE where nobody has asked. */
  unknown = BATCH_SIZE
  /** How many are IPv4 and IPv6: a lookup of a family that is not there is skipped. */
  n4 = 0
  n6 = 0

  /** Empties the batch for packets of `inPort`. */
  reset(inPort: number): void {
    this.n = 0
    this.n4 = 0
    this.n6 = 0
    this.unknown = BATCH_SIZE
    this.inPort = inPort
  }

  /** Appends a packet with every column cleared that a stage reads before another one has written it; the caller has seen that there is room. Returns its index. */
  push(frame: number, l3: number, len: number): number {
    const i = this.n++
    this.frame[i] = frame
    this.l3[i] = l3
    this.len[i] = len
    this.l4[i] = 0
    this.flags[i] = 0
    this.gsoType[i] = 0
    this.csumStart[i] = 0
    this.error[i] = 0
    this.drop[i] = 0
    this.nextHop[i] = 0
    this.known[i] = 0
    return i
  }

  /**
   * Appends a packet that was made of packet `i` of another batch: all that is known and decided about that
   * one, but no offloads, error or drop. Its transport header is as far behind `l3`. Returns its index.
   */
  derive(from: Batch, i: number, frame: number, l3: number, len: number): number {
    const to = this.push(frame, l3, len)
    const flags = from.flags[i]! & ~(F_CSUM_PARTIAL | F_L4_SUM)
    this.flags[to] = flags
    this.l4[to] = l3 + from.l4[i]! - from.l3[i]!
    this.proto[to] = from.proto[i]!
    this.src4[to] = from.src4[i]!
    this.dst4[to] = from.dst4[i]!
    if ((flags & F_IPV6) === 0) this.n4++
    else {
      this.n6++
      for (let w = 0; w < 4; w++) this.dst6[to * 4 + w] = from.dst6[i * 4 + w]!
    }
    this.network[to] = from.network[i]!
    this.source[to] = from.source[i]!
    this.nextHop[to] = from.nextHop[i]!
    this.outPort[to] = from.outPort[i]!
    return to
  }

  /** Appends packet `i` of another batch, every column of it; the caller has seen that there is room. Returns its index. */
  copy(from: Batch, i: number): number {
    const to = this.n++
    const flags = from.flags[i]!
    this.frame[to] = from.frame[i]!
    this.l3[to] = from.l3[i]!
    this.len[to] = from.len[i]!
    this.l4[to] = from.l4[i]!
    this.flags[to] = flags
    this.proto[to] = from.proto[i]!
    this.src4[to] = from.src4[i]!
    this.dst4[to] = from.dst4[i]!
    if ((flags & F_IPV6) === 0) this.n4++
    else {
      this.n6++
      for (let w = 0; w < 4; w++) this.dst6[to * 4 + w] = from.dst6[i * 4 + w]!
    }
    this.gsoType[to] = from.gsoType[i]!
    this.gsoSize[to] = from.gsoSize[i]!
    this.csumStart[to] = from.csumStart[i]!
    this.csumOffset[to] = from.csumOffset[i]!
    this.l4Sum[to] = from.l4Sum[i]!
    this.network[to] = from.network[i]!
    this.source[to] = from.source[i]!
    this.nextHop[to] = from.nextHop[i]!
    this.outPort[to] = from.outPort[i]!
    this.error[to] = from.error[i]!
    this.drop[to] = from.drop[i]!
    this.known[to] = from.known[i]!
    this.parsed[to] = from.parsed[i]!
    return to
  }
}
