import { beforeEach, describe, expect, test } from 'vitest'
import { DROP_NO_ROUTE, DROP_TTL, DROPS } from '../../../dataplane/drops.ts'
import { PortSlots } from '../../../dataplane/manage/port-slots.ts'
import { readDrops, readPorts, readWorkers } from '../../../dataplane/manage/status.ts'
import {
  type Arena,
  COUNTER,
  PORT_COUNTER,
  portCounters,
  WORKER,
} from '../../../dataplane/memory/arena.ts'
import { DEVICE } from '../../../dataplane/ports/device-state.ts'
import { PORT_KIND, PORT_ROLE } from '../../../dataplane/ports/port.ts'
import { NO_PORT } from '../../../dataplane/tables/ports.ts'
import { TableWriter } from '../../../dataplane/tables/tables.ts'
import { smallArena } from '../memory/plan.ts'

let arena: Arena
beforeEach(() => {
  arena = smallArena({ workers: 2 })
})

describe('status', () => {
  test('drops: only what has occurred, summed and by worker', () => {
    expect(readDrops(arena)).toEqual([])
    arena.counters(0)[COUNTER.DROPS + DROP_TTL] = 2
    arena.counters(1)[COUNTER.DROPS + DROP_TTL] = 2 ** 40
    arena.counters(1)[COUNTER.DROPS + DROP_NO_ROUTE] = 1
    const text = (id: number) => ({ reason: DROPS[id]![0], text: DROPS[id]![1] })
    expect(readDrops(arena)).toEqual([
      { ...text(DROP_NO_ROUTE), count: 1, workers: [0, 1] },
      { ...text(DROP_TTL), count: 2 ** 40 + 2, workers: [2, 2 ** 40] },
    ])
  })

  test('workers: control block and counters under their names', () => {
    const control = arena.control(1)
    const words = {
      [WORKER.ACKNOWLEDGED]: 12,
      [WORKER.STATE]: 1,
      [WORKER.ASLEEP]: 1,
      [WORKER.SMALL_FREE]: 100,
      [WORKER.SMALL_HELD]: 28,
      [WORKER.LARGE_FREE]: 3,
      [WORKER.LEAKED]: 4,
    }
    for (const [word, value] of Object.entries(words)) control[Number(word)] = value
    for (let i = 0; i < COUNTER.DROPS; i++) arena.counters(1)[i] = 1000 + i
    const [idle, busy] = readWorkers(arena)
    expect(busy).toEqual({
      worker: 1,
      running: true,
      asleep: true,
      generation: 12,
      packets: 1000 + COUNTER.PACKETS,
      batches: 1000 + COUNTER.BATCHES,
      sleeps: 1000 + COUNTER.SLEEPS,
      cpuNs: 1000 + COUNTER.CPU_NS,
      smallFree: 100,
      smallHeld: 28,
      largeFree: 3,
      leaked: 4,
      encapsulated: 1000 + COUNTER.ENCAPSULATED,
      decapsulated: 1000 + COUNTER.DECAPSULATED,
      icmpErrors: 1000 + COUNTER.ICMP_ERRORS,
      icmpLimited: 1000 + COUNTER.ICMP_LIMITED,
    })
    expect(idle).toMatchObject({ worker: 0, running: false, asleep: false, packets: 0 })
    control[WORKER.STATE] = 2
    expect(readWorkers(arena)[1]!.running).toBe(false)
  })

  test('ports: active ones only, with names, kinds and roles, summed over workers', async () => {
    const tables = new TableWriter(arena)
    const slots = new PortSlots(arena, tables)
    const record = { ...NO_PORT, mtu: 1450 }
    const kinds = [
      [PORT_KIND.TUN, PORT_ROLE.HOST],
      [PORT_KIND.UDP, PORT_ROLE.UNDERLAY],
      [PORT_KIND.XDP, PORT_ROLE.POD],
      [PORT_KIND.TUN, PORT_ROLE.POD],
    ] as const
    for (const [kind, role] of kinds) {
      tables.change(() => slots.activate(slots.reserve(), { ...record, kind, role }))
    }
    slots.reserve()
    await slots.remove(3, () => {})
    for (const worker of [0, 1]) {
      const counters = arena.counters(worker)
      for (let i = 0; i < PORT_COUNTER.COUNT; i++) {
        counters[portCounters(2) + i] = (worker + 1) * (i + 1)
      }
      counters[portCounters(2) + PORT_COUNTER.DEVICE] = worker * DEVICE.GONE
    }
    const names = new Map([
      [0, 'hawser0'],
      [2, 'pod-a'],
    ])
    const ports = readPorts(arena, slots, names, 'eth0')
    const found = ports.map(({ port, kind, role, name }) => [port, kind, role, name])
    expect(found).toEqual([
      [0, 'tun', 'host', 'hawser0'],
      [1, 'udp', 'underlay', 'eth0'],
      [2, 'xdp', 'pod', 'pod-a'],
    ])
    expect(ports[2]).toMatchObject({
      rxPackets: 3 * (PORT_COUNTER.RX_PACKETS + 1),
      rxBytes: 3 * (PORT_COUNTER.RX_BYTES + 1),
      txPackets: 3 * (PORT_COUNTER.TX_PACKETS + 1),
      txBytes: 3 * (PORT_COUNTER.TX_BYTES + 1),
      rxDrops: 3 * (PORT_COUNTER.RX_DROPS + 1) + 3 * (PORT_COUNTER.KERNEL_DROPS + 1),
      txDrops: 3 * (PORT_COUNTER.TX_DROPS + 1),
      device: 'gone',
    })
  })
})
