/**
 * STATUS: whether an ADD would be served (specification 1.1.0, "STATUS"). Code 50 when not; 51 when
 * pods that run are hurt as well. (Without a daemon the executable answers 50.)
 */
import { CniError, CODE } from '../errors.ts'
import { exhausted } from '../ipam.ts'
import { parseStatus } from '../netconf.ts'
import type { Node } from './index.ts'

export function status(node: Node, document: unknown): undefined {
  parseStatus(document)
  const { ready, notes, workers } = node.plane.status()
  const hurt = [...node.pods.troubles].map(([id, cause]) => `pod ${id} is not restored: ${cause}`)
  if (!ready) hurt.push(`the packet engine is not ready: ${notes.join('; ')}`)
  if (hurt.length > 0) throw new CniError(CODE.limited, hurt.join('; '))
  const missing = exhausted(node.state, node.podCidrs()).map(cidr => `no address left in ${cidr}`)
  if (workers.length > 0 && workers.every(worker => worker.smallFree === 0)) {
    missing.push('no packet frame is left')
  }
  const unsynced = node.outOfSync()
  if (unsynced !== undefined) missing.push(`not in sync with the cluster: ${unsynced}`)
  if (missing.length > 0) throw new CniError(CODE.notAvailable, missing.join('; '))
  return undefined
}
