/**
 * Policies, namespaces, pods and nodes from a folder of manifests, as `kubectl get -o yaml` prints them. A folder is
 * taken whole or not at all: one wrong line could open what another closes. Objects of other kinds are passed over.
 */
import { isIP } from 'node:net'
import { z } from 'zod'
import { ipWords, wordsToIp } from '../../dataplane/addresses.ts'
import { clean, DocumentError, fieldPath, problemsOf } from '../base/document.ts'
import { type Manifest, readManifests } from '../base/manifests.ts'
import { clusterNetworkPolicySpec } from '../model/cluster-network-policy.ts'
import {
  NAMESPACE_NAME_LABEL,
  type NamespaceFacts,
  type NodeFacts,
  type PodFacts,
} from '../model/facts.ts'
import { globalPolicySpec } from '../model/global-policy.ts'
import { labelsSchema } from '../model/labels.ts'
import { networkPolicySpec, PROTOCOLS } from '../model/network-policy.ts'
import { type Remark, type RemarkedNode, remarksOn } from './remarks.ts'
import { type Policy, type PolicyWorld, policyText } from './sources.ts'

const name = z.string().min(1).max(253)
const metadata = z.looseObject({
  name,
  namespace: name.default('default'),
  labels: labelsSchema.nullish().transform(labels => labels ?? {}),
})
const address = z.string().transform((text, context) => {
  const found = canonical(text)
  if (found !== undefined) return found
  context.addIssue({ code: 'custom', message: `${clean(text)}: not an address`, input: text })
  return z.NEVER
})

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
  status: z
    .looseObject({
      phase: z.string().optional(),
      podIPs: z.array(z.looseObject({ ip: address })).optional(),
    })
    .nullish(),
})
const ENDED: ReadonlySet<string> = new Set(['Succeeded', 'Failed'])
const networkPolicy = z.looseObject({ metadata, spec: networkPolicySpec })
const clusterNetworkPolicy = z.looseObject({ metadata, spec: clusterNetworkPolicySpec })
const globalPolicy = z.looseObject({ metadata, spec: globalPolicySpec })

/** A world, and what there is to say about it. `where` names the file and the line of each remark. */
export interface PolicyFiles {
  world: PolicyWorld
  remarks: readonly (Remark & { where: string })[]
  /** What the world was made from: `policiesIn` makes the same of it. */
  objects: readonly unknown[]
}

/** What an object says. */
type Fact =
  | { is: 'namespace'; fact: NamespaceFacts }
  | { is: 'node'; fact: NodeFacts }
  | { is: 'pod'; fact: PodFacts }
  | { is: 'policy'; fact: Policy }

/** Reads a folder. Throws DocumentError with file, line, field and cause. */
export function readPolicies(folder: string, on?: RemarkedNode): PolicyFiles {
  return policiesIn(readManifests(folder), on)
}

/** The same of manifests that were read already; one that is given again is not checked anew. */
export function policiesIn(manifests: readonly Manifest[], on?: RemarkedNode): PolicyFiles {
  const namespaces: NamespaceFacts[] = []
  const nodes: NodeFacts[] = []
  const pods: PodFacts[] = []
  const policies: Policy[] = []
  const objects: unknown[] = []
  const from = new Map<string, Manifest>()
  for (const manifest of manifests) {
    const found = factOf(manifest)
    if (found === undefined) continue
    objects.push(manifest.object)
    if (found.is === 'namespace') namespaces.push(found.fact)
    else if (found.is === 'node') nodes.push(found.fact)
    else if (found.is === 'pod') pods.push(found.fact)
    else {
      const name = policyText(found.fact)
      const before = from.get(name)
      if (before !== undefined) {
        const cause = `${name} is in ${before.file}:${before.line([])}, too`
        refuse(manifest, [{ path: ['metadata', 'name'], cause }])
      }
      from.set(name, manifest)
      policies.push(found.fact)
    }
  }
  const world = { namespaces, nodes, pods, policies }
  const remarks = remarksOn(world, on).map(remark => {
    const manifest = from.get(remark.policy)!
    const path = ['spec', ...remark.path]
    if (remark.level === 'error') refuse(manifest, [{ path, cause: remark.text }])
    return { ...remark, where: `${manifest.file}:${manifest.line(path)}` }
  })
  return { world, remarks, objects }
}

const known = new WeakMap<Manifest, Fact>()

function factOf(manifest: Manifest): Fact | undefined {
  const before = known.get(manifest)
  if (before !== undefined) return before
  const found = newFactOf(manifest)
  if (found !== undefined) known.set(manifest, found)
  return found
}

function newFactOf(manifest: Manifest): Fact | undefined {
  const { apiVersion, kind } = (manifest.object ?? {}) as { apiVersion?: string; kind?: string }
  switch (`${apiVersion} ${kind}`) {
    case 'v1 Namespace': {
      const { metadata: its } = take(namespaceSchema, manifest)
      const labels = { ...its.labels, [NAMESPACE_NAME_LABEL]: its.name }
      return { is: 'namespace', fact: { name: its.name, labels } }
    }
    case 'v1 Node':
      return { is: 'node', fact: nodeOf(take(nodeSchema, manifest)) }
    case 'v1 Pod':
      return { is: 'pod', fact: podOf(take(podSchema, manifest)) }
    case 'networking.k8s.io/v1 NetworkPolicy': {
      const { metadata: its, spec } = take(networkPolicy, manifest)
      const { namespace, name } = its
      return { is: 'policy', fact: { kind: 'NetworkPolicy', namespace, name, spec } }
    }
    case 'policy.networking.k8s.io/v1alpha2 ClusterNetworkPolicy':
    case 'policy.networking.k8s.io/v1beta1 ClusterNetworkPolicy': {
      const { metadata: its, spec } = take(clusterNetworkPolicy, manifest)
      return { is: 'policy', fact: { kind: 'ClusterNetworkPolicy', name: its.name, spec } }
    }
    case 'hawser.dev/v1 GlobalPolicy': {
      const { metadata: its, spec } = take(globalPolicy, manifest)
      return { is: 'policy', fact: { kind: 'GlobalPolicy', name: its.name, spec } }
    }
    default:
      return undefined
  }
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
  // A host name is among them, too.
  const addresses = (status?.addresses ?? [])
    .map(each => canonical(each.address))
    .filter(text => text !== undefined)
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
    // One that has ended keeps the addresses that it had, while others get them.
    addresses: ENDED.has(status?.phase ?? '') ? [] : (status?.podIPs ?? []).map(({ ip }) => ip),
    ...(spec?.nodeName === undefined ? {} : { node: spec.nodeName }),
    ports,
    serviceAccount: spec?.serviceAccountName ?? 'default',
    hostNetwork: spec?.hostNetwork ?? false,
  }
}

/** An address as everybody writes it; undefined for what is none, or is one of a link only (with a zone). */
function canonical(text: string): string | undefined {
  return isIP(text) === 0 || text.includes('%') ? undefined : wordsToIp(ipWords(text))
}

/** `file:line: field: text`. */
export function remarkText({ where, path, text }: Remark & { where: string }): string {
  return `${where}: ${fieldPath(['spec', ...path])}: ${text}`
}
