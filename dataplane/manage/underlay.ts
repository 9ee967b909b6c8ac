/**
 * The underlay as the main thread keeps it: how outer packets come and go, and what is known of the
 * ways to the peers. It follows what happens to devices, addresses, routes and neighbours (`look`), while
 * pods stay as they are.
 *
 * There are two ways out of a node, and each next hop names one of them by its port:
 *
 *   * **served devices**: AF_XDP on all queues. In mode `xdp` those that lead to a peer, or have the VTEP.
 *   * **the kernel's way**: sockets, bound to the VTEP and to no device. In mode `udp` all goes by them. In
 *     mode `xdp` they take what no served device can: a peer behind another device, a neighbour that is not
 *     resolved yet (the kernel does it), what must be fragmented; and fragments that come in.
 *
 * A served device that is gone, or has another MAC or number of queues, is closed in steps: next hops go
 * the kernel's way, workers let go of its ports, its sockets are closed. It is opened anew when a
 * device is there again that leads to a peer, whatever its index and name.
 *
 * What can't be mended is a trouble: no VTEP address, a device that is down, no way to a peer. It blocks
 * when no peer is reached.
 */
import type { XskOffsets } from '../../native/native.ts'
import { type DataplaneOptions, type DataplaneStatus, type NodeSpec, vtepMac } from '../control.ts'
import {
  findUnderlay,
  hasWire,
  leastMtu,
  openRawUnderlay,
  openUdpUnderlay,
  openXdpUnderlay,
  ownerOf,
  type RawSockets,
  segmentsProblem,
  type UdpSockets,
  type UnderlayFacts,
  type UnderlayQueues,
} from '../devices/underlay.ts'
import { removeVxlan } from '../devices/vxlan.ts'
import { deviceProblem, RESOLVED_MS, UNRESOLVED_MS, type Way, Ways } from '../devices/ways.ts'
import {
  MAX_PORTS,
  MIN_POD_MTU,
  UNDERLAY_FILL_FRAMES,
  VXLAN_DEVICE,
  VXLAN_OVERHEAD_IPV4,
  VXLAN_OVERHEAD_IPV6,
} from '../limits.ts'
import { HEADER } from '../memory/arena.ts'
import { getLink, type Link } from '../netlink/link.ts'
import { PORT_KIND, PORT_ROLE } from '../ports/port.ts'
import { HOP, type NextHop } from '../tables/next-hops.ts'
import { macWords, NO_PORT, PORT_FLAG, type PortRecord } from '../tables/ports.ts'
import { tunnelValue } from '../tc/tunnel.ts'
import type { Conditions } from '../weather/conditions.ts'
import type { Why } from '../weather/weather.ts'
import type { Network } from './networks.ts'
import { writeXskOffsets } from './node-facts.ts'
import { outerHeader } from './outer-header.ts'
import type { Parts } from './parts.ts'

export interface UnderlaySpec extends UnderlayFacts {
  options: NonNullable<DataplaneOptions['underlay']>
  conditions: Conditions
  /** This node's inner MAC. */
  mac: string
  /** The ways to these VTEPs have changed: their next hops are to be written. */
  changed: (vteps: ReadonlySet<string>) => void
}

/** A device that we serve by AF_XDP. */
interface Served {
  link: Link
  /** Receive queues that the driver told of then. */
  queueCount: number
  queues: UnderlayQueues
  /** The first one is sent by. */
  ports: number[]
}

/** No port: what goes there is dropped as `port-gone`. */
const NOWHERE = MAX_PORTS
/** Peers that a trouble names before it counts. */
const NAMED_PEERS = 3

export class Underlay {
  /** The device that has the VTEP address, or had it last. */
  private home: Link
  /** False while no device has it. */
  private hasAddress = true
  private readonly parts: Parts
  private readonly spec: UnderlaySpec
  private readonly ways: Ways
  private readonly notes: string[] = []
  /** Why it is served the way it is. */
  private why = ''
  private readonly served = new Map<number, Served>()
  /** Devices that could not be served, with what they were then: asked again when that changes, and in a pass. */
  private readonly refused = new Map<number, string>()
  private mode: 'xdp' | 'udp' | 'vxlan' = 'udp'
  private kernel: (UdpSockets & Partial<RawSockets>) | undefined
  private kernelPort = -1
  private vnis: readonly number[] = []
  private podMtu = 0
  /** What each peer's next hops were made from. */
  private readonly written = new Map<string, string>()
  private turn: Promise<void> = Promise.resolve()
  private timer: NodeJS.Timeout | undefined
  private closed = false

  /** Finds the device. Throws when there is none. */
  constructor(parts: Parts, spec: UnderlaySpec) {
    this.parts = parts
    this.spec = spec
    this.home = findUnderlay(spec.vtep, spec.options.device)
    this.ways = new Ways(spec.vtep, spec.vxlanPort)
  }

  /** Largest inner packet that the device takes with its outer headers; of several that lead to peers, the least. */
  get mtu(): number {
    const { home, spec } = this
    return (hasWire(home) ? home.mtu : (leastMtu(spec.vtep) ?? home.mtu)) - this.overhead
  }

  get device(): Link {
    return this.home
  }

  /** Bytes of the outer headers. */
  get overhead(): number {
    return this.spec.vtep.includes(':') ? VXLAN_OVERHEAD_IPV6 : VXLAN_OVERHEAD_IPV4
  }

  /** `podMtu`: of a pod's packet. Workers serve the underlay when they have seen the change of the tables that this makes. */
  async open(podMtu: number): Promise<void> {
    this.podMtu = podMtu
    const mode = this.spec.options.mode ?? 'auto'
    // One that an earlier process has left has the UDP port.
    if (mode !== 'vxlan') removeVxlan(VXLAN_DEVICE)
    if (mode === 'auto') return this.choose()
    this.why = 'as configured'
    if (mode === 'xdp') await this.openXdp()
    else if (mode === 'vxlan') this.openVxlan()
    else this.openUdp()
  }

  /** UDP sockets where segments work, which keep superframes whole; else AF_XDP, which carries more small packets than UDP one by one. */
  private async choose(): Promise<void> {
    const { home, spec } = this
    let problem = segmentsProblem(spec.vtep)
    if (problem === undefined) {
      try {
        this.openUdp()
        this.why = 'UDP segments work'
        return
      } catch (error) {
        // Somebody else's VXLAN may have the port: AF_XDP shares it.
        problem = text(error)
      }
    }
    try {
      await this.openXdp()
      this.why = problem
      this.note(`underlay ${home.name} by AF_XDP: ${problem}`)
    } catch (error) {
      this.why = `AF_XDP does not work: ${text(error)}`
      this.note(`underlay ${home.name} by UDP sockets, packet by packet: ${problem}; ${this.why}`)
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
    this.serveKernel(sockets, 0)
  }

  private async openXdp(): Promise<void> {
    if (this.parts.umem === undefined) throw new Error('AF_XDP is not available')
    if (hasWire(this.home)) await this.serve(this.home)
    this.mode = 'xdp'
    try {
      this.serveKernel(openRawUnderlay(this.spec, this.parts.workers), PORT_FLAG.RAW)
    } catch (error) {
      this.note(`fragments and other devices than those of AF_XDP are not served: ${text(error)}`)
    }
  }

  /** The kernel encapsulates, and finds the ways itself: all goes by the node's trunk. */
  private openVxlan(): void {
    const { mac, vtep, vxlanPort } = this.spec
    this.parts.trunk.startVxlan({ vtep, port: vxlanPort, mac })
    this.mode = 'vxlan'
    this.leaveToKernel({ ...NO_PORT, kind: PORT_KIND.VXLAN })
  }

  private serveKernel(sockets: UdpSockets & Partial<RawSockets>, flags: number): void {
    this.kernel = sockets
    this.leaveToKernel({
      ...{ ...NO_PORT, kind: PORT_KIND.UDP, flags },
      ...{ fds: sockets.receivers, moreFds: sockets.senders },
    })
  }

  /** What no served device takes goes by the port of `record`. */
  private leaveToKernel(record: Omit<PortRecord, 'state'>): void {
    this.kernelPort = this.activate(this.home, record)
    const header = this.parts.arena.header()
    this.parts.tables.change(() => {
      header[HEADER.KERNEL_PORT] = this.kernelPort + 1
    })
  }

  /** Throws with the cause; then nothing of it stays. */
  private async serve(link: Link): Promise<void> {
    const { umem, rings, workers } = this.parts
    if (link.mac === undefined) throw new Error(`${link.name} has no Ethernet address`)
    const { high, low } = macWords(link.mac)
    const queues = await openXdpUnderlay(umem!, rings, link.index, this.spec)
    if (queues.sockets.length < workers) {
      queues.close()
      throw new Error(
        `${link.name} has ${queues.sockets.length} receive queues, ${workers} workers need as many`,
      )
    }
    queues.admit(this.vnis)
    if (queues.link.nativeRefused !== undefined) {
      this.note(`${link.name} in generic XDP mode, slower: ${queues.link.nativeRefused}`)
    }
    const ports: number[] = []
    // A device with more queues than workers takes several ports; the first one is sent by.
    for (let first = 0; first < queues.sockets.length; first += workers) {
      const sockets = queues.sockets.slice(first, first + workers)
      const record = {
        ...NO_PORT,
        kind: PORT_KIND.XDP,
        flags: umem!.txMetadata ? PORT_FLAG.TX_METADATA : 0,
        macHigh: high,
        macLow: low,
        fillFrames: first === 0 ? UNDERLAY_FILL_FRAMES : UNDERLAY_FILL_FRAMES / 8,
        fds: sockets.map(socket => socket.fd),
        rings: sockets.map(socket => socket.ringsOffset),
      }
      ports.push(this.activate(link, record, sockets[0]!.offsets))
    }
    const queueCount = this.ways.netlink.receiveQueues(link.name)
    this.served.set(link.index, { link, queueCount, queues, ports })
    this.ways.served.add(link.index)
  }

  private activate(
    { index: ifindex, mtu }: Link,
    record: Omit<PortRecord, 'state'>,
    xskOffsets?: XskOffsets,
  ): number {
    const { arena, ports, tables } = this.parts
    const port = ports.reserve()
    tables.change(() => {
      if (xskOffsets !== undefined) writeXskOffsets(arena, xskOffsets)
      ports.activate(port, { ...record, role: PORT_ROLE.UNDERLAY, ifindex, mtu })
    })
    return port
  }

  /** Takes a device out of service: its next hops go the kernel's way first. */
  private async leave({ link, queues, ports }: Served): Promise<void> {
    this.served.delete(link.index)
    this.ways.served.delete(link.index)
    this.rewrite()
    // All of its ports are let go of before any of its sockets is closed.
    let left = ports.length
    const { promise, resolve } = Promise.withResolvers<void>()
    const close = () => {
      if (--left === 0) {
        queues.close()
        resolve()
      }
      return promise
    }
    await Promise.all(ports.map(port => this.parts.ports.remove(port, close)))
  }

  private note(message: string): void {
    if (!this.notes.includes(message)) this.notes.push(message)
    this.parts.log('warn', message)
  }

  /** These are the peers now: their ways are known when it resolves. To be called before `hopTo`. */
  follow(vteps: readonly string[]): Promise<void> {
    return this.inTurn(async () => {
      await this.ways.follow(vteps)
      const there = new Set(vteps)
      for (const vtep of this.written.keys()) if (!there.has(vtep)) this.written.delete(vtep)
      await this.reconcile(false)
    })
  }

  /** Takes packets of these networks, beside the cluster's own. */
  admit(vnis: readonly number[]): void {
    this.vnis = vnis
    for (const { queues } of this.served.values()) queues.admit(vnis)
    this.kernel?.admit?.([this.spec.vni, ...vnis])
  }

  /** Something has happened: looks at devices, ways and neighbours, and follows. */
  look(why: Why): Promise<void> {
    return this.inTurn(async () => {
      if (this.closed) return
      if (why !== 'pass' && why.size === 1 && why.has('neighbour')) this.ways.lookAtNeighbours()
      else await this.ways.look()
      await this.reconcile(why === 'pass')
    })
  }

  private inTurn(work: () => Promise<void>): Promise<void> {
    const mine = this.turn.then(work)
    this.turn = mine.catch(() => {})
    return mine
  }

  /** Serves what is to be served, and writes the next hops of the ways that have changed. */
  private async reconcile(patient: boolean): Promise<void> {
    this.findHome()
    if (this.mode === 'xdp') {
      if (patient) this.refused.clear()
      const wanted = this.wantedDevices()
      for (const each of [...this.served.values()]) {
        const now = wanted.get(each.link.index)
        const change = now === undefined ? 'is not used any more' : changeOf(each, now, this.ways)
        if (change === undefined) {
          each.link = now!
          continue
        }
        this.parts.log('info', `underlay ${each.link.name} ${change}`, { index: each.link.index })
        await this.leave(each)
      }
      for (const link of wanted.values()) {
        if (!this.served.has(link.index)) await this.tryToServe(link)
      }
      this.ways.lookAtNeighbours()
    }
    this.rewrite()
    this.judge()
    this.schedule()
  }

  /** Follows the VTEP address, and the device's name and facts. */
  private findHome(): void {
    const { vtep, options } = this.spec
    const owner = ownerOf(this.ways.netlink, vtep)
    this.hasAddress = owner !== undefined
    // A device that was named is kept while it is there, whatever its name is now.
    const chosen =
      options.device === undefined
        ? undefined
        : (this.ways.device(this.home.index) ?? getLink(this.ways.netlink, options.device))
    const found = chosen ?? (owner === undefined ? undefined : this.ways.device(owner))
    if (found === undefined) return
    const { index, name, mtu } = this.home
    if (found.index !== index) {
      this.spec.conditions.mended(
        'underlay',
        `the VTEP ${vtep} is on ${found.name} (index ${found.index}) now, it was on ${name} (index ${index})`,
      )
    } else if (found.name !== name) {
      this.spec.conditions.mended('underlay', `underlay ${name} is called ${found.name} now`)
    } else if (found.mtu !== mtu) {
      this.spec.conditions.mended('mtu', `underlay ${name} has MTU ${found.mtu}, it had ${mtu}`)
    }
    this.home = found
  }

  /** Devices that AF_XDP shall serve: those that lead to a peer, and the one with the VTEP. */
  private wantedDevices(): Map<number, Link> {
    const { options } = this.spec
    const wanted = new Map<number, Link>()
    const add = (link: Link | undefined): void => {
      if (link === undefined || !link.up || !hasWire(link)) return
      if (options.device === undefined || link.index === this.home.index)
        wanted.set(link.index, link)
    }
    // As it is now: `home` may be a device of the past.
    add(this.ways.device(this.home.index))
    for (const vtep of this.ways.vteps) add(this.ways.to(vtep)?.device)
    return wanted
  }

  private async tryToServe(link: Link): Promise<void> {
    const facts = factsOf(link, this.ways)
    if (this.refused.get(link.index) === facts) return
    const key = `underlay ${link.name}`
    try {
      await this.serve(link)
      this.refused.delete(link.index)
      this.spec.conditions.clear(key)
      this.spec.conditions.mended(
        'underlay',
        `underlay ${link.name} (index ${link.index}) is served`,
      )
    } catch (error) {
      this.refused.set(link.index, facts)
      const cause = `AF_XDP on ${link.name} is refused, the kernel carries its packets: ${text(error)}`
      this.spec.conditions.raise(key, cause, { blocking: this.kernel === undefined })
    }
  }

  /** Writes the next hops of every peer whose way is not the one that they were made from. */
  private rewrite(): void {
    const changed = new Set(
      this.ways.vteps.filter(vtep => this.written.get(vtep) !== this.key(vtep)),
    )
    if (changed.size === 0) return
    this.parts.log('debug', 'ways to peers have changed', { vteps: [...changed].slice(0, 16) })
    this.spec.changed(changed)
  }

  /** What the next hops to a peer are made from. */
  private key(vtep: string): string {
    const way = this.ways.to(vtep)
    return `${this.portOf(way)} ${way?.mac} ${way?.mtu} ${this.served.has(way?.device?.index ?? 0)}`
  }

  /** A served device when its neighbour is known, else the kernel's way. */
  private portOf(way: Way | undefined): number {
    const device = this.served.get(way?.device?.index ?? 0)
    if (device === undefined) return this.kernelPort < 0 ? NOWHERE : this.kernelPort
    if (this.kernelPort < 0) return device.ports[0]!
    const direct = way!.mac !== undefined && way!.mtu - this.overhead >= MIN_POD_MTU
    return direct ? device.ports[0]! : this.kernelPort
  }

  /** The next hop to a peer in a network, as is known now. `mtu`: of the inner packet. */
  hopTo(
    self: NodeSpec,
    peer: NodeSpec,
    { index, vni }: Pick<Network, 'index' | 'vni'>,
    mtu: number,
  ): NextHop {
    const way = this.ways.to(peer.vtep)
    this.written.set(peer.vtep, this.key(peer.vtep))
    const { high, low } = macWords(way?.mac ?? '00:00:00:00:00:00')
    const most = (way?.mtu ?? Number.POSITIVE_INFINITY) - this.overhead
    return {
      kind: HOP.VXLAN,
      network: index,
      port: this.portOf(way),
      // Less no IPv6 host is told (RFC 8200 section 5): the kernel fragments.
      mtu: Math.min(mtu, Math.max(most, MIN_POD_MTU)),
      ...this.outerOf(self, peer, vni),
      macHigh: high,
      macLow: low,
      macKnown: way?.mac !== undefined || !this.served.has(way?.device?.index ?? 0),
    }
  }

  /** What is put in front of a packet: a header that we write, or what the kernel is told. */
  private outerOf(self: NodeSpec, peer: NodeSpec, vni: number): Pick<NextHop, 'header' | 'tunnel'> {
    const macs = {
      sourceMac: self.vtepMac ?? vtepMac(self.name),
      destinationMac: peer.vtepMac ?? vtepMac(peer.name),
    }
    if (this.mode === 'vxlan') {
      const tunnel = tunnelValue({ local: self.vtep, remote: peer.vtep, vni, ...macs })
      return { header: new Uint8Array(0), tunnel }
    }
    const { vxlanPort } = this.spec
    const header = outerHeader({
      ...{ source: self.vtep, destination: peer.vtep, vxlanPort, vni },
      ...macs,
    })
    return { header }
  }

  /** Says what is wrong, and what no longer is. */
  private judge(): void {
    const { conditions, vtep } = this.spec
    const { vteps } = this.ways
    const broken = vteps.flatMap(each => {
      const problem = this.ways.to(each)?.problem
      return problem === undefined ? [] : [{ each, problem }]
    })
    const own = this.hasAddress
      ? undefined
      : `no interface of this node has the VTEP address ${vtep} (${this.home.name} had it)`
    const down = this.hasAddress ? deviceProblem(this.ways.device(this.home.index)) : undefined
    const all = vteps.length > 0 && broken.length === vteps.length
    const none = all ? `no other node is reached: ${down ?? broken[0]!.problem}` : undefined
    const idle = vteps.length === 0 && down !== undefined ? `underlay: ${down}` : undefined
    conditions.set('underlay', own ?? none ?? idle, { blocking: true })
    const few = broken.slice(0, NAMED_PEERS).map(({ each, problem }) => `${each} (${problem})`)
    const more = broken.length > NAMED_PEERS ? ` and ${broken.length - NAMED_PEERS} more` : ''
    const some = broken.length > 0 && !all ? `not reached: ${few.join(', ')}${more}` : undefined
    conditions.set('ways', some, { blocking: false })
    this.judgeMtu()
  }

  /** A trouble while a way takes less than a pod's packet. */
  private judgeMtu(): void {
    const mtu = this.podMtu
    const narrow = this.ways.vteps.flatMap(vtep => {
      const most = (this.ways.to(vtep)?.mtu ?? Number.POSITIVE_INFINITY) - this.overhead
      return most < mtu ? [{ vtep, most }] : []
    })
    const [first] = narrow
    const sentence =
      first === undefined
        ? undefined
        : `the way to ${first.vtep}${narrow.length > 1 ? ` (and ${narrow.length - 1} more)` : ''} takes packets of ${first.most} bytes, pods have an MTU of ${mtu}: their senders are told; new pods fit after a restart of the daemon`
    this.spec.conditions.set('mtu', sentence, { blocking: false })
  }

  /**
   * What nothing tells of is looked at again: neighbours, which the kernel forgets when it sees no traffic of
   * them, and path MTUs. Over IPv6 routers don't fragment; what they say of our packets reaches the kernel's
   * routes by a raw socket that asks for errors (rawv6_err in net/ipv6/raw.c).
   */
  private schedule(): void {
    clearTimeout(this.timer)
    if (this.closed || this.served.size === 0) return
    const ms = this.ways.unresolved ? UNRESOLVED_MS : RESOLVED_MS
    this.timer = setTimeout(() => void this.inTurn(() => this.refresh()).catch(() => {}), ms)
    this.timer.unref()
  }

  private async refresh(): Promise<void> {
    if (this.closed) return
    this.ways.lookAtSome()
    await this.reconcile(false)
  }

  status(): { underlay: DataplaneStatus['underlay']; notes: readonly string[] } {
    const { home, mode, notes, served, spec } = this
    const [first] = served.values()
    return {
      underlay: {
        mode,
        device: home.name,
        address: spec.vtep,
        why: this.why,
        ...(first === undefined ? {} : { xdp: first.queues.link.mode }),
      },
      notes,
    }
  }

  /** Closes every descriptor. No worker may use them any more. */
  async close(): Promise<void> {
    this.closed = true
    clearTimeout(this.timer)
    await this.turn
    for (const { queues } of this.served.values()) queues.close()
    this.served.clear()
    this.kernel?.close()
    this.kernel = undefined
    this.ways.close()
  }
}

/** What a device must keep to be served as it is. */
function factsOf({ index, mac, name }: Link, { netlink }: Ways): string {
  return `${index} ${mac} ${netlink.receiveQueues(name)}`
}

/** Why a served device has to be opened anew; undefined: it hasn't. */
function changeOf({ link, queueCount }: Served, now: Link, ways: Ways): string | undefined {
  if (now.mac !== link.mac) return `has MAC ${now.mac}, it had ${link.mac}`
  const count = ways.netlink.receiveQueues(now.name)
  return count === queueCount ? undefined : `has ${count} receive queues, it had ${queueCount}`
}

function text(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}
