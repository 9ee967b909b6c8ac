/**
 * NetworkPolicy into rules: each allows, and a pod that one isolates is denied the rest ("Network Policies" of
 * Kubernetes' documentation, "The Two Sorts of Pod Isolation").
 */
import { type Rule, VERDICT } from '../../dataplane/policy-program.ts'
import { selects } from '../model/labels.ts'
import { isolates, type NetworkPolicy, type NetworkPolicyPeer } from '../model/network-policy.ts'
import type { PodKind } from './identities.ts'
import { matchesOf, type NamedPorts, type Peers, type PortMatch } from './matches.ts'
import { policyCidr, without } from './networks.ts'
import type { PeerIndex } from './peers.ts'

export type Direction = 'ingress' | 'egress'

/** Whether the policy isolates pods of this kind in the direction. */
export function concerns(policy: NetworkPolicy, { pod }: PodKind, direction: Direction): boolean {
  return (
    pod.namespace === policy.namespace &&
    isolates(policy)[direction] &&
    selects(policy.spec.podSelector, pod.labels)
  )
}

/** The rules of a policy that concerns `subject`; `origin` gives the number of a rule. */
export function networkPolicyRules(
  { spec, namespace }: NetworkPolicy,
  { pod }: PodKind,
  direction: Direction,
  index: PeerIndex,
  origin: (rule: number) => number,
): Rule[] {
  const names: NamedPorts =
    direction === 'ingress'
      ? { of: 'subject', ports: pod.ports }
      : { of: 'peer', everyPod: index.find({}, {}) }
  const rules = direction === 'ingress' ? spec.ingress : spec.egress
  return (rules ?? []).map((rule, number) => {
    const listed = 'from' in rule ? rule.from : 'to' in rule ? rule.to : undefined
    const peers = peersOf(listed ?? [], namespace, index)
    const ports = (rule.ports ?? []).map((each): PortMatch => {
      const protocol = each.protocol ?? 'TCP'
      if (typeof each.port === 'string') return { protocol, named: each.port }
      if (each.port === null || each.port === undefined) return { protocol }
      return { protocol, ports: { first: each.port, last: each.endPort ?? each.port } }
    })
    const matches = matchesOf(peers, ports.length === 0 ? undefined : ports, names)
    return { verdict: VERDICT.ALLOW, matches, origin: origin(number) }
  })
}

function peersOf(peers: readonly NetworkPolicyPeer[], own: string, index: PeerIndex): Peers {
  if (peers.length === 0) return 'any'
  return {
    pods: peers
      .filter(({ ipBlock }) => ipBlock === null || ipBlock === undefined)
      .map(peer => index.find(peer.namespaceSelector ?? own, peer.podSelector ?? {})),
    networks: peers.flatMap(({ ipBlock }) => {
      if (!ipBlock) return []
      const whole = policyCidr(ipBlock.cidr)
      if ('cause' in whole) return []
      const except = (ipBlock.except ?? []).map(policyCidr)
      return without(
        whole.cidr,
        except.flatMap(each => ('cause' in each ? [] : [each.cidr])),
      )
    }),
  }
}
