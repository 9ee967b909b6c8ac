// A cluster is in force whole, or the one before still is: refused at each limit and at each step.
import { createHash } from 'node:crypto'
import { beforeEach, describe, expect, test } from 'vitest'
import { Cluster, type ClusterSpec, type Follower } from '../../../dataplane/cluster/cluster.ts'
import type { NodeSpec } from '../../../dataplane/control.ts'
import { fibByName } from '../../../dataplane/fib/index.ts'
import { MAX_NEXT_HOPS } from '../../../dataplane/limits.ts'
import { Networks } from '../../../dataplane/manage/networks.ts'
import { NextHopSlots, NO_HOP } from '../../../dataplane/manage/next-hop-slots.ts'
import { writeNodeFacts } from '../../../dataplane/manage/node-facts.ts'
import { Peers } from '../../../dataplane/manage/peers.ts'
import { type Fibs, Routes } from '../../../dataplane/manage/routes.ts'
import { Arena, HEADER, NEXT_HOP_BYTES, planArena } from '../../../dataplane/memory/arena.ts'
import { HOP, HOP_INCARNATION } from '../../../dataplane/tables/next-hops.ts'
import { TableWriter } from '../../../dataplane/tables/tables.ts'

const PEERS = 300
const ROUTES = 700

const node = (name: string, at: number, more: Partial<NodeSpec> = {}): NodeSpec => ({
  name,
  vtep: `192.0.${at >> 8}.${at & 255}`,
  podCidrs: [`10.${at >> 8}.${at & 255}.0/24`],
  ...more,
})
const SELF = node('self', 1)
const some = (count: number, from = 2) =>
  Array.from({ length: count }, (_, i) => node(`n${from + i}`, from + i))
const BLUE = { name: 'blue', vni: 100 }
const inBlue = (spec: NodeSpec, at: number): NodeSpec => ({
  ...spec,
  networks: { blue: [`10.60.${at}.0/24`] },
})

const fibs = (): Fibs => ({
  ipv4: { source: { family: 4, name: 'linear4' }, fib: fibByName('linear4', 4) },
  ipv6: { source: { family: 6, name: 'linear6' }, fib: fibByName('linear6', 6) },
})

let arena: Arena
let tables: TableWriter
let hops: NextHopSlots
let routing: Routes
let networks: Networks
let cluster: Cluster
/** What the kernel was asked for, and which of its two steps fails. */
let asked: string[]
let failing: ((step: number) => boolean) | undefined
let pods: number

function step(number: number): Follower {
  return ({ peers }) => {
    asked.push(`${number}: ${peers.length} peers`)
    outsideOfChange()
    if (failing?.(number)) throw new Error(`step ${number} failed`)
  }
}

function outsideOfChange(): void {
  expect(Atomics.load(arena.header(), HEADER.SEQUENCE) & 1).toBe(0)
}

beforeEach(() => {
  const chosen = fibs()
  const layout = planArena({
    workers: 1,
    smallFrames: 1,
    largeFrames: 1,
    xdpSockets: 1,
    xdpSocketBytes: 4096,
    peers: PEERS,
    ...Routes.bytes(chosen, ROUTES),
  })
  arena = Arena.create(layout)
  tables = new TableWriter(arena)
  hops = new NextHopSlots(arena)
  routing = new Routes({ arena, hops, tables }, chosen, ROUTES)
  networks = new Networks(arena, hops, 1450, 1)
  const peers = new Peers(hops, (peer, { index, vni }) => {
    // Asked of the kernel, as far as this test knows.
    outsideOfChange()
    const header = new TextEncoder().encode(`${cluster.self.name} ${peer.vtep} ${vni}`)
    return { ...NO_HOP, kind: HOP.VXLAN, network: index, mtu: 1450, header }
  })
  asked = []
  failing = undefined
  pods = 0
  const hostHop = hops.add({ ...NO_HOP, kind: HOP.PORT, port: 0, mtu: 1450 })
  cluster = new Cluster(SELF, {
    parts: { arena, tables, hops, log: () => {} },
    routing,
    networks,
    peers,
    pods: () => pods,
    hostHop: () => hostHop,
    hostPrefixes: () => [],
    kernel: [step(0), step(1)],
    writeSelf: () =>
      writeNodeFacts(arena, { self: cluster.self, vni: 1, vxlanPort: 4789, hostPort: 0 }),
    limits: { peers: PEERS, routes: ROUTES },
  })
})

function set(peers: readonly NodeSpec[], more: Partial<ClusterSpec> = {}): Promise<void> {
  return cluster.set({ self: SELF, peers, networks: [], ...more })
}

function hash(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex')
}

/** All that workers and status see. */
function state(): unknown {
  const { nextHops, vteps, networks: table } = arena.layout
  const header = [...arena.header()]
  // Flows may be routed again to where they went.
  const entries = arena.slice(nextHops).slice()
  for (let at = HOP_INCARNATION; at < entries.length; at += NEXT_HOP_BYTES)
    entries.fill(0, at, at + 2)
  for (const word of [HEADER.SEQUENCE, HEADER.GENERATION, HEADER.NEXT_HOP_COUNT]) header[word] = 0
  return {
    header,
    tables: [entries, ...[vteps, table].map(region => arena.slice(region))].map(hash),
    routes: [...routing.list()].map(({ prefix, hop }) => `${prefix} ${hop}`).sort(),
    self: cluster.self,
    room: hops.room,
    networks: networks.joined().map(each => ({ ...each })),
    status: networks.status(),
  }
}

describe('what is refused changes nothing', () => {
  beforeEach(async () => {
    await set([inBlue(node('n2', 2), 2), ...some(2, 3)], {
      self: inBlue(SELF, 1),
      networks: [BLUE],
    })
    asked = []
  })

  const other = { self: node('self', 1, { vtepMac: '02:00:00:00:00:09' }) }
  const twoNetworks = Array.from({ length: 300 }, (_, i) => ({ name: `x${i}`, vni: i + 2 }))

  test.each<[string, () => Promise<void>, RegExp]>([
    ['peers', () => set(some(PEERS + 1), other), /301 peers: this engine takes 300 \(peers\)/],
    [
      'routes',
      () => {
        pods = ROUTES
        return set(some(5), other)
      },
      /the FIB takes 700 \(routes\)/,
    ],
    [
      'next hops',
      () => {
        while (hops.room > 3) hops.add({ ...NO_HOP, kind: HOP.PORT })
        return set(some(10), other)
      },
      /more next hops are needed, 3 are free \(MAX_NEXT_HOPS\)/,
    ],
    ['networks', () => set(some(1), { ...other, networks: twoNetworks }), /MAX_NETWORKS/],
    ['VNI', () => set(some(1), { ...other, networks: [{ name: 'x', vni: 1 }] }), /has VNI 1/],
    ['family', () => set([node('six', 9, { vtep: '2001:db8::9' })], other), /family/],
    ['own VTEP', () => set(some(1), { self: node('self', 77) }), /restart/],
  ])('%s', async (_, put, message) => {
    // Filling tables up is not what is looked at.
    let before = state()
    const refused = put()
    if (hops.room === 3) before = { ...(before as object), ...tablesOf(state()) }
    await expect(refused).rejects.toThrow(message)
    expect(state()).toEqual(before)
    expect(asked).toEqual([])
  })

  test.each([0, 1])('the kernel at step %i: it goes back, in reverse', async at => {
    const before = state()
    let failures = 1
    failing = number => number === at && failures-- > 0
    await expect(set(some(20), other)).rejects.toThrow(`step ${at} failed`)
    expect(state()).toEqual(before)
    const forth = at === 0 ? ['0: 20 peers'] : ['0: 20 peers', '1: 20 peers']
    const back = at === 0 ? ['0: 3 peers'] : ['1: 3 peers', '0: 3 peers']
    expect(asked).toEqual([...forth, ...back])
    // And the next one is as if nothing had been.
    await set(some(20), other)
    expect(routing.lookup('10.0.20.1')).toBeGreaterThan(0)
  })

  test('a kernel that does not even go back: the tables are as before, all the same', async () => {
    const before = state()
    failing = number => number === 1
    await expect(set(some(20), other)).rejects.toThrow('step 1 failed')
    expect(state()).toEqual(before)
    expect(asked.at(-1)).toBe('0: 3 peers')
  })

  test('the FIB, behind all checks: routes, next hops and the kernel go back', async () => {
    // Routes that the check does not know of, as those of pods that come meanwhile.
    for (let i = 0; i < ROUTES - 20; i++) routing.insert(`172.16.${i >> 8}.${i & 255}/32`, 1)
    const before = state()
    const networks = [{ name: 'red', vni: 7 }]
    const red = { ...other.self, networks: { red: ['10.70.1.0/24'] } }
    const many = some(40).map((spec, i) => ({
      ...spec,
      networks: { red: [`10.70.${i + 2}.0/24`] },
    }))
    await expect(set(many, { self: red, networks })).rejects.toThrow(RangeError)
    expect(state()).toEqual(before)
    expect(asked).toEqual(['0: 40 peers', '1: 40 peers', '1: 3 peers', '0: 3 peers'])
  })
})

/** What the test itself has filled up. */
function tablesOf(now: unknown): object {
  const { tables, room } = now as { tables: unknown; room: unknown }
  return { tables, room }
}

test('before the first cluster the kernel is left as an earlier process left it', async () => {
  failing = number => number === 1
  await expect(set(some(3))).rejects.toThrow('step 1 failed')
  expect(asked).toEqual(['0: 3 peers', '1: 3 peers'])
})

test('at the limit all peers are known and routed, and they may be others the next time', async () => {
  await set(some(PEERS))
  expect(arena.header()[HEADER.VTEP_COUNT]).toBe(PEERS)
  const full = hops.room
  const ways = new Set(
    Array.from({ length: PEERS }, (_, i) =>
      routing.lookup(`10.${(i + 2) >> 8}.${(i + 2) & 255}.1`),
    ),
  )
  expect(ways.size).toBe(PEERS)
  expect(ways.has(0)).toBe(false)
  await set(some(PEERS, 302))
  expect(hops.room).toBe(full)
  expect(routing.lookup('10.0.2.1')).toBe(routing.lookup('172.16.0.1'))
  expect(routing.lookup('10.1.60.1')).toBeGreaterThan(0)
  await set([])
  expect(hops.room).toBe(full + PEERS)
})

test('one that comes meanwhile waits for the one before', async () => {
  const first = set(some(10))
  const second = set(some(4))
  await Promise.all([first, second])
  expect(arena.header()[HEADER.VTEP_COUNT]).toBe(4)
  expect(hops.room).toBe(MAX_NEXT_HOPS - 1 - 1 - 1 - 4)
})

test('what stays is not written again', async () => {
  await set(some(200))
  const { nextHops, moved } = arena.layout
  const words = () => [
    ...new Int32Array(arena.slice(moved).buffer, arena.base + moved.offset, moved.bytes / 4),
  ]
  const before = words()
  const bytes = hash(arena.slice(nextHops))
  await set(some(200))
  // The table of networks is small and written whole.
  expect(words().filter((word, i) => word !== before[i])).toHaveLength(1)
  expect(hash(arena.slice(nextHops))).toBe(bytes)
})
