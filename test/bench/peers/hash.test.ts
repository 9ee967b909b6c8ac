import { afterAll, expect, test } from 'vitest'
import { undoAll } from '../../../bench/harness/undo.ts'
import { hashPeers } from '../../../bench/peers/hash.ts'
import { closeAll } from '../../../bench/peers/peer.ts'
import { seeded } from '../../../dataplane/fib/columns.ts'
import { FLOW_KEY_WORDS } from '../../../dataplane/hash/flow-key.ts'
import { describeDpdk } from './dpdk.ts'

afterAll(undoAll)

describeDpdk('rte_hash', () => {
  test('answers each key with its number, others with 0', async () => {
    const random = seeded(1)
    const keys = Uint32Array.from({ length: 5000 * FLOW_KEY_WORDS }, random)
    const others = Uint32Array.from({ length: 300 * FLOW_KEY_WORDS }, random)
    const { peers, missing } = await hashPeers(keys)
    try {
      expect(missing).toEqual([])
      expect(peers.map(peer => peer.name)).toEqual([
        'rte_hash',
        'rte_hash padded',
        'rte_hash lf',
        'rte_hash lf padded',
      ])
      for (const peer of peers) {
        expect(peer.refused).toBe(0)
        const known = await peer.trace(keys)
        expect(Array.from(known)).toEqual(Array.from(known, (_, i) => i + 1))
        expect(await peer.rate(0.01)).toBeGreaterThan(1000)
        expect(await peer.rate(0.01, true)).toBeGreaterThan(1000)
        expect((await peer.trace(others)).every(number => number === 0)).toBe(true)
      }
    } finally {
      await closeAll(peers)
    }
  })
})
