/** GlobalPolicy into rules of the tier between Admin and NetworkPolicy. */
import { type Cidr, parseCidr } from '../../dataplane/addresses.ts'
import { type Match, type Rule, VERDICT, type Verdict } from '../../dataplane/policy-program.ts'
import {
  GLOBAL_PROTOCOLS,
  type GlobalPolicy,
  type GlobalPolicyPeer,
  type GlobalPolicyRule,
} from '../model/global-policy.ts'
import { type Labels, selects } from '../model/labels.ts'
import type { PodKind } from './identities.ts'
import type { Direction } from './network-policy.ts'
import { policyCidr, without } from './networks.ts'
import type { PeerIndex, PodPeers } from './peers.ts'

const VERDICTS: Readonly<Record<GlobalPolicyRule['action'], Verdict>> = {
  Allow: VERDICT.ALLOW,
  Deny: VERDICT.DENY,
  Pass: VERDICT.PASS,
}

/** No name of a port looks so: they have a letter. */
const RANGE = /^[0-9]+-[0-9]+$/
const EVERYWHERE = ['0.0.0.0/0', '::/0'].map(parseCidr)

/** Whether pods of this kind are the policy's subject. */
export function isGlobalSubject({ spec }: GlobalPolicy, { pod, namespace }: PodKind): boolean {
  const { namespaceSelector, podSelector, serviceAccounts, host } = spec.subject ?? {}
  if (host !== undefined) return false
  if (namespaceSelector && !selects(namespaceSelector, namespace.labels)) return false
  if (podSelector && !selects(podSelector, pod.labels)) return false
  return serviceAccounts?.includes(pod.serviceAccount) ?? true
}

/** Whether a node with these labels is the policy's subject, for what it receives from pods. */
export function isHostSubject({ spec }: GlobalPolicy, labels: Labels): boolean {
  const host = spec.subject?.host
  return host !== undefined && selects(host.nodeSelector ?? {}, labels)
}

/** The rules of a policy whose subject is `subject`; `origin` gives the number of a rule. */
export function globalPolicyRules(
  { spec }: GlobalPolicy,
  subject: Pick<PodKind, 'pod'>,
  direction: Direction,
  index: PeerIndex,
  origin: (rule: number) => number,
): Rule[] {
  return (spec[direction] ?? []).map((rule, number): Rule => {
    const matches = trafficOf(rule, subject, direction, index).flatMap(({ peers, ...traffic }) =>
      whoOf(rule.peer, index, peers).map(who => ({ ...who, ...traffic })),
    )
    const logged = rule.log ? { log: true } : {}
    return { verdict: VERDICTS[rule.action], matches, origin: origin(number), ...logged }
  })
}

/** Of what a rule is about; `peers`: only for these kinds of pods, whose named port it is. */
type Traffic = Match & { peers?: PodPeers }

function trafficOf(
  { protocol, icmp, ports, notPorts }: GlobalPolicyRule,
  { pod }: Pick<PodKind, 'pod'>,
  direction: Direction,
  index: PeerIndex,
): Traffic[] {
  if (protocol === undefined) return [{}]
  const number = typeof protocol === 'number' ? protocol : GLOBAL_PROTOCOLS[protocol]
  if (icmp !== undefined) return [{ protocol: number, icmp }]
  if (notPorts !== undefined) {
    const ranges = notPorts.map(rangeOf).sort((a, b) => a.first - b.first)
    return gaps(ranges).map(ports => ({ protocol: number, ports }))
  }
  if (ports === undefined) return [{ protocol: number }]
  return ports.flatMap((port): Traffic[] => {
    if (typeof port === 'number' || RANGE.test(port)) {
      return [{ protocol: number, ports: rangeOf(port) }]
    }
    const own = (have: typeof pod.ports) =>
      have.filter(each => each.name === port && each.protocol === protocol)
    if (direction === 'ingress') {
      return own(pod.ports).map(each => ({ protocol: number, ports: single(each.port) }))
    }
    return index.find({}, {}).kinds.flatMap(kind =>
      own(kind.pod.ports).map(each => ({
        ...{ protocol: number, ports: single(each.port) },
        peers: { kinds: [kind], prefixes: [{ value: kind.identity, bits: 32 }] },
      })),
    )
  })
}

function single(port: number): { first: number; last: number } {
  return { first: port, last: port }
}

function rangeOf(text: number | string): { first: number; last: number } {
  const [first = 0, last = first] = String(text).split('-').map(Number)
  return { first, last }
}

/** The ports that are in none of `ranges`, which are sorted. */
function gaps(ranges: readonly { first: number; last: number }[]): typeof ranges {
  const found: { first: number; last: number }[] = []
  let next = 0
  for (const { first, last } of ranges) {
    if (first > next) found.push({ first: next, last: first - 1 })
    next = Math.max(next, last + 1)
  }
  if (next <= 65_535) found.push({ first: next, last: 65_535 })
  return found
}

/** Everybody that `peer` means, of `among` where that is given. */
function whoOf(
  peer: GlobalPolicyPeer | undefined,
  index: PeerIndex,
  among: PodPeers | undefined,
): Match[] {
  const { namespaceSelector, podSelector, serviceAccounts, networks, notNetworks, domainNames } =
    peer ?? {}
  const pods = namespaceSelector ?? podSelector ?? serviceAccounts
  const places = placesOf(networks, notNetworks)
  if (domainNames !== undefined) {
    // Names have no named ports.
    if (among !== undefined) return []
    return domainNames.flatMap(name => places.map(place => ({ ...place, domain: name })))
  }
  if (pods === undefined && among === undefined) return places
  const found = index.find(namespaceSelector ?? {}, podSelector ?? {}, serviceAccounts)
  const prefixes =
    among === undefined
      ? found.prefixes
      : among.prefixes.filter(({ value }) => found.kinds.some(kind => kind.identity === value))
  return prefixes.flatMap(prefix => places.map(place => ({ ...place, peer: prefix })))
}

/** Where the other end may be: networks less those that are not; one match without any when that is everywhere. */
function placesOf(networks?: readonly string[], notNetworks?: readonly string[]): Match[] {
  if (networks === undefined && notNetworks === undefined) return [{}]
  const parsed = (list: readonly string[]): Cidr[] =>
    list.flatMap(text => {
      const one = policyCidr(text)
      return 'cause' in one ? [] : [one.cidr]
    })
  const from = networks === undefined ? EVERYWHERE : parsed(networks)
  const except = parsed(notNetworks ?? [])
  return from.flatMap(each => without(each, except)).map(network => ({ network }))
}
