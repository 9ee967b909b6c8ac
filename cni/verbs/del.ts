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
import { type AttachmentKey, attachmentId } from '../state/state.ts'

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
  // Nobody waits for one that was queued.
  const turn = queuedAt === undefined ? 'run' : 'unasked'
  await node.turns[turn](attachmentId(key), async late => {
    if (isLater(node, key, queuedAt)) return
    await node.pods.remove(key, type === undefined ? undefined : { type, env, config }, late)
  })
  faultPoint('del.answer')
  return undefined
}

/** Whether what is attached was asked for after the DEL. */
function isLater({ state }: Node, key: AttachmentKey, queuedAt: number | undefined): boolean {
  const created = state.get(key)?.created
  return queuedAt !== undefined && created !== undefined && created > queuedAt
}

/**
 * Of a queued DEL that needs other plugins what needs none: the pod's way and interface go, and the row. False, and
 * nothing is done, for one that needs none at all: that is `del`'s. Throws CniError.
 */
export async function letGoQueued(
  node: Node,
  args: CniArgs,
  document: unknown,
  queuedAt: number,
): Promise<boolean> {
  const { name } = parseDel(document)
  const key = { network: name, containerId: args.containerId, ifname: args.ifname }
  const { state } = node
  const kept = state.delegation(key) !== undefined || state.secondaries(key).length > 0
  if (!kept && delegateIn(document) === undefined) return false
  await node.turns.run(attachmentId(key), async () => {
    if (!isLater(node, key, queuedAt)) await node.pods.letGo(key)
  })
  return true
}
