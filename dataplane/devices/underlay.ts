/**
 * The underlay: devices that carry outer packets, by AF_XDP on all receive queues of a device, and the
 * kernel's own way by sockets, which needs no device.
 */
import { getSystemErrorMap } from 'node:util'
import { native } from '../../native/native.ts'
import { ipBytes } from '../addresses.ts'
import { BPF_MAP_TYPE_XSKMAP } from '../afxdp/kernel.ts'
import type { RingSlots } from '../afxdp/ring-slots.ts'
import { type Umem, XdpSocket } from '../afxdp/umem.ts'
import { attachXdp, type XdpLink } from '../bpf/attach.ts'
import { underlayProgram, vniKey } from '../bpf/programs.ts'
import { vxlanFilter } from '../bpf/socket-filter.ts'
import { ERRNO } from '../errno.ts'
import { MAX_NETWORKS, UDP_ENTROPY_SOCKETS, XDP_RING_SIZE } from '../limits.ts'
import { listAddresses } from '../netlink/address.ts'
import { getLink, type Link } from '../netlink/link.ts'
import { listRoutes } from '../netlink/route.ts'
import { Netlink } from '../netlink/socket.ts'

const BPF_MAP_TYPE_HASH = 1
/** Receive queues that are served at the most. */
const MAX_QUEUES = 64
/** IFF_LOOPBACK (linux/if.h). */
const IFF_LOOPBACK = 0x8
/** Bytes of a UDP socket's buffers. */
const UDP_BUFFER = 4 << 20
/** The same of a socket that nobody reads. */
const ERROR_BUFFER = 4096
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
    const owner = ownerOf(nl, address)
    if (owner === undefined) {
      throw new Error(`VTEP address ${address}: no interface of this node has it`)
    }
    const link = getLink(nl, name ?? owner)
    if (link === undefined) throw new Error(`underlay device ${name}: no such interface`)
    return link
  } finally {
    nl.close()
  }
}

/** Index of the device that has an address; undefined when none has. */
export function ownerOf(nl: Netlink, address: string): number | undefined {
  return listAddresses(nl).find(each => each.address === address)?.ifindex
}

/** Whether outer packets can leave by a device: one for an address alone (`lo`, `dummy`) has no wire. */
export function hasWire({ mac, kind, flags }: Link): boolean {
  return mac !== undefined && kind !== 'dummy' && (flags & IFF_LOOPBACK) === 0
}

/** Least MTU of the devices with a wire that routes of the VTEP's family lead over; undefined when none does. */
export function leastMtu(vtep: string): number | undefined {
  const nl = new Netlink('')
  try {
    const routes = listRoutes(nl, { family: vtep.includes(':') ? 6 : 4 })
    const leading = routes.filter(({ type }) => type === 'unicast')
    const indices = new Set(
      leading.flatMap(({ ifindex, nextHops }) => [ifindex, ...nextHops.map(hop => hop.ifindex)]),
    )
    const links = [...indices].flatMap(index =>
      index === undefined ? [] : (getLink(nl, index) ?? []),
    )
    const mtus = links.filter(link => link.up && hasWire(link)).map(({ mtu }) => mtu)
    return mtus.length === 0 ? undefined : Math.min(...mtus)
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

/** An underlay device's queues. */
export interface UnderlayQueues extends XdpQueues {
  /** Takes these VNIs beside the cluster's own. */
  admit(vnis: readonly number[]): void
}

export interface UnderlayFacts {
  vtep: string
  vxlanPort: number
  /** VNI of the cluster's own network. */
  vni: number
}

/** The underlay's queues: all of them, so that no VXLAN packet goes past us. Other VNIs than ours are the kernel's. */
export async function openXdpUnderlay(
  umem: Umem,
  slots: RingSlots,
  ifindex: number,
  { vtep, vxlanPort, vni }: UnderlayFacts,
): Promise<UnderlayQueues> {
  const bytes = ipBytes(vtep)
  const vnis = native.bpfMapCreate(BPF_MAP_TYPE_HASH, 4, 4, MAX_NETWORKS, 'hawser_vnis')
  try {
    const filter = {
      port: vxlanPort,
      vnis: { own: vni, map: vnis },
      ...(bytes.length === 4 ? { ipv4: bytes } : { ipv6: bytes }),
    }
    const program = (map: number) => underlayProgram(map, filter)
    const name = 'hawser_underlay'
    const queues = await openXdpQueues(umem, slots, ifindex, MAX_QUEUES, program, name)
    let admitted: readonly number[] = []
    return {
      ...queues,
      admit: wanted => {
        for (const each of wanted) native.bpfMapUpdate(vnis, vniKey(each), u32(1))
        for (const each of admitted) {
          if (!wanted.includes(each)) native.bpfMapDelete(vnis, vniKey(each))
        }
        admitted = wanted
      },
      close: () => {
        queues.close()
        native.close(vnis)
      },
    }
  } catch (error) {
    native.close(vnis)
    throw error
  }
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
  try {
    let segments = true
    for (let w = 0; w < workers; w++) {
      receivers.push(native.udpOpen('', vtep, vxlanPort, true, true, UDP_BUFFER))
      segments = native.udpSegments(receivers[w]!) && segments
    }
    const senders = openSenders(vtep, segments)
    return { receivers, senders, segments, close: () => closeAll([...receivers, ...senders]) }
  } catch (error) {
    closeAll(receivers)
    throw error
  }
}

export interface RawSockets extends UdpSockets {
  /** Takes these VNIs and no others. */
  admit(vnis: readonly number[]): void
}

/** The kernel's way beside AF_XDP: a raw socket, which leaves the VXLAN port to others, for all workers. */
export function openRawUnderlay(
  { vtep, vxlanPort, vni }: UnderlayFacts,
  workers: number,
): RawSockets {
  const family = vtep.includes(':') ? 6 : 4
  const filter = (vnis: readonly number[]) => vxlanFilter(family, vxlanPort, vnis)
  const raw = native.udpOpenRaw('', vtep, filter([vni]), UDP_BUFFER, false)
  const opened = [raw]
  try {
    // It receives nothing: it is there for what routers say of the packets that AF_XDP sends.
    opened.push(native.udpOpenRaw('', vtep, vxlanFilter(family, vxlanPort, []), ERROR_BUFFER, true))
    const senders = openSenders(vtep, true)
    return {
      receivers: new Array(workers).fill(raw),
      senders,
      segments: true,
      admit: vnis => native.socketFilter(raw, filter(vnis)),
      close: () => closeAll([...opened, ...senders]),
    }
  } catch (error) {
    closeAll(opened)
    throw error
  }
}

/** Sockets that send, each with a source port of its own. `segments`: they ask for a checksum, which the device writes. */
function openSenders(vtep: string, segments: boolean): number[] {
  const senders: number[] = []
  try {
    for (let port = FIRST_DYNAMIC_PORT; senders.length < UDP_ENTROPY_SOCKETS; port++) {
      if (port > LAST_PORT) {
        throw new Error(`UDP ${vtep}: no free source port above ${FIRST_DYNAMIC_PORT}`)
      }
      try {
        senders.push(native.udpOpen('', vtep, port, false, !segments, UDP_BUFFER))
      } catch (error) {
        if ((error as { code?: string }).code !== 'EADDRINUSE') throw error
      }
    }
    return senders
  } catch (error) {
    closeAll(senders)
    throw error
  }
}

function closeAll(fds: readonly number[]): void {
  for (const fd of fds) native.close(fd)
}

function u32(value: number): Uint8Array {
  const bytes = new Uint8Array(4)
  new DataView(bytes.buffer).setUint32(0, value, true)
  return bytes
}
