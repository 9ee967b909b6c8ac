/** ClusterNetworkPolicy into rules of the tiers Admin and Baseline (network-policy-api, ClusterNetworkPolicySpec). */
import { type Rule, VERDICT, type Verdict } from '../../dataplane/policy-program.ts'
import type {
  ClusterNetworkPolicy,
  ClusterPolicyPeer,
  ClusterPolicyProtocol,
  ClusterPolicyRule,
} from '../model/cluster-network-policy.ts'
import type { NodeFacts } from '../model/facts.ts'
import { selects } from '../model/labels.ts'
import type { PodKind } from './identities.ts'
import { matchesOf, type NamedPorts, type PortMatch } from './matches.ts'
import type { Direction } from './network-policy.ts'
import { hostCidr, policyCidr } from './networks.ts'
import type { PeerIndex } from './peers.ts'

const VERDICTS: Readonly<Record<ClusterPolicyRule['action'], Verdict>> = {
  Accept: VERDICT.ALLOW,
  Deny: VERDICT.DENY,
  Pass: VERDICT.PASS,
}

/** Whether pods of this kind are the policy's subject. */
export function isSubject({ spec }: ClusterNetworkPolicy, { pod, namespace }: PodKind): boolean {
  const { namespaces, pods } = spec.subject
  if (namespaces !== undefined) return selects(namespaces, namespace.labels)
  if (pods === undefined) return false
  return selects(pods.namespaceSelector, namespace.labels) && selects(pods.podSelector, pod.labels)
}

/** The rules of a policy whose subject is `subject`; `origin` gives the number of a rule. */
export function clusterPolicyRules(
  { spec }: ClusterNetworkPolicy,
  { pod }: PodKind,
  direction: Direction,
  { index, nodes }: { index: PeerIndex; nodes: readonly NodeFacts[] },
  origin: (rule: number) => number,
): Rule[] {
  const names: NamedPorts =
    direction === 'ingress'
      ? { of: 'subject', ports: pod.ports }
      : { of: 'peer', everyPod: index.find({}, {}) }
  const rules: readonly ClusterPolicyRule[] =
    (direction === 'ingress' ? spec.ingress : spec.egress) ?? []
  return rules.map((rule, number): Rule => {
    const peers: readonly ClusterPolicyPeer[] = 'from' in rule ? rule.from : rule.to
    if (peers.some(peer => !isKnown(peer, KNOWN[direction])))
      return failClosed(rule.action, origin(number))
    const networks = peers.flatMap(peer => networksOf(peer, nodes))
    const pods = peers.flatMap(({ namespaces, pods: some }) => {
      if (namespaces !== undefined) return [index.find(namespaces, {})]
      return some === undefined ? [] : [index.find(some.namespaceSelector, some.podSelector)]
    })
    const domains = peers.flatMap(({ domainNames }) => domainNames ?? [])
    const traffic = rule.protocols?.map(trafficOf)
    const matches = matchesOf({ pods, networks, domains }, traffic, names)
    return { verdict: VERDICTS[rule.action], matches, origin: origin(number) }
  })
}

/** A peer of a later version of the API is none that we know: `Accept` matches nothing, the others deny all. */
function failClosed(action: ClusterPolicyRule['action'], origin: number): Rule {
  return action === 'Accept'
    ? { verdict: VERDICT.ALLOW, matches: [], origin }
    : { verdict: VERDICT.DENY, matches: [{}], origin }
}

const KNOWN: Readonly<Record<Direction, readonly string[]>> = {
  ingress: ['namespaces', 'pods'],
  egress: ['namespaces', 'pods', 'nodes', 'networks', 'domainNames'],
}

function isKnown(peer: ClusterPolicyPeer, known: readonly string[]): boolean {
  const fields = Object.entries(peer).filter(([, value]) => value !== undefined)
  return fields.length === 1 && known.includes(fields[0]![0])
}

function networksOf({ networks, nodes: selector }: ClusterPolicyPeer, nodes: readonly NodeFacts[]) {
  if (selector !== undefined) {
    const chosen = nodes.filter(({ labels }) => selects(selector, labels))
    return chosen.flatMap(({ addresses }) => addresses.map(hostCidr))
  }
  return (networks ?? []).flatMap(text => {
    const parsed = policyCidr(text)
    return 'cause' in parsed ? [] : [parsed.cidr]
  })
}

function trafficOf({ tcp, udp, sctp, destinationNamedPort }: ClusterPolicyProtocol): PortMatch {
  if (destinationNamedPort !== undefined) return { named: destinationNamedPort }
  const protocol = tcp !== undefined ? 'TCP' : udp !== undefined ? 'UDP' : 'SCTP'
  const port = (tcp ?? udp ?? sctp)?.destinationPort
  if (port === undefined) return { protocol }
  const { number, range } = port
  return {
    protocol,
    ports: { first: number ?? range!.start, last: number ?? range!.end },
  }
}
