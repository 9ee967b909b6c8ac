/**
 * STATUS: whether the node serves pods (specification 1.1.0, "STATUS"). Code 50 when not; 51 when
 * pods that run are hurt as well. (Without a daemon the executable answers 50.)
 *
 * What only keeps new pods from starting is none of that: no address left, an IPAM plugin or one of a
 * further interface that is missing, full or refuses, a cluster file that can't be used while the last good
 * one is in force. An ADD says it, `hawser status` and metrics do, but STATUS succeeds: a node that
 * fails it has its running pods moved away. The plugins are asked all the same, and what they say is kept
 * for `hawser status`.
 *
 * A STATUS that fails takes the whole node out of service: no new pod comes, and those that run are moved
 * away. So a pod that runs (its namespace is there) and could not be restored makes it 51 while that
 * may still come right, TRIES times, some four minutes. After that it is that pod's own trouble, which
 * `hawser status` and metrics go on telling: it makes 51 of a 50, but nothing of a success. Unless
 * there are several, and no pod of the node is served at all: then it is the node that is broken.
 */

import { callDelegate } from '../invoke/exec.ts'
import { poolsFor } from '../ipam/pools.ts'
import type { Node } from '../pods/node.ts'
import { networksIn } from '../secondary/config.ts'
import { remarkOf, statusOfSecondaries } from '../secondary/verbs.ts'
import { CniError, CODE } from '../spec/errors.ts'
import { delegateOf, parseJson, parseStatus } from '../spec/netconf.ts'
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
  if (missing.length > 0) {
    const code = lasting.length > 0 ? CODE.limited : CODE.notAvailable
    throw new CniError(code, [...missing, ...lasting].join('; '))
  }
  // Looked at before any plugin is asked: a configuration that can't be meant is nobody's trouble but its own.
  if (type === undefined) poolsFor(node, config)
  const own = type === undefined ? [] : [askIpam(node, request, type)]
  const further = statusOfSecondaries(node, networks, request, inner =>
    status(node, parseJson(inner.config), inner),
  )
  const remarks = (await Promise.all([...own, further])).flat()
  remember(node, config.name, remarks)
  return undefined
}

/** What an IPAM plugin says against its STATUS, if anything. Throws CniError (code 7) for a name that is none. */
async function askIpam(node: Node, request: CniRequest, type: string): Promise<string[]> {
  try {
    await callDelegate({ ...request, type }, node.log, node.stopping)
    return []
  } catch (error) {
    return remarkOf(error)
  }
}

/** Networks whose plugins' remarks are kept. */
const MAX_REMARKED = 64

/** Keeps what the plugins of a network said last; something new is logged. */
function remember({ remarks: kept, log }: Node, network: string, remarks: string[]): void {
  const before = kept?.get(network)?.join('; ') ?? ''
  const now = remarks.join('; ')
  if (now !== before && now !== '') log.warn({ network, cause: now }, 'a plugin refuses its STATUS')
  if (now === '') kept?.delete(network)
  else if (kept !== undefined && (kept.size < MAX_REMARKED || kept.has(network))) {
    kept.set(network, remarks)
  }
}

/** For `hawser status --ready`. */
export interface Readiness {
  ready: boolean
  /** Why not. */
  causes: readonly string[]
}

/**
 * Whether the daemon does its part of an ADD: STATUS without addresses and other plugins. A node
 * whose addresses are all in use is full, not broken; its daemon is ready. When it installs itself, that
 * must stand: without it no runtime asks.
 */
export function readiness(node: Node): Readiness {
  const problem = node.installation?.().problem
  const causes = [
    ...cannotServe(node),
    ...(problem === undefined ? [] : [`installing: ${problem}`]),
  ]
  return { ready: causes.length === 0, causes }
}

/** Why an ADD that needs no address and no other plugin would fail; empty when it would not. */
export function cannotServe(node: Node): string[] {
  const { hurt, missing } = findings(node)
  return [...hurt, ...missing]
}

interface Findings {
  /** Why an ADD would fail: with pods that run hurt by it, or they alone; and else. */
  hurt: string[]
  missing: string[]
  /** Pods that run and are hurt, and that don't keep others away. */
  lasting: string[]
}

function findings(node: Node): Findings {
  const { ready, notes, troubles, workers, pods } = node.plane.status()
  const { passing: hurt, lasting } = node.pods.hurting()
  if (pods === 0 && lasting.length > 1) hurt.push(...lasting.splice(0))
  const blocking = troubles.filter(trouble => trouble.blocking)
  hurt.push(...blocking.map(({ what, since }) => `${what} (since ${since})`))
  // What else may speak against it stands among the notes.
  if (!ready && blocking.length === 0) {
    hurt.push(`the packet engine is not ready: ${notes.join('; ')}`)
  }
  const missing: string[] = node.policy?.causes() ?? []
  if (workers.length > 0 && workers.every(worker => worker.smallFree === 0)) {
    missing.push('no packet frame is left')
  }
  const unwritable = node.state.unwritable()
  if (unwritable !== undefined) missing.push(`the state file ${unwritable}`)
  return { hurt, missing, lasting }
}
