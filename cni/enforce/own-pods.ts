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
 * Those that policy is for: each interface in the cluster's own network. A pod's further ones there have the same policy and
 * identity as its first: they would lead around it else.
 */
export function ownPods(rows: readonly Attachment[]): OwnPod[] {
  return rows.flatMap(row => {
    const { overlay, pod, ip4, ip6 } = row
    if (overlay !== undefined) return []
    const [namespace = '', name = ''] = pod.split('/').map(part => (part === '-' ? '' : part))
    const addresses = [ip4, ip6].filter(address => address !== undefined)
    return [{ id: attachmentId(row), namespace, name, addresses }]
  })
}
