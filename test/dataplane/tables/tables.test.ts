import { once } from 'node:events'
import { setImmediate } from 'node:timers/promises'
import { Worker } from 'node:worker_threads'
import { afterEach, describe, expect, test } from 'vitest'
import { type Arena, HEADER, WORKER } from '../../../dataplane/memory/arena.ts'
import { HOP, writeNextHop } from '../../../dataplane/tables/next-hops.ts'
import { NO_PORT, type PortRecord, readPort, writePort } from '../../../dataplane/tables/ports.ts'
import { TableReader, TableWriter } from '../../../dataplane/tables/tables.ts'
import { knowsVtep, writeVteps } from '../../../dataplane/tables/vteps.ts'
import { native } from '../../../native/native.ts'
import { smallArena } from '../memory/plan.ts'

const PORTS = 8
const HOPS = 40

/**
 * Writes `stamp` everywhere; a change that is seen in part shows two numbers. What a reader copies
 * last is written first, so that the two meet.
 */
function writeStamp(arena: Arena, stamp: number): void {
  const vtep = { family: 4 as const, words: Uint32Array.of(stamp, 0, 0, 0) }
  writeVteps(arena.words, arena.layout.vteps.offset / 4, [vtep])
  const header = arena.header()
  header[HEADER.VNI] = stamp
  header[HEADER.PORT_COUNT] = PORTS
  header[HEADER.NEXT_HOP_COUNT] = HOPS + 1
  const record: PortRecord = {
    ...NO_PORT,
    state: 1,
    kind: 1,
    role: 1,
    mtu: stamp,
    moreFds: new Array(8).fill(stamp),
  }
  for (let port = 0; port < PORTS; port++) writePort(arena, port, record)
  const hop = { kind: HOP.PORT, port: 1, header: new Uint8Array(0), macHigh: 0, macLow: 0 }
  for (let id = 1; id <= HOPS; id++) {
    writeNextHop(arena, id, { ...hop, network: 0, mtu: stamp, macKnown: false })
  }
}

const threads: Worker[] = []
afterEach(async () => {
  await Promise.all(threads.splice(0).map(thread => thread.terminate()))
})

async function startReader(
  arena: Arena,
): Promise<{ done: Promise<{ copies: number; torn: number }> }> {
  const thread = new Worker(new URL('./reader.worker.ts', import.meta.url), {
    workerData: { handle: arena.handle(), ports: PORTS, hops: HOPS },
    execArgv: [],
  })
  threads.push(thread)
  await once(thread, 'message')
  return { done: once(thread, 'message').then(([result]) => result) }
}

describe('TableReader', () => {
  test('sees a change when it looks, and not before', () => {
    const arena = smallArena()
    const writer = new TableWriter(arena)
    const reader = new TableReader(arena)
    expect(reader.stale()).toBe(true)
    reader.update()
    expect(reader.stale()).toBe(false)
    expect(writer.change(() => writeStamp(arena, 1234))).toBe(1)
    expect(reader.stale()).toBe(true)
    expect(reader.words[HEADER.VNI]).toBe(0)
    reader.update()
    expect(reader.generation).toBe(1)
    expect(reader.words[HEADER.VNI]).toBe(1234)
    expect(readPort(reader.words, reader.portsAt, 3).mtu).toBe(1234)
    expect(knowsVtep(reader.words, reader.vtepsAt / 4, 4, 1234, 0, 0, 0)).toBe(true)
    // The copy is the reader's own.
    writePort(arena, 3, { ...readPort(reader.words, reader.portsAt, 3), mtu: 9 })
    expect(readPort(reader.words, reader.portsAt, 3).mtu).toBe(1234)
  })

  test('a change that fails leaves the tables readable', () => {
    const arena = smallArena()
    const writer = new TableWriter(arena)
    const reader = new TableReader(arena)
    const fail = () =>
      writer.change(() => {
        throw new Error('no')
      })
    expect(fail).toThrow('no')
    expect(Atomics.load(arena.header(), HEADER.SEQUENCE) & 1).toBe(0)
    reader.update()
    expect(reader.generation).toBe(0)
    expect(writer.change(() => {})).toBe(1)
  })

  test('a thread that reads beside a writer never sees a part of a change', async () => {
    const arena = smallArena()
    const writer = new TableWriter(arena)
    const { done } = await startReader(arena)
    // Changes in bursts, so that a copy that begins with the first meets the writer at the next ones.
    const control = arena.control(0)
    let stamp = 0
    for (let round = 0; round < 2000; round++) {
      const seen = Atomics.load(control, WORKER.ACKNOWLEDGED)
      for (let burst = round % 12; burst >= 0; burst--) {
        writer.change(() => writeStamp(arena, ++stamp))
      }
      Atomics.wait(control, WORKER.ACKNOWLEDGED, seen, 5000)
    }
    await writer.acknowledged(Atomics.load(arena.header(), HEADER.GENERATION))
    expect(Atomics.load(control, WORKER.ACKNOWLEDGED)).toBe(stamp)
    Atomics.store(arena.header(), HEADER.STOP, 1)
    const { copies, torn } = await done
    expect(torn).toBe(0)
    expect(copies).toBeGreaterThanOrEqual(2000)
  })
})

describe('TableWriter', () => {
  test('acknowledged waits for running workers and for no others', async () => {
    const arena = smallArena({ workers: 3 })
    const writer = new TableWriter(arena)
    const generation = writer.change(() => {})
    // Nobody runs.
    await writer.acknowledged(generation)
    for (const [worker, state] of [1, 2, 1].entries()) {
      Atomics.store(arena.control(worker), WORKER.STATE, state)
    }
    let resolved = false
    const waiting = writer.acknowledged(generation).then(() => {
      resolved = true
    })
    const acknowledge = async (worker: number, seen: number) => {
      Atomics.store(arena.control(worker), WORKER.ACKNOWLEDGED, seen)
      Atomics.notify(arena.control(worker), WORKER.ACKNOWLEDGED)
      await setImmediate()
    }
    await acknowledge(0, generation)
    expect(resolved).toBe(false)
    // A later generation does as well.
    await acknowledge(2, generation + 3)
    await waiting
    expect(resolved).toBe(true)
  })

  test('a worker that ends is not waited for', async () => {
    const arena = smallArena()
    const writer = new TableWriter(arena)
    const control = arena.control(0)
    Atomics.store(control, WORKER.STATE, 1)
    const waiting = writer.acknowledged(writer.change(() => {}))
    Atomics.store(control, WORKER.STATE, 2)
    Atomics.notify(control, WORKER.ACKNOWLEDGED)
    await waiting
  })

  test('generations may run over the end of 32 bits', async () => {
    const arena = smallArena()
    const writer = new TableWriter(arena)
    const header = arena.header()
    Atomics.store(header, HEADER.GENERATION, 0x7fff_ffff)
    const control = arena.control(0)
    Atomics.store(control, WORKER.STATE, 1)
    Atomics.store(control, WORKER.ACKNOWLEDGED, 0x7fff_ffff)
    const reader = new TableReader(arena)
    reader.update()
    const generation = writer.change(() => {})
    expect(reader.stale()).toBe(true)
    let resolved = false
    const waiting = writer.acknowledged(generation).then(() => {
      resolved = true
    })
    await setImmediate()
    expect(resolved).toBe(false)
    reader.update()
    Atomics.store(control, WORKER.ACKNOWLEDGED, reader.generation)
    Atomics.notify(control, WORKER.ACKNOWLEDGED)
    await waiting
    expect(resolved).toBe(true)
  })

  test('a change wakes the workers that sleep', () => {
    const arena = smallArena({ workers: 2 })
    native.bind(arena.bytes)
    const fd = native.eventfd()
    const epoll = native.epollCreate()
    try {
      native.epollAdd(epoll, fd, 7, 1)
      Atomics.store(arena.control(1), WORKER.WAKE_FD, fd)
      const at = arena.layout.scratch.offset
      expect(native.epollWait(epoll, at, 1, 0)).toBe(0)
      new TableWriter(arena).change(() => {})
      expect(native.epollWait(epoll, at, 1, 0)).toBe(1)
    } finally {
      native.close(epoll)
      native.close(fd)
    }
  })
})
