/**
 * Kubernetes namespaces that a network or a range is for. Which namespace a pod is of, the runtime says
 * (K8S_POD_NAMESPACE in CNI_ARGS), not the pod: its author can't choose another one.
 */
import { z } from 'zod'

/** Namespaces of one network or range, at most. */
const MAX_NAMESPACES = 1024

/** Names as Kubernetes has them (RFC 1123 labels); absent: all namespaces. */
export const namespacesSchema = z
  .array(
    z
      .string()
      .max(63)
      .regex(/^[a-z0-9](?:[-a-z0-9]*[a-z0-9])?$/, { error: 'not the name of a namespace' }),
  )
  .min(1)
  .max(MAX_NAMESPACES)
  .nullish()

/** For people: which namespace a pod is of. */
export function inNamespace(namespace: string): string {
  return namespace === '' ? 'a pod whose namespace is not known' : `pods of namespace ${namespace}`
}
