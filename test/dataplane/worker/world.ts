/**
 * Workers on real TUN devices, without a daemon around them:
 *
 *     pod a 10.244.1.2 ── TUN ── port 0 ┐                 one queue of each port
 *                                       ├─ two workers ─  for each worker
 *     pod b 10.244.1.3 ── TUN ── port 1 ┘
 */
import { ipWords } from '../../../dataplane/addresses.ts'
import { configurePodTun, openTun, removeTun } from '../../../dataplane/devices/tun.ts'
import { defaultFib, fibByName } from '../../../dataplane/fib/index.ts'
import { NextHopSlots } from '../../../dataplane/manage/next-hop-slots.ts'
import { PortSlots } from '../../../dataplane/manage/port-slots.ts'
import { tableIn } from '../../../dataplane/manage/routes.ts'
import { readDrops, readWorkers } from '../../../dataplane/manage/status.ts'
import { Arena, COUNTER, planArena } from '../../../dataplane/memory/arena.ts'
import { Netlink } from '../../../dataplane/netlink/socket.ts'
import { PORT_KIND, PORT_ROLE } from '../../../dataplane/ports/port.ts'
import { HOP } from '../../../dataplane/tables/next-hops.ts'
import { PORT_FLAG } from '../../../dataplane/tables/ports.ts'
import { NO_RATE } from '../../../dataplane/tables/rates.ts'
import { TableWriter } from '../../../dataplane/tables/tables.ts'
import { type PoolOptions, WorkerPool } from '../../../dataplane/worker/pool.ts'
import { native } from '../../../native/native.ts'
import { addNamespace, type Namespace } from '../../native/namespace.ts'

export const WORKERS = 2
export const SMALL_FRAMES = 512
const MTU = 1450
const ROUTES = 16

export interface Failure {
  worker: number
  error: Error
}

export interface World {
  arena: Arena
  tables: TableWriter
  slots: PortSlots
  pool: WorkerPool
  failures: Failure[]
  /** Resolves with the next failure. */
  failed: Promise<Failure>
  /** Namespaces of the pods, by port. */
  pods: Namespace[]
  /** A record of a TUN pod's port. */
  record(fds: readonly number[], ip4?: string): Parameters<PortSlots['activate']>[1]
  /** Takes a pod's port away, as `detach` does. */
  removePod(port: number): Promise<void>
  workers(): ReturnType<typeof readWorkers>
  drops(): Record<string, number>
  rounds(worker: number): number
  /** Stops the workers and removes the devices. */
  close(): Promise<void>
}

/** `fib4`: name of the IPv4 FIB; the pool fails to start with one that is not there. */
export function makeWorld(
  fib4 = defaultFib(4),
  more: Pick<PoolOptions, 'busyPoll' | 'cpus'> = {},
): World {
  const limits = { routes: ROUTES }
  const layout = planArena({
    workers: WORKERS,
    smallFrames: SMALL_FRAMES,
    largeFrames: 32,
    xdpSockets: 1,
    xdpSocketBytes: 4096,
    fib4Bytes: fibByName(defaultFib(4), 4).bytes(limits),
    fib6Bytes: fibByName(defaultFib(6), 6).bytes(limits),
  })
  const arena = Arena.create(layout)
  native.bind(arena.bytes)
  const tables = new TableWriter(arena)
  const slots = new PortSlots(arena, tables)
  const hops = new NextHopSlots(arena)
  const routes = fibByName(defaultFib(4), 4).writer(arena.slice(layout.fib4), limits)
  fibByName(defaultFib(6), 6).writer(arena.slice(layout.fib6), limits)
  const failures: Failure[] = []
  let tellFailure: (failure: Failure) => void = () => {}
  const failed = new Promise<Failure>(resolve => {
    tellFailure = resolve
  })
  const record: World['record'] = (fds, ip4 = '0.0.0.0') => ({
    kind: PORT_KIND.TUN,
    role: PORT_ROLE.POD,
    flags: PORT_FLAG.HAS_IPV4,
    ifindex: 0,
    mtu: MTU,
    macHigh: 0,
    macLow: 0,
    peerMacHigh: 0,
    peerMacLow: 0,
    ip4: ipWords(ip4)[0]!,
    ip6: [0, 0, 0, 0],
    fillFrames: 0,
    fds,
    rings: [],
    moreFds: [],
    ingress: NO_RATE,
    egress: NO_RATE,
    network: 0,
    identity: 0,
    ingressProgram: 0,
    egressProgram: 0,
  })
  const devices: ReturnType<typeof openTun>[] = []
  const pods: Namespace[] = []
  tables.change(() => {
    for (const [port, last] of [2, 3].entries()) {
      const namespace = addNamespace()
      const address = `10.244.1.${last}`
      const nl = new Netlink(namespace.path)
      const device = openTun(nl, 'eth0', WORKERS)
      configurePodTun(nl, device, MTU, address, undefined)
      nl.close()
      pods.push(namespace)
      devices.push(device)
      slots.reserve()
      slots.activate(port, record(device.fds, address))
      const hop = hops.add({
        kind: HOP.PORT,
        network: 0,
        port,
        mtu: MTU,
        header: new Uint8Array(0),
        macHigh: 0,
        macLow: 0,
        macKnown: false,
      })
      routes.insert(ipWords(address), 32, hop)
    }
  })
  const pool = new WorkerPool({
    arena,
    fib4: tableIn(arena, { family: 4, name: fib4 }, layout.fib4.bytes, limits),
    fib6: tableIn(arena, { family: 6, name: defaultFib(6) }, layout.fib6.bytes, limits),
    ...more,
    onFailure: (worker, error) => {
      failures.push({ worker, error })
      tellFailure({ worker, error })
    },
  })
  return {
    arena,
    tables,
    slots,
    pool,
    failures,
    failed,
    pods,
    record,
    async removePod(port) {
      const [device] = devices.splice(port, 1, undefined as never)
      await slots.remove(port, () => removeTun(device!))
    },
    workers: () => readWorkers(arena),
    drops: () => Object.fromEntries(readDrops(arena).map(each => [each.reason, each.count])),
    rounds: worker => arena.counters(worker)[COUNTER.ROUNDS]!,
    async close() {
      await pool.stop()
      for (const device of devices.splice(0)) if (device !== undefined) removeTun(device)
    },
  }
}

/** Resolves when `condition` holds: for what the workers write without waking anybody. */
export async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await new Promise(resolve => setTimeout(resolve, 2))
}
