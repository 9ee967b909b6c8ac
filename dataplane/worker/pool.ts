/**
 * The worker pool: Piscina holds one thread a worker, and each runs one endless task.
 */
import { Piscina } from 'piscina'
import { native } from '../../native/native.ts'
import { type Arena, HEADER, WORKER } from '../memory/arena.ts'
import type { WorkerTask } from './worker.ts'

export interface PoolOptions {
  arena: Arena
  fib4: string
  fib6: string
  routes: number
  /** CPU of each worker, or absent to leave it to the scheduler. */
  cpus?: readonly number[]
  /** Told when a worker ends without having been told to. */
  onFailure: (worker: number, error: Error) => void
}

export class WorkerPool {
  private readonly options: PoolOptions
  private readonly piscina: Piscina
  private readonly wakeFds: number[] = []
  private readonly tasks: Promise<void>[] = []

  constructor(options: PoolOptions) {
    this.options = options
    const { workers } = options.arena.layout.plan
    this.piscina = new Piscina({
      filename: new URL('./worker.ts', import.meta.url).href,
      minThreads: workers,
      maxThreads: workers,
      concurrentTasksPerWorker: 1,
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
      const task: WorkerTask = {
        arena: arena.handle(),
        worker,
        wakeFd,
        fib4: this.options.fib4,
        fib6: this.options.fib6,
        routes: this.options.routes,
        ...(cpu === undefined ? {} : { cpu }),
      }
      const running = this.piscina.run(task).then(
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

  /** Tells the workers to return, and resolves when they have. */
  async stop(): Promise<void> {
    Atomics.store(this.options.arena.header(), HEADER.STOP, 1)
    for (const fd of this.wakeFds) native.eventfdSignal(fd)
    await Promise.allSettled(this.tasks)
    await this.piscina.destroy()
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
