import { afterAll, expect, test } from 'vitest'
import type { RouteTable } from '../../../bench/data/routes.ts'
import {
  addressesAnywhere,
  addressesIn,
  bruteForce,
  randomTable,
} from '../../../bench/fib/workload.ts'
import { undoAll } from '../../../bench/harness/undo.ts'
import { fibPeers } from '../../../bench/peers/fib.ts'
import { closeAll, type Peer } from '../../../bench/peers/peer.ts'
import { describeDpdk } from './dpdk.ts'

afterAll(undoAll)

const KEYS = 1000

/** Half of the addresses in the table, half anywhere; and the answers. */
function questions(table: RouteTable): { keys: Uint32Array; answers: number[] } {
  const words = table.family === 4 ? 1 : 4
  const some = addressesIn(table, KEYS)
  const keys = new Uint32Array(2 * some.length)
  keys.set(some)
  keys.set(addressesAnywhere(table.family, KEYS), some.length)
  const answers = Array.from({ length: 2 * KEYS }, (_, i) =>
    bruteForce(table, keys.subarray(i * words, (i + 1) * words)),
  )
  return { keys, answers }
}

/** All of them answer as reading the whole table does, and measure something. */
async function compared(peers: readonly Peer[], table: RouteTable): Promise<void> {
  const { keys, answers } = questions(table)
  for (const peer of peers) {
    expect(Array.from(await peer.trace(keys)), peer.name).toEqual(answers)
    expect(peer.refused, peer.name).toBe(0)
    expect(peer.buildMs, peer.name).toBeGreaterThan(0)
    for (const dependent of [false, true]) {
      expect(await peer.rate(0.01, dependent), peer.name).toBeGreaterThan(1000)
    }
    // Measuring has not changed what it answers.
    expect(Array.from(await peer.trace(keys)), peer.name).toEqual(answers)
  }
}

describeDpdk('route lookups of DPDK', () => {
  test('IPv4: rte_fib and rte_lpm', async () => {
    const table = randomTable(4, 1000)
    const { peers, missing } = await fibPeers(table)
    try {
      const names = peers.map(peer => peer.name)
      expect(names).toContain('rte_fib')
      expect(names).toContain('rte_lpm')
      expect(names).toContain('rte_lpm x4')
      // Entries of one byte have room for 127 groups of longer prefixes; the table has about 100.
      for (const reason of missing) expect(reason).toMatch(/not on this CPU/)
      for (const peer of peers) expect(peer.bytes).toBeGreaterThan(1 << 24)
      await compared(peers, table)
    } finally {
      await closeAll(peers)
    }
  })

  test('IPv6: rte_fib6', async () => {
    const table = randomTable(6, 1000)
    const { peers } = await fibPeers(table)
    try {
      expect(peers.map(peer => peer.name)).toContain('rte_fib6')
      await compared(peers, table)
    } finally {
      await closeAll(peers)
    }
  })

  test('a default route, a host route inside a longer prefix, nothing else', async () => {
    const table: RouteTable = {
      family: 4,
      count: 3,
      addresses: Uint32Array.of(0, 0x0a01_0200, 0x0a01_0203),
      lengths: Uint8Array.of(0, 24, 32),
      nextHops: Uint16Array.of(1, 2, 3),
    }
    const { peers } = await fibPeers(table)
    try {
      const keys = Uint32Array.of(0x0a01_0203, 0x0a01_0204, 0x0a01_0303, 0xffff_ffff)
      for (const peer of peers) {
        expect(Array.from(await peer.trace(keys)), peer.name).toEqual([3, 2, 1, 1])
      }
    } finally {
      await closeAll(peers)
    }
  })

  test('a table without room for all routes is missing, and says how many', async () => {
    // 200 /24s with a longer route each; entries of one byte can name 127.
    const table: RouteTable = {
      family: 4,
      count: 200,
      addresses: Uint32Array.from({ length: 200 }, (_, i) => 0x0a00_0080 + 256 * i),
      lengths: new Uint8Array(200).fill(25),
      nextHops: new Uint16Array(200).fill(7),
    }
    const only = ['rte_fib', 'rte_fib 1B']
    const { peers, missing } = await fibPeers(table, only)
    try {
      expect(peers.map(peer => peer.name)).toEqual(['rte_fib'])
      expect(missing).toHaveLength(1)
      expect(missing[0]).toMatch(/^rte_fib 1 B: no room for 7\d of 200 routes$/)
    } finally {
      await closeAll(peers)
    }
  })
})
