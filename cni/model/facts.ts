/**
 * What policy needs to know of a cluster's objects, whatever source told it: the API server, a file, another
 * store. A source fills these; policy reads them and knows no source.
 */
import type { Labels } from './labels.ts'

export interface NamespaceFacts {
  name: string
  /** With `kubernetes.io/metadata.name`, which the API server gives every namespace. */
  labels: Labels
}

/** A container's port that has a name. */
export interface NamedPort {
  name: string
  protocol: 'TCP' | 'UDP' | 'SCTP'
  port: number
}

export interface PodFacts {
  namespace: string
  name: string
  labels: Labels
  /** Canonical text, at most one of a family. */
  addresses: readonly string[]
  /** Name of its node; absent: not known. */
  node?: string
  ports: readonly NamedPort[]
  serviceAccount: string
  /** It has the node's network: its packets are the node's, and no policy selects it. */
  hostNetwork: boolean
}

export interface NodeFacts {
  name: string
  labels: Labels
  /** Canonical text. */
  addresses: readonly string[]
}

/** The label that names a namespace ("Automatic labelling" of Kubernetes' documentation). */
export const NAMESPACE_NAME_LABEL = 'kubernetes.io/metadata.name'

/** `namespace/name`: what names a pod, or a policy, among those of all namespaces. */
export function qualified({ namespace, name }: { namespace: string; name: string }): string {
  return `${namespace}/${name}`
}
