import fc from 'fast-check'
import { expect, test } from 'vitest'
import { MAX_NETWORKS, MAX_VNI, NETWORK_SLOTS } from '../../../dataplane/limits.ts'
import { NETWORK_BYTES } from '../../../dataplane/memory/arena.ts'
import {
  MAX_NETWORK,
  type NetworkEntry,
  networkOf,
  readGateways,
  writeNetworks,
} from '../../../dataplane/tables/networks.ts'

/** The table does not begin where the memory does, nor ends there. */
const AT = 64
const BYTES = (NETWORK_SLOTS * NETWORK_BYTES) / 4

function table(networks: readonly NetworkEntry[]): Int32Array {
  const words = new Int32Array(AT + BYTES + 64).fill(-1)
  writeNetworks(words, AT, networks)
  return words
}

const vni = fc.oneof(fc.integer({ min: 1, max: 300 }), fc.integer({ min: 1, max: MAX_VNI }))
const entries = fc
  .uniqueArray(vni, { maxLength: MAX_NETWORKS })
  .map(vnis => vnis.map((each, k) => ({ vni: each, index: MAX_NETWORK - k })))

test('what is in the table is found by its VNI, nothing else is, and looking ends', () => {
  fc.assert(
    fc.property(entries, fc.array(fc.nat(MAX_VNI), { maxLength: 50 }), (networks, others) => {
      const words = table(networks)
      for (const { vni, index } of networks) expect(networkOf(words, AT, vni)).toBe(index)
      const known = new Set(networks.map(each => each.vni))
      for (const other of others)
        if (!known.has(other)) expect(networkOf(words, AT, other)).toBe(-1)
      expect(networkOf(words, AT, 0)).toBe(-1)
      const around = [...words.subarray(0, AT), ...words.subarray(AT + BYTES)]
      expect(around.every(word => word === -1)).toBe(true)
    }),
  )
})

test('gateways are read by index; of a network that has none, and of none, they are 0', () => {
  const gateway6 = Uint32Array.of(0xfd60_0000, 0, 0xffff_ffff, 1)
  const words = table([
    { vni: 100, index: 7, gateway4: 0xfe00_0001, gateway6 },
    { vni: 228, index: 9, gateway4: 0x0a3c_0101 },
  ])
  const four = new Uint32Array(MAX_NETWORK + 1).fill(5)
  const six = new Uint32Array((MAX_NETWORK + 1) * 4).fill(5)
  readGateways(words, AT, four, six)
  expect([four[7], four[9], four[8]]).toEqual([0xfe00_0001, 0x0a3c_0101, 0])
  expect(six.slice(28, 32)).toEqual(gateway6)
  expect(six.filter(word => word !== 0)).toHaveLength(3)
})

test('more than fit are refused, and nothing is written', () => {
  const many = Array.from({ length: MAX_NETWORKS + 1 }, (_, k) => ({ vni: k + 1, index: 1 }))
  const words = table([{ vni: 100, index: 7 }])
  expect(() => writeNetworks(words, AT, many)).toThrow('65 networks: the table takes 64')
  expect(networkOf(words, AT, 100)).toBe(7)
})
