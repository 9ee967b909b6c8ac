/** The pods of this node, as its state knows them, whatever files say. */
import type { Labels } from '../model/labels.ts'
import { attachmentId } from '../spec/attachment.ts'
import type { Attachment } from '../state/rows.ts'

export interface OwnPod {
  /** Of its attachment. */
  id: string
  /** Empty when the runtime didn't say. */
  namespace: string
  name: string
  /** As its annotations tell; files know better. */
  labels: Labels
  addresses: readonly string[]
}

/**
 * Those that policy is for: each interface in the cluster's own network. A pod's further ones there have the same policy and
 * identity as its first: they would lead around it else.
 */
export function ownPods(rows: readonly Attachment[]): OwnPod[] {
  const labels = new Map<string, Labels>()
  for (const { containerId, runtime } of rows) {
    if (runtime?.labels !== undefined && !labels.has(containerId)) {
      labels.set(containerId, runtime.labels)
    }
  }
  return rows.flatMap(row => {
    const { overlay, pod, ip4, ip6 } = row
    if (overlay !== undefined) return []
    const [namespace = '', name = ''] = pod.split('/').map(part => (part === '-' ? '' : part))
    const addresses = [ip4, ip6].filter(address => address !== undefined)
    const own = labels.get(row.containerId) ?? {}
    return [{ id: attachmentId(row), namespace, name, labels: own, addresses }]
  })
}
