/**
 * What policies mean, written from the documentation of their APIs and from nothing else: one pod, one peer, one
 * port at a time, no identities, no prefixes, no tables. Slow, and the judge of everything that is fast.
 *
 * "Network Policies" of Kubernetes' documentation; the comments of k8s.io/api/networking/v1 and of
 * network-policy-api's ClusterNetworkPolicy.
 */
import type { PodFacts } from '../../../cni/model/facts.ts'
import type { LabelSelector, Labels } from '../../../cni/model/labels.ts'
import type { PolicyWorld } from '../../../cni/policy/sources.ts'

export interface Ask {
  direction: 'ingress' | 'egress'
  subject: PodFacts
  /** The other end: a pod, or an address of something else. */
  peer: PodFacts | undefined
  peerAddress: string
  protocol: 'TCP' | 'UDP' | 'SCTP' | 'ICMP'
  /** Of ICMP the type; its code is 0. */
  port: number
  /** What the subject was told the address for, by a resolver, in its answer's case. */
  names?: readonly string[]
}

/** "Domain names": `*.` stands for one or more labels; case and a dot at the end count for nothing. */
function byName(ask: Ask, patterns: readonly string[]): boolean {
  const plain = (text: string) => text.toLowerCase().replace(/\.$/, '')
  return (ask.names ?? []).map(plain).some(name =>
    patterns.map(plain).some(pattern => {
      if (!pattern.startsWith('*.')) return name === pattern
      return name.endsWith(pattern.slice(1)) && name.length > pattern.length - 1
    }),
  )
}

function selected(selector: LabelSelector, labels: Labels): boolean {
  for (const [key, value] of Object.entries(selector.matchLabels ?? {})) {
    if (labels[key] !== value) return false
  }
  for (const { key, operator, values } of selector.matchExpressions ?? []) {
    const value = labels[key]
    if (operator === 'In' && (value === undefined || !values!.includes(value))) return false
    if (operator === 'NotIn' && value !== undefined && values!.includes(value)) return false
    if (operator === 'Exists' && value === undefined) return false
    if (operator === 'DoesNotExist' && value !== undefined) return false
  }
  return true
}

const bitsKnown = new Map<string, string>()

/** An address as bits, so that a prefix is a prefix. */
function bitsOf(address: string): string {
  const known = bitsKnown.get(address) ?? readBits(address)
  bitsKnown.set(address, known)
  return known
}

function readBits(address: string): string {
  if (!address.includes(':')) {
    return address
      .split('.')
      .map(part => Number(part).toString(2).padStart(8, '0'))
      .join('')
  }
  const [head = '', tail] = address.split('::')
  const groups = (text: string) => (text === '' ? [] : text.split(':'))
  const before = groups(head)
  const after = tail === undefined ? [] : groups(tail)
  const zeros = tail === undefined ? [] : new Array(8 - before.length - after.length).fill('0')
  return [...before, ...zeros, ...after]
    .map(part => Number.parseInt(part, 16).toString(2).padStart(16, '0'))
    .join('')
}

function inCidr(address: string, cidr: string): boolean {
  const [network = '', length = ''] = cidr.split('/')
  if (network.includes(':') !== address.includes(':')) return false
  return bitsOf(address).slice(0, Number(length)) === bitsOf(network).slice(0, Number(length))
}

function namespaceLabels(world: PolicyWorld, pod: PodFacts): Labels {
  return world.namespaces.find(({ name }) => name === pod.namespace)!.labels
}

const real = (pod: PodFacts | undefined): pod is PodFacts => pod !== undefined && !pod.hostNetwork

/** A named port is one of the pod that the traffic goes to. */
function namedPort(ask: Ask, name: string, protocol: string | undefined): boolean {
  const target = ask.direction === 'ingress' ? ask.subject : ask.peer
  if (!real(target)) return false
  return target.ports.some(
    port =>
      port.name === name &&
      port.port === ask.port &&
      port.protocol === ask.protocol &&
      (protocol === undefined || port.protocol === protocol),
  )
}

/** What NetworkPolicies say; undefined when none isolates the subject. */
function networkPolicies(world: PolicyWorld, ask: Ask): 'allow' | 'deny' | undefined {
  let isolated = false
  for (const policy of world.policies) {
    if (policy.kind !== 'NetworkPolicy' || policy.namespace !== ask.subject.namespace) continue
    const { spec } = policy
    if (!selected(spec.podSelector, ask.subject.labels)) continue
    const types =
      spec.policyTypes && spec.policyTypes.length > 0
        ? spec.policyTypes
        : ['Ingress', ...(spec.egress && spec.egress.length > 0 ? ['Egress'] : [])]
    if (!types.includes(ask.direction === 'ingress' ? 'Ingress' : 'Egress')) continue
    isolated = true
    const rules = (ask.direction === 'ingress' ? spec.ingress : spec.egress) ?? []
    for (const rule of rules) {
      const peers = ('from' in rule ? rule.from : 'to' in rule ? rule.to : undefined) ?? []
      const who =
        peers.length === 0 ||
        peers.some(({ ipBlock, podSelector, namespaceSelector }) => {
          if (ipBlock) {
            if (!inCidr(ask.peerAddress, ipBlock.cidr)) return false
            return !(ipBlock.except ?? []).some(cidr => inCidr(ask.peerAddress, cidr))
          }
          if (!real(ask.peer)) return false
          const namespaces = namespaceSelector
            ? selected(namespaceSelector, namespaceLabels(world, ask.peer))
            : ask.peer.namespace === policy.namespace
          return namespaces && (!podSelector || selected(podSelector, ask.peer.labels))
        })
      if (!who) continue
      const ports = rule.ports ?? []
      const what =
        ports.length === 0 ||
        ports.some(({ protocol, port, endPort }) => {
          const wanted = protocol ?? 'TCP'
          if (typeof port === 'string') return namedPort(ask, port, wanted)
          if (wanted !== ask.protocol) return false
          if (port === undefined || port === null) return true
          return port <= ask.port && ask.port <= (endPort ?? port)
        })
      if (what) return 'allow'
    }
  }
  return isolated ? 'deny' : undefined
}

/** What a tier of ClusterNetworkPolicies says; undefined: nothing, or Pass. */
function clusterTier(
  world: PolicyWorld,
  ask: Ask,
  tier: 'Admin' | 'Baseline',
): 'allow' | 'deny' | undefined {
  const policies = world.policies
    .filter(policy => policy.kind === 'ClusterNetworkPolicy')
    .filter(({ spec }) => spec.tier === tier)
    .sort((a, b) => a.spec.priority - b.spec.priority)
  for (const { spec } of policies) {
    const labels = namespaceLabels(world, ask.subject)
    const { namespaces, pods } = spec.subject
    const mine = namespaces
      ? selected(namespaces, labels)
      : selected(pods!.namespaceSelector, labels) && selected(pods!.podSelector, ask.subject.labels)
    if (!mine) continue
    for (const rule of (ask.direction === 'ingress' ? spec.ingress : spec.egress) ?? []) {
      const peers = 'from' in rule ? rule.from : rule.to
      const known = (peer: object) =>
        Object.keys(peer).length === 1 &&
        (ask.direction === 'ingress'
          ? ['namespaces', 'pods']
          : ['namespaces', 'pods', 'nodes', 'networks', 'domainNames']
        ).includes(Object.keys(peer)[0]!)
      if (!peers.every(known)) {
        if (rule.action === 'Accept') continue
        return 'deny'
      }
      const who = peers.some(peer => {
        if ('networks' in peer && peer.networks) {
          return (peer.networks as string[]).some(cidr => inCidr(ask.peerAddress, cidr))
        }
        if ('domainNames' in peer && peer.domainNames) {
          return byName(ask, peer.domainNames as string[])
        }
        if ('nodes' in peer && peer.nodes) {
          return world.nodes
            .filter(node => selected(peer.nodes as LabelSelector, node.labels))
            .some(node => node.addresses.includes(ask.peerAddress))
        }
        if (!real(ask.peer)) return false
        const theirs = namespaceLabels(world, ask.peer)
        if (peer.namespaces) return selected(peer.namespaces, theirs)
        if (!peer.pods) return false
        return (
          selected(peer.pods.namespaceSelector, theirs) &&
          selected(peer.pods.podSelector, ask.peer.labels)
        )
      })
      if (!who) continue
      const what =
        rule.protocols === undefined ||
        rule.protocols.some(({ tcp, udp, sctp, destinationNamedPort }) => {
          if (destinationNamedPort) return namedPort(ask, destinationNamedPort, undefined)
          const wanted = tcp ? 'TCP' : udp ? 'UDP' : 'SCTP'
          if (wanted !== ask.protocol) return false
          const port = (tcp ?? udp ?? sctp)?.destinationPort
          if (!port) return true
          if (port.number !== undefined) return port.number === ask.port
          return port.range!.start <= ask.port && ask.port <= port.range!.end
        })
      if (!what) continue
      if (rule.action === 'Pass') return undefined
      return rule.action === 'Accept' ? 'allow' : 'deny'
    }
  }
  return undefined
}

/** What GlobalPolicies say (cni/model/global-policy.ts); undefined: nothing, or Pass. With `staged` those too that are only tried. */
function globalPolicies(
  world: PolicyWorld,
  ask: Ask,
  staged: boolean,
): 'allow' | 'deny' | undefined {
  const policies = world.policies
    .filter(policy => policy.kind === 'GlobalPolicy')
    .filter(({ spec }) => staged || !spec.staged)
    .sort((a, b) => a.spec.order - b.spec.order)
  const mine = (
    pod: PodFacts,
    namespaces: LabelSelector | undefined,
    pods: LabelSelector | undefined,
    accounts: readonly string[] | undefined,
  ): boolean => {
    if (namespaces && !selected(namespaces, namespaceLabels(world, pod))) return false
    if (pods && !selected(pods, pod.labels)) return false
    return !accounts || accounts.includes(pod.serviceAccount)
  }
  const ipv6 = ask.peerAddress.includes(':')
  const number = { TCP: 6, UDP: 17, SCTP: 132, ICMP: ipv6 ? 58 : 1 }[ask.protocol]
  const named = { TCP: 6, UDP: 17, SCTP: 132, ICMP: 1, ICMPv6: 58 }
  const among = (ports: readonly (number | string)[]): boolean =>
    ports.some(port => {
      if (typeof port === 'number') return port === ask.port
      const range = /^(\d+)-(\d+)$/.exec(port)
      if (range) return Number(range[1]) <= ask.port && ask.port <= Number(range[2])
      return namedPort(ask, port, ask.protocol)
    })
  for (const { spec } of policies) {
    const { namespaceSelector, podSelector, serviceAccounts } = spec.subject ?? {}
    if (!mine(ask.subject, namespaceSelector, podSelector, serviceAccounts)) continue
    for (const rule of spec[ask.direction] ?? []) {
      const { peer = {}, protocol, ports, notPorts, icmp } = rule
      if (protocol !== undefined) {
        if ((typeof protocol === 'number' ? protocol : named[protocol]) !== number) continue
        if (ports && !among(ports)) continue
        if (notPorts && among(notPorts)) continue
        if (icmp && (icmp.type !== ask.port || (icmp.code ?? 0) !== 0)) continue
      }
      if (peer.namespaceSelector || peer.podSelector || peer.serviceAccounts) {
        if (!real(ask.peer)) continue
        if (!mine(ask.peer, peer.namespaceSelector, peer.podSelector, peer.serviceAccounts))
          continue
      }
      if (peer.domainNames) {
        // A name says nothing of the ports that a pod has names for.
        if (!byName(ask, peer.domainNames)) continue
        if (ports && !among(ports.filter(port => !/^[a-z]/.test(String(port))))) continue
      }
      if (peer.networks && !peer.networks.some(cidr => inCidr(ask.peerAddress, cidr))) continue
      if (peer.notNetworks?.some(cidr => inCidr(ask.peerAddress, cidr))) continue
      if (rule.action === 'Pass') return undefined
      return rule.action === 'Allow' ? 'allow' : 'deny'
    }
  }
  return undefined
}

/** Whether one end lets the flow be; with `staged` as if policies that are only tried were in force. */
export function allowed(world: PolicyWorld, ask: Ask, staged = false): boolean {
  const verdict =
    clusterTier(world, ask, 'Admin') ??
    globalPolicies(world, ask, staged) ??
    networkPolicies(world, ask) ??
    clusterTier(world, ask, 'Baseline') ??
    'allow'
  return verdict === 'allow'
}
