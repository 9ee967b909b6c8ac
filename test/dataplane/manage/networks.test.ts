// Networks and the next hops of peers in them, as a cluster changes.
import { beforeEach, expect, test } from 'vitest'
import { Networks } from '../../../dataplane/manage/networks.ts'
import { NextHopSlots, NO_HOP } from '../../../dataplane/manage/next-hop-slots.ts'
import { Peers } from '../../../dataplane/manage/peers.ts'
import type { Arena } from '../../../dataplane/memory/arena.ts'
import { networkOf } from '../../../dataplane/tables/networks.ts'
import { HOP } from '../../../dataplane/tables/next-hops.ts'
import { smallArena } from '../memory/plan.ts'

const BLUE = { name: 'blue', vni: 100 }
const RED = { name: 'red', vni: 200 }
const node = (name: string, last: number, networks: Record<string, string[]> = {}) => ({
  ...{ name, vtep: `192.0.2.${last}`, podCidrs: [`10.244.${last}.0/24`] },
  networks,
})
const SELF = node('a', 1, { blue: ['10.60.1.0/24', 'fd60:0:0:1::/64'] })
const B = node('b', 2, { blue: ['10.60.2.0/24'], red: ['10.70.2.0/24'] })
const C = node('c', 3)

let arena: Arena
let hops: NextHopSlots
let networks: Networks
let peers: Peers
beforeEach(() => {
  arena = smallArena()
  hops = new NextHopSlots(arena)
  networks = new Networks(arena, hops, 1450, 1)
  // As long as the tests change no VTEP, its last number is what a template would hold.
  peers = new Peers(hops, ({ vtep }, { index }) => {
    return { ...NO_HOP, kind: HOP.VXLAN, network: index, port: Number(vtep.split('.')[3]) }
  })
})

function follow(self: typeof SELF, others: (typeof SELF)[], specs: (typeof BLUE)[]): void {
  const names = specs.map(({ name }) => name).filter(name => self.networks[name]?.length)
  const missing = networks.missing(self, specs) + peers.missing(others, names)
  const { room } = hops
  const targets = networks.plan(self, specs)
  const fresh = peers.plan(others, targets)
  networks.prepare(targets)
  peers.prepare(fresh)
  expect(room - hops.room).toBe(missing)
  networks.follow(self, others, specs)
  networks.write()
  const { writes, stale } = peers.follow(others, networks.joined(), fresh)
  for (const [id, hop] of writes) hops.update(id, hop)
  for (const hop of stale) hops.free(hop)
}

const indexOf = (vni: number) => networkOf(arena.words, arena.layout.networks.offset / 4, vni)
const names = () => networks.joined().map(({ name }) => name)
const ways = () =>
  [...peers.ways()].map(({ spec, network, cidrs }) => [spec.name, network.name, ...cidrs])

test('a node is in the networks that it has CIDRs in', () => {
  follow(SELF, [B, C], [RED, BLUE])
  expect(names()).toEqual([undefined, 'blue'])
  expect([indexOf(100), indexOf(200), indexOf(1)]).toEqual([1, -1, -1])
  expect(networks.joined()[1]).toMatchObject({
    ...{ index: 1, vni: 100, podCidrs: SELF.networks['blue'] },
    cidrs: ['10.60.1.0/24', 'fd60:0:0:1::/64', '10.60.2.0/24'],
  })
  expect(ways()).toEqual([
    ['b', undefined, '10.244.2.0/24'],
    ['b', 'blue', '10.60.2.0/24'],
    ['c', undefined, '10.244.3.0/24'],
  ])
  const rejects = networks.joined().map(({ reject }) => hops.get(reject))
  expect(rejects).toMatchObject([
    { kind: HOP.REJECT, network: 0 },
    { kind: HOP.REJECT, network: 1 },
  ])
  const [, blue] = [...peers.ways()]
  expect(hops.get(blue!.hop)).toMatchObject({ kind: HOP.VXLAN, network: 1, port: 2 })
})

test('what covers a network is where its pods are led', () => {
  follow(SELF, [B], [{ ...BLUE, cidrs: ['10.60.0.0/16'] } as typeof BLUE])
  expect(networks.joined()[1]).toMatchObject({ cidrs: ['10.60.0.0/16'] })
})

test('another VNI, other peers: an index stays, next hops that stay are the same ones', () => {
  follow(SELF, [B, C], [BLUE])
  const before = [...peers.ways()].map(({ hop }) => hop)
  follow(SELF, [C, B], [{ ...BLUE, vni: 300 }])
  expect([indexOf(100), indexOf(300)]).toEqual([-1, 1])
  expect([...peers.ways()].map(({ hop }) => hop).sort()).toEqual([...before].sort())
  follow(SELF, [{ ...B, networks: {} }], [{ ...BLUE, vni: 300 }])
  expect(ways()).toEqual([['b', undefined, '10.244.2.0/24']])
  // Its own, and two rejects.
  expect(before.filter(hop => hops.get(hop) !== undefined)).toHaveLength(1)
})

test('a network that is over keeps its index while it has pods', () => {
  follow(SELF, [B], [BLUE])
  const blue = networks.enter('blue', false)
  const { reject } = blue
  follow(SELF, [B], [])
  networks.forget()
  expect(names()).toEqual([undefined])
  expect(ways()).toEqual([['b', undefined, '10.244.2.0/24']])
  expect(networks.status()).toEqual([{ name: 'blue', vni: 0, podCidrs: [], pods: 1 }])
  expect(networks.notes()).toEqual([
    'network blue: this node is not in it any more; pods that still are (1) reach nobody on other nodes',
  ])
  expect(() => networks.enter('blue', false)).toThrow(
    'network blue: this node is not in it, but in none',
  )
  // Another one does not get the same index; the same one gets its own again.
  const two = node('a', 1, { ...SELF.networks, red: ['10.70.1.0/24'] })
  follow({ ...two, networks: { red: ['10.70.1.0/24'] } }, [B], [RED])
  expect(indexOf(200)).toBe(2)
  follow(two, [B], [RED, BLUE])
  expect([indexOf(100), indexOf(200)]).toEqual([1, 2])
  expect(networks.enter('blue', false)).toBe(blue)

  networks.leave(blue)
  networks.leave(blue)
  follow(SELF, [B], [])
  expect(hops.get(reject)).toBeDefined()
  networks.forget()
  expect([networks.status(), hops.get(reject)]).toEqual([[], undefined])
})

test('a pod that an earlier process left in a network may be taken over without the network', () => {
  follow(SELF, [], [])
  expect(() => networks.enter('green', false)).toThrow('network green: this node is not in it')
  const green = networks.enter('green', true)
  expect(green).toMatchObject({ index: 1, name: 'green', vni: 0, cidrs: [] })
  networks.forget()
  expect(networks.status()).toMatchObject([{ name: 'green', pods: 1 }])
  networks.leave(green)
  networks.forget()
  expect(networks.status()).toEqual([])
  expect(networks.enter(undefined, false)).toBe(networks.own)
})
