/**
 * What the schema lets through but semantics don't, and what an author can't have meant. An *error* is a policy that
 * can't be carried out; it is refused with all that came with it. A *remark* is told, and the policy is in force as
 * the API says.
 */
import type { PodFacts } from '../model/facts.ts'
import { selects } from '../model/labels.ts'
import { policyCidr } from './networks.ts'
import { type Policy, type PolicyWorld, policyText } from './sources.ts'

export interface Remark {
  level: 'error' | 'remark'
  policy: string
  /** Where in the policy's `spec`. */
  path: readonly PropertyKey[]
  text: string
}

/** What the node that policies are for is given; what is absent is not known. */
export interface RemarkedNode {
  /** Whether its configuration names resolvers that names are learned from. */
  resolvers?: boolean
}

/** All remarks about a world's policies, in their order. What a policy says by itself is looked at once. */
export function remarksOn(world: PolicyWorld, on: RemarkedNode = {}): Remark[] {
  const pods = new Map<string, PodFacts[]>(world.namespaces.map(({ name }) => [name, []]))
  for (const pod of world.pods) pods.get(pod.namespace)?.push(pod)
  const of = world.policies.flatMap(policy => [...itsOwn(policy), ...selection(policy, pods)])
  return [...of, ...twice(world.policies)].flatMap(remark => onNode(remark, on))
}

/** Where names are learned from. */
const RESOLVERS = "policy.dns.resolvers of the daemon's configuration"

/** Whether a remark is that a policy speaks of domain names, which not every node learns. */
export function isAboutNames({ path }: Remark): boolean {
  return path.at(-1) === 'domainNames'
}

/** A remark as it is for a node; none for what is well there. */
function onNode(remark: Remark, { resolvers }: RemarkedNode): Remark[] {
  if (!isAboutNames(remark) || resolvers === undefined) return [remark]
  if (resolvers) return []
  const text = `no resolver is named (${RESOLVERS}), so no name is learned: this peer matches nothing`
  return [{ ...remark, text }]
}

const known = new WeakMap<Policy, readonly Remark[]>()

function itsOwn(policy: Policy): readonly Remark[] {
  const before = known.get(policy)
  if (before !== undefined) return before
  const found = newRemarksOf(policy)
  known.set(policy, found)
  return found
}

function newRemarksOf(policy: Policy): Remark[] {
  const found: Remark[] = []
  const say = (level: Remark['level'], path: readonly PropertyKey[], text: string): void => {
    found.push({ level, policy: policyText(policy), path, text })
  }
  walk(policy.spec, [], (value, path) => {
    const key = path.at(-1)
    const parent = path.at(-2)
    if (
      key === 'cidr' ||
      parent === 'except' ||
      parent === 'networks' ||
      parent === 'notNetworks'
    ) {
      const parsed = policyCidr(String(value))
      if ('cause' in parsed) say('error', path, `${String(value)}: ${parsed.cause}`)
      else if (parsed.hostBits) {
        say('remark', path, `${String(value)}: host bits are set and don't count`)
      }
    }
    if (key === 'domainNames') {
      const text = `names are learned from the resolvers that ${RESOLVERS} names: without any this peer matches nothing`
      say('remark', path, text)
    }
  })
  return found
}

/** What there is to say of the pods that a policy selects; `pods` by the namespaces that are there. */
function selection(policy: Policy, pods: ReadonlyMap<string, readonly PodFacts[]>): Remark[] {
  if (policy.kind !== 'NetworkPolicy') return []
  const say = (path: readonly PropertyKey[], text: string): Remark[] => [
    { level: 'remark', policy: policyText(policy), path, text },
  ]
  const there = pods.get(policy.namespace)
  if (there === undefined) {
    return say([], `namespace ${policy.namespace} is not there: it selects nothing`)
  }
  if (there.some(({ labels }) => selects(policy.spec.podSelector, labels))) return []
  return say(['podSelector'], 'it selects no pod that is there')
}

/** Two of one priority in one tier: the API leaves open which one decides; here it is the first by name. */
function twice(policies: readonly Policy[]): Remark[] {
  const first = new Map<string, Policy>()
  return policies.flatMap(policy => {
    if (policy.kind !== 'ClusterNetworkPolicy') return []
    const { tier, priority } = policy.spec
    const other = first.get(`${tier} ${priority}`)
    if (other === undefined) {
      first.set(`${tier} ${priority}`, policy)
      return []
    }
    const text = `priority ${priority} of tier ${tier} is that of ${policyText(other)}, too: where both match, the first by name decides`
    return [{ level: 'remark', policy: policyText(policy), path: ['priority'], text }]
  })
}

function walk(
  value: unknown,
  path: readonly PropertyKey[],
  see: (value: unknown, path: readonly PropertyKey[]) => void,
): void {
  if (path.length > 0) see(value, path)
  if (Array.isArray(value)) {
    for (const [i, each] of value.entries()) walk(each, [...path, i], see)
  } else if (typeof value === 'object' && value !== null) {
    for (const [key, each] of Object.entries(value)) walk(each, [...path, key], see)
  }
}
