/**
 * Masquerading of what pods send out of the cluster, by one nftables table a family that is ours
 * alone and written whole in one transaction.
 */
import { parseCidr } from '../addresses.ts'
import { applyRules } from './nft.ts'

/**
 * Rules for packets from `own` prefixes to anything outside `cluster` that leaves by another device than
 * `hostDevice`. What goes to the overlay's UDP port keeps its sender: a peer takes the node's word for
 * what comes from the node, and a pod shall not have it, whoever has led its packet there.
 */
export function masqueradeRules(
  hostDevice: string,
  own: readonly string[],
  cluster: readonly string[],
  vxlanPort: number,
): string {
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
    const from = of(own)
    if (from.length === 0) continue
    rules += `table ${table} {\n chain postrouting {\n  type nat hook postrouting priority srcnat; policy accept;\n`
    rules += `  oifname "${hostDevice}" return\n  udp dport ${vxlanPort} return\n`
    rules += `  ${word} saddr { ${from.join(', ')} } ${word} daddr != { ${of(cluster).join(', ')} } masquerade\n }\n}\n`
  }
  return rules
}

/** Applies the rules. Throws when nft is missing or refuses them. */
export async function setMasquerade(
  hostDevice: string,
  own: readonly string[],
  cluster: readonly string[],
  vxlanPort: number,
): Promise<void> {
  const rules = masqueradeRules(hostDevice, own, cluster, vxlanPort)
  await applyRules('masquerade', rules, 'switch masquerade off')
}
