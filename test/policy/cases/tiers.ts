/** ClusterNetworkPolicy: several policies, and NetworkPolicy between the tiers. */
import { type Case, clusterPolicy, type Line, type Manifest, no, tcp, yes } from '../world.ts'
import { both, namespaces, ns, rules, W } from './cluster-rules.ts'

const toAndFromY = (action: string, egressAction = action) => ({
  ingress: rules(action, namespaces('y')).ingress,
  egress: rules(egressAction, namespaces('y')).egress,
})

export const PRIORITY: Case = {
  name: 'Admin: the lower priority comes first',
  steps: [60, 40].map(priority => ({
    policies: () => [
      clusterPolicy('deny', 'Admin', 50, W, toAndFromY('Deny')),
      clusterPolicy('pass', 'Admin', priority, W, toAndFromY('Pass')),
      clusterPolicy('accept', 'Baseline', 10, W, toAndFromY('Accept')),
    ],
    tables: [tcp(80, ...(priority === 60 ? both(no('w/*', 'y/*')) : []))],
  })),
}

const NETWORK_POLICY: Manifest = {
  ...{ apiVersion: 'networking.k8s.io/v1', kind: 'NetworkPolicy' },
  metadata: { name: 'y-alone', namespace: 'w' },
  spec: {
    ...{ podSelector: {}, policyTypes: ['Ingress', 'Egress'] },
    ingress: [{ from: [{ namespaceSelector: ns('y') }] }],
    egress: [{ to: [{ namespaceSelector: ns('y') }] }],
  },
}

export const TOGETHER: Case = {
  name: 'Admin, NetworkPolicy and Baseline',
  steps: [
    step('Deny', 'Deny', [NETWORK_POLICY], ...isolated()),
    step('Pass', 'Deny', [NETWORK_POLICY], ...isolated(), yes('y/*', 'w/*')),
    step('Pass', 'Pass', [NETWORK_POLICY], ...isolated(), ...both(yes('y/*', 'w/*'))),
    step('Pass', 'Pass', [], ...both(no('y/*', 'w/*'))),
  ],
}

function isolated(): Line[] {
  return both(no('*', 'w/*'))
}

function step(ingress: string, egress: string, more: Manifest[], ...lines: Line[]) {
  return {
    policies: () => [
      clusterPolicy('admin', 'Admin', 10, W, toAndFromY(ingress, egress)),
      clusterPolicy('baseline', 'Baseline', 10, W, toAndFromY('Deny')),
      ...more,
    ],
    tables: [tcp(80, ...lines), tcp(81, ...lines)],
  }
}
