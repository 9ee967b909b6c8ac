/**
 * The packet engine of one node, put together: arena, tables, devices, workers. It implements the
 * control interface (control.ts) and is the only writer of every table.
 *
 * It is long because it is the one place where the order of these steps is decided; what needs no
 * order of its own lies in manage/ and devices/.
 *
 * Order of things: a port is served before a route names it, and a route is gone before its port
 * stops. A next hop id is used again only when every worker has seen that no route names it.
 */
import { availableParallelism } from 'node:os'
import { native } from '../native/native.ts'
import { ipWords } from './addresses.ts'
import { RING_SLOT_BYTES, RingSlots } from './afxdp/ring-slots.ts'
import { Umem } from './afxdp/umem.ts'
import {
  type ControlPlane,
  type DataplaneOptions,
  type DataplaneStatus,
  type DropCount,
  type FibStatus,
  type NetworkSpec,
  type NodeSpec,
  type PodAttachment,
  type PodPorts,
  type PodSpec,
  type RouteEntry,
  vtepMac,
} from './control.ts'
import { openHost, routeCluster } from './devices/host.ts'
import { Neighbours } from './devices/neighbours.ts'
import { openPod, type PodDevice, verifyPod } from './devices/pod.ts'
import { closeTun, removeTun, type TunDevice } from './devices/tun.ts'
import {
  findUnderlay,
  openUdpUnderlay,
  openXdpUnderlay,
  type UdpSockets,
  type XdpQueues,
} from './devices/underlay.ts'
import { faultPoint } from './fault-points.ts'
import { vetFib } from './fib/vet/vet.ts'
import {
  DEFAULT_HOST_DEVICE,
  DEFAULT_LARGE_FRAMES,
  DEFAULT_ROUTES,
  DEFAULT_SMALL_FRAMES,
  DEFAULT_VNI,
  DEFAULT_XDP_SOCKETS,
  MAX_POD_MTU,
  MAX_PORTS,
  MIN_POD_MTU,
  PORT_DESCRIPTORS,
  SPARE_DESCRIPTORS,
  UNDERLAY_FILL_FRAMES,
  VXLAN_OVERHEAD_IPV4,
  VXLAN_OVERHEAD_IPV6,
} from './limits.ts'
import {
  checkNetworks,
  checkRoom,
  hostPrefix,
  hostPrefixesOf,
  joinedBy,
  prefixesOf,
  vtepsOf,
} from './manage/cluster.ts'
import { chooseFibs } from './manage/fibs.ts'
import { type Network, Networks } from './manage/networks.ts'
import { NextHopSlots, NO_HOP } from './manage/next-hop-slots.ts'
import { writeNodeFacts, writeXskOffsets } from './manage/node-facts.ts'
import { outerHeader } from './manage/outer-header.ts'
import { Peers } from './manage/peers.ts'
import { PortMappings } from './manage/port-mappings.ts'
import { PortSlots } from './manage/port-slots.ts'
import { discard, type Fibs, Routes } from './manage/routes.ts'
import { readDrops, readFibFaults, readPorts, readWorkers } from './manage/status.ts'
import { Arena, HEADER, planArena } from './memory/arena.ts'
import type { Link } from './netlink/link.ts'
import { Watch } from './netlink/watch.ts'
import { setMasquerade } from './nft/masquerade.ts'
import { PORT_KIND, PORT_ROLE } from './ports/port.ts'
import { HOP } from './tables/next-hops.ts'
import { macWords, NO_PORT, PORT_FLAG } from './tables/ports.ts'
import { rateOf } from './tables/rates.ts'
import { TableWriter } from './tables/tables.ts'
import { writeVteps } from './tables/vteps.ts'
import { Weather } from './weather/weather.ts'
import { WorkerPool } from './worker/pool.ts'

interface Pod {
  spec: PodSpec
  device: PodDevice
  attachment: PodAttachment
  hop: number
  network: Network
}

type Log = NonNullable<DataplaneOptions['log']>

const DEFAULT_VXLAN_PORT = 4789
const MAX_DEFAULT_WORKERS = 4

/** Starts the engine of node `self`; no peer is known and no pod attached yet. Throws with cause and remedy; then nothing stays behind. */
export async function createDataplane(
  self: NodeSpec,
  options: DataplaneOptions = {},
): Promise<ControlPlane> {
  const fibs = await chooseFibs(options.fibs ?? [], options.routes ?? DEFAULT_ROUTES)
  const dataplane = new Dataplane(self, options, fibs)
  try {
    await dataplane.start()
  } catch (error) {
    await dataplane.abandon()
    throw error
  }
  return dataplane
}

class Dataplane implements ControlPlane {
  private readonly options: DataplaneOptions
  private readonly log: Log
  private readonly arena: Arena
  private readonly tables: TableWriter
  private readonly ports: PortSlots
  private readonly hops: NextHopSlots
  private readonly rings: RingSlots
  private readonly routing: Routes
  private readonly portMappings: PortMappings
  private readonly weather: Weather
  private readonly workers: number
  private readonly mostRoutes: number
  private readonly vxlanPort: number
  private readonly notes: string[] = []
  private readonly podsById = new Map<string, Pod>()
  private readonly pending = new Set<string>()
  private readonly networks: Networks
  private readonly peers: Peers
  /** What the cluster has routes for. */
  private prefixes: readonly string[] = []
  /** Next hops of peers that are gone. */
  private readonly stale: number[] = []
  private readonly hostName: string
  private readonly outerOverhead: number
  private self: NodeSpec
  private underlayLink: Link
  private pool: WorkerPool | undefined
  private umem: Umem | undefined
  private host: TunDevice | undefined
  /** No earlier process had made the host device. */
  private hostIsNew = false
  private hostPort = -1
  private hostHop = 0
  private underlayMode: 'xdp' | 'udp' = 'udp'
  private xdpUnderlay: XdpQueues | undefined
  private udpUnderlay: UdpSockets | undefined
  private underlayPort = -1
  private neighbours: Neighbours | undefined
  private generation = 0
  private failed: string | undefined
  private masqueraded = false
  private swapping = false
  readonly mtu: number

  constructor(self: NodeSpec, options: DataplaneOptions, fibs: Fibs) {
    this.self = self
    this.options = options
    this.log = options.log ?? (() => {})
    this.weather = new Weather({ log: this.log, listen: look => new Watch('', look) })
    this.workers = options.workers ?? Math.min(availableParallelism(), MAX_DEFAULT_WORKERS)
    this.vxlanPort = options.vxlanPort ?? DEFAULT_VXLAN_PORT
    this.hostName = options.hostDevice ?? DEFAULT_HOST_DEVICE
    this.portMappings = new PortMappings(this.hostName, this.vxlanPort, this.log)
    this.underlayLink = findUnderlay(self.vtep, options.underlay?.device)
    this.outerOverhead = self.vtep.includes(':') ? VXLAN_OVERHEAD_IPV6 : VXLAN_OVERHEAD_IPV4
    const most = Math.min(this.underlayLink.mtu - this.outerOverhead, MAX_POD_MTU)
    this.mtu = Math.min(options.mtu ?? most, most)
    if (this.mtu < MIN_POD_MTU) {
      throw new RangeError(
        `pod MTU ${this.mtu}: at least ${MIN_POD_MTU} (underlay ${this.underlayLink.name} has ${this.underlayLink.mtu})`,
      )
    }
    this.mostRoutes = options.routes ?? DEFAULT_ROUTES
    const layout = planArena({
      workers: this.workers,
      smallFrames: options.smallFrames ?? DEFAULT_SMALL_FRAMES,
      largeFrames: options.largeFrames ?? DEFAULT_LARGE_FRAMES,
      xdpSockets: DEFAULT_XDP_SOCKETS * this.workers,
      xdpSocketBytes: RING_SLOT_BYTES,
      ...Routes.bytes(fibs, this.mostRoutes),
    })
    this.arena = Arena.create(layout)
    native.bind(this.arena.bytes)
    this.routing = new Routes(this.arena, fibs, this.mostRoutes)
    this.tables = new TableWriter(this.arena)
    this.ports = new PortSlots(this.arena, this.tables)
    this.hops = new NextHopSlots(this.arena)
    this.networks = new Networks(this.arena, this.hops, this.mtu, options.vni ?? DEFAULT_VNI)
    this.peers = new Peers(this.hops, (peer, network) => this.vxlanHop(peer, network))
    this.rings = new RingSlots(this.arena)
  }

  async start(): Promise<void> {
    native.reserveDescriptors(MAX_PORTS * (this.workers + PORT_DESCRIPTORS) + SPARE_DESCRIPTORS)
    try {
      this.umem = await Umem.create(this.arena, this.rings.root)
    } catch (error) {
      this.note(`AF_XDP is not available, pods on TUN and the UDP underlay work: ${text(error)}`)
    }
    this.openHostPort()
    await this.openUnderlay()
    this.change(() => this.writeSelf())
    this.pool = new WorkerPool({
      arena: this.arena,
      ...this.routing.tables,
      onFailure: (worker, error) => {
        this.failed = `worker ${worker} failed: ${error.message}`
        this.log('error', this.failed, { stack: error.stack })
      },
    })
    await this.pool.start()
    await this.weather.start()
  }

  private note(message: string): void {
    this.notes.push(message)
    this.log('warn', message)
  }

  private change(write: () => void): number {
    this.generation = this.tables.change(write)
    return this.generation
  }

  private openHostPort(): void {
    this.hostIsNew = native.interfaceIndex('', this.hostName) === 0
    this.host = openHost(this.hostName, this.workers, this.mtu)
    this.hostPort = this.ports.reserve()
    const { fds, ifindex } = this.host
    this.change(() => {
      this.ports.activate(this.hostPort, {
        ...NO_PORT,
        kind: PORT_KIND.TUN,
        role: PORT_ROLE.HOST,
        ifindex,
        mtu: this.mtu,
        fds,
      })
      const { hostPort: port, mtu } = this
      this.hostHop = this.hops.add({ ...NO_HOP, kind: HOP.PORT, port, mtu })
    })
  }

  private async openUnderlay(): Promise<void> {
    const mode = this.options.underlay?.mode ?? 'auto'
    if (mode !== 'udp') {
      try {
        await this.openXdp()
        return
      } catch (error) {
        if (mode === 'xdp') throw error
        this.note(`underlay ${this.underlayLink.name} by UDP sockets: ${text(error)}`)
      }
    }
    const sockets = openUdpUnderlay(this.self.vtep, this.vxlanPort, this.workers)
    if (!sockets.segments) {
      this.note(
        'UDP sockets without UDP_SEGMENT and UDP_GRO, slower: the kernel has them from 5.0 on',
      )
    }
    this.udpUnderlay = sockets
    this.underlayPort = this.ports.reserve()
    this.change(() =>
      this.ports.activate(this.underlayPort, {
        ...NO_PORT,
        kind: PORT_KIND.UDP,
        role: PORT_ROLE.UNDERLAY,
        ifindex: this.underlayLink.index,
        mtu: this.underlayLink.mtu,
        fds: sockets.receivers,
        moreFds: sockets.senders,
      }),
    )
  }

  private async openXdp(): Promise<void> {
    if (this.umem === undefined) throw new Error('AF_XDP is not available')
    const { vtep } = this.self
    const link = this.underlayLink
    if (link.mac === undefined) throw new Error(`${link.name} has no Ethernet address`)
    const mac = macWords(link.mac)
    const queues = await openXdpUnderlay(this.umem, this.rings, link, vtep, this.vxlanPort)
    if (queues.sockets.length < this.workers) {
      queues.close()
      throw new Error(
        `${link.name} has ${queues.sockets.length} receive queues, ${this.workers} workers need as many`,
      )
    }
    if (queues.link.nativeRefused !== undefined) {
      this.note(`${link.name} in generic XDP mode, slower: ${queues.link.nativeRefused}`)
    }
    this.xdpUnderlay = queues
    this.underlayMode = 'xdp'
    const metadata = this.umem.txMetadata ? PORT_FLAG.TX_METADATA : 0
    // A device with more queues than workers takes several ports; the first one is sent by.
    for (let first = 0; first < queues.sockets.length; first += this.workers) {
      const sockets = queues.sockets.slice(first, first + this.workers)
      const port = this.ports.reserve()
      if (first === 0) this.underlayPort = port
      this.change(() => {
        writeXskOffsets(this.arena, sockets[0]!.offsets)
        this.ports.activate(port, {
          ...NO_PORT,
          kind: PORT_KIND.XDP,
          role: PORT_ROLE.UNDERLAY,
          flags: metadata,
          ifindex: link.index,
          mtu: link.mtu,
          macHigh: mac.high,
          macLow: mac.low,
          fillFrames: first === 0 ? UNDERLAY_FILL_FRAMES : UNDERLAY_FILL_FRAMES / 8,
          fds: sockets.map(socket => socket.fd),
          rings: sockets.map(socket => socket.ringsOffset),
        })
      })
    }
    this.neighbours = new Neighbours(link.index, (address, mac) => this.resolved(address, mac))
  }

  private writeSelf(): void {
    const { self, vxlanPort, hostPort } = this
    writeNodeFacts(this.arena, { self, vni: this.networks.own.vni, vxlanPort, hostPort })
  }

  async setCluster(
    self: NodeSpec,
    peers: readonly NodeSpec[],
    specs: readonly NetworkSpec[] = [],
  ): Promise<void> {
    if (self.vtep !== this.self.vtep) {
      throw new Error(`node ${self.name}: its VTEP address can't change while it runs; restart`)
    }
    const vteps = vtepsOf(self, peers)
    checkNetworks(specs, this.networks.own.vni)
    const prefixes = prefixesOf(self, peers, specs)
    checkRoom(prefixes, this.podsById.size, this.mostRoutes)
    this.checkNextHops(self, peers, specs)
    this.self = self
    // What goes: routes first, so that nothing new takes a next hop that is about to be freed.
    const kept = new Set(prefixes)
    for (const prefix of this.prefixes) if (!kept.has(prefix)) this.routing.remove(prefix)
    this.prefixes = prefixes
    const there = new Set(peers.map(({ vtep }) => vtep))
    for (const { vtep } of this.peers.specs) if (!there.has(vtep)) this.neighbours?.forget(vtep)
    const known = this.change(() => {
      const at = this.arena.layout.vteps.offset / 4
      this.arena.header()[HEADER.VTEP_COUNT] = vteps.length
      writeVteps(this.arena.words, at, vteps)
      this.writeSelf()
      this.networks.follow(self, peers, specs)
      this.stale.push(...this.peers.follow(peers, this.networks.joined()))
    })
    // A worker must have the next hops before a lookup can name them.
    await this.tables.acknowledged(known)
    for (const prefix of hostPrefixesOf(self)) this.routing.insert(prefix, this.hostHop)
    for (const { podCidrs, reject } of this.networks.joined()) {
      for (const cidr of podCidrs) this.routing.insert(cidr, reject)
    }
    for (const { hop, cidrs } of this.peers.ways()) {
      for (const cidr of cidrs) this.routing.insert(cidr, hop)
    }
    const cluster = [...self.podCidrs, ...peers.flatMap(peer => peer.podCidrs)]
    routeCluster(this.host!.ifindex, self.podCidrs, cluster)
    if (this.options.masquerade === true) {
      await setMasquerade(this.hostName, self.podCidrs, cluster, this.vxlanPort)
      this.masqueraded = true
    }
    await this.portMappings.follow(cluster)
    await this.quiesce()
    this.change(() => {
      for (const hop of this.stale.splice(0)) this.hops.free(hop)
      this.networks.forget()
    })
  }

  private checkNextHops(
    self: NodeSpec,
    peers: readonly NodeSpec[],
    specs: readonly NetworkSpec[],
  ): void {
    const names = joinedBy(self, specs).map(({ name }) => name)
    const missing = this.networks.missing(self, specs) + this.peers.missing(peers, names)
    if (missing <= this.hops.room) return
    throw new RangeError(
      `${peers.length} nodes in ${names.length + 1} networks: ${missing} more next hops are needed, ${this.hops.room} are free (MAX_NEXT_HOPS)`,
    )
  }

  private vxlanHop(peer: NodeSpec, { index, vni }: Network) {
    const mac = this.neighbours?.watch(peer.vtep)
    const { high, low } = macWords(mac ?? '00:00:00:00:00:00')
    return {
      kind: HOP.VXLAN,
      network: index,
      port: this.underlayPort,
      mtu: this.mtu,
      header: outerHeader({
        source: this.self.vtep,
        destination: peer.vtep,
        vxlanPort: this.vxlanPort,
        vni,
        sourceMac: this.self.vtepMac ?? vtepMac(this.self.name),
        destinationMac: peer.vtepMac ?? vtepMac(peer.name),
      }),
      macHigh: high,
      macLow: low,
      macKnown: mac !== undefined,
    }
  }

  /** The kernel found out, or changed its mind, about the MAC behind a VTEP. */
  private resolved(vtep: string, mac: string | undefined): void {
    this.log('debug', 'underlay neighbour', { vtep, mac })
    this.change(() => this.peers.refresh(vtep))
  }

  /** Resolves when no worker uses anything that has been replaced or removed before the call. */
  private async quiesce(): Promise<void> {
    // Another call may have changed a FIB while this one waited: what that freed is still in use.
    for (let seen = -1; seen !== this.routing.changes; ) {
      seen = this.routing.changes
      await this.tables.acknowledged(this.change(() => {}))
    }
    this.routing.quiesced()
  }

  async swapFib(fib: string): Promise<FibStatus> {
    if (this.swapping) throw new Error(`${fib}: another swap is under way`)
    const { pool, routing } = this
    if (pool === undefined) throw new Error(`${fib}: the engine does not run`)
    this.swapping = true
    try {
      const limits = { routes: this.mostRoutes }
      const source = await vetFib(fib, { limits, routes: family => routing.columns(family) })
      const { family } = source
      const table = await routing.prepare(source)
      const wake = () => void this.change(() => {})
      try {
        await pool.take(table, wake)
        try {
          routing.checkPrepared(family)
        } catch (error) {
          await pool.goBack(wake)
          throw error
        }
      } catch (error) {
        discard(routing.abandon(family))
        throw error
      }
      // Every worker works by the new one now, and each batch by one of both.
      discard(routing.adopt(family))
      const status = routing.status().find(each => each.family === family)!
      this.log('info', 'another FIB is in use', status)
      return status
    } finally {
      this.swapping = false
    }
  }

  async attach(spec: PodSpec, options: { adopt?: boolean } = {}): Promise<PodAttachment> {
    const known = this.podsById.get(spec.id)
    if (known !== undefined || this.pending.has(spec.id)) {
      throw Object.assign(new Error(`pod ${spec.id}: it is attached already`), { code: 'EEXIST' })
    }
    if (spec.ip4 === undefined && spec.ip6 === undefined) {
      throw new RangeError(`pod ${spec.id}: it needs an address`)
    }
    const mtu = Math.min(spec.mtu ?? this.mtu, this.mtu)
    const prefixes = [spec.ip4, spec.ip6].filter(ip => ip !== undefined).map(hostPrefix)
    this.pending.add(spec.id)
    const undo: (() => void | Promise<void>)[] = []
    try {
      const port = this.ports.reserve()
      undo.push(() => this.ports.cancel(port))
      const network = this.networks.enter(spec.network, options.adopt ?? false)
      undo.push(() => this.networks.leave(network))
      const own = spec.further ?? []
      const further =
        spec.network === undefined ? spec.further : [...new Set([...network.cidrs, ...own])]
      const device = await openPod(
        { ...spec, mtu, ...(further === undefined ? {} : { further }) },
        this.workers,
        options.adopt ?? false,
        this.umem,
        this.rings,
      )
      undo.push(() => device.remove())
      faultPoint('attach.configured')
      let hop = 0
      const served = this.change(() => {
        hop = this.hops.add({ ...NO_HOP, kind: HOP.PORT, network: network.index, port, mtu })
        const ip6 = spec.ip6 === undefined ? [0, 0, 0, 0] : [...ipWords(spec.ip6)]
        if (device.xskOffsets !== undefined) writeXskOffsets(this.arena, device.xskOffsets)
        this.ports.activate(port, {
          ...device.record,
          role: PORT_ROLE.POD,
          network: network.index,
          mtu,
          flags:
            device.record.flags |
            (spec.ip4 === undefined ? 0 : PORT_FLAG.HAS_IPV4) |
            (spec.ip6 === undefined ? 0 : PORT_FLAG.HAS_IPV6),
          ip4: spec.ip4 === undefined ? 0 : ipWords(spec.ip4)[0]!,
          ip6: ip6 as [number, number, number, number],
          ingress: rateOf(spec.bandwidth?.ingressRate, spec.bandwidth?.ingressBurst),
          egress: rateOf(spec.bandwidth?.egressRate, spec.bandwidth?.egressBurst),
        })
      })
      undo.push(async () => {
        for (const prefix of prefixes) this.routing.remove(prefix)
        await this.quiesce()
        this.change(() => this.hops.free(hop))
        await this.ports.remove(port, () => device.remove())
      })
      await this.tables.acknowledged(served)
      faultPoint('attach.served')
      for (const prefix of prefixes) this.routing.insert(prefix, hop)
      faultPoint('attach.routed')
      const attachment: PodAttachment = {
        id: spec.id,
        kind: spec.kind,
        netns: spec.netns,
        ifname: spec.ifname,
        ...(spec.ip4 === undefined ? {} : { ip4: spec.ip4 }),
        ...(spec.ip6 === undefined ? {} : { ip6: spec.ip6 }),
        ...(spec.network === undefined ? {} : { network: spec.network }),
        mtu,
        port,
        routes: device.routes,
        ...device.link,
      }
      this.podsById.set(spec.id, { spec: { ...spec, mtu }, device, attachment, hop, network })
      return attachment
    } catch (error) {
      for (const step of undo.reverse()) await step()
      throw error
    } finally {
      this.pending.delete(spec.id)
    }
  }

  async detach(id: string): Promise<void> {
    const pod = this.podsById.get(id)
    if (pod === undefined) return
    this.podsById.delete(id)
    this.pending.add(id)
    try {
      const { spec, device, attachment, hop, network } = pod
      for (const ip of [spec.ip4, spec.ip6])
        if (ip !== undefined) this.routing.remove(hostPrefix(ip))
      await this.quiesce()
      this.change(() => this.hops.free(hop))
      faultPoint('detach.unrouted')
      await this.ports.remove(attachment.port, async () => {
        faultPoint('detach.closing')
        await device.remove()
        faultPoint('detach.removed')
      })
      this.networks.leave(network)
    } finally {
      this.pending.delete(id)
    }
  }

  verify(id: string): readonly string[] {
    const pod = this.podsById.get(id)
    if (pod === undefined) return [`pod ${id} is not attached`]
    const problems = [...verifyPod(pod.spec, pod.attachment)]
    for (const ip of [pod.spec.ip4, pod.spec.ip6]) {
      if (ip !== undefined && this.routing.lookup(ip) !== pod.hop)
        problems.push(`FIB: no route to ${ip}`)
    }
    if (this.failed !== undefined) problems.push(this.failed)
    return problems
  }

  setPortMappings(pods: readonly PodPorts[]): Promise<void> {
    return this.portMappings.set(pods)
  }

  verifyPortMappings(pods: readonly PodPorts[]): Promise<readonly string[]> {
    return this.portMappings.verify(pods)
  }

  pods(): readonly PodAttachment[] {
    return [...this.podsById.values()].map(pod => pod.attachment)
  }

  routes(): readonly RouteEntry[] {
    const via = new Map<number, Omit<RouteEntry, 'prefix'>>()
    via.set(this.hostHop, { kind: 'host', via: this.hostName, mtu: this.mtu })
    const of = ({ name }: Network) => (name === undefined ? {} : { network: name })
    for (const network of this.networks.joined()) {
      via.set(network.reject, { kind: 'reject', via: '', mtu: this.mtu, ...of(network) })
    }
    for (const { spec, hop, network } of this.peers.ways()) {
      const to = `${spec.name} ${spec.vtep}`
      via.set(hop, { kind: 'vxlan', via: to, mtu: this.mtu, ...of(network) })
    }
    for (const { hop, attachment, network } of this.podsById.values()) {
      via.set(hop, { kind: 'pod', via: attachment.id, mtu: attachment.mtu, ...of(network) })
    }
    const entries: RouteEntry[] = []
    for (const { prefix, hop } of this.routing.list()) {
      const target = via.get(hop)
      if (target !== undefined) entries.push({ prefix, ...target })
    }
    return entries
  }

  drops(): readonly DropCount[] {
    return readDrops(this.arena)
  }

  status(): DataplaneStatus {
    const names = new Map<number, string>([[this.hostPort, this.hostName]])
    for (const { attachment } of this.podsById.values()) names.set(attachment.port, attachment.id)
    const unresolved =
      this.neighbours === undefined
        ? []
        : [...this.peers.ways()]
            .filter(({ network, hop }) => network.index === 0 && !this.hops.get(hop)?.macKnown)
            .map(({ spec }) => `node ${spec.name}: the MAC behind ${spec.vtep} is not resolved`)
    const faults = readFibFaults(this.arena)
    const notes = [...this.notes, ...unresolved, ...this.networks.notes()]
    if (faults > 0) notes.push(`FIB: ${faults} lookups failed, their packets had no route`)
    if (this.failed !== undefined) notes.push(this.failed)
    return {
      ready:
        this.pool !== undefined && this.failed === undefined && !this.weather.conditions.blocked,
      notes,
      troubles: this.weather.conditions.troubles(),
      mended: this.weather.conditions.mendings(),
      node: this.self.name,
      mtu: this.mtu,
      vni: this.networks.own.vni,
      vxlanPort: this.vxlanPort,
      underlay: {
        mode: this.underlayMode,
        device: this.underlayLink.name,
        address: this.self.vtep,
        ...(this.xdpUnderlay === undefined ? {} : { xdp: this.xdpUnderlay.link.mode }),
      },
      networks: this.networks.status(),
      generation: this.generation,
      pods: this.podsById.size,
      routes: this.routing.sizes,
      fibs: this.routing.status(),
      workers: readWorkers(this.arena),
      ports: readPorts(this.arena, this.ports, names, this.underlayLink.name),
    }
  }

  /** Undoes a start that failed; a host device that it has made goes, too. */
  async abandon(): Promise<void> {
    const { host, hostIsNew } = this
    if (hostIsNew) this.host = undefined
    await this.stop()
    if (hostIsNew && host !== undefined) removeTun(host)
  }

  async stop(): Promise<void> {
    await this.weather.close()
    await this.pool?.stop()
    this.pool = undefined
    for (const { device } of this.podsById.values()) device.close()
    this.podsById.clear()
    this.neighbours?.close()
    this.xdpUnderlay?.close()
    this.udpUnderlay?.close()
    this.umem?.close()
    if (this.host !== undefined) closeTun(this.host)
    if (this.masqueraded) this.log('debug', 'masquerading rules stay for pods that go on')
    this.neighbours = undefined
    this.xdpUnderlay = undefined
    this.udpUnderlay = undefined
    this.umem = undefined
    this.host = undefined
  }
}

function text(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}
