/** UDP and SCTP, and one protocol that is taken for another. */
import type { PortProtocol } from '../../../cni/model/network-policy.ts'
import { type Case, networkPolicy, no, once, type Table, tcp, yes } from '../world.ts'
import { DENY_INGRESS } from './ingress.ts'

const A = { matchLabels: { pod: 'a' } }
const Y = { matchLabels: { 'kubernetes.io/metadata.name': 'y' } }
const by = (protocol: PortProtocol, port: Table['port'], ...lines: Table['lines']): Table => ({
  ...{ protocol, port, lines },
})
/** x/a gets what is of this protocol and goes to this port; to any without one. */
const only = (protocol: PortProtocol, port?: number) =>
  networkPolicy('x', `only-${protocol.toLowerCase()}`, {
    podSelector: A,
    ingress: [{ ports: [{ protocol, ...(port === undefined ? {} : { port }) }] }],
  })

/** The cases that are tried by UDP and by SCTP, too. */
function thrice(protocol: 'UDP' | 'SCTP'): Case[] {
  return [
    once(`${protocol}: nothing in`, [DENY_INGRESS], by(protocol, 80, no('*', 'x/*'))),
    once(
      `${protocol}: one port`,
      [
        networkPolicy('x', 'to-81', {
          podSelector: A,
          ingress: [{ from: [{ namespaceSelector: Y }], ports: [{ protocol, port: 81 }] }],
        }),
      ],
      by(protocol, 81, no('x/*', 'x/a'), no('z/*', 'x/a')),
    ),
    once(
      `${protocol}: one pod of another namespace`,
      [
        networkPolicy('x', 'from-y-a', {
          podSelector: A,
          ingress: [{ from: [{ namespaceSelector: Y, podSelector: A }] }],
        }),
      ],
      by(protocol, 80, no('*', 'x/a'), yes('y/a', 'x/a')),
    ),
  ]
}

export const BY_PROTOCOL: readonly Case[] = [
  once('all ports of one protocol', [only('TCP')], tcp(80), by('UDP', 80, no('*', 'x/a'))),
  once('SCTP is not TCP', [DENY_INGRESS, only('SCTP', 81)], tcp(81, no('*', 'x/*'))),
  once('what is for SCTP alone isolates', [only('SCTP', 80)], tcp(81, no('*', 'x/a'))),
  once('UDP is not TCP', [only('UDP', 81)], tcp(81, no('*', 'x/a'))),
  ...thrice('UDP'),
  ...thrice('SCTP'),
]
