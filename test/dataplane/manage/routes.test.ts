import { beforeEach, describe, expect, test } from 'vitest'
import { chooseFibs } from '../../../dataplane/manage/fibs.ts'
import { NextHopSlots, NO_HOP } from '../../../dataplane/manage/next-hop-slots.ts'
import { discard, Routes } from '../../../dataplane/manage/routes.ts'
import { Arena, NEXT_HOP_BYTES, planArena } from '../../../dataplane/memory/arena.ts'
import { HOP, HOP_INCARNATION } from '../../../dataplane/tables/next-hops.ts'
import { TableReader, TableWriter } from '../../../dataplane/tables/tables.ts'

const MOST = 16
let routes: Routes
let hops: NextHopSlots
let tables: TableReader
beforeEach(async () => {
  const plan = { workers: 1, smallFrames: 1, largeFrames: 1, xdpSockets: 1, xdpSocketBytes: 4096 }
  const fibs = await chooseFibs([], MOST)
  const arena = Arena.create(planArena({ ...plan, ...Routes.bytes(fibs, MOST) }))
  hops = new NextHopSlots(arena)
  tables = new TableReader(arena)
  routes = new Routes({ arena, hops, tables: new TableWriter(arena) }, fibs, MOST)
})

test('both families: the longest prefix answers, and what is removed no longer does', () => {
  for (const [prefix, hop] of [
    ['0.0.0.0/0', 1],
    ['10.1.0.0/16', 2],
    ['10.1.2.3/32', 3],
    ['::/0', 4],
    ['fd00::5/128', 5],
  ] as const) {
    routes.insert(prefix, hop)
  }
  const answers = (...ips: string[]) => ips.map(ip => routes.lookup(ip))
  expect(answers('192.0.2.1', '10.1.9.9', '10.1.2.3', 'fd00::4', 'fd00::5')).toEqual([
    1, 2, 3, 4, 5,
  ])
  expect(routes.sizes).toEqual({ ipv4: 3, ipv6: 2 })
  expect([...routes.list()].map(({ prefix, hop }) => `${prefix} ${hop}`).sort()).toEqual(
    ['0.0.0.0/0 1', '10.1.0.0/16 2', '10.1.2.3/32 3', '::/0 4', 'fd00::5/128 5'].sort(),
  )
  const before = routes.changes
  routes.remove('10.1.2.3/32', 3)
  routes.remove('::/0', 4)
  expect(routes.changes).toBe(before + 2)
  expect(answers('10.1.2.3', 'fd00::4')).toEqual([2, 0])
})

test("a route is removed by who holds it: another holder's stays", () => {
  routes.insert('10.1.2.3/32', 3)
  // The address has come to another pod; the one before goes later.
  routes.insert('10.1.2.3/32', 7)
  const before = routes.changes
  expect(routes.remove('10.1.2.3/32', 3)).toBe(false)
  expect(routes.changes).toBe(before)
  expect(routes.lookup('10.1.2.3')).toBe(7)
  expect(routes.remove('10.1.2.3/32', 7)).toBe(true)
  expect(routes.remove('10.1.2.3/32', 7)).toBe(false)
  expect(routes.lookup('10.1.2.3')).toBe(0)
  // The same route as it is already changes nothing.
  routes.insert('fd00::1/128', 3)
  const there = routes.changes
  routes.insert('fd00::1/128', 3)
  expect(routes.changes).toBe(there)
})

test('routes in place of others: all, or none', () => {
  const first = new Map([
    ['10.1.0.0/24', 1],
    ['10.2.0.0/24', 2],
    ['10.3.0.0/24', 3],
  ])
  routes.replace(new Map(), first)
  // Of a pod, and one that has come into other hands.
  routes.insert('10.9.0.1/32', 9)
  routes.insert('10.3.0.0/24', 8)
  const list = () => [...routes.list()].map(({ prefix, hop }) => `${prefix} ${hop}`).sort()
  const before = list()
  const many = Array.from({ length: MOST }, (_, i) => [`10.5.${i}.0/24`, 5] as const)
  const next = new Map<string, number>([['10.2.0.0/24', 4], ...many])
  expect(() => routes.replace(first, next)).toThrow(RangeError)
  expect(list()).toEqual(before)
  routes.replace(first, new Map([['10.2.0.0/24', 4]]))
  expect(list()).toEqual(['10.2.0.0/24 4', '10.3.0.0/24 8', '10.9.0.1/32 9'])
})

test('a prefix that is none and a route too many change nothing', () => {
  expect(() => routes.insert('10.0.0.1/8', 1)).toThrow(/bits behind the prefix/)
  for (let i = 0; i < MOST; i++) routes.insert(`10.0.0.${i}/32`, 1)
  expect(() => routes.insert('10.0.1.0/32', 1)).toThrow(RangeError)
  expect(routes.sizes.ipv4).toBe(MOST)
  routes.quiesced()
})

test('another FIB takes the place of the one in use, with what changed while it was built', async () => {
  routes.insert('10.1.0.0/16', 2)
  routes.insert('10.1.2.0/24', 3)
  const source = { family: 4, name: 'linear4' } as const
  const building = routes.prepare(source)
  routes.insert('10.1.3.0/24', 4)
  routes.remove('10.1.2.0/24', 3)
  await expect(routes.prepare(source)).rejects.toThrow(/being built/)
  const table = await building
  routes.insert('10.1.4.0/24', 5)
  routes.checkPrepared(4)
  const before = routes.tables.fib4
  expect(routes.adopt(4)).toEqual(before)
  expect(routes.tables.fib4).toBe(table)
  expect(routes.status()[0]).toMatchObject({ family: 4, name: 'linear4', routes: 3 })
  const answers = ['10.1.2.1', '10.1.3.1', '10.1.4.1', '10.2.0.0'].map(ip => routes.lookup(ip))
  expect(answers).toEqual([2, 4, 5, 0])
  discard(before)
  // Back into the arena's region, which is zero again.
  const home = await routes.prepare({ family: 4, name: 'dir24_8' })
  expect(home.buffer).toBe(before.buffer)
  routes.adopt(4)
  expect(routes.lookup('10.1.3.1')).toBe(4)
  routes.insert('0.0.0.0/0', 9)
  expect(routes.lookup('10.2.0.0')).toBe(9)
})

test('a FIB that is dropped again leaves the one in use as it was', async () => {
  routes.insert('fd00::/64', 2)
  const table = await routes.prepare({ family: 6, name: 'linear6' })
  routes.insert('fd00::1/128', 3)
  expect(routes.abandon(6)).toBe(table)
  routes.insert('fd00::2/128', 4)
  expect(['fd00::1', 'fd00::2', 'fd00::3'].map(ip => routes.lookup(ip))).toEqual([3, 4, 2])
  expect(routes.status()[1]).toMatchObject({ family: 6, name: 'trie6', routes: 3 })
})

describe('flows are to be routed again', () => {
  /** Incarnations of next hops 1 .. 4, as a worker sees them. */
  async function incarnations(): Promise<number[]> {
    await Promise.resolve()
    tables.update()
    const at = (hop: number) => tables.nextHopsAt + hop * NEXT_HOP_BYTES + HOP_INCARNATION
    return [1, 2, 3, 4].map(hop => tables.view.getUint16(at(hop), true))
  }

  beforeEach(() => {
    for (const kind of [HOP.VXLAN, HOP.PORT, HOP.REJECT, HOP.PORT]) hops.add({ ...NO_HOP, kind })
  })

  test('when the route that they use goes, or leads elsewhere', async () => {
    routes.insert('10.1.0.0/16', 1)
    routes.insert('10.2.0.0/16', 2)
    expect(await incarnations()).toEqual([0, 0, 0, 0])
    routes.remove('10.1.0.0/16', 1)
    expect(await incarnations()).toEqual([1, 0, 0, 0])
    routes.insert('10.2.0.0/16', 1)
    expect(await incarnations()).toEqual([1, 1, 0, 0])
    routes.insert('10.2.0.0/16', 1)
    expect(await incarnations()).toEqual([1, 1, 0, 0])
  })

  test.each([
    ['0.0.0.0/0', '10.1.0.0/16', '10.1.2.3/32', '11.0.0.0/8'],
    ['::/0', 'fd00::/64', 'fd00::7/128', 'fe00::/16'],
  ])('when a longer one comes below theirs, and those alone: %s', async (all, wide, one, other) => {
    routes.insert(one, 4)
    routes.insert(all, 1)
    expect(await incarnations()).toEqual([0, 0, 0, 0])
    routes.insert(wide, 2)
    expect(await incarnations()).toEqual([1, 0, 0, 0])
    routes.insert(other, 2)
    expect(await incarnations()).toEqual([2, 0, 0, 0])
    routes.remove(one, 4)
    routes.insert(one, 4)
    expect(await incarnations()).toEqual([2, 1, 0, 1])
  })

  test('not when a pod comes or goes where nothing went before', async () => {
    routes.insert('10.1.0.0/16', 3)
    routes.insert('10.1.0.5/32', 2)
    expect(await incarnations()).toEqual([0, 0, 0, 0])
  })

  test('many routes at once are one change of the tables, and `quiesce` has told of all', async () => {
    routes.insert('0.0.0.0/0', 1)
    const writer = new TableWriter(hops['arena'])
    const before = writer.generation
    for (let n = 0; n < 8; n++) routes.insert(`10.${n}.0.0/16`, 2)
    expect(await incarnations()).toEqual([1, 0, 0, 0])
    expect(writer.generation).toBe(before + 1)
    routes.remove('10.3.0.0/16', 2)
    await routes.quiesce(writer)
    expect(await incarnations()).toEqual([1, 1, 0, 0])
  })

  test('an id that is free names nothing that it has named', async () => {
    hops.free(2)
    hops.add({ ...NO_HOP, kind: HOP.PORT })
    expect((await incarnations())[1]).toBe(1)
  })
})
