/**
 * A worker: one thread, one queue of every port, one engine. It returns when HEADER.STOP is set.
 *
 * A round asks every polled port (AF_XDP: a look at shared memory), and every descriptor port (TUN,
 * UDP) that epoll names; each burst goes down the pipeline whole before the next one is taken. After
 * SPIN_ROUNDS rounds without a packet the worker sleeps in the kernel until a port or the main
 * thread wakes it.
 */
import { native } from '../../native/native.ts'
import { fibByName } from '../fib/index.ts'
import { MAX_PORTS, POLLED_BURST, RECEIVE_BURST, SLEEP_MS, SPIN_ROUNDS } from '../limits.ts'
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
import { type Stage, stagesOf } from '../pipeline.ts'
import { createPort } from '../ports/create.ts'
import type { Port } from '../ports/port.ts'
import { EVENTS, Scratch } from '../ports/scratch.ts'
import { Engine } from '../stages/engine.ts'
import { PORT_STATE } from '../tables/ports.ts'

export interface WorkerTask {
  arena: ArenaHandle
  worker: number
  /** Descriptor of the eventfd that wakes this worker. */
  wakeFd: number
  fib4: string
  fib6: string
  /** Routes that the FIBs were laid out for. */
  routes: number
  /** CPU to run on; absent: wherever the scheduler puts it. */
  cpu?: number
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
  private readonly batch = new Batch()
  private readonly polled: Port[] = []
  private readonly stages: (readonly Stage[] | undefined)[] = []
  /** Descriptor ports; and what a sleeping worker waits for: those, AF_XDP sockets and the eventfd. */
  private readonly ready: number
  private readonly sleep: number
  /** By port index: 1 where the worker has stopped waiting for the descriptor. */
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

  constructor(task: WorkerTask) {
    const arena = Arena.open(task.arena)
    native.bind(arena.bytes)
    const { layout } = arena
    const limits = { routes: task.routes }
    const frames = new Frames(arena, task.worker)
    this.task = task
    this.scratch = new Scratch(arena, task.worker)
    this.engine = new Engine(
      arena,
      frames,
      arena.counters(task.worker),
      fibByName(task.fib4, 4).reader(arena.slice(layout.fib4), limits),
      fibByName(task.fib6, 6).reader(arena.slice(layout.fib6), limits),
    )
    this.header = arena.header()
    this.control = arena.control(task.worker)
    this.ready = native.epollCreate()
    this.sleep = native.epollCreate()
    native.epollAdd(this.sleep, this.ready, WAKE_DATA, EPOLLIN)
    native.epollAdd(this.sleep, task.wakeFd, WAKE_DATA, EPOLLIN)
  }

  /** Runs until it is told to stop. */
  run(): void {
    const { engine, header, polled } = this
    if (this.task.cpu !== undefined) native.pinThread(this.task.cpu)
    Atomics.store(this.control, WORKER.STATE, 1)
    let idle = 0
    let sinceDescriptors = 0
    while (Atomics.load(header, HEADER.STOP) === 0) {
      if (engine.tables.stale()) this.update()
      let work = 0
      for (let p = 0; p < polled.length; p++) work += this.turn(polled[p]!)
      if (work === 0 || ++sinceDescriptors >= DESCRIPTOR_INTERVAL) {
        sinceDescriptors = 0
        if (this.descriptorPorts > 0) work += this.turnDescriptors()
      }
      for (let p = 0; p < polled.length; p++) polled[p]!.service()
      engine.counters[COUNTER.ROUNDS]!++
      if (work > 0) {
        idle = 0
        if (++this.busyRounds === BUSY_ROUNDS) this.unwatchBusy()
        if ((engine.counters[COUNTER.ROUNDS]! & 0xfff) === 0) this.refresh(false)
      } else if (++idle >= SPIN_ROUNDS && !this.anyPending()) {
        this.rest()
        idle = 0
      }
    }
    this.close()
  }

  /** One burst of one port, down the whole pipeline. */
  private turn(port: Port): number {
    const { engine, batch } = this
    batch.reset(port.index)
    const n = port.receive(batch, port.polled ? POLLED_BURST : RECEIVE_BURST)
    if (n === 0) return 0
    let bytes = 0
    for (let i = 0; i < n; i++) bytes += batch.len[i]!
    const { counters } = engine
    const at = portCounters(port.index)
    counters[at + PORT_COUNTER.RX_PACKETS]! += n
    counters[at + PORT_COUNTER.RX_BYTES]! += bytes
    counters[COUNTER.BATCHES]!++
    counters[COUNTER.PACKETS]! += n
    const stages = this.stages[port.index]!
    for (let s = 0; s < stages.length; s++) stages[s]!(engine, batch)
    engine.flush()
    return n
  }

  private turnDescriptors(): number {
    const { engine, scratch } = this
    const n = native.epollWait(this.ready, scratch.events, EVENTS, 0)
    let work = 0
    for (let k = 0; k < n; k++) {
      const port = engine.ports[engine.view.getUint32(scratch.events + k * 4, true)]
      if (port === undefined) continue
      const received = this.turn(port)
      work += received
      if (received === 0 && port.gone()) this.park(port)
    }
    return work
  }

  /** Waits for the port no longer; it keeps its place until the main thread takes it away. */
  private park(port: Port): void {
    if (this.parked[port.index] !== 0) return
    this.parked[port.index] = 1
    if (port.polled) this.unwatch(port)
    else native.epollRemove(this.ready, port.fd)
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
      if (this.parked[port.index] === 0) this.watch(port)
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
    if (!now && time - this.lastRefresh < REFRESH_NS) return
    if (now && time - this.lastRefresh < REFRESH_NS / 100) return
    this.lastRefresh = time
    this.publish()
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
    const count = engine.portCount()
    for (let index = 0; index < count; index++) {
      const record = engine.record(index)
      const served = engine.ports[index] !== undefined
      if (record.state === PORT_STATE.ACTIVE && !served) this.open(index)
      else if (record.state === PORT_STATE.ACTIVE) engine.records[index] = record
      else {
        if (served) this.drop(index)
        if (record.state === PORT_STATE.CLOSED) engine.frames.reclaim(index)
      }
    }
    this.publish()
    Atomics.store(this.control, WORKER.ACKNOWLEDGED, engine.tables.generation)
    Atomics.notify(this.control, WORKER.ACKNOWLEDGED)
  }

  private open(index: number): void {
    const { engine, task } = this
    const record = engine.record(index)
    engine.records[index] = record
    const port = createPort(index, record, task.worker, engine, this.scratch)
    if (port === undefined) return
    engine.ports[index] = port
    this.stages[index] = stagesOf(port.role)
    if (port.polled) {
      this.polled.push(port)
      this.watch(port)
      this.packetsAtRest[index] = this.packetsOf(port)
      port.service()
    } else {
      this.descriptorPorts++
      native.epollAdd(this.ready, port.fd, index, EPOLLIN)
    }
  }

  private drop(index: number): void {
    const { engine, polled } = this
    const port = engine.ports[index]!
    port.flush()
    port.service()
    engine.ports[index] = undefined
    engine.records[index] = undefined
    if (port.polled) polled.splice(polled.indexOf(port), 1)
    else this.descriptorPorts--
    this.park(port)
    this.parked[index] = 0
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
export default function runWorker(task: WorkerTask): void {
  new Worker(task).run()
}
