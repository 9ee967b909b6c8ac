/**
 * The underlay: the device that carries outer packets. AF_XDP on all its receive queues where that
 * works, else UDP sockets.
 */
import { getSystemErrorMap } from 'node:util'
import { native } from '../../native/native.ts'
import { ipBytes } from '../addresses.ts'
import { BPF_MAP_TYPE_XSKMAP } from '../afxdp/kernel.ts'
import type { RingSlots } from '../afxdp/ring-slots.ts'
import { type Umem, XdpSocket } from '../afxdp/umem.ts'
import { attachXdp, type XdpLink } from '../bpf/attach.ts'
import { underlayProgram } from '../bpf/programs.ts'
import { ERRNO } from '../errno.ts'
import { UDP_ENTROPY_SOCKETS, XDP_RING_SIZE } from '../limits.ts'
import { listAddresses } from '../netlink/address.ts'
import { getLink, type Link } from '../netlink/link.ts'
import { Netlink } from '../netlink/socket.ts'

/** Receive queues that are served at the most. */
const MAX_QUEUES = 64
/** Bytes of a UDP socket's buffers. */
const UDP_BUFFER = 4 << 20
/** First source port tried for the sockets that send (RFC 6335 section 6). */
const FIRST_DYNAMIC_PORT = 49_152
const LAST_PORT = 65_535

/** Why this node's UDP sockets can't carry segments; undefined when a trial has shown that they do. */
export function segmentsProblem(vtep: string): string | undefined {
  const result = native.udpTrySegments('', vtep)
  if (result === 0) return undefined
  const [code, text] = getSystemErrorMap().get(result) ?? [`errno ${-result}`, 'unknown']
  return `a trial of UDP segments on ${vtep} failed: ${code}, ${text}`
}

/** The device that has `address`, or `name` if given. Throws when there is none. */
export function findUnderlay(address: string, name: string | undefined): Link {
  const nl = new Netlink('')
  try {
    const owner = listAddresses(nl).find(each => each.address === address)
    if (owner === undefined) {
      throw new Error(`VTEP address ${address}: no interface of this node has it`)
    }
    const link = getLink(nl, name ?? owner.ifindex)
    if (link === undefined) throw new Error(`underlay device ${name}: no such interface`)
    return link
  } finally {
    nl.close()
  }
}

export interface XdpQueues {
  sockets: readonly XdpSocket[]
  link: XdpLink
  close(): void
}

/** AF_XDP sockets on queues 0, 1, … of a device, at most `queues`; and the program that feeds them. */
export async function openXdpQueues(
  umem: Umem,
  slots: RingSlots,
  ifindex: number,
  queues: number,
  program: (xskMapFd: number) => Uint8Array,
  name: string,
): Promise<XdpQueues> {
  const sockets: XdpSocket[] = []
  const fds: number[] = []
  let link: XdpLink | undefined
  const close = () => {
    if (link !== undefined) native.close(link.linkFd)
    for (const socket of sockets) {
      socket.close()
      slots.release(socket.ringsOffset)
    }
    for (const fd of fds) native.close(fd)
  }
  try {
    const map = native.bpfMapCreate(BPF_MAP_TYPE_XSKMAP, 4, 4, MAX_QUEUES, 'hawser_xsks')
    fds.push(map)
    const loaded = native.bpfLoadXdp(program(map), name)
    fds.push(loaded)
    // The program first: a driver may make its queues anew when it is attached.
    link = attachXdp('', loaded, ifindex)
    for (let queue = 0; queue < queues; queue++) {
      const at = slots.take()
      try {
        sockets.push(await XdpSocket.open(umem, '', ifindex, queue, at, XDP_RING_SIZE))
      } catch (error) {
        slots.release(at)
        // Past the last queue the kernel says EINVAL.
        if (queue > 0 && (error as { errno?: number }).errno === ERRNO.EINVAL) break
        throw error
      }
    }
    for (const [queue, socket] of sockets.entries()) {
      native.bpfMapUpdate(map, u32(queue), u32(socket.fd))
    }
    return { sockets, link, close }
  } catch (error) {
    close()
    throw error
  }
}

/** The underlay's queues: all of them, so that no VXLAN packet goes past us. */
export function openXdpUnderlay(
  umem: Umem,
  slots: RingSlots,
  link: Link,
  vtep: string,
  vxlanPort: number,
): Promise<XdpQueues> {
  const bytes = ipBytes(vtep)
  const filter = {
    port: vxlanPort,
    ...(bytes.length === 4 ? { ipv4: bytes } : { ipv6: bytes }),
  }
  const program = (map: number) => underlayProgram(map, filter)
  return openXdpQueues(umem, slots, link.index, MAX_QUEUES, program, 'hawser_underlay')
}

export interface UdpSockets {
  /** One a worker, all on the VXLAN port. */
  receivers: readonly number[]
  /** UDP_ENTROPY_SOCKETS, each with a source port of its own, shared by the workers. */
  senders: readonly number[]
  /** Whether the kernel takes and gives datagrams of several packets (UDP_SEGMENT, UDP_GRO). */
  segments: boolean
  close(): void
}

export function openUdpUnderlay(vtep: string, vxlanPort: number, workers: number): UdpSockets {
  const receivers: number[] = []
  const senders: number[] = []
  const close = () => {
    for (const fd of [...receivers, ...senders]) native.close(fd)
  }
  try {
    let segments = true
    for (let w = 0; w < workers; w++) {
      receivers.push(native.udpOpen('', vtep, vxlanPort, true, true, UDP_BUFFER))
      segments = native.udpSegments(receivers[w]!) && segments
    }
    for (let port = FIRST_DYNAMIC_PORT; senders.length < UDP_ENTROPY_SOCKETS; port++) {
      if (port > LAST_PORT)
        throw new Error(`UDP ${vtep}: no free source port above ${FIRST_DYNAMIC_PORT}`)
      try {
        // Segments ask for a checksum, which the device writes.
        senders.push(native.udpOpen('', vtep, port, false, !segments, UDP_BUFFER))
      } catch (error) {
        if ((error as { code?: string }).code !== 'EADDRINUSE') throw error
      }
    }
    return { receivers, senders, segments, close }
  } catch (error) {
    close()
    throw error
  }
}

function u32(value: number): Uint8Array {
  const bytes = new Uint8Array(4)
  new DataView(bytes.buffer).setUint32(0, value, true)
  return bytes
}
