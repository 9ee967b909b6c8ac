import { afterAll, expect, test } from 'vitest'
import { flowsOf } from '../../../bench/data/headers.ts'
import { inIpv6 } from '../../../bench/data/rules.ts'
import { undoAll } from '../../../bench/harness/undo.ts'
import { aclPeers } from '../../../bench/peers/acl.ts'
import { closeAll } from '../../../bench/peers/peer.ts'
import { type AclRule, HEADER_WORDS } from '../../../dataplane/acl/acl.ts'
import { linear4, linear6 } from '../../../dataplane/acl/linear.ts'
import { describeDpdk } from './dpdk.ts'

afterAll(undoAll)

const HEADERS = 3000

/** One of each sort; the ids are not in the order of the priorities, and two priorities are equal. */
const RULES: AclRule[] = [
  { id: 9, priority: 0, source: { address: [0x0a01_0203], prefix: 32 }, protocol: 17 },
  {
    id: 8,
    priority: 1,
    destination: { address: [0x0a80_0000], prefix: 9 },
    protocol: 1,
    icmpType: 8,
  },
  { id: 7, priority: 1, protocol: 1, icmpType: 3, icmpCode: 4 },
  { id: 5, priority: 2, protocol: 6, destinationPorts: { first: 80, last: 80 } },
  { id: 6, priority: 2, protocol: 6, destinationPorts: { first: 1, last: 1023 } },
  { id: 4, priority: 3, protocol: 17, sourcePorts: { first: 1024, last: 0xffff } },
  { id: 0xffff, priority: 4, source: { address: [0x0a00_0000], prefix: 8 } },
  { id: 3, priority: 0xffff, destination: { address: [0xc0a8_0000], prefix: 17 } },
]

/** What the naive ACL says. */
function oracle(family: 4 | 6, rules: readonly AclRule[], headers: Uint32Array): number[] {
  const acl = family === 4 ? linear4 : linear6
  const limits = { rules: rules.length }
  const memory = new Uint8Array(new SharedArrayBuffer(acl.bytes(limits)))
  const writer = acl.writer(memory, limits)
  for (const rule of rules) writer.insert(rule)
  const n = headers.length / HEADER_WORDS[family]
  const answers = new Uint16Array(n)
  acl.reader(memory, limits).classify(headers, n, answers)
  return Array.from(answers)
}

describeDpdk('rte_acl', () => {
  for (const family of [4, 6] as const) {
    test(`IPv${family}: answers as the naive ACL does`, async () => {
      const rules = family === 4 ? RULES : inIpv6(RULES)
      const headers = flowsOf(rules, family, HEADERS)
      const answers = oracle(family, rules, headers)
      expect(new Set(answers).size).toBe(rules.length + 1)
      const { peers } = await aclPeers(family, rules)
      try {
        expect(peers.map(peer => peer.name)).toContain('rte_acl scalar')
        for (const peer of peers) {
          expect(Array.from(await peer.trace(headers)), peer.name).toEqual(answers)
          expect(peer.refused).toBe(0)
          expect(peer.bytes).toBeGreaterThan(0)
          expect(await peer.rate(0.01)).toBeGreaterThan(1000)
          expect(await peer.rate(0.01, true)).toBeGreaterThan(1000)
        }
      } finally {
        await closeAll(peers)
      }
    })
  }

  test('only what is asked for', async () => {
    const { peers, missing } = await aclPeers(4, RULES, ['rte_acl scalar'])
    await closeAll(peers)
    expect(peers.map(peer => peer.name)).toEqual(['rte_acl scalar'])
    expect(missing).toEqual([])
  })
})
