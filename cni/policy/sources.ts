/** What policy is made from: a cluster's objects and its policies, whole. */
import type { ClusterNetworkPolicy } from '../model/cluster-network-policy.ts'
import {
  NAMESPACE_NAME_LABEL,
  type NamespaceFacts,
  type NodeFacts,
  type PodFacts,
} from '../model/facts.ts'
import type { GlobalPolicy } from '../model/global-policy.ts'
import type { NetworkPolicy } from '../model/network-policy.ts'

export type Policy = NetworkPolicy | ClusterNetworkPolicy | GlobalPolicy

export interface PolicyWorld {
  namespaces: readonly NamespaceFacts[]
  pods: readonly PodFacts[]
  nodes: readonly NodeFacts[]
  policies: readonly Policy[]
}

/** With a namespace for each pod: one that nobody tells of has its name for its only label. */
export function withNamespaces(world: PolicyWorld): PolicyWorld {
  const known = new Set(world.namespaces.map(({ name }) => name))
  const missing = new Set(world.pods.map(pod => pod.namespace).filter(name => !known.has(name)))
  const bare = [...missing].map(name => ({ name, labels: { [NAMESPACE_NAME_LABEL]: name } }))
  return { ...world, namespaces: [...world.namespaces, ...bare] }
}

/** A rule for people: which policy, and which rule of it (from 0); without a rule it is the policy's isolation. */
export interface Origin {
  policy: string
  direction: 'ingress' | 'egress'
  rule?: number
  /** The rule's own name. */
  name?: string
}

/** `NetworkPolicy shop/allow-web, ingress rule 2`. */
export function originText({ policy, direction, rule, name }: Origin): string {
  if (rule === undefined) return `${policy}, which isolates for ${direction}`
  return `${policy}, ${direction} rule ${rule}${name === undefined ? '' : ` "${name}"`}`
}

/** How a policy is named to people. */
export function policyText(policy: Policy): string {
  return policy.kind === 'NetworkPolicy'
    ? `NetworkPolicy ${policy.namespace}/${policy.name}`
    : `${policy.kind} ${policy.name}`
}
