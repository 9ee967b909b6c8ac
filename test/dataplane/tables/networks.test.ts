import fc from 'fast-check'
import { beforeEach, expect, test } from 'vitest'
import { MAX_NETWORKS, MAX_VNI } from '../../../dataplane/limits.ts'
import type { Arena } from '../../../dataplane/memory/arena.ts'
import {
  MAX_NETWORK,
  networkOf,
  readGateways,
  writeNetworks,
} from '../../../dataplane/tables/networks.ts'
import { smallArena } from '../memory/plan.ts'

let arena: Arena
beforeEach(() => {
  arena = smallArena()
})

function find(vni: number): number {
  return networkOf(arena.words, arena.layout.networks.offset / 4, vni)
}

const vni = fc.oneof(fc.integer({ min: 1, max: 300 }), fc.integer({ min: 1, max: MAX_VNI }))
const entries = fc
  .uniqueArray(vni, { maxLength: MAX_NETWORKS })
  .map(vnis => vnis.map((each, k) => ({ vni: each, index: MAX_NETWORK - k })))

test('what is in the table is found by its VNI, nothing else is, and looking ends', () => {
  fc.assert(
    fc.property(entries, fc.array(fc.nat(MAX_VNI), { maxLength: 50 }), (networks, others) => {
      const { layout } = arena
      writeNetworks(arena, networks)
      for (const { vni, index } of networks) expect(find(vni)).toBe(index)
      const known = new Set(networks.map(each => each.vni))
      for (const other of others) if (!known.has(other)) expect(find(other)).toBe(-1)
      expect(find(0)).toBe(-1)
      for (const region of [layout.vteps, layout.control]) {
        expect(Buffer.compare(arena.slice(region), new Uint8Array(region.bytes))).toBe(0)
      }
    }),
  )
})

test('gateways are read by index; of a network that has none, and of none, they are 0', () => {
  const gateway6 = Uint32Array.of(0xfd60_0000, 0, 0xffff_ffff, 1)
  writeNetworks(arena, [
    { vni: 100, index: 7, gateway4: 0xfe00_0001, gateway6 },
    { vni: 228, index: 9, gateway4: 0x0a3c_0101 },
  ])
  const four = new Uint32Array(MAX_NETWORK + 1).fill(5)
  const six = new Uint32Array((MAX_NETWORK + 1) * 4).fill(5)
  readGateways(arena.words, arena.layout.networks.offset / 4, four, six)
  expect([four[7], four[9], four[8]]).toEqual([0xfe00_0001, 0x0a3c_0101, 0])
  expect(six.slice(28, 32)).toEqual(gateway6)
  expect(six.filter(word => word !== 0)).toHaveLength(3)
})

test('more than fit are refused, and nothing is written', () => {
  const many = Array.from({ length: MAX_NETWORKS + 1 }, (_, k) => ({ vni: k + 1, index: 1 }))
  writeNetworks(arena, [{ vni: 100, index: 7 }])
  expect(() => writeNetworks(arena, many)).toThrow('65 networks: the table takes 64')
  expect(find(100)).toBe(7)
})
