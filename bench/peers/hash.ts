/**
 * Exact matching of DPDK: rte_hash over flow keys (dataplane/hash/flow-key.ts), with a lock for
 * readers beside a writer left out (`lf`) or not needed at all, and with keys as they are or padded to
 * 48 bytes: what is faster depends on the size of the table.
 */
import { FLOW_KEY_WORDS } from '../../dataplane/hash/flow-key.ts'
import { DPDK_MISSING, haveDpdk, started } from './driver.ts'
import type { Peers } from './peer.ts'

const TABLES: Readonly<Record<string, readonly [string, string]>> = {
  rte_hash: ['plain', 'whole'],
  'rte_hash padded': ['plain', 'padded'],
  'rte_hash lf': ['lf', 'whole'],
  'rte_hash lf padded': ['lf', 'padded'],
}

/** Puts the keys (FLOW_KEY_WORDS words each, all different) into each. The answer to a key is its number in `keys`, from 1. `only`: names of peers. */
export async function hashPeers(keys: Uint32Array, only?: readonly string[]): Promise<Peers> {
  if (!haveDpdk()) return { peers: [], missing: [DPDK_MISSING] }
  if (keys.length % FLOW_KEY_WORDS !== 0) throw new RangeError('keys: not a multiple of a key')
  const found: Peers = { peers: [], missing: [] }
  for (const [name, args] of Object.entries(TABLES)) {
    if (only !== undefined && !only.includes(name)) continue
    const driver = await started(found, name, 'dpdk-hash', args, keys)
    if (driver !== undefined) found.peers.push(driver.peer('bulk', name))
  }
  return found
}
