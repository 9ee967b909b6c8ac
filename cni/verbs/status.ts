/**
 * STATUS: whether an ADD would be served (specification 1.1.0, "STATUS"). Code 50 when not; 51 when
 * pods that run are hurt as well. (Without a daemon the executable answers 50.) Of addresses an IPAM
 * plugin speaks for itself, when all else is well.
 */
import { callDelegate } from '../delegate.ts'
import { CniError, CODE } from '../errors.ts'
import { exhausted } from '../ipam.ts'
import { delegateOf, parseStatus, type StatusConfig } from '../netconf.ts'
import type { CniRequest } from '../protocol.ts'
import type { Node } from './index.ts'
import { poolsFor } from './pools.ts'

export async function status(
  node: Node,
  document: unknown,
  request: CniRequest,
): Promise<undefined> {
  const config = parseStatus(document)
  const type = delegateOf(config)
  const { ready, notes, workers } = node.plane.status()
  const hurt = [...node.pods.troubles].map(([id, cause]) => `pod ${id} is not restored: ${cause}`)
  if (!ready) hurt.push(`the packet engine is not ready: ${notes.join('; ')}`)
  if (hurt.length > 0) throw new CniError(CODE.limited, hurt.join('; '))
  const missing = type === undefined ? noAddress(node, config) : []
  if (workers.length > 0 && workers.every(worker => worker.smallFree === 0)) {
    missing.push('no packet frame is left')
  }
  const unsynced = node.outOfSync()
  if (unsynced !== undefined) missing.push(`not in sync with the cluster: ${unsynced}`)
  if (missing.length > 0) throw new CniError(CODE.notAvailable, missing.join('; '))
  if (type !== undefined) await callDelegate({ ...request, type }, node.log, node.stopping)
  return undefined
}

function noAddress(node: Node, { name, ipam }: StatusConfig): string[] {
  const pools = poolsFor(node, name, ipam)
  return exhausted(node.state, pools).map(pool => `no address left in ${pool}`)
}
