/**
 * The worker pool: Piscina holds one thread a worker, and each runs one endless task.
 */
import { MessageChannel, type MessagePort, receiveMessageOnPort } from 'node:worker_threads'
import { Piscina } from 'piscina'
import { native } from '../../native/native.ts'
import type { FibTable } from '../fib/table.ts'
import { type Arena, HEADER, WORKER } from '../memory/arena.ts'
import type { PolicyMemory } from '../policy/memory.ts'
import type { Order, Refusal, WorkerTask } from './worker.ts'

export interface PoolOptions {
  arena: Arena
  fib4: FibTable
  fib6: FibTable
  /** Absent: policy is not switched on. */
  policy?: PolicyMemory
  /** CPU of each worker, or absent to leave it to the scheduler. */
  cpus?: readonly number[]
  /** As WorkerTask.busyPoll, of each. */
  busyPoll?: number
  /** Told when a worker ends without having been told to. */
  onFailure: (worker: number, error: Error) => void
}

/** MiB of V8's young generation in a worker's thread: it allocates nothing once it serves. */
const YOUNG_MB = 6

export class WorkerPool {
  private readonly options: PoolOptions
  private readonly piscina: Piscina
  private readonly wakeFds: number[] = []
  private readonly tasks: Promise<void>[] = []
  private readonly orders: MessagePort[] = []
  private ordered = 0

  constructor(options: PoolOptions) {
    this.options = options
    const { workers } = options.arena.layout.plan
    this.piscina = new Piscina({
      filename: new URL('./worker.ts', import.meta.url).href,
      minThreads: workers,
      maxThreads: workers,
      concurrentTasksPerWorker: 1,
      resourceLimits: { maxYoungGenerationSizeMb: YOUNG_MB },
      idleTimeout: Number.POSITIVE_INFINITY,
    })
  }

  /** Resolves when every worker serves its queues. */
  async start(): Promise<void> {
    const { arena, onFailure } = this.options
    const header = arena.header()
    const started: Promise<void>[] = []
    for (let worker = 0; worker < arena.layout.plan.workers; worker++) {
      const wakeFd = native.eventfd()
      this.wakeFds.push(wakeFd)
      const control = arena.control(worker)
      Atomics.store(control, WORKER.WAKE_FD, wakeFd)
      const cpu = this.options.cpus?.[worker]
      const orders = new MessageChannel()
      this.orders.push(orders.port1)
      const task: WorkerTask = {
        arena: arena.handle(),
        worker,
        wakeFd,
        fib4: this.options.fib4,
        fib6: this.options.fib6,
        orders: orders.port2,
        ...(this.options.policy === undefined ? {} : { policy: this.options.policy }),
        ...(cpu === undefined ? {} : { cpu }),
        ...(this.options.busyPoll === undefined ? {} : { busyPoll: this.options.busyPoll }),
      }
      const running = this.piscina.run(task, { transferList: [orders.port2] }).then(
        () => {
          if (Atomics.load(header, HEADER.STOP) === 0) onFailure(worker, new Error('it returned'))
        },
        error => {
          Atomics.store(control, WORKER.STATE, 2)
          Atomics.notify(control, WORKER.ACKNOWLEDGED)
          onFailure(worker, error instanceof Error ? error : new Error(String(error)))
          throw error
        },
      )
      this.tasks.push(running)
      started.push(Promise.race([running, firstAcknowledgement(control)]))
    }
    try {
      await Promise.all(started)
    } catch (error) {
      await this.stop()
      throw error
    }
  }

  /**
   * Tells every worker to use the FIB of `table`; `wake` makes them look. Resolves when all do. Throws
   * the first worker's reason when one can't; then all use what they used before.
   */
  async take(table: FibTable, wake: () => void): Promise<void> {
    const refusal = await this.carriedOut({ table }, wake)
    if (refusal === undefined) return
    await this.carriedOut({ undo: this.ordered }, wake)
    throw new Error(refusal)
  }

  /** Tells every worker to use the FIB that it used before the last `take`. */
  async goBack(wake: () => void): Promise<void> {
    await this.carriedOut({ undo: this.ordered }, wake)
  }

  /** Gives one order to all and waits until it is carried out; what the first one had against it. */
  private async carriedOut(
    order: Omit<Order, 'number'>,
    wake: () => void,
  ): Promise<string | undefined> {
    const number = ++this.ordered
    for (const port of this.orders) port.postMessage({ ...order, number } satisfies Order)
    wake()
    let first: string | undefined
    for (const [worker, port] of this.orders.entries()) {
      const control = this.options.arena.control(worker)
      while (Atomics.load(control, WORKER.STATE) === 1) {
        const seen = Atomics.load(control, WORKER.ORDER)
        if (seen === number) break
        const wait = Atomics.waitAsync(control, WORKER.ORDER, seen, 1000)
        if (wait.async) await wait.value
      }
      const refusal = receiveMessageOnPort(port)?.message as Refusal | undefined
      if (refusal !== undefined) first ??= `worker ${worker}: ${refusal.message}`
    }
    return first
  }

  /** Tells the workers to return, and resolves when they have. */
  async stop(): Promise<void> {
    Atomics.store(this.options.arena.header(), HEADER.STOP, 1)
    for (const fd of this.wakeFds) native.eventfdSignal(fd)
    await Promise.allSettled(this.tasks)
    await this.piscina.destroy()
    for (const port of this.orders.splice(0)) port.close()
    for (let worker = 0; worker < this.wakeFds.length; worker++) {
      Atomics.store(this.options.arena.control(worker), WORKER.WAKE_FD, 0)
    }
    for (const fd of this.wakeFds.splice(0)) native.close(fd)
  }
}

/** A worker acknowledges its first generation when it serves; generations count from 1. */
async function firstAcknowledgement(control: Int32Array): Promise<void> {
  while (Atomics.load(control, WORKER.ACKNOWLEDGED) === 0) {
    const wait = Atomics.waitAsync(control, WORKER.ACKNOWLEDGED, 0)
    if (wait.async) await wait.value
  }
}
