/**
 * Policies, namespaces, pods and nodes from a folder of manifests, as `kubectl get -o yaml` prints them. A folder is
 * taken whole or not at all: one wrong line could open what another closes. Objects of other kinds are passed over.
 */
import { isIP } from 'node:net'
import { z } from 'zod'
import { DocumentError, fieldPath, problemsOf } from '../base/document.ts'
import { type Manifest, readManifests } from '../base/manifests.ts'
import { clusterNetworkPolicySpec } from '../model/cluster-network-policy.ts'
import {
  NAMESPACE_NAME_LABEL,
  type NamespaceFacts,
  type NodeFacts,
  type PodFacts,
} from '../model/facts.ts'
import { labelsSchema } from '../model/labels.ts'
import { networkPolicySpec, PROTOCOLS } from '../model/network-policy.ts'
import { type Remark, remarksOn } from './remarks.ts'
import { type Policy, type PolicyWorld, policyText } from './sources.ts'

const name = z.string().min(1).max(253)
const metadata = z.looseObject({
  name,
  namespace: name.default('default'),
  labels: labelsSchema.nullish().transform(labels => labels ?? {}),
})
const address = z.string().refine(text => isIP(text) !== 0, { error: 'not an address' })

const namespaceSchema = z.looseObject({ metadata })
const nodeSchema = z.looseObject({
  metadata,
  status: z
    .looseObject({
      addresses: z.array(z.looseObject({ type: z.string(), address: z.string() })).optional(),
    })
    .nullish(),
})
const podSchema = z.looseObject({
  metadata,
  spec: z
    .looseObject({
      nodeName: z.string().optional(),
      hostNetwork: z.boolean().optional(),
      serviceAccountName: z.string().optional(),
      containers: z
        .array(
          z.looseObject({
            ports: z
              .array(
                z.looseObject({
                  name: z.string().optional(),
                  protocol: z.enum(PROTOCOLS).default('TCP'),
                  containerPort: z.int().min(1).max(65_535),
                }),
              )
              .optional(),
          }),
        )
        .optional(),
    })
    .nullish(),
  status: z.looseObject({ podIPs: z.array(z.looseObject({ ip: address })).optional() }).nullish(),
})
const networkPolicy = z.looseObject({ metadata, spec: networkPolicySpec })
const clusterNetworkPolicy = z.looseObject({ metadata, spec: clusterNetworkPolicySpec })

/** A world, and what there is to say about it. `where` names the file and the line of each remark. */
export interface PolicyFiles {
  world: PolicyWorld
  remarks: readonly (Remark & { where: string })[]
}

/** Reads a folder. Throws DocumentError with file, line, field and cause. */
export function readPolicies(folder: string): PolicyFiles {
  const namespaces: NamespaceFacts[] = []
  const nodes: NodeFacts[] = []
  const pods: PodFacts[] = []
  const policies: Policy[] = []
  const from = new Map<string, Manifest>()
  const keep = (policy: Policy, manifest: Manifest): void => {
    const before = from.get(policyText(policy))
    if (before !== undefined) {
      const cause = `${policyText(policy)} is in ${before.file}:${before.line([])}, too`
      refuse(manifest, [{ path: ['metadata', 'name'], cause }])
    }
    from.set(policyText(policy), manifest)
    policies.push(policy)
  }
  for (const manifest of readManifests(folder)) {
    const { apiVersion, kind } = (manifest.object ?? {}) as { apiVersion?: string; kind?: string }
    switch (`${apiVersion} ${kind}`) {
      case 'v1 Namespace': {
        const { metadata: its } = take(namespaceSchema, manifest)
        const labels = { ...its.labels, [NAMESPACE_NAME_LABEL]: its.name }
        namespaces.push({ name: its.name, labels })
        break
      }
      case 'v1 Node':
        nodes.push(nodeOf(take(nodeSchema, manifest)))
        break
      case 'v1 Pod':
        pods.push(podOf(take(podSchema, manifest)))
        break
      case 'networking.k8s.io/v1 NetworkPolicy': {
        const { metadata: its, spec } = take(networkPolicy, manifest)
        keep({ kind: 'NetworkPolicy', namespace: its.namespace, name: its.name, spec }, manifest)
        break
      }
      case 'policy.networking.k8s.io/v1alpha2 ClusterNetworkPolicy':
      case 'policy.networking.k8s.io/v1beta1 ClusterNetworkPolicy': {
        const { metadata: its, spec } = take(clusterNetworkPolicy, manifest)
        keep({ kind: 'ClusterNetworkPolicy', name: its.name, spec }, manifest)
        break
      }
    }
  }
  const world = { namespaces, nodes, pods, policies }
  const remarks = remarksOn(world).map(remark => {
    const manifest = from.get(remark.policy)!
    const path = ['spec', ...remark.path]
    if (remark.level === 'error') refuse(manifest, [{ path, cause: remark.text }])
    return { ...remark, where: `${manifest.file}:${manifest.line(path)}` }
  })
  return { world, remarks }
}

function take<S extends z.ZodType>(schema: S, manifest: Manifest): z.output<S> {
  const result = schema.safeParse(manifest.object, { reportInput: true })
  if (result.success) return result.data
  return refuse(manifest, result.error.issues.flatMap(problemsOf))
}

function refuse(
  { file, line }: Manifest,
  problems: readonly { path: readonly PropertyKey[]; cause: string }[],
): never {
  const [first] = problems
  throw new DocumentError(
    `${file}:${line(first?.path ?? [])}`,
    problems.map(({ path, cause }) => ({ path, cause })),
  )
}

function nodeOf({ metadata: its, status }: z.output<typeof nodeSchema>): NodeFacts {
  const addresses = (status?.addresses ?? []).map(each => each.address).filter(text => isIP(text))
  return { name: its.name, labels: its.labels, addresses }
}

function podOf({ metadata: its, spec, status }: z.output<typeof podSchema>): PodFacts {
  const ports = (spec?.containers ?? []).flatMap(container =>
    (container.ports ?? []).flatMap(port =>
      port.name === undefined
        ? []
        : [{ name: port.name, protocol: port.protocol, port: port.containerPort }],
    ),
  )
  return {
    namespace: its.namespace,
    name: its.name,
    labels: its.labels,
    addresses: (status?.podIPs ?? []).map(({ ip }) => ip),
    ...(spec?.nodeName === undefined ? {} : { node: spec.nodeName }),
    ports,
    serviceAccount: spec?.serviceAccountName ?? 'default',
    hostNetwork: spec?.hostNetwork ?? false,
  }
}

/** `file:line: field: text`. */
export function remarkText({ where, path, text }: Remark & { where: string }): string {
  return `${where}: ${fieldPath(['spec', ...path])}: ${text}`
}
