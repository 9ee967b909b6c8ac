/** Ports: numbers and names. */
import { type Case, networkPolicy, no, once, tcp } from '../world.ts'

const A = { matchLabels: { pod: 'a' } }
const FROM_Y = [{ namespaceSelector: { matchLabels: { 'kubernetes.io/metadata.name': 'y' } } }]
/** x/a gets from namespace y what goes to `port`. */
const yTo = (port: number | string) =>
  networkPolicy('x', `to-${port}`, {
    podSelector: A,
    ingress: [{ from: FROM_Y, ports: [{ port, protocol: 'TCP' }] }],
  })
const EVERYTHING_IN = networkPolicy('x', 'allow-ingress', { podSelector: {}, ingress: [{}] })
const ONLY_Y = [no('x/*', 'x/a'), no('z/*', 'x/a')]

export const PORTS: readonly Case[] = [
  once('one port', [yTo(81)], tcp(81, ...ONLY_Y)),
  {
    name: 'two policies for one pod, a port each',
    steps: [
      {
        policies: () => [yTo(81)],
        tables: [tcp(81, ...ONLY_Y), tcp(80, no('*', 'x/a'))],
      },
      {
        policies: () => [yTo(81), yTo(80)],
        tables: [tcp(80, ...ONLY_Y)],
      },
    ],
  },
  once('everything in', [EVERYTHING_IN], tcp(80), tcp(81)),
  once(
    'in by the name of a port',
    [
      networkPolicy('x', 'named', {
        podSelector: {},
        ingress: [{ ports: [{ port: 'serve-81-tcp' }] }],
      }),
    ],
    tcp(81),
    tcp(80, no('*', 'x/*')),
  ),
  once(
    'from a namespace by the name of a port',
    [yTo('serve-80-tcp')],
    tcp(80, ...ONLY_Y),
    tcp(81, no('*', 'x/a')),
  ),
  once(
    'out by the name of a port',
    [
      networkPolicy('x', 'named', {
        ...{ podSelector: {}, policyTypes: ['Egress'] },
        egress: [{ ports: [{ port: 'serve-80-tcp' }] }],
      }),
    ],
    tcp(80),
    tcp(81, no('x/*', '*')),
  ),
  {
    name: 'one port in, then everything in by a further policy',
    steps: [
      {
        policies: () => [onlyPort80('ingress')],
        tables: [tcp(81, no('*', 'x/*'))],
      },
      {
        policies: () => [onlyPort80('ingress'), EVERYTHING_IN],
        tables: [tcp(81)],
      },
    ],
  },
  {
    name: 'one port out, then everything out by a further policy',
    steps: [
      {
        policies: () => [onlyPort80('egress')],
        tables: [tcp(81, no('x/*', '*'))],
      },
      {
        policies: () => [
          onlyPort80('egress'),
          networkPolicy('x', 'allow-egress', {
            ...{ podSelector: {}, policyTypes: ['Egress'], egress: [{}] },
          }),
        ],
        tables: [tcp(81)],
      },
    ],
  },
]

function onlyPort80(direction: 'ingress' | 'egress') {
  return networkPolicy('x', 'only-80', {
    podSelector: {},
    policyTypes: [direction === 'ingress' ? 'Ingress' : 'Egress'],
    [direction]: [{ ports: [{ port: 80 }] }],
  })
}
