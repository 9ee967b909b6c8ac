/**
 * DEL: nothing of the attachment stays, further interfaces go first and addresses last. It forgives
 * (specification 1.1.0, "DEL"): without a namespace, with a dead one, a second time, for what was never added, with
 * whatever else the configuration holds, the answer is success.
 */

import { faultPoint } from '../base/fault-points.ts'
import type { Node } from '../pods/node.ts'
import type { CniArgs } from '../spec/args.ts'
import { delegateIn, parseDel } from '../spec/netconf.ts'
import type { CniRequest } from '../spec/request.ts'
import { attachmentId } from '../state/state.ts'

/** `queuedAt`: when it was asked for, if earlier; what was added since then is not what it meant. */
export async function del(
  node: Node,
  args: CniArgs,
  document: unknown,
  { env, config }: CniRequest,
  queuedAt?: number,
): Promise<undefined> {
  const { name } = parseDel(document)
  const { containerId, ifname } = args
  const type = delegateIn(document)
  const key = { network: name, containerId, ifname }
  await node.turns.run(attachmentId(key), async late => {
    const created = node.state.get(key)?.created
    if (queuedAt !== undefined && created !== undefined && created > queuedAt) return
    await node.pods.remove(key, type === undefined ? undefined : { type, env, config }, late)
  })
  faultPoint('del.answer')
  return undefined
}
