/**
 * Route lookups of DPDK: rte_fib (DIR24_8) and rte_lpm for IPv4, rte_fib6 (TRIE) for IPv6. rte_fib
 * in every size of an entry: two bytes is ours, the others what may be its best.
 */
import { type RouteTable, wordsOf } from '../data/routes.ts'
import { DPDK_MISSING, haveDpdk, started } from './driver.ts'
import type { Peers } from './peer.ts'

interface Table {
  name: string
  source: string
  args: readonly string[]
  /** Ways to look up, by what their peers' names end with. */
  kinds: Readonly<Record<string, string>>
}

const fib = (name: string, source: string, bytes: number, suffix = ''): Table => ({
  name: `${name} ${bytes} B`,
  source,
  args: [String(bytes)],
  kinds: { [`${name}${suffix}`]: 'scalar', [`${name}${suffix} avx512`]: 'avx512' },
})

const TABLES: Record<4 | 6, readonly Table[]> = {
  4: [
    fib('rte_fib', 'dpdk-fib', 2),
    fib('rte_fib', 'dpdk-fib', 1, ' 1B'),
    fib('rte_fib', 'dpdk-fib', 4, ' 4B'),
    {
      name: 'rte_lpm',
      source: 'dpdk-lpm',
      args: [],
      kinds: { rte_lpm: 'bulk', 'rte_lpm x4': 'x4' },
    },
  ],
  6: [fib('rte_fib6', 'dpdk-fib6', 2), fib('rte_fib6', 'dpdk-fib6', 4, ' 4B')],
}

/**
 * Builds the table in each of them. One that has no room for all routes would answer otherwise than
 * ours, so it is missing. `only`: names of peers; tables that have none of them are not built
 * (rte_lpm takes most of a minute for a full table).
 */
export async function fibPeers(table: RouteTable, only?: readonly string[]): Promise<Peers> {
  if (!haveDpdk()) return { peers: [], missing: [DPDK_MISSING] }
  const found: Peers = { peers: [], missing: [] }
  const words = records(table)
  for (const each of TABLES[table.family]) {
    const wanted = Object.keys(each.kinds).filter(name => only?.includes(name) ?? true)
    if (wanted.length > 0) await add(found, each, wanted, words, table.count)
  }
  return found
}

async function add(
  found: Peers,
  { name, source, args, kinds }: Table,
  wanted: readonly string[],
  words: Uint32Array,
  count: number,
): Promise<void> {
  const driver = await started(found, name, source, args, words)
  if (driver === undefined) return
  const { refused, kinds: there } = driver.build
  if (refused > 0) {
    found.missing.push(`${name}: no room for ${refused} of ${count} routes`)
    await driver.close()
    return
  }
  for (const peer of wanted) {
    if (there.includes(kinds[peer]!)) found.peers.push(driver.peer(kinds[peer]!, peer))
    else found.missing.push(`${peer}: not on this CPU`)
  }
  if (!wanted.some(peer => there.includes(kinds[peer]!))) await driver.close()
}

/** Address, length, next hop of each route, behind each other. */
function records(table: RouteTable): Uint32Array {
  const words = wordsOf(table.family)
  const found = new Uint32Array(table.count * (words + 2))
  for (let i = 0; i < table.count; i++) {
    const at = i * (words + 2)
    found.set(table.addresses.subarray(i * words, (i + 1) * words), at)
    found[at + words] = table.lengths[i]!
    found[at + words + 1] = table.nextHops[i]!
  }
  return found
}
