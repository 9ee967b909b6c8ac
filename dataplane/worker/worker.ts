/**
 * A worker: one thread, one queue of every port, one engine. It returns when HEADER.STOP is set.
 *
 * A round asks every polled port (AF_XDP: a look at shared memory), and every descriptor port (TUN,
 * UDP) that epoll names, whose turn it is (fair-shares.ts); each burst goes down the pipeline whole
 * before the next one is taken. After SPIN_ROUNDS rounds without a packet (and what `busyPoll` adds) the worker sleeps in the
 * kernel until a port or the main thread wakes it. A port whose device is gone is left: the worker
 * waits for it no more.
 *
 * Orders come by a message port, which the worker reads when the tables' generation moves: take this
 * FIB, or the one before again. Loading what may be a file takes turns of the thread's event
 * loop, so the endless loop becomes one that lets it turn between rounds, until the FIB is there.
 */
import { type MessagePort, receiveMessageOnPort } from 'node:worker_threads'
import { native } from '../../native/native.ts'
import { FillShares } from '../afxdp/fill-level.ts'
import { Engine } from '../engine/engine.ts'
import { type Path, run } from '../engine/path.ts'
import type { FibReader } from '../fib/fib.ts'
import { type FibTable, openReader } from '../fib/table.ts'
import {
  MAX_PORTS,
  PORT_BURST,
  PORT_LOOK_MS,
  RECEIVE_BURST,
  SLEEP_MS,
  SPIN_ROUNDS,
} from '../limits.ts'
import {
  Arena,
  type ArenaHandle,
  COUNTER,
  HEADER,
  PORT_COUNTER,
  portCounters,
  WORKER,
} from '../memory/arena.ts'
import { Frames } from '../memory/frames.ts'
import { Batch } from '../packet/batch.ts'
import { pathOfRole } from '../pipeline.ts'
import { Judge } from '../policy/judge.ts'
import type { PolicyMemory } from '../policy/memory.ts'
import type { WorkerContext } from '../ports/context.ts'
import { Members } from '../ports/context.ts'
import { isTrunk, type Port, type Trunk } from '../ports/port.ts'
import { ReadFrames } from '../ports/read-frames.ts'
import { EVENTS, Scratch } from '../ports/scratch.ts'
import { READ_AT } from '../ports/vnet.ts'
import { PORT_STATE, type PortRecord } from '../tables/ports.ts'
import { createPort } from './create-port.ts'
import { FairShares } from './fair-shares.ts'

export interface WorkerTask {
  arena: ArenaHandle
  worker: number
  /** Descriptor of the eventfd that wakes this worker. */
  wakeFd: number
  fib4: FibTable
  fib6: FibTable
  /** Absent: policy is not switched on. */
  policy?: PolicyMemory
  /** Where `Order`s come from, and where `Refusal`s go to. */
  orders: MessagePort
  /** Nanoseconds without a packet in which the worker goes on looking for one, and uses its core whole. */
  busyPoll?: number
  /** CPU to run on; absent: wherever the scheduler puts it. */
  cpu?: number
}

/** Tells a worker to use another FIB. When WORKER.ORDER has the number, it does, or has refused. */
export interface Order {
  number: number
  /** Absent: go back to what was in use before order `undo`, if that was carried out. */
  table?: FibTable
  undo?: number
}

export interface Refusal {
  number: number
  message: string
}

/** epoll event bits (sys/epoll.h). */
const EPOLLIN = 1
/** Rounds with work on polled ports between two looks at the descriptor ports. */
const DESCRIPTOR_INTERVAL = 4
/** Rounds with work after which the sockets that are busy are taken out of the sleep set. */
const BUSY_ROUNDS = 64
/** Packets of a port since the worker slept that make it busy. */
const BUSY_PACKETS = 256
/** Nanoseconds between two refreshes of the control block. */
const REFRESH_NS = 1e9
/** `data` of the eventfd in the sleep set. */
const WAKE_DATA = 0xffff_ffff

export class Worker {
  readonly engine: Engine
  private readonly header: Int32Array
  private readonly control: Int32Array
  private readonly scratch: Scratch
  private readonly task: WorkerTask
  /** What every port works with. */
  private readonly shared: WorkerContext
  private readonly shares = new FairShares()
  private readonly batch = new Batch()
  private readonly polled: Port[] = []
  /** By role. */
  private readonly paths: (Path | undefined)[] = []
  /** Descriptor ports; and what a sleeping worker waits for: those, AF_XDP sockets and the eventfd. */
  private readonly ready: number
  private readonly sleep: number
  /** By port index: 1 where the worker has left the port. */
  private readonly parked = new Uint8Array(MAX_PORTS)
  /**
   * By port index, polled ports only: 1 while the socket is in the sleep set. There each packet that
   * is sent or received wakes the set's queue, which costs a tenth of a packet's way; so a busy
   * socket leaves the set and comes back before the worker sleeps.
   */
  private readonly watched = new Uint8Array(MAX_PORTS)
  /** By port index: its packets, both ways, when the worker last slept. */
  private readonly packetsAtRest = new Float64Array(MAX_PORTS)
  private busyRounds = 0
  private descriptorPorts = 0
  private lastRefresh = 0
  private lastLook = 0
  private idle = 0
  /** When the rounds of SPIN_ROUNDS were over; 0: they are not, or nobody has looked. */
  private idleSince = 0
  private sinceDescriptors = 0
  /** Clocks of the shares: the ports whose turn it is are owed nothing before the first; descriptors were last looked at at the other. */
  private since = 0
  private descriptorsAt = 0
  private order: Order | undefined
  /** What the last order that was carried out has replaced. */
  private replaced: { by: number; family: 4 | 6; reader: FibReader } | undefined

  constructor(task: WorkerTask, fib4: FibReader, fib6: FibReader) {
    const arena = Arena.open(task.arena)
    native.bind(arena.bytes)
    const frames = new Frames(arena, task.worker)
    this.task = task
    this.scratch = new Scratch(arena, task.worker)
    const counters = arena.counters(task.worker)
    this.engine = new Engine(arena, frames, counters, fib4, fib6)
    this.engine.identification = task.worker
    if (task.policy !== undefined) this.engine.judge = new Judge(task.policy, task.worker)
    this.shared = {
      arena,
      frames,
      counters,
      tables: this.engine.tables,
      node: this.engine,
      scratch: this.scratch,
      reading: new ReadFrames(arena, frames, this.scratch, READ_AT),
      fills: new FillShares(frames.small),
      members: new Members(),
    }
    this.header = arena.header()
    this.control = arena.control(task.worker)
    this.ready = native.epollCreate()
    this.sleep = native.epollCreate()
    native.epollAdd(this.sleep, this.ready, WAKE_DATA, EPOLLIN)
    native.epollAdd(this.sleep, task.wakeFd, WAKE_DATA, EPOLLIN)
  }

  /** Runs until it is told to stop; `carryOut` must be awaited and `run` called again when it gives true. */
  run(): boolean {
    const { header } = this
    this.pin()
    Atomics.store(this.control, WORKER.STATE, 1)
    while (Atomics.load(header, HEADER.STOP) === 0) {
      this.round()
      if (this.order !== undefined) return true
    }
    this.close()
    return false
  }

  private pin(): void {
    const { cpu, worker } = this.task
    if (cpu === undefined) return
    const result = native.pinThread(cpu)
    if (result < 0) {
      const what = `worker ${worker} can't run on CPU ${cpu} (error ${-result})`
      throw new Error(`${what}: there is none of that number here ("cpus" in the configuration)`)
    }
  }

  /** Looks once at every port that may have packets; sleeps when there have been none for a while. */
  round(): void {
    const { engine, polled, shares } = this
    if (engine.tables.stale()) this.update()
    const since = shares.round()
    let work = this.turnPolled(since)
    if (work === 0 || ++this.sinceDescriptors >= DESCRIPTOR_INTERVAL) {
      work += this.turnDescriptors()
    }
    while (work === 0 && shares.jump()) work = this.turnPolled(since) + this.turnDescriptors()
    for (let p = 0; p < polled.length; p++) polled[p]!.service()
    engine.counters[COUNTER.ROUNDS]!++
    if (work > 0) {
      this.idle = 0
      this.idleSince = 0
      if (++this.busyRounds === BUSY_ROUNDS) this.unwatchBusy()
      if ((engine.counters[COUNTER.ROUNDS]! & 0xfff) === 0) this.refresh(false)
      return
    }
    if (++this.idle >= SPIN_ROUNDS && this.order === undefined && !this.anyPending()) {
      if (this.isPolling()) return
      this.rest()
      // Packets make it spin anew; a change of tables, which wakes it as well, does not.
      this.idle = SPIN_ROUNDS
    }
  }

  /** Whether the time of busy polling behind the last packet is not over. */
  private isPolling(): boolean {
    const { busyPoll = 0 } = this.task
    if (busyPoll === 0) return false
    const now = native.monotonic()
    if (this.idleSince === 0) this.idleSince = now
    return now - this.idleSince < busyPoll
  }

  /** Carries the order out, and serves its ports meanwhile. */
  async carryOut(): Promise<void> {
    const { number, table, undo } = this.order!
    if (table === undefined) this.goBack(undo)
    else {
      let done = false
      const arriving = openReader(table, this.fault).then(
        reader => this.use(number, table.source.family, reader),
        (error: unknown) => {
          const message = error instanceof Error ? error.message : String(error)
          this.task.orders.postMessage({ number, message } satisfies Refusal)
        },
      )
      void arriving.then(() => {
        done = true
      })
      while (!done && Atomics.load(this.header, HEADER.STOP) === 0) {
        this.round()
        await new Promise(resolve => setImmediate(resolve))
      }
    }
    this.order = undefined
    Atomics.store(this.control, WORKER.ORDER, number)
    Atomics.notify(this.control, WORKER.ORDER)
  }

  private use(by: number, family: 4 | 6, reader: FibReader): void {
    const { engine } = this
    this.replaced = { by, family, reader: family === 4 ? engine.fib4 : engine.fib6 }
    if (family === 4) engine.fib4 = reader
    else engine.fib6 = reader
  }

  private goBack(undo: number | undefined): void {
    if (this.replaced === undefined || this.replaced.by !== undo) return
    const { family, reader } = this.replaced
    if (family === 4) this.engine.fib4 = reader
    else this.engine.fib6 = reader
    this.replaced = undefined
  }

  private readonly fault = (): void => {
    this.engine.counters[COUNTER.FIB_FAULTS]!++
  }

  /** One burst of one port, down the whole pipeline. */
  private turn(port: Port): number {
    if (isTrunk(port)) return this.turnTrunk(port)
    const { engine, batch } = this
    batch.reset(port.index)
    const n = port.receive(batch, PORT_BURST)
    if (n === 0) return 0
    this.shares.charge(port.index, engine.countReceived(port, batch), this.since)
    run(engine, this.paths[port.role]!, batch)
    engine.flush()
    return n
  }

  /** One burst of a trunk: a batch for each port that its packets came in by. */
  private turnTrunk(trunk: Trunk): number {
    const { engine, batch } = this
    const n = trunk.gather(PORT_BURST)
    if (n === 0) return 0
    let bytes = 0
    for (let port = trunk.next(batch); port !== undefined; port = trunk.next(batch)) {
      bytes += engine.countReceived(port, batch)
      run(engine, this.paths[port.role]!, batch)
    }
    this.shares.charge(trunk.index, bytes, this.since)
    engine.flush()
    return n
  }

  private turnPolled(since: number): number {
    const { polled, shares } = this
    this.since = since
    let work = 0
    for (let p = 0; p < polled.length; p++) {
      if (shares.may(polled[p]!.index)) work += this.turn(polled[p]!)
    }
    return work
  }

  private turnDescriptors(): number {
    const { engine, scratch, shares } = this
    this.sinceDescriptors = 0
    if (this.descriptorPorts === 0) return 0
    this.since = this.descriptorsAt
    this.descriptorsAt = shares.clock
    const n = native.epollWait(this.ready, scratch.events, EVENTS, 0)
    let work = 0
    for (let k = 0; k < n; k++) {
      const port = engine.ports[engine.view.getUint32(scratch.events + k * 4, true)]
      if (port !== undefined) work += this.turnsOf(port)
    }
    return work
  }

  /** Turns of a descriptor port that is ready: as many as its share lets, since it is looked at more rarely. */
  private turnsOf(port: Port): number {
    let work = 0
    let received = RECEIVE_BURST
    while (received >= RECEIVE_BURST && this.shares.may(port.index)) {
      received = this.turn(port)
      work += received
    }
    if (received === 0 && port.gone()) this.park(port)
    return work
  }

  /** Leaves the port; it keeps its place, and drops what is sent by it, until the main thread takes it away. */
  private park(port: Port): void {
    if (this.parked[port.index] !== 0) return
    this.parked[port.index] = 1
    if (!port.polled) {
      if (port.fd >= 0) native.epollRemove(this.ready, port.fd)
      return
    }
    this.unwatch(port)
    this.polled.splice(this.polled.indexOf(port), 1)
  }

  private watch(port: Port): void {
    if (this.watched[port.index] !== 0) return
    this.watched[port.index] = 1
    native.epollAdd(this.sleep, port.fd, port.index, EPOLLIN)
  }

  private unwatch(port: Port): void {
    if (this.watched[port.index] === 0) return
    this.watched[port.index] = 0
    native.epollRemove(this.sleep, port.fd)
  }

  private packetsOf(port: Port): number {
    const { counters } = this.engine
    const at = portCounters(port.index)
    return counters[at + PORT_COUNTER.RX_PACKETS]! + counters[at + PORT_COUNTER.TX_PACKETS]!
  }

  /** Takes out of the sleep set what has been busy since the worker slept. */
  private unwatchBusy(): void {
    this.busyRounds = 0
    for (const port of this.polled) {
      const since = this.packetsOf(port) - this.packetsAtRest[port.index]!
      if (since >= BUSY_PACKETS) this.unwatch(port)
    }
  }

  /** Puts them back. A socket that has become readable meanwhile ends the sleep at once. */
  private watchAll(): void {
    this.busyRounds = 0
    for (const port of this.polled) {
      this.watch(port)
      this.packetsAtRest[port.index] = this.packetsOf(port)
    }
  }

  private anyPending(): boolean {
    for (const port of this.polled) {
      if (port.pending()) {
        port.flush()
        return true
      }
    }
    return false
  }

  /** Sleeps in the kernel until something is ready, at most SLEEP_MS. */
  private rest(): void {
    const { control, engine, header } = this
    this.watchAll()
    this.refresh(true)
    Atomics.store(control, WORKER.ASLEEP, 1)
    // Whoever changes the tables or sets STOP signals the eventfd afterwards: nothing is missed.
    if (!engine.tables.stale() && Atomics.load(header, HEADER.STOP) === 0) {
      engine.counters[COUNTER.SLEEPS]!++
      const n = native.epollWait(this.sleep, this.scratch.events, EVENTS, SLEEP_MS)
      native.eventfdDrain(this.task.wakeFd)
      for (let k = 0; k < n; k++) {
        const port = engine.ports[engine.view.getUint32(this.scratch.events + k * 4, true)]
        if (port?.polled === true && port.gone()) this.park(port)
      }
    }
    Atomics.store(control, WORKER.ASLEEP, 0)
  }

  /** Writes what the main thread reads of this worker. At most once a second while packets flow. */
  private refresh(now: boolean): void {
    const time = native.monotonic()
    if (time - this.lastLook >= PORT_LOOK_MS * 1e6) this.look(time)
    if (!now && time - this.lastRefresh < REFRESH_NS) return
    if (now && time - this.lastRefresh < REFRESH_NS / 100) return
    this.lastRefresh = time
    this.publish()
  }

  /** Asks ports what no packet tells them. */
  private look(time: number): void {
    this.lastLook = time
    this.engine.judge?.sweep(time)
    for (const port of this.engine.ports) {
      if (port !== undefined && this.parked[port.index] === 0 && port.look()) this.park(port)
    }
  }

  private publish(): void {
    const { control, engine } = this
    const { frames } = engine
    control[WORKER.SMALL_FREE] = frames.small.free
    control[WORKER.SMALL_HELD] = frames.small.count - frames.small.free
    control[WORKER.LARGE_FREE] = frames.large.free
    control[WORKER.LEAKED] = frames.leaked()
    engine.counters[COUNTER.CPU_NS] = native.threadCpuTime()
  }

  /** Takes over the tables: makes the ports that are new, lets go of those that close. */
  private update(): void {
    const { engine } = this
    engine.update()
    const { moved, movedCount } = engine.tables
    for (let i = 0; i < movedCount; i++) this.take(moved[i]!)
    this.order ??= receiveMessageOnPort(this.task.orders)?.message as Order | undefined
    this.publish()
    Atomics.store(this.control, WORKER.ACKNOWLEDGED, engine.tables.generation)
    Atomics.notify(this.control, WORKER.ACKNOWLEDGED)
  }

  /** Takes over the record of a port that has changed. */
  private take(index: number): void {
    const { engine } = this
    const record = engine.record(index)
    const served = engine.ports[index] !== undefined
    if (record.state === PORT_STATE.ACTIVE) {
      engine.records[index] = record
      if (served) engine.ports[index]!.follow?.(record)
      else this.open(index, record)
      return
    }
    if (served) this.drop(index)
    if (record.state === PORT_STATE.CLOSED) engine.frames.reclaim(index)
  }

  private open(index: number, record: PortRecord): void {
    const { engine, task } = this
    const port = createPort(index, record, task.worker, this.shared)
    if (port === undefined) return
    engine.ports[index] = port
    this.paths[port.role] ??= pathOfRole(port.role)
    if (port.polled) {
      this.polled.push(port)
      this.watch(port)
      this.packetsAtRest[index] = this.packetsOf(port)
      port.service()
    } else if (port.fd >= 0) {
      this.descriptorPorts++
      native.epollAdd(this.ready, port.fd, index, EPOLLIN)
    }
  }

  private drop(index: number): void {
    const { engine } = this
    const port = engine.ports[index]!
    port.flush()
    port.service()
    port.close()
    engine.ports[index] = undefined
    engine.records[index] = undefined
    if (!port.polled && port.fd >= 0) this.descriptorPorts--
    this.park(port)
    this.parked[index] = 0
    this.shares.forget(index)
  }

  /** Lets go of every port; frames that the kernel still holds go with the process. */
  private close(): void {
    for (let index = 0; index < this.engine.ports.length; index++) {
      if (this.engine.ports[index] !== undefined) this.drop(index)
    }
    this.publish()
    native.close(this.ready)
    native.close(this.sleep)
    Atomics.store(this.control, WORKER.STATE, 2)
    Atomics.notify(this.control, WORKER.STATE)
    Atomics.notify(this.control, WORKER.ACKNOWLEDGED)
  }
}

/** The endless task of a pool's thread. */
export default async function runWorker(task: WorkerTask): Promise<void> {
  let worker: Worker | undefined
  const fault = (): void => {
    if (worker !== undefined) worker.engine.counters[COUNTER.FIB_FAULTS]!++
  }
  const fib4 = await openReader(task.fib4, fault)
  const fib6 = await openReader(task.fib6, fault)
  worker = new Worker(task, fib4, fib6)
  while (worker.run()) await worker.carryOut()
}
