/**
 * STATUS: whether an ADD would be served (specification 1.1.0, "STATUS"). Code 50 when not; 51 when
 * pods that run are hurt as well. (Without a daemon the executable answers 50.) Of addresses an IPAM
 * plugin speaks for itself, and the plugins of further interfaces for theirs, when all else is well.
 *
 * A STATUS that fails takes the whole node out of service: no new pod comes, and those that run are moved
 * away. So a pod that runs (its namespace is there) and could not be restored makes it 51 while that
 * may still come right, TRIES times, some four minutes. After that it is that pod's own trouble, which
 * `hawser status` and metrics go on telling: it makes 51 of a 50, but nothing of a success. Unless
 * there are several, and no pod of the node is served at all: then it is the node that is broken.
 */

import { callDelegate } from '../invoke/exec.ts'
import { exhausted } from '../ipam/allocator.ts'
import { poolsFor } from '../ipam/pools.ts'
import type { Node } from '../pods/node.ts'
import { networksIn } from '../secondary/config.ts'
import { statusOfSecondaries } from '../secondary/verbs.ts'
import { CniError, CODE } from '../spec/errors.ts'
import { delegateOf, parseJson, parseStatus, type StatusConfig } from '../spec/netconf.ts'
import type { CniRequest } from '../spec/request.ts'

export async function status(
  node: Node,
  document: unknown,
  request: CniRequest,
): Promise<undefined> {
  const config = parseStatus(document)
  const type = delegateOf(config)
  const networks = networksIn(document, config.cniVersion)
  const { hurt, lasting, missing } = findings(node)
  if (hurt.length > 0) throw new CniError(CODE.limited, hurt.join('; '))
  if (type === undefined) missing.unshift(...noAddress(node, config))
  if (missing.length > 0) {
    const code = lasting.length > 0 ? CODE.limited : CODE.notAvailable
    throw new CniError(code, [...missing, ...lasting].join('; '))
  }
  if (type !== undefined) await callDelegate({ ...request, type }, node.log, node.stopping)
  await statusOfSecondaries(node, networks, request, inner =>
    status(node, parseJson(inner.config), inner),
  )
  return undefined
}

/** For `hawser status --ready`. */
export interface Readiness {
  ready: boolean
  /** Why not. */
  causes: readonly string[]
}

/**
 * Whether the daemon does its part of an ADD: STATUS without addresses and other plugins. A node
 * whose addresses are all in use is full, not broken; its daemon is ready.
 */
export function readiness(node: Node): Readiness {
  const { hurt, missing } = findings(node)
  const causes = [...hurt, ...missing]
  return { ready: causes.length === 0, causes }
}

interface Findings {
  /** Why an ADD would fail: with pods that run hurt by it, or they alone; and else. */
  hurt: string[]
  missing: string[]
  /** Pods that run and are hurt, and that don't keep others away. */
  lasting: string[]
}

function findings(node: Node): Findings {
  const { ready, notes, workers, pods } = node.plane.status()
  const { passing: hurt, lasting } = node.pods.hurting()
  if (pods === 0 && lasting.length > 1) hurt.push(...lasting.splice(0))
  if (!ready) hurt.push(`the packet engine is not ready: ${notes.join('; ')}`)
  const missing: string[] = []
  if (workers.length > 0 && workers.every(worker => worker.smallFree === 0)) {
    missing.push('no packet frame is left')
  }
  const unsynced = node.outOfSync()
  if (unsynced !== undefined) missing.push(`not in sync with the cluster: ${unsynced}`)
  return { hurt, missing, lasting }
}

function noAddress(node: Node, config: StatusConfig): string[] {
  const pools = poolsFor(node, config)
  return exhausted(node.state, pools).map(pool => `no address left in ${pool}`)
}
