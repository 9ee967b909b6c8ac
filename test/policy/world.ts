/**
 * The world of the truth tables: namespaces with pods that serve ports 80 and 81. A case takes it through steps; a step
 * has policies, labels beyond those of the start, and what may be reached then.
 */
import type { PortProtocol } from '../../cni/model/network-policy.ts'

function podsOf(namespaces: string, names: string): readonly string[] {
  return [...namespaces].flatMap(namespace => [...names].map(name => `${namespace}/${name}`))
}

/** `namespace/name` of the pods that the cases of NetworkPolicy have: three namespaces of three pods. */
export const NINE = podsOf('xyz', 'abc')
/** Of ClusterNetworkPolicy: four of two. */
export const EIGHT = podsOf('wxyz', 'ab')
/** Nodes are known by these, and node b serves the same ports at its addresses; the first four pods are on node a. */
export const NODES: ReadonlyMap<string, Place> = new Map([
  ['node/a', { node: 'node-a', ip4: '192.168.77.1', ip6: 'fd77::1' }],
  ['node/b', { node: 'node-b', ip4: '192.168.77.2', ip6: 'fd77::2' }],
])
export const ON_A = 4

export const SERVED = [80, 81] as const

export type Labels = Record<string, string>
export type Manifest = Record<string, unknown>

/** A pod's node and addresses, which a policy may name. */
export interface Place {
  node: string
  ip4: string
  ip6: string
}
export type Places = ReadonlyMap<string, Place>

/** From whom to whom, as `x/a`, `x/*` or `*`, and whether an answer comes back. */
export type Line = readonly [from: string, to: string, allowed: boolean]

export interface Table {
  protocol: PortProtocol
  port: (typeof SERVED)[number]
  /** A later one overrules; where none speaks, all is allowed. */
  lines: readonly Line[]
  /** It is about what pods of node a send to `node/b`; without it, about all pairs of pods. */
  node?: boolean
}

export interface Step {
  policies: (places: Places) => Manifest[]
  tables: readonly Table[]
  /** More labels, by namespace (`x`) or by pod (`x/a`). */
  labels?: Readonly<Record<string, Labels>>
}

export interface Case {
  name: string
  steps: readonly Step[]
}

export const yes = (from: string, to: string): Line => [from, to, true]
export const no = (from: string, to: string): Line => [from, to, false]
export const tcp = (port: Table['port'], ...lines: Line[]): Table => ({
  ...{ protocol: 'TCP', port, lines },
})

/** A case of one step. */
export function once(name: string, policies: readonly Manifest[], ...tables: Table[]): Case {
  return { name, steps: [{ policies: () => [...policies], tables }] }
}

const meets = (pattern: string, pod: string): boolean =>
  pattern === '*' || pattern === pod || (pattern.endsWith('/*') && pod[0] === pattern[0])

export function isAllowed({ lines }: Table, from: string, to: string): boolean {
  return lines.findLast(([f, t]) => meets(f, from) && meets(t, to))?.[2] ?? true
}

/**
 * What a table speaks of: all pairs of pods, or each pod of node a and node b. What a pod sends to itself never reaches
 * its node, and nothing is said of it.
 */
export function pairs({ node }: Table, pods: readonly string[]): { from: string; to: string }[] {
  if (node) return pods.slice(0, ON_A).map(from => ({ from, to: 'node/b' }))
  return pods.flatMap(from => pods.filter(to => to !== from).map(to => ({ from, to })))
}

/** NetworkPolicy `spec` in `namespace`. */
export function networkPolicy(namespace: string, name: string, spec: object): Manifest {
  const metadata = { name, namespace }
  return { apiVersion: 'networking.k8s.io/v1', kind: 'NetworkPolicy', metadata, spec }
}

/** All objects of a step: what a cluster would show of these pods, and the step's policies. */
export function manifests(step: Step, places: Places): Manifest[] {
  const { labels = {} } = step
  const names = new Set([...places.keys()].map(pod => pod.split('/')[0]!))
  const namespaces = [...names].map(name => ({
    apiVersion: 'v1',
    kind: 'Namespace',
    metadata: { name, labels: { ns: name, ...labels[name] } },
  }))
  const ports = SERVED.flatMap(containerPort =>
    (['TCP', 'UDP', 'SCTP'] as const).map(protocol => ({
      name: `serve-${containerPort}-${protocol.toLowerCase()}`,
      ...{ containerPort, protocol },
    })),
  )
  const pods = [...places].map(([each, { node, ip4, ip6 }]) => {
    const [namespace = '', name = ''] = each.split('/')
    return {
      apiVersion: 'v1',
      kind: 'Pod',
      metadata: { namespace, name, labels: { ns: namespace, pod: name, ...labels[each] } },
      spec: { nodeName: node, containers: [{ name: 'server', ports }] },
      status: { podIPs: [{ ip: ip4 }, { ip: ip6 }] },
    }
  })
  const nodes = [...NODES.values()].map(({ node, ip4, ip6 }) => ({
    apiVersion: 'v1',
    kind: 'Node',
    metadata: { name: node, labels: { 'kubernetes.io/os': 'linux' } },
    status: { addresses: [ip4, ip6].map(address => ({ type: 'InternalIP', address })) },
  }))
  return [...namespaces, ...nodes, ...pods, ...step.policies(places)]
}

/** ClusterNetworkPolicy with these rules. */
export function clusterPolicy(
  name: string,
  tier: 'Admin' | 'Baseline',
  priority: number,
  subject: object,
  rules: { ingress?: object[]; egress?: object[] },
): Manifest {
  const spec = { tier, priority, subject, ...rules }
  const apiVersion = 'policy.networking.k8s.io/v1beta1'
  return { apiVersion, kind: 'ClusterNetworkPolicy', metadata: { name }, spec }
}
