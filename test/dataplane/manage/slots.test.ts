// Free places that the main thread keeps: ports, next hops, rings.
import { setImmediate } from 'node:timers/promises'
import { beforeEach, describe, expect, test } from 'vitest'
import { RING_SLOT_BYTES, RingSlots } from '../../../dataplane/afxdp/ring-slots.ts'
import { MAX_NEXT_HOPS, MAX_PORTS } from '../../../dataplane/limits.ts'
import { NextHopSlots, NO_HOP } from '../../../dataplane/manage/next-hop-slots.ts'
import { PortSlots } from '../../../dataplane/manage/port-slots.ts'
import {
  type Arena,
  HEADER,
  NEXT_HOP_BYTES,
  PAGE,
  PORT_COUNTER,
  portCounters,
  WORKER,
} from '../../../dataplane/memory/arena.ts'
import { PORT_KIND, PORT_ROLE } from '../../../dataplane/ports/port.ts'
import { HOP, HOP_KIND, HOP_MTU } from '../../../dataplane/tables/next-hops.ts'
import { PORT_STATE, type PortRecord, readPort } from '../../../dataplane/tables/ports.ts'
import { NO_RATE } from '../../../dataplane/tables/rates.ts'
import { TableWriter } from '../../../dataplane/tables/tables.ts'
import { smallArena } from '../memory/plan.ts'

const POD: Omit<PortRecord, 'state'> = {
  kind: PORT_KIND.TUN,
  role: PORT_ROLE.POD,
  flags: 0,
  ifindex: 5,
  mtu: 1450,
  macHigh: 0,
  macLow: 0,
  peerMacHigh: 0,
  peerMacLow: 0,
  ip4: 1,
  fillFrames: 0,
  ip6: [0, 0, 0, 0],
  fds: [9],
  rings: [],
  moreFds: [],
  ingress: NO_RATE,
  egress: NO_RATE,
  network: 0,
  identity: 0,
  ingressProgram: 0,
  egressProgram: 0,
}

let arena: Arena
let tables: TableWriter
beforeEach(() => {
  arena = smallArena({ workers: 2 })
  tables = new TableWriter(arena)
})

function stateOf(port: number): number {
  return readPort(arena.words, arena.layout.ports.offset, port).state
}

describe('PortSlots', () => {
  test('the lowest free place is given; a full table is refused by its limit', () => {
    const slots = new PortSlots(arena, tables)
    for (let index = 0; index < MAX_PORTS; index++) expect(slots.reserve()).toBe(index)
    expect(() => slots.reserve()).toThrow(`no free port: a node has ${MAX_PORTS} (MAX_PORTS)`)
    slots.cancel(7)
    slots.cancel(3)
    expect(slots.reserve()).toBe(3)
    expect(slots.reserve()).toBe(7)
  })

  test('a place that was reserved is no port yet; a port is not cancelled', () => {
    const slots = new PortSlots(arena, tables)
    const port = slots.reserve()
    expect(stateOf(port)).toBe(PORT_STATE.FREE)
    expect(slots.record(port)?.state).toBe(PORT_STATE.FREE)
    tables.change(() => slots.activate(port, POD))
    expect(stateOf(port)).toBe(PORT_STATE.ACTIVE)
    expect(arena.header()[HEADER.PORT_COUNT]).toBe(1)
    slots.cancel(port)
    expect(slots.record(port)).toMatchObject({ ...POD, state: PORT_STATE.ACTIVE })
    expect(slots.reserve()).toBe(1)
  })

  test('a port goes away in steps, each when every worker has seen it', async () => {
    const slots = new PortSlots(arena, tables)
    const port = slots.reserve()
    tables.change(() => slots.activate(port, POD))
    const workers = [0, 1].map(w => arena.control(w))
    for (const control of workers) Atomics.store(control, WORKER.STATE, 1)
    const acknowledge = async (...who: number[]) => {
      for (const w of who) {
        const generation = Atomics.load(arena.header(), HEADER.GENERATION)
        Atomics.store(workers[w]!, WORKER.ACKNOWLEDGED, generation)
        Atomics.notify(workers[w]!, WORKER.ACKNOWLEDGED)
      }
      await setImmediate()
    }
    await acknowledge(0, 1)
    arena.counters(1).fill(8, portCounters(port), portCounters(port + 2))

    const steps: number[] = []
    const removed = slots.remove(port, () => steps.push(stateOf(port)))
    await acknowledge(0)
    // One worker still serves it: its descriptors stay open, its place is taken.
    expect(steps).toEqual([])
    expect(stateOf(port)).toBe(PORT_STATE.CLOSING)
    expect(slots.reserve()).not.toBe(port)
    await acknowledge(1)
    expect(steps).toEqual([PORT_STATE.CLOSING])
    expect(stateOf(port)).toBe(PORT_STATE.CLOSED)
    await acknowledge(1)
    expect(slots.record(port)).toBeDefined()
    await acknowledge(0)
    await removed
    expect(stateOf(port)).toBe(PORT_STATE.FREE)
    expect(slots.record(port)).toBeUndefined()
    expect(slots.reserve()).toBe(port)
    // The next port of that place counts from zero; its neighbour's counters stay.
    const at = portCounters(port)
    expect([...arena.counters(1).subarray(at, at + PORT_COUNTER.COUNT + 1)]).toEqual([
      ...new Array(PORT_COUNTER.COUNT).fill(0),
      8,
    ])
  })

  test('what is not there is removed without a word', async () => {
    const slots = new PortSlots(arena, tables)
    let closed = 0
    await slots.remove(5, () => closed++)
    expect(closed).toBe(0)
  })
})

describe('NextHopSlots', () => {
  const hop = { ...NO_HOP, kind: HOP.PORT, port: 3, mtu: 1450 }
  const entry = (id: number, offset: number) =>
    arena.view.getUint32(arena.layout.nextHops.offset + id * NEXT_HOP_BYTES + offset, true)

  test('ids begin at 1, are used again, and 0 is never given', () => {
    const slots = new NextHopSlots(arena)
    expect([1, 2, 3].map(() => slots.add(hop))).toEqual([1, 2, 3])
    slots.free(2)
    expect(slots.get(2)).toBeUndefined()
    expect(entry(2, HOP_KIND)).toBe(HOP.NONE)
    expect(slots.add({ ...hop, mtu: 1280 })).toBe(2)
    expect(entry(2, HOP_MTU)).toBe(1280)
    expect(slots.get(2)?.mtu).toBe(1280)
    slots.update(2, { ...hop, mtu: 1300 })
    expect(entry(2, HOP_MTU)).toBe(1300)
    expect(arena.header()[HEADER.NEXT_HOP_COUNT]).toBe(4)
  })

  test('a full table is refused by its limit', () => {
    const slots = new NextHopSlots(arena)
    for (let id = 1; id < MAX_NEXT_HOPS; id++) expect(slots.add(hop)).toBe(id)
    expect(() => slots.add(hop)).toThrow(`a node has ${MAX_NEXT_HOPS} (MAX_NEXT_HOPS)`)
    expect(arena.header()[HEADER.NEXT_HOP_COUNT]).toBe(MAX_NEXT_HOPS)
    slots.free(4000)
    expect(slots.add(hop)).toBe(4000)
  })
})

describe('RingSlots', () => {
  test('places are on pages, apart, inside the region; the first one is the root', () => {
    const sockets = 4
    const rings = smallArena({ xdpSockets: sockets, xdpSocketBytes: RING_SLOT_BYTES })
    const { offset, bytes } = rings.layout.rings
    const slots = new RingSlots(rings)
    const places = [slots.root, ...[1, 2, 3].map(() => slots.take())].sort((a, b) => a - b)
    for (const [i, at] of places.entries()) {
      expect(at % PAGE).toBe(0)
      expect(at).toBeGreaterThanOrEqual(i === 0 ? offset : places[i - 1]! + RING_SLOT_BYTES)
      expect(at + RING_SLOT_BYTES).toBeLessThanOrEqual(offset + bytes)
    }
    expect(slots.root).toBe(offset)
    expect(() => slots.take()).toThrow(
      'no room for the rings of another AF_XDP socket: a worker has 3 (raise xdpSockets, or attach by TUN)',
    )
    slots.release(places[2]!)
    expect(slots.take()).toBe(places[2])
  })
})
