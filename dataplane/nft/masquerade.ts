/**
 * Masquerading of what pods send out of the cluster, by one nftables table a family that is ours
 * alone and written whole in one transaction.
 */
import { parseCidr } from '../addresses.ts'
import { applyRules, listRules } from './nft.ts'

/** Whose packets are masqueraded. */
export interface MasqueradeFacts {
  /** The node's own port. */
  hostDevice: string
  /** The prefixes, and single addresses outside of them, of the node's pods. */
  own: readonly string[]
  /** Prefixes of the cluster, its own included. */
  cluster: readonly string[]
  vxlanPort: number
}

/**
 * Rules for packets from `own` prefixes to anything outside `cluster` that leaves by another device than
 * `hostDevice`. What goes to the overlay's UDP port keeps its sender: a peer takes the node's word for
 * what comes from the node, and a pod shall not have it, whoever has led its packet there.
 *
 * What the node itself sends to pods of other nodes in the name of one of its other addresses goes in the
 * name of its address in the overlay: the pod's answer would else leave its node as a packet to the
 * world, and be masqueraded there.
 */
export function masqueradeRules(facts: MasqueradeFacts): string {
  const { hostDevice, own, cluster, vxlanPort } = facts
  if (!/^[A-Za-z0-9._-]{1,15}$/.test(hostDevice)) {
    throw new RangeError(`device name ${JSON.stringify(hostDevice)}`)
  }
  let rules = ''
  for (const [family, word] of [
    [4, 'ip'],
    [6, 'ip6'],
  ] as const) {
    const of = (list: readonly string[]) => list.filter(text => parseCidr(text).family === family)
    const table = `${word} hawser`
    rules += `table ${table} {}\ndelete table ${table}\n`
    const [pods, all] = [of(own).join(', '), of(cluster).join(', ')]
    if (pods === '' || all === '') continue
    rules += `table ${table} {\n chain postrouting {\n  type nat hook postrouting priority srcnat; policy accept;\n`
    rules += `  oifname "${hostDevice}" ${word} saddr != { ${all} } ${word} daddr != { ${pods} } fib saddr type local masquerade\n`
    rules += `  oifname "${hostDevice}" return\n  udp dport ${vxlanPort} return\n`
    rules += `  ${word} saddr { ${pods} } ${word} daddr != { ${all} } masquerade\n }\n}\n`
  }
  return rules
}

/** Applies the rules. Throws when nft is missing or refuses them. */
export async function setMasquerade(facts: MasqueradeFacts): Promise<void> {
  await applyRules('masquerade', masqueradeRules(facts), 'switch masquerade off')
}

/** What the kernel has of them, in nft's words: the same text for the same rules. */
export async function listMasquerade(): Promise<string> {
  const tables = ['table ip hawser', 'table ip6 hawser']
  const found = await Promise.all(tables.map(table => listRules('masquerade', table)))
  return found.join('')
}
