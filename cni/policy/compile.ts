/**
 * Policies into programs: one for each direction of each kind of pod, with the tiers Admin, GlobalPolicy, NetworkPolicy
 * and Baseline in this order (network-policy-api, "Tier"; GlobalPolicy is ours).
 *
 * A world is compiled whole, but only the programs that are asked for: those of the kinds that have pods on this
 * node. What is the same in two worlds comes out the same, so whoever takes programs into use finds by comparing
 * what a change has changed.
 */
import { type Program, type Rule, type Tier, VERDICT } from '../../dataplane/policy-program.ts'
import type { ClusterNetworkPolicy } from '../model/cluster-network-policy.ts'
import type { PodFacts } from '../model/facts.ts'
import type { GlobalPolicy } from '../model/global-policy.ts'
import type { Labels } from '../model/labels.ts'
import type { NetworkPolicy } from '../model/network-policy.ts'
import { clusterPolicyRules, isSubject } from './cluster-network-policy.ts'
import { globalPolicyRules, isGlobalSubject, isHostSubject } from './global-policy.ts'
import type { Identities, PodKind } from './identities.ts'
import { concerns, type Direction, networkPolicyRules } from './network-policy.ts'
import { Origins } from './origins.ts'
import { PeerIndex } from './peers.ts'
import { type Origin, type Policy, type PolicyWorld, policyText } from './sources.ts'

export interface Programs {
  ingress: Program
  egress: Program
}

/** The node as a subject: nothing is known of it, and it has no named ports. */
const NODE: { pod: PodFacts } = {
  pod: {
    ...{ namespace: '', name: '', labels: {}, addresses: [], ports: [] },
    ...{ serviceAccount: '', hostNetwork: true },
  },
}

export class Compiler {
  readonly #world: PolicyWorld
  readonly #index: PeerIndex
  readonly #admin: readonly ClusterNetworkPolicy[]
  readonly #global: readonly GlobalPolicy[]
  readonly #baseline: readonly ClusterNetworkPolicy[]
  readonly #network: readonly NetworkPolicy[]
  readonly #origins: Origins

  /** `identities` must have followed the world's pods. `origins`: where rules have numbers already. */
  constructor(world: PolicyWorld, identities: Identities, origins = new Origins()) {
    this.#world = world
    this.#origins = origins
    this.#index = new PeerIndex(identities, world.namespaces)
    const cluster = world.policies.filter(policy => policy.kind === 'ClusterNetworkPolicy')
    const ordered = cluster.sort(
      (a, b) => a.spec.priority - b.spec.priority || (a.name < b.name ? -1 : 1),
    )
    this.#admin = ordered.filter(({ spec }) => spec.tier === 'Admin')
    this.#baseline = ordered.filter(({ spec }) => spec.tier === 'Baseline')
    this.#global = world.policies
      .filter(policy => policy.kind === 'GlobalPolicy')
      .sort((a, b) => a.spec.order - b.spec.order || (a.name < b.name ? -1 : 1))
    this.#network = world.policies.filter(policy => policy.kind === 'NetworkPolicy')
  }

  /** Whose word the number in a program's rules is. */
  origin(number: number): Origin | undefined {
    return this.#origins.of(number)
  }

  /**
   * The policies whose subject is `subject`, in their order. With the same ones, and the same pods, namespaces, nodes and
   * numbers of rules, its programs are the same.
   */
  policiesOf(subject: PodKind): Policy[] {
    const cluster = (policy: ClusterNetworkPolicy): boolean => isSubject(policy, subject)
    return [
      ...this.#admin.filter(cluster),
      ...this.#global.filter(policy => isGlobalSubject(policy, subject)),
      ...this.#network.filter(
        policy => concerns(policy, subject, 'ingress') || concerns(policy, subject, 'egress'),
      ),
      ...this.#baseline.filter(cluster),
    ]
  }

  /** What a node with these labels receives from pods. */
  node(labels: Labels): Program {
    const tiers = this.#nodeTiers(labels, false)
    const tried = this.#global.some(policy => policy.spec.staged && isHostSubject(policy, labels))
    return tried ? { tiers, staged: this.#nodeTiers(labels, true) } : { tiers }
  }

  #nodeTiers(labels: Labels, staged: boolean): Tier[] {
    const rules = this.#global
      .filter(policy => (staged || !policy.spec.staged) && isHostSubject(policy, labels))
      .flatMap(policy => {
        const of = (rule: number): number => this.#number(policy, 'ingress', rule)
        return globalPolicyRules(policy, NODE, 'ingress', this.#index, of)
      })
      .filter(hasMatches)
    return rules.length === 0 ? [] : [{ rules, otherwise: VERDICT.PASS, origin: -1 }]
  }

  programs(subject: PodKind): Programs {
    return { ingress: this.#program(subject, 'ingress'), egress: this.#program(subject, 'egress') }
  }

  #program(subject: PodKind, direction: Direction): Program {
    const tiers = this.#tiers(subject, direction, false)
    const tried = this.#global.some(
      policy => policy.spec.staged && isGlobalSubject(policy, subject),
    )
    return tried ? { tiers, staged: this.#tiers(subject, direction, true) } : { tiers }
  }

  #tiers(subject: PodKind, direction: Direction, staged: boolean): Tier[] {
    const tiers = [
      this.#clusterTier(this.#admin, subject, direction),
      this.#globalTier(subject, direction, staged),
      this.#networkTier(subject, direction),
      this.#clusterTier(this.#baseline, subject, direction),
    ].filter(tier => tier !== undefined)
    // Nothing comes behind a tier that denies the rest.
    const last = tiers.findIndex(({ otherwise }) => otherwise === VERDICT.DENY)
    return last < 0 ? tiers : tiers.slice(0, last + 1)
  }

  #clusterTier(
    policies: readonly ClusterNetworkPolicy[],
    subject: PodKind,
    direction: Direction,
  ): Tier | undefined {
    const parts = { index: this.#index, nodes: this.#world.nodes }
    const rules = policies
      .filter(policy => isSubject(policy, subject))
      .flatMap(policy => {
        const of = (rule: number): number => this.#number(policy, direction, rule)
        return clusterPolicyRules(policy, subject, direction, parts, of)
      })
      .filter(hasMatches)
    if (rules.length === 0) return undefined
    return { rules, otherwise: VERDICT.PASS, origin: -1 }
  }

  #globalTier(subject: PodKind, direction: Direction, staged: boolean): Tier | undefined {
    const rules = this.#global
      .filter(policy => (staged || !policy.spec.staged) && isGlobalSubject(policy, subject))
      .flatMap(policy => {
        const of = (rule: number): number => this.#number(policy, direction, rule)
        return globalPolicyRules(policy, subject, direction, this.#index, of)
      })
      .filter(hasMatches)
    if (rules.length === 0) return undefined
    return { rules, otherwise: VERDICT.PASS, origin: -1 }
  }

  #networkTier(subject: PodKind, direction: Direction): Tier | undefined {
    const policies = this.#network.filter(policy => concerns(policy, subject, direction))
    const [first] = policies
    if (first === undefined) return undefined
    const rules = policies.flatMap(policy => {
      const of = (rule: number): number => this.#number(policy, direction, rule)
      return networkPolicyRules(policy, subject, direction, this.#index, of)
    })
    return {
      rules: rules.filter(hasMatches),
      otherwise: VERDICT.DENY,
      origin: this.#number(first, direction),
    }
  }

  #number(policy: Policy, direction: Direction, rule?: number): number {
    const said =
      rule === undefined || policy.kind === 'NetworkPolicy'
        ? undefined
        : policy.spec[direction]?.[rule]?.name
    return this.#origins.number({
      policy: policyText(policy),
      direction,
      ...(rule === undefined ? {} : { rule }),
      ...(said === undefined ? {} : { name: said }),
    })
  }
}

function hasMatches({ matches }: Rule): boolean {
  return matches.length > 0
}
