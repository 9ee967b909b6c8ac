/**
 * ClusterNetworkPolicy: the first rule that matches decides. One policy about namespace w, about its egress, its ingress, or
 * both: x may have everything, but for the rules behind that deny it; y is denied one port; z is accepted at one port and
 * denied else. Then rules change places.
 */
import type { PortProtocol } from '../../../cni/model/network-policy.ts'
import {
  type Case,
  clusterPolicy,
  type Line,
  no,
  SERVED,
  type Step,
  type Table,
  yes,
} from '../world.ts'

type Tier = 'Admin' | 'Baseline'
type Direction = 'ingress' | 'egress'
type Port = Table['port']

/** Of one protocol: the port that y is denied, and the one that z is accepted at. */
interface Ports {
  protocol: PortProtocol
  deny: Port
  accept?: Port
  /** The one that z is accepted at is said by its name. */
  named?: boolean
}
type Sides = Partial<Record<Direction, readonly Ports[]>>

function protocolOf({ protocol, named }: Ports, port: Port): object {
  if (named) return { destinationNamedPort: `serve-${port}-${protocol.toLowerCase()}` }
  return { [protocol.toLowerCase()]: { destinationPort: { number: port } } }
}

function rulesOf(tier: Tier, direction: Direction, ports: readonly Ports[]): object[] {
  const rule = (action: string, namespace: string, protocols?: object[]) => ({
    action,
    [direction === 'ingress' ? 'from' : 'to']: [{ namespaces: { matchLabels: { ns: namespace } } }],
    ...(protocols === undefined ? {} : { protocols }),
  })
  const denied = ports.map(each => protocolOf({ ...each, named: false }, each.deny))
  const accepted = ports.flatMap(each =>
    each.accept === undefined ? [] : [protocolOf(each, each.accept)],
  )
  const pass = tier === 'Admin'
  return [
    rule('Accept', 'x'),
    rule('Deny', 'x'),
    ...(pass ? [rule('Pass', 'x')] : []),
    rule('Deny', 'y', denied),
    ...(pass ? [rule('Pass', 'y', denied)] : []),
    rule('Accept', 'z', accepted),
    rule('Deny', 'z'),
  ]
}

function swapped(rules: readonly object[], a: number, b: number): object[] {
  return rules.map((rule, k) => (k === a ? rules[b]! : k === b ? rules[a]! : rule))
}

/** What w may not send, or get, when x is denied or not, and y is passed or not. */
function lines(
  direction: Direction,
  ports: readonly Ports[],
  [protocol, port]: readonly [PortProtocol, Port],
  state: { xDenied: boolean; yPassed: boolean },
): Line[] {
  const between = (peer: string, allowed: boolean): Line => {
    const [from, to] = direction === 'egress' ? ['w/*', peer] : [peer, 'w/*']
    return allowed ? yes(from!, to!) : no(from!, to!)
  }
  const mine = ports.find(each => each.protocol === protocol)
  return [
    between('x/*', !state.xDenied),
    between('y/*', state.yPassed || mine?.deny !== port),
    between('z/*', mine?.accept === port),
  ]
}

function ordered(name: string, tier: Tier, sides: Sides): Case {
  const directions = (['ingress', 'egress'] as const).filter(each => sides[each] !== undefined)
  const protocols = new Set(
    directions.flatMap(each => sides[each]!.map(({ protocol }) => protocol)),
  )
  let current = directions.map(each => [each, rulesOf(tier, each, sides[each]!)] as const)
  const step = (xDenied: boolean, yPassed: boolean, ...swap: number[]): Step => {
    const [a, b] = swap
    if (a !== undefined && b !== undefined) {
      current = current.map(([each, rules]) => [each, swapped(rules, a, b)] as const)
    }
    const policy = clusterPolicy(
      'order',
      tier,
      10,
      { namespaces: { matchLabels: { ns: 'w' } } },
      {
        ...Object.fromEntries(current),
      },
    )
    const tables = [...protocols].flatMap(protocol =>
      SERVED.map(port => ({
        ...{ protocol, port },
        lines: directions.flatMap(each =>
          lines(each, sides[each]!, [protocol, port], { xDenied, yPassed }),
        ),
      })),
    )
    return { policies: () => [policy], tables }
  }
  const steps = [step(false, false), step(true, false, 0, 1)]
  if (tier === 'Admin') steps.push(step(false, false, 0, 2), step(false, true, 3, 4))
  return { name: `${tier}: ${name}`, steps }
}

function ofTier(tier: Tier): Case[] {
  const tcp = { protocol: 'TCP', deny: 80 } as const
  const udp = { protocol: 'UDP', deny: 81, accept: 80 } as const
  const sctp = { protocol: 'SCTP', deny: 80, accept: 80 } as const
  const named = { accept: 80, named: true } as const
  // By name: egress of TCP and ingress of UDP in one tier, the other way round in the other.
  const [out, into] = tier === 'Admin' ? [tcp, udp] : [udp, tcp]
  const mixed = { protocol: 'UDP', deny: 80, accept: 81 } as const
  return [
    ordered('egress by TCP', tier, { egress: [{ ...tcp, accept: 81 }] }),
    ordered('egress by UDP', tier, { egress: [udp] }),
    ordered('egress by SCTP', tier, { egress: [sctp] }),
    ordered('ingress by TCP', tier, { ingress: [{ ...tcp, accept: 80 }] }),
    ordered('ingress by UDP', tier, { ingress: [udp] }),
    ordered('ingress by SCTP', tier, { ingress: [sctp] }),
    ordered('egress by the name of a port', tier, { egress: [{ ...out, ...named }] }),
    ordered('ingress by the name of a port', tier, { ingress: [{ ...into, ...named }] }),
    ordered('ingress and egress, all protocols', tier, {
      egress: [
        { ...tcp, accept: 81 },
        mixed,
        tier === 'Admin' ? sctp : { protocol: 'SCTP', deny: 80 },
      ],
      ingress: [{ ...tcp, accept: 80 }, mixed, sctp],
    }),
  ]
}

export const ORDER: readonly Case[] = [...ofTier('Admin'), ...ofTier('Baseline')]
