/** Packet classification of DPDK: rte_acl, a multi-bit trie, with every instruction set that it has. */
import type { AclPrefix, AclRule, PortRange } from '../../dataplane/acl/acl.ts'
import { DPDK_MISSING, haveDpdk, started } from './driver.ts'
import type { Peers } from './peer.ts'

/** The best first. */
const KINDS = ['avx512x32', 'avx512x16', 'avx2', 'sse', 'scalar']
const ALL_PORTS: PortRange = { first: 0, last: 0xffff }

/**
 * Builds the rules once; a peer is an instruction set. Equal priorities are told apart by the ids, as
 * dataplane/acl/acl.ts does. A build that fails (memory) is missing. `only`: names of peers.
 */
export async function aclPeers(
  family: 4 | 6,
  rules: readonly AclRule[],
  only?: readonly string[],
): Promise<Peers> {
  if (!haveDpdk()) return { peers: [], missing: [DPDK_MISSING] }
  const wanted = KINDS.filter(kind => only?.includes(`rte_acl ${kind}`) ?? true)
  if (wanted.length === 0) return { peers: [], missing: [] }
  const found: Peers = { peers: [], missing: [] }
  const words = records(family, rules)
  const driver = await started(found, 'rte_acl', 'dpdk-acl', [String(family)], words)
  if (driver === undefined) return found
  const there = wanted.filter(kind => driver.build.kinds.includes(kind))
  const missing = wanted.filter(kind => !there.includes(kind))
  if (there.length === 0) await driver.close()
  return {
    peers: there.map(kind => driver.peer(kind, `rte_acl ${kind}`)),
    missing: missing.map(kind => `rte_acl ${kind}: not on this CPU`),
  }
}

/** A rule is: id, priority, source and its length, destination and its length, protocol, mask, two ranges. */
function records(family: 4 | 6, rules: readonly AclRule[]): Uint32Array {
  const words = family === 4 ? 1 : 4
  const any: AclPrefix = { address: new Uint32Array(words), prefix: 0 }
  const ranked = [...rules].sort((a, b) => a.priority - b.priority || a.id - b.id)
  return Uint32Array.from(
    ranked.flatMap((rule, rank) => {
      const { source = any, destination = any, protocol } = rule
      const [from, to] = ranges(rule)
      return [
        rule.id,
        ranked.length - rank,
        ...Array.from(source.address),
        source.prefix,
        ...Array.from(destination.address),
        destination.prefix,
        ...(protocol === undefined ? [0, 0] : [protocol, 0xff]),
        ...[from.first, from.last, to.first, to.last],
      ]
    }),
  )
}

/** The two 16-bit fields of a header: ports, or ICMP's type and code. */
function ranges({ icmpType, icmpCode, sourcePorts, destinationPorts }: AclRule): PortRange[] {
  const exactly = (value: number | undefined) =>
    value === undefined ? ALL_PORTS : { first: value, last: value }
  if (icmpType !== undefined) return [exactly(icmpType), exactly(icmpCode)]
  return [sourcePorts ?? ALL_PORTS, destinationPorts ?? ALL_PORTS]
}
