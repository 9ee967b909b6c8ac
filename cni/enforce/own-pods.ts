/** The pods of this node, as its state knows them, whatever files say. */
import { attachmentId } from '../spec/attachment.ts'
import type { Attachment } from '../state/rows.ts'

export interface OwnPod {
  /** Of its attachment. */
  id: string
  /** Empty when the runtime didn't say. */
  namespace: string
  name: string
  addresses: readonly string[]
}

/**
 * Those that policy is for: the first interface in the cluster's own network of each. `rows`: the
 * oldest first, as the state lists them.
 */
export function ownPods(rows: readonly Attachment[]): OwnPod[] {
  const seen = new Set<string>()
  return rows.flatMap(row => {
    const { containerId, overlay, runtime, pod, ip4, ip6 } = row
    if (overlay !== undefined || runtime?.further !== undefined || seen.has(containerId)) return []
    seen.add(containerId)
    const [namespace = '', name = ''] = pod.split('/').map(part => (part === '-' ? '' : part))
    const addresses = [ip4, ip6].filter(address => address !== undefined)
    return [{ id: attachmentId(row), namespace, name, addresses }]
  })
}
