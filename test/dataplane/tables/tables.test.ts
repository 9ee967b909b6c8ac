import { once } from 'node:events'
import { setImmediate } from 'node:timers/promises'
import { Worker } from 'node:worker_threads'
import { afterEach, describe, expect, test, vi } from 'vitest'
import { NO_HOP } from '../../../dataplane/manage/next-hop-slots.ts'
import { type Arena, HEADER, NEXT_HOP_BYTES, WORKER } from '../../../dataplane/memory/arena.ts'
import { writeNetworks } from '../../../dataplane/tables/networks.ts'
import { HOP, HOP_MTU, writeNextHop } from '../../../dataplane/tables/next-hops.ts'
import { NO_PORT, type PortRecord, readPort, writePort } from '../../../dataplane/tables/ports.ts'
import { TableReader, TableWriter } from '../../../dataplane/tables/tables.ts'
import { knowsVtep, vtepTable, writeVteps } from '../../../dataplane/tables/vteps.ts'
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
  writeVteps(arena, vtepTable([vtep]))
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

/** How many blocks the reader's next update copies. */
function blocksIn(reader: TableReader): number {
  const before = reader.copied
  reader.update()
  return reader.copied - before
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

  test('a change is copied, and nothing else', () => {
    const arena = smallArena()
    const writer = new TableWriter(arena)
    const reader = new TableReader(arena)
    const addresses = (count: number) =>
      vtepTable(
        Array.from({ length: count }, (_, i) => ({
          family: 4 as const,
          words: Uint32Array.of(i + 1, 0, 0, 0),
        })),
      )
    const hop = (mtu: number) => ({ ...NO_HOP, kind: HOP.PORT, mtu })
    const ports = 250
    const hops = 5000
    writer.change(() => {
      for (let port = 0; port < ports; port++) writePort(arena, port, { ...NO_PORT, mtu: port })
      for (let id = 1; id <= hops; id++) writeNextHop(arena, id, hop(id))
      writeVteps(arena, addresses(5000))
    })
    const first = blocksIn(reader)
    expect([...reader.moved.subarray(0, reader.movedCount)]).toEqual([...Array(ports).keys()])
    expect(first).toBeGreaterThan(ports + hops / 32)

    writer.change(() => writePort(arena, 77, { ...NO_PORT, mtu: 7 }))
    expect(blocksIn(reader)).toBe(1)
    expect([...reader.moved.subarray(0, reader.movedCount)]).toEqual([77])
    expect(readPort(reader.words, reader.portsAt, 77).mtu).toBe(7)
    expect(readPort(reader.words, reader.portsAt, 78).mtu).toBe(78)

    writer.change(() => writeNextHop(arena, 4000, hop(9)))
    expect(blocksIn(reader)).toBe(1)
    expect(reader.movedCount).toBe(0)
    const mtuOf = (id: number) =>
      reader.view.getUint32(reader.nextHopsAt + id * NEXT_HOP_BYTES + HOP_MTU, true)
    expect([3999, 4000, 4001].map(mtuOf)).toEqual([3999, 9, 4001])

    // A node more, behind the others: its slot, and the pages in between stay.
    writer.change(() => writeVteps(arena, addresses(5001)))
    expect(blocksIn(reader)).toBe(1)
    expect(knowsVtep(reader.words, reader.vtepsAt / 4, 4, 5001, 0, 0, 0)).toBe(true)

    writer.change(() => {})
    expect(blocksIn(reader)).toBe(0)
    writer.change(() => writeNetworks(arena, [{ vni: 5, index: 1 }]))
    expect(blocksIn(reader)).toBe(1)
    expect(reader.networksMoved).toBe(true)
  })

  test('a reader that slept through changes has all of them, and each block once', () => {
    const arena = smallArena()
    const writer = new TableWriter(arena)
    const reader = new TableReader(arena)
    for (let round = 0; round < 50; round++) {
      for (const port of [3, 9])
        writer.change(() => writePort(arena, port, { ...NO_PORT, mtu: round }))
    }
    expect(blocksIn(reader)).toBe(2)
    expect([3, 9].map(port => readPort(reader.words, reader.portsAt, port).mtu)).toEqual([49, 49])
  })

  test('changes may run over the end of 32 bits', () => {
    const arena = smallArena()
    const writer = new TableWriter(arena)
    const reader = new TableReader(arena)
    Atomics.store(arena.header(), HEADER.SEQUENCE, 0x7fff_fffc)
    for (let mtu = 1; mtu < 6; mtu++) {
      writer.change(() => writePort(arena, 3, { ...NO_PORT, mtu }))
      blocksIn(reader)
      expect(readPort(reader.words, reader.portsAt, 3).mtu).toBe(mtu)
    }
    expect(arena.header()[HEADER.SEQUENCE]).toBeLessThan(0)
  })

  test('loads of the copy are fenced from the second look at the sequence, stores of a change from the first', () => {
    const arena = smallArena()
    const writer = new TableWriter(arena)
    const reader = new TableReader(arena)
    const seen: string[] = []
    const name = (array: unknown, at: number) =>
      array instanceof Int32Array && array.buffer === arena.buffer
        ? at === HEADER.SEQUENCE
          ? 'sequence'
          : 'header'
        : 'own'
    for (const kind of ['load', 'store', 'add'] as const) {
      const real = Atomics[kind] as (...all: unknown[]) => number
      vi.spyOn(Atomics, kind).mockImplementation(((...all: unknown[]) => {
        seen.push(`${kind} ${name(all[0], all[1] as number)}`)
        return real.apply(Atomics, all)
      }) as never)
    }
    try {
      writer.change(() => void seen.push('write'))
      expect(seen.slice(0, 5)).toEqual([
        'add sequence',
        'store own',
        'load own',
        'write',
        'add sequence',
      ])
      seen.length = 0
      reader.update()
      expect(seen).toEqual([
        'load sequence',
        'load header',
        'store own',
        'load own',
        'load sequence',
      ])
    } finally {
      vi.restoreAllMocks()
    }
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
