/** What pods may reach. */
import { type Case, networkPolicy, no, once, type Place, tcp, yes } from '../world.ts'

const A = { matchLabels: { pod: 'a' } }
const Y = { matchLabels: { 'kubernetes.io/metadata.name': 'y' } }
/** Pods x/a send only what these rules let out. */
const fromA = (...egress: object[]) =>
  networkPolicy('x', 'from-a', { podSelector: A, policyTypes: ['Egress'], egress })
const toYA = { to: [{ namespaceSelector: Y, podSelector: A }] }

/** Peers: a pod's addresses of both families, each as a network of these lengths. */
function blocks({ ip4, ip6 }: Place, lengths = [32, 128], except?: Place): object {
  const outside = (ip: string | undefined, length: number) =>
    ip === undefined ? {} : { except: [`${ip}/${length}`] }
  return {
    to: [
      { ipBlock: { cidr: `${ip4}/${lengths[0]}`, ...outside(except?.ip4, 32) } },
      { ipBlock: { cidr: `${ip6}/${lengths[1]}`, ...outside(except?.ip6, 128) } },
    ],
  }
}

export const EGRESS: readonly Case[] = [
  once('a pod sends nothing', [fromA()], tcp(80, no('x/a', '*'))),
  once(
    'a namespace sends nothing',
    [networkPolicy('x', 'deny-egress', { podSelector: {}, policyTypes: ['Egress'] })],
    tcp(80, no('x/*', '*')),
  ),
  once(
    'in and out by one policy',
    [
      networkPolicy('x', 'both', {
        ...{ podSelector: A, policyTypes: ['Egress', 'Ingress'] },
        ingress: [{ from: [{ podSelector: { matchLabels: { pod: 'b' } } }] }],
        egress: [{ ports: [{ port: 80 }] }],
      }),
    ],
    tcp(80, no('*', 'x/a'), yes('x/b', 'x/a')),
    tcp(81, no('*', 'x/a'), no('x/a', '*'), yes('x/b', 'x/a')),
  ),
  once(
    'what the server lets in, the client may not send',
    [
      fromA(toYA),
      ...['a', 'b'].map(pod =>
        networkPolicy('y', `to-${pod}`, {
          podSelector: { matchLabels: { pod } },
          ingress: [
            {
              from: [
                {
                  namespaceSelector: { matchLabels: { 'kubernetes.io/metadata.name': 'x' } },
                  podSelector: A,
                },
              ],
            },
          ],
        }),
      ),
    ],
    tcp(80, no('x/a', '*'), no('*', 'y/a'), yes('x/a', 'y/a'), no('*', 'y/b')),
  ),
  once(
    'to one pod of another namespace',
    [fromA(toYA)],
    tcp(80, no('x/a', '*'), yes('x/a', 'y/a')),
  ),
  once(
    'to namespaces without one label that they have of their own',
    [
      fromA({
        to: [
          {
            namespaceSelector: {
              matchExpressions: [
                { key: 'kubernetes.io/metadata.name', operator: 'NotIn', values: ['y'] },
              ],
            },
          },
        ],
      }),
    ],
    tcp(80, no('x/a', 'y/*')),
  ),
  {
    name: 'to an address',
    steps: [
      {
        policies: places => [fromA(blocks(places.get('y/b')!))],
        tables: [tcp(80, no('x/a', '*'), yes('x/a', 'y/b'))],
      },
    ],
  },
  {
    name: 'to a network except an address',
    steps: [
      {
        policies: places => [fromA(blocks(places.get('x/a')!, [4, 4], places.get('x/b')!))],
        tables: [tcp(80, no('x/a', 'x/b'))],
      },
    ],
  },
  {
    name: 'an address that was excepted is let in later',
    steps: [
      {
        policies: places => [fromA(blocks(places.get('x/a')!, [4, 4], places.get('x/b')!))],
        tables: [tcp(80, no('x/a', 'x/b'))],
      },
      {
        policies: places => [fromA(blocks(places.get('x/b')!))],
        tables: [tcp(80, no('x/a', '*'), yes('x/a', 'x/b'))],
      },
    ],
  },
]
