/**
 * The underlay as the main thread keeps it: the device that leads to the peers, AF_XDP or UDP
 * sockets on it, the ports that they are, and what is known of the neighbours behind it. All that
 * depends on the device is in this object, and `close` undoes `open`.
 */
import type { XskOffsets } from '../../native/native.ts'
import { type DataplaneOptions, type DataplaneStatus, type NodeSpec, vtepMac } from '../control.ts'
import { Neighbours } from '../devices/neighbours.ts'
import {
  findUnderlay,
  openUdpUnderlay,
  openXdpUnderlay,
  segmentsProblem,
  type UdpSockets,
  type XdpQueues,
} from '../devices/underlay.ts'
import { UNDERLAY_FILL_FRAMES, VXLAN_OVERHEAD_IPV4, VXLAN_OVERHEAD_IPV6 } from '../limits.ts'
import type { Link } from '../netlink/link.ts'
import { PORT_KIND, PORT_ROLE } from '../ports/port.ts'
import { HOP, type NextHop } from '../tables/next-hops.ts'
import { macWords, NO_PORT, PORT_FLAG, type PortRecord } from '../tables/ports.ts'
import type { Network } from './networks.ts'
import { writeXskOffsets } from './node-facts.ts'
import { outerHeader } from './outer-header.ts'
import type { Parts } from './parts.ts'

export interface UnderlaySpec {
  vtep: string
  vxlanPort: number
  options: NonNullable<DataplaneOptions['underlay']>
  /** The MAC behind a VTEP has become known, or another one. */
  resolved: (vtep: string) => void
}

export class Underlay {
  readonly link: Link
  /** What is sent goes out by this port. */
  port = -1
  private readonly parts: Parts
  private readonly spec: UnderlaySpec
  private readonly notes: string[] = []
  /** Why it is served the way it is. */
  private why = ''
  private xdp: XdpQueues | undefined
  private udp: UdpSockets | undefined
  private neighbours: Neighbours | undefined

  /** Finds the device. Throws when there is none. */
  constructor(parts: Parts, spec: UnderlaySpec) {
    this.parts = parts
    this.spec = spec
    this.link = findUnderlay(spec.vtep, spec.options.device)
  }

  /** Largest inner packet that the device takes with its outer headers. */
  get mtu(): number {
    const over = this.spec.vtep.includes(':') ? VXLAN_OVERHEAD_IPV6 : VXLAN_OVERHEAD_IPV4
    return this.link.mtu - over
  }

  /** Workers serve the underlay when they have seen the change of the tables that this makes. */
  async open(): Promise<void> {
    const mode = this.spec.options.mode ?? 'auto'
    if (mode === 'auto') return this.choose()
    this.why = 'as configured'
    if (mode === 'xdp') await this.openXdp()
    else this.openUdp()
  }

  /** UDP sockets where segments work, which keep superframes whole; else AF_XDP, which carries more small packets than UDP one by one. */
  private async choose(): Promise<void> {
    const { link, spec } = this
    let problem = segmentsProblem(spec.vtep)
    if (problem === undefined) {
      try {
        this.openUdp()
        this.why = 'UDP segments work'
        return
      } catch (error) {
        problem = text(error)
      }
    }
    try {
      await this.openXdp()
      this.why = problem
      this.note(`underlay ${link.name} by AF_XDP: ${problem}`)
    } catch (error) {
      this.why = `AF_XDP does not work: ${text(error)}`
      this.note(`underlay ${link.name} by UDP sockets, packet by packet: ${problem}; ${this.why}`)
      this.openUdp()
    }
  }

  private openUdp(): void {
    const { vtep, vxlanPort } = this.spec
    const sockets = openUdpUnderlay(vtep, vxlanPort, this.parts.workers)
    if (!sockets.segments) {
      this.note(
        'UDP sockets without UDP_SEGMENT and UDP_GRO, slower: the kernel has them from 5.0 on',
      )
    }
    this.udp = sockets
    this.port = this.serve({
      ...NO_PORT,
      kind: PORT_KIND.UDP,
      fds: sockets.receivers,
      moreFds: sockets.senders,
    })
  }

  private async openXdp(): Promise<void> {
    const { umem, rings, workers } = this.parts
    const { link } = this
    if (umem === undefined) throw new Error('AF_XDP is not available')
    if (link.mac === undefined) throw new Error(`${link.name} has no Ethernet address`)
    const { high, low } = macWords(link.mac)
    const queues = await openXdpUnderlay(umem, rings, link, this.spec.vtep, this.spec.vxlanPort)
    if (queues.sockets.length < workers) {
      queues.close()
      throw new Error(
        `${link.name} has ${queues.sockets.length} receive queues, ${workers} workers need as many`,
      )
    }
    if (queues.link.nativeRefused !== undefined) {
      this.note(`${link.name} in generic XDP mode, slower: ${queues.link.nativeRefused}`)
    }
    this.xdp = queues
    // A device with more queues than workers takes several ports; the first one is sent by.
    for (let first = 0; first < queues.sockets.length; first += workers) {
      const sockets = queues.sockets.slice(first, first + workers)
      const port = this.serve(
        {
          ...NO_PORT,
          kind: PORT_KIND.XDP,
          flags: umem.txMetadata ? PORT_FLAG.TX_METADATA : 0,
          macHigh: high,
          macLow: low,
          fillFrames: first === 0 ? UNDERLAY_FILL_FRAMES : UNDERLAY_FILL_FRAMES / 8,
          fds: sockets.map(socket => socket.fd),
          rings: sockets.map(socket => socket.ringsOffset),
        },
        sockets[0]!.offsets,
      )
      if (first === 0) this.port = port
    }
    this.neighbours = new Neighbours(link.index, (address, mac) => {
      this.parts.log('debug', 'underlay neighbour', { vtep: address, mac })
      this.spec.resolved(address)
    })
  }

  private serve(record: Omit<PortRecord, 'state'>, xskOffsets?: XskOffsets): number {
    const { arena, ports, tables } = this.parts
    const port = ports.reserve()
    const { index: ifindex, mtu } = this.link
    tables.change(() => {
      if (xskOffsets !== undefined) writeXskOffsets(arena, xskOffsets)
      ports.activate(port, { ...record, role: PORT_ROLE.UNDERLAY, ifindex, mtu })
    })
    return port
  }

  private note(message: string): void {
    this.notes.push(message)
    this.parts.log('warn', message)
  }

  /** The next hop to a peer in a network, as is known now; its neighbour is watched from then on. `mtu`: of the inner packet. */
  hopTo(self: NodeSpec, peer: NodeSpec, { index, vni }: Network, mtu: number): NextHop {
    const mac = this.neighbours?.watch(peer.vtep)
    const { high, low } = macWords(mac ?? '00:00:00:00:00:00')
    return {
      kind: HOP.VXLAN,
      network: index,
      port: this.port,
      mtu,
      header: outerHeader({
        source: self.vtep,
        destination: peer.vtep,
        vxlanPort: this.spec.vxlanPort,
        vni,
        sourceMac: self.vtepMac ?? vtepMac(self.name),
        destinationMac: peer.vtepMac ?? vtepMac(peer.name),
      }),
      macHigh: high,
      macLow: low,
      macKnown: mac !== undefined,
    }
  }

  /** Whether frames need the neighbour's MAC from us: the kernel writes it for UDP sockets. */
  get needsMac(): boolean {
    return this.neighbours !== undefined
  }

  /** The VTEP is no peer's any more. */
  forget(vtep: string): void {
    this.neighbours?.forget(vtep)
  }

  status(): { underlay: DataplaneStatus['underlay']; notes: readonly string[] } {
    const { link, notes, xdp } = this
    return {
      underlay: {
        mode: xdp === undefined ? 'udp' : 'xdp',
        device: link.name,
        address: this.spec.vtep,
        why: this.why,
        ...(xdp === undefined ? {} : { xdp: xdp.link.mode }),
      },
      notes,
    }
  }

  /** Closes every descriptor. No worker may use them any more. */
  close(): void {
    this.neighbours?.close()
    this.xdp?.close()
    this.udp?.close()
    this.neighbours = undefined
    this.xdp = undefined
    this.udp = undefined
  }
}

function text(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}
