/** Random worlds of namespaces, pods, nodes and policies of every feature, small enough that things collide. */
import type { ClusterNetworkPolicy } from '../../../cni/model/cluster-network-policy.ts'
import { clusterNetworkPolicySpec } from '../../../cni/model/cluster-network-policy.ts'
import type { NamedPort, NamespaceFacts, NodeFacts, PodFacts } from '../../../cni/model/facts.ts'
import { type GlobalPolicy, globalPolicySpec } from '../../../cni/model/global-policy.ts'
import type { NetworkPolicy } from '../../../cni/model/network-policy.ts'
import { networkPolicySpec } from '../../../cni/model/network-policy.ts'
import type { PolicyWorld } from '../../../cni/policy/sources.ts'

/** Numbers from a seed (mulberry32). */
export class Dice {
  #state: number
  constructor(seed: number) {
    this.#state = seed >>> 0
  }
  /** 0 .. 1. */
  next(): number {
    this.#state = (this.#state + 0x6d2b79f5) >>> 0
    let t = this.#state
    t = Math.imul(t ^ (t >>> 15), t | 1)
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61)
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32
  }
  below(n: number): number {
    return Math.floor(this.next() * n)
  }
  one<T>(of: readonly T[]): T {
    return of[this.below(of.length)]!
  }
  chance(p: number): boolean {
    return this.next() < p
  }
  some<T>(most: number, make: (i: number) => T, least = 0): T[] {
    return Array.from({ length: least + this.below(most - least + 1) }, (_, i) => make(i))
  }
}

const KEYS = ['app', 'tier'] as const
const VALUES = ['a', 'b', 'c'] as const
export const PORTS = [80, 81, 443, 8080] as const
const NAMES = ['web', 'dns'] as const
const ACCOUNTS = ['default', 'robot'] as const
const PROTOCOLS = ['TCP', 'UDP', 'SCTP'] as const
export const OUTSIDE = ['192.0.2.7', '198.51.100.9', '2001:db8::9'] as const
const CIDRS = [
  ...['0.0.0.0/0', '10.0.0.0/8', '10.0.0.0/30', '10.0.0.4/31', '192.0.2.0/24', '192.0.2.7/32'],
  ...['::/0', 'fd00::/64', 'fd00::4/126', '2001:db8::/32', '8000::/1', '2000::/3', '10.0.0.5/8'],
]

const DOMAINS = ['a.org', '*.A.org.', 'b.a.org', '*.b.a.org', 'D.net'] as const
/** What addresses are learned for. */
export const LEARNED = ['a.org', 'b.a.org', 'C.b.a.org', 'd.net', 'e.com'] as const

const domains = (dice: Dice) => dice.some(2, () => dice.one(DOMAINS), 1)

const labels = (dice: Dice): Record<string, string> =>
  Object.fromEntries(KEYS.filter(() => dice.chance(0.7)).map(key => [key, dice.one(VALUES)]))

function selector(dice: Dice): object {
  if (dice.chance(0.25)) return {}
  if (dice.chance(0.6)) return { matchLabels: { [dice.one(KEYS)]: dice.one(VALUES) } }
  const operator = dice.one(['In', 'NotIn', 'Exists', 'DoesNotExist'])
  const listed = operator === 'In' || operator === 'NotIn'
  const values = listed ? { values: dice.some(2, () => dice.one(VALUES), 1) } : {}
  return { matchExpressions: [{ key: dice.one(KEYS), operator, ...values }] }
}

function netPort(dice: Dice): object {
  const protocol = dice.chance(0.3) ? {} : { protocol: dice.one(PROTOCOLS) }
  const kind = dice.below(4)
  if (kind === 0) return protocol
  if (kind === 1) return { ...protocol, port: dice.one(NAMES) }
  const port = dice.one(PORTS)
  return { ...protocol, port, ...(kind === 2 ? {} : { endPort: port + dice.below(400) }) }
}

function netPeer(dice: Dice): object {
  if (dice.chance(0.3)) {
    const except = dice.some(2, () => dice.one(CIDRS))
    return { ipBlock: { cidr: dice.one(CIDRS), ...(except.length > 0 ? { except } : {}) } }
  }
  const kind = dice.below(3)
  return {
    ...(kind !== 1 ? { podSelector: selector(dice) } : {}),
    ...(kind !== 0 ? { namespaceSelector: selector(dice) } : {}),
  }
}

function networkPolicy(dice: Dice, i: number, namespaces: readonly string[]): NetworkPolicy {
  const rules = (side: 'from' | 'to') =>
    dice.some(2, () => ({
      ...(dice.chance(0.7) ? { [side]: dice.some(3, () => netPeer(dice)) } : {}),
      ...(dice.chance(0.7) ? { ports: dice.some(2, () => netPort(dice)) } : {}),
    }))
  const spec = {
    podSelector: selector(dice),
    ...(dice.chance(0.6)
      ? { policyTypes: dice.one([['Ingress'], ['Egress'], ['Ingress', 'Egress']]) }
      : {}),
    ...(dice.chance(0.7) ? { ingress: rules('from') } : {}),
    ...(dice.chance(0.6) ? { egress: rules('to') } : {}),
  }
  const namespace = dice.one(namespaces)
  return { kind: 'NetworkPolicy', namespace, name: `np${i}`, spec: networkPolicySpec.parse(spec) }
}

function clusterPolicy(dice: Dice, i: number): ClusterNetworkPolicy {
  const pods = () => ({ namespaceSelector: selector(dice), podSelector: selector(dice) })
  const podPeer = () =>
    dice.chance(0.06)
      ? dice.one([{}, { planets: ['mars'] }])
      : dice.chance(0.5)
        ? { namespaces: selector(dice) }
        : { pods: pods() }
  const peer = (side: string) => {
    if (side === 'from' || dice.chance(0.5)) return podPeer()
    return dice.chance(0.3)
      ? { nodes: selector(dice) }
      : { networks: dice.some(2, () => dice.one(CIDRS), 1) }
  }
  const protocol = (named: boolean) => {
    if (named && dice.chance(0.3)) return { destinationNamedPort: dice.one(NAMES) }
    const start = dice.one(PORTS)
    const destinationPort = dice.chance(0.5)
      ? { number: start }
      : { range: { start, end: start + 1 + dice.below(400) } }
    return { [dice.one(['tcp', 'udp', 'sctp'])]: dice.chance(0.7) ? { destinationPort } : {} }
  }
  const rules = (side: 'from' | 'to') =>
    dice.some(3, () => {
      const action = dice.one(['Accept', 'Deny', 'Pass'])
      const byName = side === 'to' && action === 'Accept' && dice.chance(0.4)
      const peers = [
        ...dice.some(2, () => peer(side), 1),
        ...(byName ? [{ domainNames: domains(dice) }] : []),
      ]
      const unnamed = ['networks', 'nodes', 'domainNames']
      const named = peers.every(each => !unnamed.some(key => key in each))
      return {
        action,
        [side]: peers,
        ...(dice.chance(0.6) ? { protocols: dice.some(2, () => protocol(named), 1) } : {}),
      }
    })
  const spec = {
    tier: dice.one(['Admin', 'Baseline']),
    // Of equal priorities the API leaves open which decides.
    priority: i,
    subject: dice.chance(0.5) ? { namespaces: selector(dice) } : { pods: pods() },
    ...(dice.chance(0.8) ? { ingress: rules('from') } : {}),
    ...(dice.chance(0.8) ? { egress: rules('to') } : {}),
  }
  return {
    kind: 'ClusterNetworkPolicy',
    name: `cnp${i}`,
    spec: clusterNetworkPolicySpec.parse(spec),
  }
}

function globalPolicy(dice: Dice, i: number): GlobalPolicy {
  const who = () => ({
    ...(dice.chance(0.5) ? { namespaceSelector: selector(dice) } : {}),
    ...(dice.chance(0.4) ? { podSelector: selector(dice) } : {}),
    ...(dice.chance(0.3) ? { serviceAccounts: dice.some(2, () => dice.one(ACCOUNTS), 1) } : {}),
  })
  const range = () => {
    const first = dice.one(PORTS)
    return dice.chance(0.5) ? first : `${first}-${first + dice.below(400)}`
  }
  const traffic = () => {
    const kind = dice.below(6)
    if (kind === 0) return {}
    if (kind === 1) return { protocol: dice.one([0, 6, 17, 58, 'SCTP']) }
    if (kind === 2) {
      const icmp = { type: dice.one([0, 8, 128]), ...(dice.chance(0.3) ? { code: 0 } : {}) }
      return { protocol: dice.one(['ICMP', 'ICMPv6']), ...(dice.chance(0.8) ? { icmp } : {}) }
    }
    const protocol = dice.one(PROTOCOLS)
    if (kind === 3) return { protocol, notPorts: dice.some(3, range, 1) }
    const port = () => (dice.chance(0.3) ? dice.one(NAMES) : range())
    return { protocol, ports: dice.some(3, port, 1) }
  }
  const places = () => ({
    ...(dice.chance(0.3) ? { networks: dice.some(2, () => dice.one(CIDRS), 1) } : {}),
    ...(dice.chance(0.3) ? { notNetworks: dice.some(2, () => dice.one(CIDRS), 1) } : {}),
  })
  const byName = () => ({
    ...{ action: 'Allow', ...traffic() },
    peer: { domainNames: domains(dice), ...places() },
  })
  const rules = () =>
    dice.some(3, () => ({
      action: dice.one(['Allow', 'Deny', 'Pass']),
      ...(dice.chance(0.2) ? { log: true } : {}),
      ...traffic(),
      ...(dice.chance(0.7)
        ? {
            peer: {
              ...(dice.chance(0.6) ? who() : {}),
              ...places(),
            },
          }
        : {}),
    }))
  const spec = {
    order: i,
    ...(dice.chance(0.3) ? { staged: true } : {}),
    ...(dice.chance(0.7) ? { subject: who() } : {}),
    ...(dice.chance(0.8) ? { ingress: rules() } : {}),
    ...(dice.chance(0.8) ? { egress: [...rules(), ...dice.some(2, byName)] } : {}),
  }
  return { kind: 'GlobalPolicy', name: `gp${i}`, spec: globalPolicySpec.parse(spec) }
}

export function randomWorld(seed: number): PolicyWorld {
  const dice = new Dice(seed)
  const namespaces: NamespaceFacts[] = dice.some(
    3,
    i => ({
      name: `n${i}`,
      labels: { ...labels(dice), 'kubernetes.io/metadata.name': `n${i}` },
    }),
    1,
  )
  const names = namespaces.map(({ name }) => name)
  const nodes: NodeFacts[] = dice.some(2, i => ({
    name: `node-${i}`,
    labels: labels(dice),
    addresses: [OUTSIDE[i]!],
  }))
  const ports = (): NamedPort[] =>
    dice.some(2, () => ({
      name: dice.one(NAMES),
      protocol: dice.one(PROTOCOLS),
      port: dice.one(PORTS),
    }))
  const pods: PodFacts[] = dice.some(
    6,
    i => ({
      namespace: dice.one(names),
      name: `p${i}`,
      labels: labels(dice),
      addresses: [`10.0.0.${i + 1}`, `fd00::${i + 1}`],
      ports: ports(),
      serviceAccount: dice.one(ACCOUNTS),
      hostNetwork: false,
    }),
    2,
  )
  const policies = [
    ...dice.some(3, i => networkPolicy(dice, i, names)),
    ...dice.some(3, i => clusterPolicy(dice, i)),
    ...dice.some(3, i => globalPolicy(dice, i)),
  ]
  return { namespaces, pods, nodes, policies }
}
