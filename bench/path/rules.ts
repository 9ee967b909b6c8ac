/**
 * What policy lets the pod send, the same for whoever enforces it: exact tuples, and all else is denied. That is
 * the form that a verdict map of nftables answers with one look into a hash table.
 *
 * The last rules allow what the generator sends; those before them are other peers'.
 */
import { type Program, podIdentity, type Rule, VERDICT } from '../../dataplane/policy-program.ts'
import { plan } from './topology.ts'

/** Peers of the rules that no packet matches. */
const OTHERS = 100
/** Most rules that the generator's packets match: so many destination ports it has at the most. */
export const PORTS = 512
/** First destination port of the generator's packets (native/frame.h), and one that no rule allows. */
export const FIRST_PORT = 9000
export const DENIED_PORT = 8000
/** First port of the other rules; none of them is the generator's. */
const OTHER_PORTS = 16_384

const UDP = 17
const TCP = 6

export interface TupleRule {
  address: string
  protocol: number
  port: number
}

/** `count` different tuples. */
export function rulesOf(count: number): TupleRule[] {
  const own = Math.min(PORTS, Math.ceil(count / 2))
  const others = Array.from({ length: count - own }, (_, n) => ({
    address: otherPeer(n % OTHERS),
    protocol: n % 3 === 0 ? TCP : UDP,
    port: OTHER_PORTS + n,
  }))
  const allowed = Array.from({ length: own }, (_, n) => ({
    ...{ address: plan.remote.address, protocol: UDP, port: FIRST_PORT + n },
  }))
  return [...others, ...allowed]
}

function otherPeer(n: number): string {
  return `10.1.3.${n + 1}`
}

/** Who has which address: each peer is a kind of pod of its own. */
export function identitiesOf(rules: readonly TupleRule[]): { address: string; identity: number }[] {
  const addresses = [...new Set(rules.map(({ address }) => address))]
  return addresses.map((address, n) => ({ address, identity: podIdentity(2, n + 1) }))
}

/** As hawser enforces it. */
export function programOf(rules: readonly TupleRule[]): Program {
  const peers = new Map(identitiesOf(rules).map(({ address, identity }) => [address, identity]))
  const allowed = rules.map(
    ({ address, protocol, port }, origin): Rule => ({
      ...{ verdict: VERDICT.ALLOW, origin },
      matches: [
        {
          ...{ peer: { value: peers.get(address)!, bits: 32 }, protocol },
          ports: { first: port, last: port },
        },
      ],
    }),
  )
  return { tiers: [{ rules: allowed, otherwise: VERDICT.DENY, origin: rules.length }] }
}

/**
 * As nftables enforces it, at its best: what is established passes first, a map leads to the pod's chain, and
 * one look into a hash table of exact tuples gives the verdict. Outer packets are not tracked.
 */
export function nftablesOf(rules: readonly TupleRule[]): string {
  const element = ({ address, protocol, port }: TupleRule) =>
    `${address} . ${protocol} . ${port} : accept`
  return `
table ip hwb {
  map pods { type ipv4_addr : verdict; }
  map egress {
    type ipv4_addr . inet_proto . inet_service : verdict
    elements = { ${rules.map(element).join(',\n')} }
  }
  chain untracked-in { type filter hook prerouting priority raw; iifname "${plan.node.device}" udp dport ${plan.port} notrack; }
  chain untracked-out { type filter hook output priority raw; oifname "${plan.node.device}" udp dport ${plan.port} notrack; }
  chain forward {
    type filter hook forward priority filter
    ct state established,related accept
    ip saddr vmap @pods
  }
  chain pod {
    ip daddr . meta l4proto . th dport vmap @egress
    counter drop
  }
}
add element ip hwb pods { ${plan.pod.address} : goto pod }
`
}
