// What a change of the tables costs a worker: the ports that it moved, and no others. The worker runs on
// this thread; an order has it return after one round.
import { setImmediate } from 'node:timers/promises'
import { MessageChannel } from 'node:worker_threads'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { fibByName } from '../../../dataplane/fib/index.ts'
import { PortSlots } from '../../../dataplane/manage/port-slots.ts'
import { tableIn } from '../../../dataplane/manage/routes.ts'
import { Arena, planArena } from '../../../dataplane/memory/arena.ts'
import { PORT_KIND, PORT_ROLE } from '../../../dataplane/ports/port.ts'
import { NO_PORT } from '../../../dataplane/tables/ports.ts'
import { TableWriter } from '../../../dataplane/tables/tables.ts'
import { Worker } from '../../../dataplane/worker/worker.ts'
import { native } from '../../../native/native.ts'

const PORTS = 250
const limits = { routes: 16 }
const fib4 = fibByName('linear4', 4)
const fib6 = fibByName('linear6', 6)

let arena: Arena
let tables: TableWriter
let slots: PortSlots
let worker: Worker
let round: () => Promise<void>
let close: () => void

beforeEach(() => {
  const layout = planArena({
    workers: 1,
    smallFrames: 512,
    largeFrames: 32,
    xdpSockets: 1,
    xdpSocketBytes: 4096,
    fib4Bytes: fib4.bytes(limits),
    fib6Bytes: fib6.bytes(limits),
  })
  arena = Arena.create(layout)
  tables = new TableWriter(arena)
  slots = new PortSlots(arena, tables)
  const wakeFd = native.eventfd()
  const fds = Array.from({ length: PORTS }, () => native.eventfd())
  const { port1, port2 } = new MessageChannel()
  worker = new Worker(
    {
      arena: arena.handle(),
      worker: 0,
      wakeFd,
      fib4: tableIn(arena, { family: 4, name: 'linear4' }, layout.fib4.bytes, limits),
      fib6: tableIn(arena, { family: 6, name: 'linear6' }, layout.fib6.bytes, limits),
      orders: port2,
    },
    fib4.reader(arena.slice(layout.fib4), limits),
    fib6.reader(arena.slice(layout.fib6), limits),
  )
  let number = 0
  round = async () => {
    while (!worker.engine.tables.stale()) await setImmediate()
    port1.postMessage({ number: ++number, undo: 0 })
    expect(worker.run()).toBe(true)
    await worker.carryOut()
  }
  close = () => {
    port1.close()
    for (const fd of [wakeFd, ...fds]) native.close(fd)
  }
  tables.change(() => {
    for (const fd of fds) {
      const record = { ...NO_PORT, kind: PORT_KIND.TUN, role: PORT_ROLE.POD, mtu: 1450, fds: [fd] }
      slots.activate(slots.reserve(), record)
    }
  })
})

afterEach(() => close())

test('a record that has not moved is not read again', async () => {
  await round()
  const before = [...worker.engine.records]
  expect(before.filter(each => each !== undefined)).toHaveLength(PORTS)

  tables.change(() => slots.activate(7, { ...slots.record(7)!, mtu: 1300 }))
  await round()
  const after = [...worker.engine.records]
  expect(after[7]).toMatchObject({ mtu: 1300 })
  expect(after.flatMap((each, port) => (each === before[port] ? [] : [port]))).toEqual([7])

  // As for a route or a quiescent point.
  tables.change(() => {})
  await round()
  expect(worker.engine.records.every((each, port) => each === after[port])).toBe(true)
})

test('a port that goes is let go of, and its place is served again; the others stay as they are', async () => {
  await round()
  const before = [...worker.engine.records]
  const record = slots.record(9)!
  const state = worker.engine.ports[9]
  const removed = slots.remove(9, () => {})
  for (let step = 0; step < 2; step++) {
    await round()
    expect(worker.engine.ports[9]).toBeUndefined()
  }
  await removed
  expect(slots.reserve()).toBe(9)
  tables.change(() => slots.activate(9, record))
  await round()
  expect(worker.engine.ports[9]).toBeDefined()
  expect(worker.engine.ports[9]).not.toBe(state)
  const moved = worker.engine.records.flatMap((each, port) => (each === before[port] ? [] : [port]))
  expect(moved).toEqual([9])
})
