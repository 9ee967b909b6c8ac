/**
 * A cluster of 400 pods and 1,000 policies of 12 or 13 rules, as the compiler is given it and as files say it. Each
 * namespace has 25 of the policies, and each is for all of its pods.
 */
import { networkPolicySpec } from '../../cni/model/network-policy.ts'
import type { PolicyWorld } from '../../cni/policy/sources.ts'

const NAMESPACES = Array.from({ length: 40 }, (_, n) => ({
  name: `ns${n}`,
  labels: { team: `t${n % 7}` },
}))
const PODS = NAMESPACES.flatMap(({ name: namespace }, n) =>
  Array.from({ length: 10 }, (_, k) => ({
    ...{ namespace, name: `p${k}`, labels: { app: `a${k}` } },
    address: `10.${100 + n}.0.${k + 1}`,
  })),
)
const POLICIES = 1000

/** `changed`: a policy of `ns0` is another one with each number. */
function policies(changed: number) {
  return Array.from({ length: POLICIES }, (_, n) => ({
    ...{ namespace: `ns${n % NAMESPACES.length}`, name: `policy${n}` },
    spec: {
      podSelector: {},
      policyTypes: ['Egress'],
      egress: Array.from({ length: n % 2 === 0 ? 12 : 13 }, (_, r) => ({
        to: [
          {
            namespaceSelector: { matchLabels: { team: `t${(n + r) % 7}` } },
            podSelector: { matchLabels: { app: `a${r % 10}` } },
          },
        ],
        ports: [
          { protocol: 'TCP', port: 1000 + ((n * 13 + r + (n === 0 ? changed : 0)) % 50_000) },
        ],
      })),
    },
  }))
}

export function cluster(changed: number): PolicyWorld {
  return {
    namespaces: NAMESPACES.map(({ name, labels }) => ({
      name,
      labels: { 'kubernetes.io/metadata.name': name, ...labels },
    })),
    pods: PODS.map(({ address, ...pod }) => ({
      ...{ ...pod, addresses: [address], ports: [] },
      ...{ serviceAccount: 'default', hostNetwork: false },
    })),
    nodes: [],
    policies: policies(changed).map(({ spec, ...named }) => ({
      ...{ kind: 'NetworkPolicy', ...named, spec: networkPolicySpec.parse(spec) },
    })),
  }
}

/** Manifests of the same, a file each: its name without an ending, and its objects. */
export function manifests(): Map<string, object[]> {
  const v1 = { apiVersion: 'v1' }
  const files = new Map<string, object[]>()
  files.set(
    'namespaces',
    NAMESPACES.map(metadata => ({ ...v1, kind: 'Namespace', metadata })),
  )
  files.set(
    'pods',
    PODS.map(({ address, ...metadata }) => ({
      ...{ ...v1, kind: 'Pod', metadata },
      status: { podIPs: [{ ip: address }] },
    })),
  )
  for (const { namespace, name, spec } of policies(0)) {
    files.set(name, [networkPolicy(namespace, name, spec)])
  }
  return files
}

export function networkPolicy(namespace: string, name: string, spec: object): object {
  const metadata = { namespace, name }
  return { apiVersion: 'networking.k8s.io/v1', kind: 'NetworkPolicy', metadata, spec }
}
