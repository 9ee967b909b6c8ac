/** ClusterNetworkPolicy, both tiers: what one policy says. Its subject is namespace w. */
import {
  type Case,
  clusterPolicy,
  type Line,
  type Manifest,
  no,
  once,
  type Places,
  type Table,
  tcp,
  yes,
} from '../world.ts'
import { both, namespaces, ns, rules, W } from './cluster-rules.ts'
import { ORDER } from './rule-order.ts'
import { PRIORITY, TOGETHER } from './tiers.ts'

const TIERS = ['Admin', 'Baseline'] as const
type Tier = (typeof TIERS)[number]

const of = (protocol: Table['protocol'], ...lines: Line[]): Table => ({
  ...{ protocol, port: 80, lines },
})

const at = (port: number) => ({ protocols: [{ tcp: { destinationPort: { number: port } } }] })

function oneDirection(tier: Tier): Case[] {
  const { ingress, egress } = rules('Deny', namespaces('y'))
  return [
    once(
      `${tier}: what is about ingress leaves egress alone`,
      [clusterPolicy('in', tier, 20, W, { ingress })],
      tcp(80, no('y/*', 'w/*')),
    ),
    once(
      `${tier}: what is about egress leaves ingress alone`,
      [clusterPolicy('out', tier, 20, W, { egress })],
      tcp(80, no('w/*', 'y/*')),
    ),
  ]
}

function samePriority(tier: Tier): Case {
  const policy = (of: string, peer: string, port: number) =>
    clusterPolicy(
      `${of}-${peer}`,
      tier,
      15,
      namespaces(of),
      rules('Deny', namespaces(peer), at(port)),
    )
  return once(
    `${tier}: three policies of one priority`,
    [policy('w', 'y', 80), policy('w', 'z', 80), policy('z', 'y', 81)],
    tcp(80, ...both(no('w/*', 'y/*'), no('w/*', 'z/*'))),
    tcp(81, ...both(no('z/*', 'y/*'))),
  )
}

function podSelectors(tier: Tier): Case {
  const all = { pods: { podSelector: ns('x') } }
  const zA = { pods: { namespaceSelector: ns('z'), podSelector: { matchLabels: { pod: 'a' } } } }
  const xA = { pods: { namespaceSelector: ns('x'), podSelector: { matchLabels: { pod: 'a' } } } }
  const { egress } = rules('Deny', namespaces('y'))
  return once(
    `${tier}: pods by their labels, in all namespaces or in some`,
    [
      clusterPolicy(
        'by-label',
        tier,
        20,
        { pods: { podSelector: ns('w') } },
        {
          egress: [
            { action: 'Deny', to: [all] },
            { action: 'Deny', to: [zA] },
          ],
          ingress: [
            { action: 'Deny', from: [{ pods: { podSelector: ns('y') } }] },
            { action: 'Deny', from: [zA] },
          ],
        },
      ),
      clusterPolicy('by-name', tier, 21, xA, { egress }),
    ],
    tcp(80, no('w/*', 'x/*'), ...both(no('w/*', 'z/a')), no('y/*', 'w/*'), no('x/a', 'y/*')),
  )
}

function portRanges(tier: Tier): Case {
  const range = (protocol: string) => ({
    protocols: [{ [protocol]: { destinationPort: { range: { start: 80, end: 81 } } } }],
  })
  const parts = [
    rules('Accept', namespaces('x'), range('tcp')),
    rules('Accept', namespaces('z'), range('udp')),
    rules('Accept', namespaces('y'), range('sctp')),
    rules('Deny', { namespaces: { matchExpressions: [{ key: 'ns', operator: 'Exists' }] } }),
  ]
  const nothing = both(no('w/*', '*'))
  const only = (namespace: string) => [...nothing, ...both(yes('w/*', `${namespace}/*`))]
  return once(
    `${tier}: ranges of ports`,
    [
      clusterPolicy('ranges', tier, 9, W, {
        ingress: parts.flatMap(({ ingress }) => ingress),
        egress: parts.flatMap(({ egress }) => egress),
      }),
    ],
    tcp(80, ...only('x')),
    tcp(81, ...only('x')),
    of('UDP', ...only('z')),
    of('SCTP', ...only('y')),
  )
}

function networks(tier: Tier): Case {
  const pods = { pods: { namespaceSelector: ns('y'), podSelector: ns('y') } }
  const egress = [
    { action: 'Accept', to: [pods] },
    { action: 'Deny', to: [{ networks: ['0.0.0.0/0', '::/0'] }] },
  ]
  const first = (places: Places) => ({
    action: 'Accept',
    to: [
      {
        networks: ['x/a', 'z/a'].flatMap(pod => {
          const { ip4, ip6 } = places.get(pod)!
          return [`${ip4}/32`, `${ip6}/128`]
        }),
      },
    ],
  })
  const policy = (...rules: object[]): Manifest[] => [
    clusterPolicy('networks', tier, 85, W, { egress: [...rules, ...egress] }),
  ]
  const tables = (...lines: Line[]) =>
    (['TCP', 'UDP', 'SCTP'] as const).map(each => of(each, no('w/*', '*'), ...lines))
  const toY = yes('w/*', 'y/*')
  return {
    name: `${tier}: networks`,
    steps: [
      { policies: () => policy(), tables: tables(toY) },
      { policies: () => policy(), labels: { y: { ns: 'another' } }, tables: tables() },
      { policies: () => policy(), tables: tables(toY) },
      {
        policies: places => policy(first(places)),
        tables: tables(toY, yes('w/*', 'x/a'), yes('w/*', 'z/a')),
      },
    ],
  }
}

function nodes(tier: Tier): Case {
  const linux = { nodes: { matchLabels: { 'kubernetes.io/os': 'linux' } } }
  const y = { pods: { namespaceSelector: ns('y'), podSelector: ns('y') } }
  const to = (protocol: string, number: number) => ({
    ...{ to: [linux], protocols: [{ [protocol]: { destinationPort: { number } } }] },
  })
  const pass = tier === 'Admin'
  const egress = [
    { action: 'Accept', ...to('tcp', 80) },
    ...(pass ? [{ action: 'Pass', ...to('udp', 81) }] : []),
    { action: 'Deny', to: [y, linux, { networks: ['0.0.0.0/0', '::/0'] }] },
  ]
  const table = (protocol: Table['protocol'], port: Table['port'], ...lines: Line[]): Table => ({
    ...{ protocol, port, lines, node: true },
  })
  const nothing = no('w/*', 'node/b')
  return once(
    `${tier}: nodes`,
    [clusterPolicy('nodes', tier, 75, W, { egress })],
    table('TCP', 80),
    table('TCP', 81, nothing),
    table('UDP', 80, nothing),
    table('UDP', 81, ...(pass ? [] : [nothing])),
    tcp(80, no('w/*', '*')),
  )
}

export const CLUSTER: readonly Case[] = [
  ...ORDER,
  ...TIERS.flatMap(tier => [
    ...oneDirection(tier),
    samePriority(tier),
    podSelectors(tier),
    portRanges(tier),
    networks(tier),
    nodes(tier),
  ]),
  PRIORITY,
  TOGETHER,
]
