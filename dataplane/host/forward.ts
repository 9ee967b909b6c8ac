/**
 * Whether the node's firewall lets pods' packets through (FORWARD policy DROP: Docker, ufw, hardened
 * images). In the chains of iptables, of either kind, an accept for the node's own port is put before
 * what would end every packet, as Flannel and kube-router do; it is marked by a comment, and is there once.
 * Conditions that stand before it keep their say.
 *
 * A chain that somebody has made with nft is theirs: it is told of when it drops and nothing in it
 * speaks of the port.
 */
import {
  type Firewall,
  forwardChains,
  hasLegacyFilter,
  knows,
  legacyFirewall,
  nftFirewall,
  nftRules,
} from '../nft/firewall.ts'
import { acceptIn } from '../nft/forward.ts'
import { listRules } from '../nft/nft.ts'
import type { Conditions } from '../weather/conditions.ts'

const KEY = 'forward '
/** Tables of ours have no say about what is forwarded. */
const OWN_TABLES: readonly string[] = ['hawser', 'hawser_ports']

export class Forward {
  private readonly device: string
  private readonly conditions: Conditions

  constructor(device: string, conditions: Conditions) {
    this.device = device
    this.conditions = conditions
  }

  /** Puts the accepts where they are lacking; a trouble for each chain that may drop what pods send or receive. */
  async look(): Promise<void> {
    const { device, conditions } = this
    const troubles = new Map<string, string>()
    for (const family of [4, 6] as const) {
      if (hasLegacyFilter(family)) await this.accept(legacyFirewall(family, device), troubles)
    }
    for (const { family, table, chain, drops } of await chainsOf()) {
      if (OWN_TABLES.includes(table)) continue
      if ((family === 'ip' || family === 'ip6') && table === 'filter' && chain === 'FORWARD') {
        await this.accept(nftFirewall(family, device), troubles)
        continue
      }
      const name = `${family} ${table} ${chain}`
      const text = await listRules('firewall', `chain ${name}`, ['-a'])
      const stops = drops || nftRules(text, device).some(({ ends }) => ends)
      if (!stops || knows(text, device)) continue
      troubles.set(
        name,
        `the node's firewall may drop what pods send to the world and what comes to their host ports: chain ${name} of nftables drops what it does not know (accept iifname and oifname ${device} in it)`,
      )
    }
    for (const [name, sentence] of troubles) {
      conditions.raise(KEY + name, sentence, { blocking: false })
    }
    conditions.clearOthers(KEY, new Set([...troubles.keys()].map(name => KEY + name)))
  }

  private async accept(firewall: Firewall, troubles: Map<string, string>): Promise<void> {
    try {
      const put = await acceptIn(firewall)
      if (put === 0) return
      const sentence = `${firewall.name}: chain FORWARD accepts what comes from and goes to ${this.device}`
      this.conditions.mended('firewall', sentence)
    } catch (error) {
      const cause = error instanceof Error ? error.message : String(error)
      troubles.set(
        firewall.name,
        `the node's firewall may drop what pods send to the world and what comes to their host ports: ${firewall.name}: ${cause}`,
      )
    }
  }
}

async function chainsOf() {
  try {
    return forwardChains(await listRules('firewall', 'chains'))
  } catch {
    // No nft here: then nothing of ours needs it, and iptables-nft can't be looked at either.
    return []
  }
}
