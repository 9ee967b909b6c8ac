/** What the engine says of itself; what its workers count is read from shared memory without stopping them. */
import type { DataplaneStatus, DropCount, PortStatus, WorkerStatus } from '../control.ts'
import { DROPS } from '../drops.ts'
import { MAX_PORTS } from '../limits.ts'
import { type Arena, COUNTER, PORT_COUNTER, portCounters, WORKER } from '../memory/arena.ts'
import { PORT_KIND, PORT_ROLE } from '../ports/port.ts'
import { PORT_STATE } from '../tables/ports.ts'
import type { Conditions } from '../weather/conditions.ts'
import type { Networks } from './networks.ts'
import type { Parts } from './parts.ts'
import type { Peers } from './peers.ts'
import type { Pods } from './pods.ts'
import type { PortSlots } from './port-slots.ts'
import type { Routes } from './routes.ts'
import type { Underlay } from './underlay.ts'

export interface StatusSources {
  parts: Parts
  underlay: Underlay
  routing: Routes
  networks: Networks
  peers: Peers
  pods: Pods
  host: { port: number; name: string }
  node: string
  mtu: number
  vxlanPort: number
  running: boolean
  /** What is wrong with what the kernel has. */
  conditions: Conditions
  /** What works less well than it could. */
  notes: readonly string[]
  /** Why it works no more. */
  failed: string | undefined
}

export function engineStatus(from: StatusSources): DataplaneStatus {
  const { parts, networks, routing, pods, conditions, failed } = from
  const { arena } = parts
  const { underlay, notes: underlayNotes } = from.underlay.status()
  const { trunk } = parts
  const names = new Map([
    [from.host.port, from.host.name],
    [trunk.port, trunk.name],
  ])
  for (const { attachment } of pods.all()) names.set(attachment.port, attachment.id)
  const faults = readFibFaults(arena)
  const notes = [...from.notes, ...underlayNotes, ...unresolved(from), ...networks.notes()]
  if (faults > 0) notes.push(`FIB: ${faults} lookups failed, their packets had no route`)
  if (failed !== undefined) notes.push(failed)
  return {
    ready: from.running && failed === undefined && !conditions.blocked,
    notes,
    troubles: conditions.troubles(),
    mended: conditions.mendings(),
    node: from.node,
    mtu: from.mtu,
    vni: networks.own.vni,
    vxlanPort: from.vxlanPort,
    underlay,
    networks: networks.status(),
    generation: parts.tables.generation,
    pods: pods.size,
    routes: routing.sizes,
    fibs: routing.status(),
    workers: readWorkers(arena),
    ports: readPorts(arena, parts.ports, names, underlay.device),
  }
}

/** A sentence for each peer whose frames have no destination yet. */
function unresolved({ parts, peers }: StatusSources): string[] {
  return [...peers.ways()]
    .filter(({ network, hop }) => network.index === 0 && !parts.hops.get(hop)?.macKnown)
    .map(({ spec }) => `node ${spec.name}: the MAC behind ${spec.vtep} is not resolved`)
}

/** Every reason that has occurred. */
export function readDrops(arena: Arena): DropCount[] {
  const all = workersOf(arena).map(w => arena.counters(w))
  const counts = DROPS.map(([reason, text], id) => {
    const workers = all.map(counters => counters[COUNTER.DROPS + id]!)
    return { reason, text, count: workers.reduce((sum, n) => sum + n, 0), workers }
  })
  return counts.filter(({ count }) => count > 0)
}

export function readWorkers(arena: Arena): WorkerStatus[] {
  return workersOf(arena).map(worker => {
    const control = arena.control(worker)
    const counters = arena.counters(worker)
    return {
      worker,
      running: Atomics.load(control, WORKER.STATE) === 1,
      asleep: Atomics.load(control, WORKER.ASLEEP) === 1,
      generation: Atomics.load(control, WORKER.ACKNOWLEDGED),
      packets: counters[COUNTER.PACKETS]!,
      batches: counters[COUNTER.BATCHES]!,
      sleeps: counters[COUNTER.SLEEPS]!,
      cpuNs: counters[COUNTER.CPU_NS]!,
      smallFree: Atomics.load(control, WORKER.SMALL_FREE),
      smallHeld: Atomics.load(control, WORKER.SMALL_HELD),
      largeFree: Atomics.load(control, WORKER.LARGE_FREE),
      leaked: Atomics.load(control, WORKER.LEAKED),
      encapsulated: counters[COUNTER.ENCAPSULATED]!,
      decapsulated: counters[COUNTER.DECAPSULATED]!,
      icmpErrors: counters[COUNTER.ICMP_ERRORS]!,
      icmpLimited: counters[COUNTER.ICMP_LIMITED]!,
    }
  })
}

/** Lookups of a FIB from a file that threw or answered what is no next hop, in all workers. */
export function readFibFaults(arena: Arena): number {
  return workersOf(arena)
    .map(worker => arena.counters(worker)[COUNTER.FIB_FAULTS]!)
    .reduce((sum, n) => sum + n, 0)
}

const KINDS: Readonly<Record<number, string>> = {
  [PORT_KIND.TUN]: 'tun',
  [PORT_KIND.XDP]: 'xdp',
  [PORT_KIND.UDP]: 'udp',
  [PORT_KIND.TAP]: 'tap',
  [PORT_KIND.VXLAN]: 'vxlan',
  [PORT_KIND.TRUNK]: 'tap',
}
const ROLES: Readonly<Record<number, string>> = {
  [PORT_ROLE.POD]: 'pod',
  [PORT_ROLE.UNDERLAY]: 'underlay',
  [PORT_ROLE.HOST]: 'host',
  [PORT_ROLE.TRUNK]: 'trunk',
}

/** By DEVICE. */
const DEVICES = ['up', 'down', 'gone'] as const

/** `names`: of ports by index; what is not in it is the underlay's. */
export function readPorts(
  arena: Arena,
  ports: PortSlots,
  names: ReadonlyMap<number, string>,
  underlay: string,
): PortStatus[] {
  ports.countKernelDrops()
  const all = workersOf(arena).map(w => arena.counters(w))
  const found: PortStatus[] = []
  for (let port = 0; port < MAX_PORTS; port++) {
    const record = ports.record(port)
    if (record?.state !== PORT_STATE.ACTIVE) continue
    const at = portCounters(port)
    const sum = (counter: number) => all.reduce((total, each) => total + each[at + counter]!, 0)
    found.push({
      port,
      kind: KINDS[record.kind] ?? 'unknown',
      role: ROLES[record.role] ?? 'unknown',
      name: names.get(port) ?? underlay,
      rxPackets: sum(PORT_COUNTER.RX_PACKETS),
      rxBytes: sum(PORT_COUNTER.RX_BYTES),
      txPackets: sum(PORT_COUNTER.TX_PACKETS),
      txBytes: sum(PORT_COUNTER.TX_BYTES),
      rxDrops: sum(PORT_COUNTER.RX_DROPS) + sum(PORT_COUNTER.KERNEL_DROPS),
      txDrops: sum(PORT_COUNTER.TX_DROPS),
      device: DEVICES[Math.max(...all.map(each => each[at + PORT_COUNTER.DEVICE]!))]!,
    })
  }
  return found
}

function workersOf(arena: Arena): number[] {
  return Array.from({ length: arena.layout.plan.workers }, (_, worker) => worker)
}
