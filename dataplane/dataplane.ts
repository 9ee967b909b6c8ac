/**
 * The packet engine of one node, put together: arena, tables, devices, workers. It implements the
 * control interface (control.ts) and is the only writer of every table. This file is the order of
 * steps; the steps lie in manage/ and devices/.
 *
 * Order of things: a port is served before a route names it, and a route is gone before its port
 * stops. A next hop id is used again only when every worker has seen that no route names it.
 */
import { availableParallelism } from 'node:os'
import { native } from '../native/native.ts'
import { RING_SLOT_BYTES, RingSlots } from './afxdp/ring-slots.ts'
import { Umem } from './afxdp/umem.ts'
import { Cluster, type Follower } from './cluster/cluster.ts'
import {
  type ControlPlane,
  type DataplaneOptions,
  type DataplaneStatus,
  type Denial,
  type DenialsRead,
  type DropCount,
  type FibStatus,
  type FlowEntry,
  joinedBy,
  type LearnedName,
  type NamesStatus,
  type NetworkSpec,
  type NodeSpec,
  type PodAttachment,
  type PodPorts,
  type PodSpec,
  type PolicyAnswer,
  type PolicyQuestion,
  type PolicyState,
  type RouteEntry,
  vtepMac,
} from './control.ts'
import { Enforcement } from './enforce/enforcement.ts'
import { vetFib } from './fib/vet/vet.ts'
import { Host } from './host/host.ts'
import {
  DEFAULT_HOST_DEVICE,
  DEFAULT_LARGE_FRAMES,
  DEFAULT_PEERS,
  DEFAULT_ROUTES,
  DEFAULT_SMALL_FRAMES,
  DEFAULT_VNI,
  DEFAULT_XDP_SOCKETS,
  MAX_POD_MTU,
  MAX_PORTS,
  MAX_TUNNELLED_BYTES,
  MIN_POD_MTU,
  PORT_DESCRIPTORS,
  SPARE_DESCRIPTORS,
} from './limits.ts'
import { chooseFibs } from './manage/fibs.ts'
import { Networks } from './manage/networks.ts'
import { NextHopSlots } from './manage/next-hop-slots.ts'
import { writeNodeFacts } from './manage/node-facts.ts'
import type { Log, Parts } from './manage/parts.ts'
import { Peers } from './manage/peers.ts'
import { Pods } from './manage/pods.ts'
import { PortSlots } from './manage/port-slots.ts'
import { routeEntries } from './manage/route-entries.ts'
import { discard, type Fibs, Routes } from './manage/routes.ts'
import { engineStatus, readDrops } from './manage/status.ts'
import { Underlay } from './manage/underlay.ts'
import { Arena, planArena } from './memory/arena.ts'
import { Watch } from './netlink/watch.ts'
import { TableWriter } from './tables/tables.ts'
import { Trunk } from './trunk/trunk.ts'
import { Weather } from './weather/weather.ts'
import { WorkerPool } from './worker/pool.ts'

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
  readonly mtu: number
  private readonly options: DataplaneOptions
  private readonly log: Log
  private readonly arena: Arena
  private readonly tables: TableWriter
  private readonly parts: Parts
  private readonly underlay: Underlay
  private readonly routing: Routes
  private readonly networks: Networks
  private readonly peers: Peers
  private readonly attached: Pods
  private readonly cluster: Cluster
  private readonly weather: Weather
  /** Absent: policy is not switched on. */
  private readonly enforcement: Enforcement | undefined
  private readonly mostRoutes: number
  private readonly vxlanPort: number
  private readonly host: Host
  private readonly notes: string[] = []
  private pool: WorkerPool | undefined
  private failed: string | undefined
  private swapping = false

  constructor(self: NodeSpec, options: DataplaneOptions, fibs: Fibs) {
    this.options = options
    this.log = options.log ?? (() => {})
    this.weather = new Weather({ log: this.log, listen: look => new Watch('', look) })
    this.vxlanPort = options.vxlanPort ?? DEFAULT_VXLAN_PORT
    this.mostRoutes = options.routes ?? DEFAULT_ROUTES
    const workers = options.workers ?? Math.min(availableParallelism(), MAX_DEFAULT_WORKERS)
    const xdpSockets = options.xdpSockets ?? DEFAULT_XDP_SOCKETS
    if (xdpSockets > MAX_PORTS) {
      throw new RangeError(`xdpSockets: ${xdpSockets}: at most ${MAX_PORTS}, as many as ports`)
    }
    const peers = options.peers ?? DEFAULT_PEERS
    const layout = planArena({
      workers,
      peers,
      smallFrames: options.smallFrames ?? DEFAULT_SMALL_FRAMES,
      largeFrames: options.largeFrames ?? DEFAULT_LARGE_FRAMES,
      xdpSockets: 1 + xdpSockets * workers,
      xdpSocketBytes: RING_SLOT_BYTES,
      ...Routes.bytes(fibs, this.mostRoutes),
    })
    const arena = Arena.create(layout)
    native.bind(arena.bytes)
    const tables = new TableWriter(arena)
    const hops = new NextHopSlots(arena)
    this.arena = arena
    this.tables = tables
    const ports = new PortSlots(arena, tables)
    this.parts = {
      arena,
      tables,
      ports,
      hops,
      trunk: new Trunk({ arena, tables, ports, hops, workers }),
      rings: new RingSlots(arena),
      workers,
      umem: undefined,
      log: this.log,
    }
    this.underlay = new Underlay(this.parts, {
      vtep: self.vtep,
      vxlanPort: this.vxlanPort,
      vni: options.vni ?? DEFAULT_VNI,
      options: options.underlay ?? {},
      mac: self.vtepMac ?? vtepMac(self.name),
      conditions: this.weather.conditions,
      changed: vteps => this.refresh(vteps),
    })
    this.mtu = mtuOf(options.mtu, this.underlay, mostOf(options))
    this.routing = new Routes(this.parts, fibs, this.mostRoutes)
    this.networks = new Networks(arena, hops, this.mtu, options.vni ?? DEFAULT_VNI)
    this.peers = new Peers(hops, (peer, network) =>
      this.underlay.hopTo(this.cluster.self, peer, network, this.mtu),
    )
    if (options.policy !== undefined) {
      this.enforcement = new Enforcement(this.parts, options.policy, index =>
        this.networks.nameOf(index),
      )
    }
    this.attached = new Pods(this.parts, this.routing, this.networks, this.mtu, this.enforcement)
    this.host = new Host(this.parts, this.routing, {
      name: options.hostDevice ?? DEFAULT_HOST_DEVICE,
      mtu: this.mtu,
      vxlanPort: this.vxlanPort,
      masquerade: options.masquerade ?? false,
      weather: this.weather,
      pods: () => this.attached.addresses(),
      moved: () => this.writeSelf(),
    })
    this.weather.add("pods' links", ['link', 'pod', 'netconf'], () =>
      this.attached.look(this.weather.conditions),
    )
    this.weather.add('the trunk', ['link', 'netconf'], () =>
      this.parts.trunk.look(this.weather.conditions),
    )
    this.cluster = new Cluster(self, {
      parts: this.parts,
      routing: this.routing,
      networks: this.networks,
      peers: this.peers,
      pods: () => this.attached.size,
      hostHop: () => this.host.hop,
      hostPrefixes: () => this.host.prefixes,
      kernel: this.followers(),
      writeSelf: () => this.writeSelf(),
      limits: { peers, routes: this.mostRoutes },
    })
  }

  async start(): Promise<void> {
    const { arena, parts } = this
    native.reserveDescriptors(MAX_PORTS * (parts.workers + PORT_DESCRIPTORS) + SPARE_DESCRIPTORS)
    try {
      parts.umem = await Umem.create(arena, parts.rings.root)
    } catch (error) {
      this.note(`AF_XDP is not available, pods on TUN and the UDP underlay work: ${text(error)}`)
    }
    this.host.open()
    await this.underlay.open(this.mtu)
    this.tables.change(() => this.writeSelf())
    this.pool = new WorkerPool({
      arena,
      ...this.routing.tables,
      ...(this.enforcement === undefined ? {} : { policy: this.enforcement.memory }),
      ...(this.options.cpus === undefined ? {} : { cpus: this.options.cpus }),
      busyPoll: (this.options.busyPoll ?? 0) * 1000,
      onFailure: (worker, error) => {
        this.failed = `worker ${worker} failed: ${error.message}`
        this.log('error', this.failed, { stack: error.stack })
        this.options.onFailure?.(new Error(this.failed, { cause: error }))
      },
    })
    await this.pool.start()
    this.enforcement?.names?.start()
    const topics = ['link', 'address', 'route', 'rule', 'neighbour'] as const
    this.weather.add('the underlay', topics, why => this.underlay.look(why))
    await this.weather.start()
  }

  private note(message: string): void {
    this.notes.push(message)
    this.log('warn', message)
  }

  /** The ways to these VTEPs have changed. */
  private refresh(vteps: ReadonlySet<string>): void {
    const writes = this.peers.refreshed(vteps)
    this.tables.change(() => {
      for (const [id, hop] of writes) this.parts.hops.update(id, hop)
    })
  }

  private writeSelf(): void {
    const { vxlanPort, host } = this
    const { self } = this.cluster
    const { vni } = this.networks.own
    writeNodeFacts(this.arena, { self, vni, vxlanPort, hostPort: host.port })
  }

  setCluster(
    self: NodeSpec,
    peers: readonly NodeSpec[],
    networks: readonly NetworkSpec[] = [],
  ): Promise<void> {
    return this.cluster.set({ self, peers, networks })
  }

  /** What follows the cluster in the kernel, in this order. */
  private followers(): Follower[] {
    return [
      ({ peers }) => this.underlay.follow(peers.map(({ vtep }) => vtep)),
      ({ self }) => this.parts.trunk.setMac(self.vtepMac ?? vtepMac(self.name)),
      ({ self, networks }) => this.underlay.admit(joinedBy(self, networks).map(({ vni }) => vni)),
      ({ self, peers }) => this.host.follow(self, peers),
    ]
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
      const wake = () => void this.tables.change(() => {})
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

  async attach(spec: PodSpec, { adopt = false }: { adopt?: boolean } = {}): Promise<PodAttachment> {
    // Nobody tells of all of them.
    if (this.host.mendSwitches()) this.weather.poke("pods' links")
    const attachment = await this.attached.attach(spec, adopt)
    try {
      await this.host.podsMoved()
    } catch (error) {
      await this.attached.detach(spec.id)
      throw error
    }
    return attachment
  }

  async detach(id: string): Promise<void> {
    await this.attached.detach(id)
    await this.host.podsMoved()
  }

  verify(id: string): readonly string[] {
    const problems = this.attached.verify(id)
    return this.failed === undefined ? problems : [...problems, this.failed]
  }

  setPolicy(policy: PolicyState): Promise<void> {
    if (this.enforcement !== undefined) return this.enforcement.set(policy)
    return Promise.reject(new Error('policy is not switched on (DataplaneOptions.policy)'))
  }

  flows(most: number): readonly FlowEntry[] {
    return this.enforcement?.flows(most) ?? []
  }

  denials(read?: DenialsRead): { denials: readonly Denial[]; missed: number; read: DenialsRead } {
    return this.enforcement?.denials(read) ?? { denials: [], missed: 0, read: [] }
  }

  learnedNames(): readonly LearnedName[] {
    return this.enforcement?.names?.list() ?? []
  }

  namesStatus(): NamesStatus | undefined {
    return this.enforcement?.names?.status()
  }

  policyHits(origins: readonly number[]): readonly number[] {
    return this.enforcement?.hits(origins) ?? origins.map(() => 0)
  }

  auditPolicy(): Promise<readonly string[]> {
    return this.enforcement?.audit() ?? Promise.resolve([])
  }

  askPolicy(question: PolicyQuestion): PolicyAnswer | undefined {
    return this.enforcement?.ask(question)
  }

  setPortMappings(pods: readonly PodPorts[]): Promise<void> {
    return this.host.mappings.set(pods)
  }

  verifyPortMappings(pods: readonly PodPorts[]): Promise<readonly string[]> {
    return this.host.mappings.verify(pods)
  }

  pods(): readonly PodAttachment[] {
    return [...this.attached.all()].map(({ attachment }) => attachment)
  }

  routes(): readonly RouteEntry[] {
    const { routing, networks, peers, attached: pods, mtu } = this
    const { hop, name } = this.host
    return routeEntries({ routing, networks, peers, pods, host: { hop, name, mtu } })
  }

  drops(): readonly DropCount[] {
    this.parts.ports.countKernelDrops()
    return readDrops(this.arena)
  }

  status(): DataplaneStatus {
    const { parts, underlay, routing, networks, peers, attached: pods, failed, notes } = this
    return engineStatus({
      parts,
      underlay,
      routing,
      networks,
      peers,
      pods,
      host: { port: this.host.port, name: this.host.name },
      node: this.cluster.self.name,
      mtu: this.mtu,
      vxlanPort: this.vxlanPort,
      running: this.pool !== undefined,
      conditions: this.weather.conditions,
      notes,
      failed,
    })
  }

  /** Undoes a start that failed; a host device that it has made goes, too. */
  async abandon(): Promise<void> {
    await this.stop({ undo: true })
  }

  async stop(options: { undo?: boolean } = {}): Promise<void> {
    await this.weather.close()
    this.enforcement?.names?.close()
    await this.pool?.stop()
    this.pool = undefined
    this.attached.close()
    await this.underlay.close()
    this.parts.umem?.close()
    this.parts.umem = undefined
    this.host.close(options)
    this.parts.trunk.close(options)
    if (this.options.masquerade) this.log('debug', 'masquerading rules stay for pods that go on')
  }
}

/** Largest packet that the underlay takes of a pod, whatever its device does. */
function mostOf({ underlay }: DataplaneOptions): number {
  return underlay?.mode === 'vxlan' ? MAX_TUNNELLED_BYTES : MAX_POD_MTU
}

/** Largest packet of a pod. Throws RangeError when the underlay leaves too little. */
function mtuOf(wanted: number | undefined, underlay: Underlay, largest: number): number {
  const most = Math.min(underlay.mtu, largest)
  const mtu = Math.min(wanted ?? most, most)
  if (mtu >= MIN_POD_MTU) return mtu
  const { name } = underlay.device
  const has = underlay.mtu + underlay.overhead
  throw new RangeError(`pod MTU ${mtu}: at least ${MIN_POD_MTU} (underlay ${name} has ${has})`)
}

function text(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}
