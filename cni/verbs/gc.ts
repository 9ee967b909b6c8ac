/**
 * GC: removes attachments of this network that the runtime doesn't know (specification 1.1.0,
 * "GC"). Without the list nothing is stale; with an empty one all are. An ADD that is not answered
 * yet can't be in the list and is left alone. Those that are further interfaces
 * of another attachment go with that one. The plugins of further interfaces are told which are left;
 * an IPAM plugin is asked last, with the same list.
 */

import { callDelegate } from '../invoke/exec.ts'
import type { Node } from '../pods/node.ts'
import { networksIn } from '../secondary/config.ts'
import { ownersOf } from '../secondary/interfaces.ts'
import { collectSecondaries } from '../secondary/verbs.ts'
import { CniError, CODE } from '../spec/errors.ts'
import { delegateOf, parseGc } from '../spec/netconf.ts'
import type { CniRequest } from '../spec/request.ts'
import { attachmentId } from '../state/state.ts'

export async function gc(node: Node, document: unknown, request: CniRequest): Promise<undefined> {
  const config = parseGc(document)
  const type = delegateOf(config)
  const networks = networksIn(document, config.cniVersion)
  const valid = config['cni.dev/valid-attachments']
  if (valid == null) return undefined
  const network = config.name
  const known = new Set(
    valid.map(({ containerID, ifname }) =>
      attachmentId({ network, containerId: containerID, ifname }),
    ),
  )
  const owners = ownersOf(node.state)
  const stale = node.state
    .list()
    .filter(each => each.network === network && each.phase === 'attached')
    .filter(each => !known.has(attachmentId(each)) && !owners.has(attachmentId(each)))
  const results = await Promise.allSettled(
    stale.map(each =>
      node.turns.run(attachmentId(each), async () => {
        // What was added again since the list was made is not stale.
        if (node.state.get(each)?.created === each.created) await node.pods.remove(each)
      }),
    ),
  )
  const failures = results.filter(result => result.status === 'rejected')
  if (failures.length > 0) {
    const causes = failures.slice(0, 5).map(({ reason }) => (reason as Error).message)
    throw new CniError(CODE.io, `${failures.length} of ${stale.length} stale: ${causes.join('; ')}`)
  }
  await collectSecondaries(node, networks, request)
  if (type !== undefined) await callDelegate({ ...request, type }, node.log, node.stopping)
  return undefined
}
