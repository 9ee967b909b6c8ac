/** What a rule's peers and ports come to, of whatever kind of policy: the product of both, as matches. */
import type { Cidr } from '../../dataplane/addresses.ts'
import type { Match } from '../../dataplane/policy-program.ts'
import type { NamedPort } from '../model/facts.ts'
import type { PodKind } from './identities.ts'
import type { PodPeers } from './peers.ts'

/** IANA's numbers. */
export const PROTOCOL_NUMBER = { TCP: 6, UDP: 17, SCTP: 132 } as const

/** Who a rule is about; `any`: everybody. */
export type Peers =
  | 'any'
  | {
      pods: readonly PodPeers[]
      networks: readonly Cidr[]
      /** Names, and `*.` names, of what the subject sends to. */
      domains?: readonly string[]
    }

/** What of their traffic. */
export interface PortMatch {
  /** Absent: of a named port, whatever protocol the port has; otherwise every protocol. */
  protocol?: 'TCP' | 'UDP' | 'SCTP'
  ports?: { first: number; last: number }
  /** A port of the pod that is the flow's destination. */
  named?: string
}

/** How named ports are resolved: by the subject's own (what it receives), or by each peer's. */
export type NamedPorts =
  | { of: 'subject'; ports: readonly NamedPort[] }
  /** `everyPod`: of a rule about everybody, only pods have named ports. */
  | { of: 'peer'; everyPod: PodPeers }

/** Everything that `peers` and one of `ports` (absent: all traffic) mean. */
export function matchesOf(
  peers: Peers,
  ports: readonly PortMatch[] | undefined,
  names: NamedPorts,
): Match[] {
  if (ports === undefined) return whoOf(peers)
  return ports.flatMap(port => {
    if (port.named === undefined) return product(whoOf(peers), [trafficOf(port)])
    if (names.of === 'subject') return product(whoOf(peers), named(names.ports, port))
    const { pods, networks } = peers === 'any' ? { pods: [names.everyPod], networks: [] } : peers
    const alone = pods.flatMap(({ kinds }) => namedOf(kinds, port, [{}]))
    if (networks.length === 0) return alone
    // Pods whose address lies in a network have their names there, too.
    const within = networks.map(network => ({ network }))
    return [...alone, ...namedOf(names.everyPod.kinds, port, within)]
  })
}

/** The port of that name of each of these kinds, where `where` matches, too. */
function namedOf(kinds: readonly PodKind[], port: PortMatch, where: readonly Match[]): Match[] {
  return kinds.flatMap(({ identity, pod }) => {
    const who = where.map(each => ({ ...each, peer: { value: identity, bits: 32 } }))
    return product(who, named(pod.ports, port))
  })
}

function whoOf(peers: Peers): Match[] {
  if (peers === 'any') return [{}]
  const { pods, networks, domains = [] } = peers
  return [
    ...pods.flatMap(({ prefixes }) => prefixes.map(peer => ({ peer }))),
    ...networks.map(network => ({ network })),
    ...domains.map(domain => ({ domain })),
  ]
}

function trafficOf({ protocol, ports }: PortMatch): Match {
  return {
    ...(protocol === undefined ? {} : { protocol: PROTOCOL_NUMBER[protocol] }),
    ...(ports === undefined ? {} : { ports }),
  }
}

function named(have: readonly NamedPort[], { named: name, protocol }: PortMatch): Match[] {
  return have
    .filter(each => each.name === name && (protocol ?? each.protocol) === each.protocol)
    .map(each => ({
      protocol: PROTOCOL_NUMBER[each.protocol],
      ports: { first: each.port, last: each.port },
    }))
}

function product(who: readonly Match[], traffic: readonly Match[]): Match[] {
  return who.flatMap(one => traffic.map(other => ({ ...one, ...other })))
}
