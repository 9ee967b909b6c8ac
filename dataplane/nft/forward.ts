/** Accepts for the node's own port in the FORWARD chains of iptables: put in their place, found, taken out. */
import { enderOf, type Firewall, hasLegacyFilter, legacyFirewall, nftFirewall } from './firewall.ts'

/** Puts both accepts into FORWARD where they have a say; returns how many. */
export async function acceptIn(firewall: Firewall): Promise<number> {
  let put = 0
  for (const direction of ['from', 'to'] as const) {
    const rules = (await firewall.list('FORWARD')) ?? []
    const ender = await enderOf(firewall, rules)
    const ours = rules.findIndex(each => each.ours === direction)
    if (ours !== -1 && (ender === undefined || ours < rules.indexOf(ender))) continue
    // Numbers of what stood behind it move; the ender stands before it.
    if (ours !== -1) await firewall.remove(rules[ours]!)
    await firewall.accept(direction, ender)
    put++
  }
  return put
}

export interface ForwardRules {
  /** Whose they are, for people. */
  firewall: string
  remove: () => Promise<void>
}

/** The rules of ours in the node's FORWARD chains. Throws when nft, or a legacy iptables that has some, can't be asked. */
export async function forwardRules(device: string): Promise<ForwardRules[]> {
  const firewalls: Firewall[] = [nftFirewall('ip', device), nftFirewall('ip6', device)]
  for (const family of [4, 6] as const) {
    if (hasLegacyFilter(family)) firewalls.push(legacyFirewall(family, device))
  }
  const found: ForwardRules[] = []
  for (const firewall of firewalls) {
    const ours = ((await firewall.list('FORWARD')) ?? []).filter(each => each.ours !== undefined)
    const remove = async (): Promise<void> => {
      // From the end: numbers before it stay.
      for (const rule of ours.reverse()) await firewall.remove(rule)
    }
    if (ours.length > 0) found.push({ firewall: firewall.name, remove })
  }
  return found
}
