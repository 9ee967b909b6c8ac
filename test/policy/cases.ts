/** All cases, in the order of README.md's lists. */

import { CHANGES } from './cases/changes.ts'
import { CLUSTER } from './cases/cluster.ts'
import { EGRESS } from './cases/egress.ts'
import { INGRESS } from './cases/ingress.ts'
import { PORTS } from './cases/ports.ts'
import { BY_PROTOCOL } from './cases/protocols.ts'
import { type Case, EIGHT, NINE } from './world.ts'

export interface Suite {
  kind: 'NetworkPolicy' | 'ClusterNetworkPolicy'
  pods: readonly string[]
  cases: readonly Case[]
}

export const SUITES: readonly Suite[] = [
  {
    kind: 'NetworkPolicy',
    pods: NINE,
    cases: [...INGRESS, ...PORTS, ...CHANGES, ...EGRESS, ...BY_PROTOCOL],
  },
  { kind: 'ClusterNetworkPolicy', pods: EIGHT, cases: CLUSTER },
]
