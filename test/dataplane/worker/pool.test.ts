// The worker pool: start, sleep, wake, changes of the tables, ports that go away, failure, stop.
import { readdirSync } from 'node:fs'
import { afterEach, expect, test } from 'vitest'
import { SLEEP_MS, SPIN_ROUNDS } from '../../../dataplane/limits.ts'
import { HEADER, WORKER } from '../../../dataplane/memory/arena.ts'
import { run } from '../../harness/processes.ts'
import { ping, transfer } from '../../harness/traffic.ts'
import { removeNamespaces } from '../../native/namespace.ts'
import { makeWorld, SMALL_FRAMES, until, WORKERS, type World } from './world.ts'

/** Not the number of any open descriptor. */
const NO_DESCRIPTOR = 1_000_000

let world: World
afterEach(async () => {
  await world.close()
  removeNamespaces()
})

const descriptors = () => readdirSync('/proc/self/fd').length
const asleep = () => world.workers().every(worker => worker.asleep)

/** Rounds, sleeps and CPU time of a worker, all of one of its sleeps. */
async function snapshot(worker: number): Promise<{ rounds: number; sleeps: number; cpu: number }> {
  for (;;) {
    await until(() => world.workers()[worker]!.asleep)
    const { sleeps, cpuNs } = world.workers()[worker]!
    const rounds = world.rounds(worker)
    const after = world.workers()[worker]!
    if (after.asleep && after.sleeps === sleeps) return { rounds, sleeps, cpu: cpuNs }
  }
}

test('workers start, serve, stop, and leave nothing behind', async () => {
  // What the process opens once and for all, it opens here.
  await run('true', [])
  const before = descriptors()
  world = makeWorld()
  await world.pool.start()
  expect(world.workers().map(each => [each.running, each.generation])).toEqual([
    [true, 1],
    [true, 1],
  ])
  const there = await ping(world.pods[0]!.path, '10.244.1.3')
  expect([there.received, there.errors]).toEqual([3, []])
  expect(world.workers().reduce((sum, each) => sum + each.packets, 0)).toBeGreaterThanOrEqual(6)
  await world.pool.stop()
  for (const worker of world.workers()) {
    expect(worker).toMatchObject({
      running: false,
      leaked: 0,
      smallFree: SMALL_FRAMES,
      smallHeld: 0,
    })
  }
  expect(world.failures).toEqual([])
  for (let worker = 0; worker < WORKERS; worker++) {
    expect(Atomics.load(world.arena.control(worker), WORKER.WAKE_FD)).toBe(0)
  }
  await world.close()
  expect(descriptors()).toBe(before)
})

test('a worker that polls busily goes on polling when nothing comes', async () => {
  world = makeWorld(undefined, { busyPoll: 1e12 })
  await world.pool.start()
  for (let worker = 0; worker < WORKERS; worker++) {
    await until(() => world.rounds(worker) > 100 * SPIN_ROUNDS)
    expect(world.workers()[worker]).toMatchObject({ sleeps: 0, asleep: false })
  }
  expect((await ping(world.pods[0]!.path, '10.244.1.3')).received).toBe(3)
  await world.pool.stop()
})

test('a CPU that there is not is told', async () => {
  world = makeWorld(undefined, { cpus: [1023] })
  await expect(world.pool.start()).rejects.toThrow("worker 0 can't run on CPU 1023")
})

test('an idle worker sleeps: one round between two sleeps, and next to no CPU time', async () => {
  world = makeWorld()
  await world.pool.start()
  const started = performance.now()
  const first = await Promise.all([0, 1].map(snapshot))
  await until(() => first.every((each, w) => world.workers()[w]!.sleeps >= each.sleeps + 2))
  const second = await Promise.all([0, 1].map(snapshot))
  const elapsed = (performance.now() - started) * 1e6
  for (const [w, { rounds, sleeps, cpu }] of second.entries()) {
    expect(rounds - first[w]!.rounds).toBe(sleeps - first[w]!.sleeps)
    expect(cpu - first[w]!.cpu).toBeLessThan(elapsed / 4)
  }
})

test('a packet wakes a sleeping worker', async () => {
  world = makeWorld()
  await world.pool.start()
  for (let round = 0; round < 3; round++) {
    await until(asleep)
    const { received, medianUs } = await ping(world.pods[0]!.path, '10.244.1.3', { count: 1 })
    expect(received).toBe(1)
    // Without waking up, both ways would wait for the end of a sleep.
    expect(medianUs).toBeLessThan((SLEEP_MS * 1000) / 2)
  }
})

test('sleeping workers take over a change of the tables at once', async () => {
  world = makeWorld()
  await world.pool.start()
  const started = performance.now()
  for (let round = 0; round < 20; round++) {
    await until(asleep)
    const generation = world.tables.change(() => {
      world.arena.header()[HEADER.VNI] = round + 1
    })
    await world.tables.acknowledged(generation)
    for (const worker of world.workers()) expect(worker.generation).toBe(generation)
  }
  expect(performance.now() - started).toBeLessThan((20 * SLEEP_MS) / 2)
})

test('a port goes away under traffic: nothing leaks, and packets to it are dropped', async () => {
  world = makeWorld()
  await world.pool.start()
  const stream = transfer('udp', world.pods[0]!.path, world.pods[1]!.path, '10.244.1.3', {
    seconds: 20,
  }).catch(() => undefined)
  await until(() => world.workers().reduce((sum, each) => sum + each.packets, 0) > 1000)
  await world.removePod(1)
  await until(() => (world.drops()['port-gone'] ?? 0) > 100)
  await world.removePod(0)
  for (const worker of world.workers()) {
    expect(worker).toMatchObject({ leaked: 0, smallFree: SMALL_FRAMES, largeFree: 32 })
  }
  await stream
})

test('workers stop under traffic', async () => {
  world = makeWorld()
  await world.pool.start()
  const stream = transfer('udp', world.pods[0]!.path, world.pods[1]!.path, '10.244.1.3', {
    seconds: 20,
  }).catch(() => undefined)
  await until(() => world.workers().reduce((sum, each) => sum + each.packets, 0) > 1000)
  await world.close()
  for (const worker of world.workers()) {
    expect(worker).toMatchObject({ running: false, leaked: 0, smallFree: SMALL_FRAMES })
  }
  await stream
})

test('a worker that cannot start makes the start fail, with its reason', async () => {
  world = makeWorld('no-such-fib')
  await expect(world.pool.start()).rejects.toThrow('no-such-fib')
  expect(world.failures.map(each => each.worker).sort()).toEqual([0, 1])
})

test('a worker that fails later is reported; the other one goes on, and nobody waits for the dead one', async () => {
  world = makeWorld()
  await world.pool.start()
  const port = world.slots.reserve()
  world.tables.change(() => world.slots.activate(port, world.record([NO_DESCRIPTOR])))
  const { worker, error } = await world.failed
  expect(worker).toBe(0)
  expect(error.message).toMatch(/EBADF|Bad file descriptor/)
  await world.tables.acknowledged(world.tables.change(() => {}))
  const [dead, alive] = world.workers()
  expect([dead!.running, alive!.running]).toEqual([false, true])
  expect(alive!.generation).toBe(world.arena.header()[HEADER.GENERATION])
})
