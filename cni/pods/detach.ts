/** DEL of a pod: further interfaces, the engine's way and the interface, the row, an IPAM plugin's DEL (pods.ts). */
import { hasInterface } from '../../dataplane/netns.ts'
import { faultPoint } from '../base/fault-points.ts'
import type { DelegateCall } from '../invoke/exec.ts'
import { giveBack } from '../ipam/delegations.ts'
import { removeSecondaries } from '../secondary/interfaces.ts'
import { CniError, CODE } from '../spec/errors.ts'
import {
  type Attachment,
  type AttachmentKey,
  attachmentId,
  isStateFailure,
} from '../state/state.ts'
import { look } from './namespace.ts'
import type { PodsContext } from './parts.ts'
import { podSpec } from './pod-spec.ts'

/** `Pods.remove`. */
export async function remove(
  context: PodsContext,
  key: AttachmentKey,
  asked?: DelegateCall,
  late?: AbortSignal,
): Promise<void> {
  faultPoint('del.begun')
  const [further] = await Promise.allSettled([undoFurther(context, key, late)])
  await letGo(context, key)
  faultPoint('del.released')
  await giveBack(context, key, asked, late)
  if (further.status === 'rejected') throw further.reason
}

/** Undoes the further interfaces of an attachment, those of our own with it. */
export async function undoFurther(
  context: PodsContext,
  key: AttachmentKey,
  late?: AbortSignal,
): Promise<void> {
  const own = (inner: AttachmentKey, held?: AbortSignal): Promise<void> =>
    remove(context, inner, undefined, held)
  await removeSecondaries(context, key, own, late)
}

/**
 * All but further interfaces and what an IPAM plugin has given. Throws CniError (code 5) when the engine can't; when
 * only the row can't be removed, that is left to `collect`.
 */
export async function letGo(context: PodsContext, key: AttachmentKey): Promise<void> {
  const { plane, state, ports, troubles, missed } = context
  const id = attachmentId(key)
  const known = state.get(key)
  const served = plane.pods().some(pod => pod.id === id)
  try {
    if (!served && known !== undefined) await takeOver(context, known)
    await ports.close(id)
    faultPoint('del.unmapped')
    await plane.detach(id)
    faultPoint('del.detached')
    release(context, key, known)
  } catch (error) {
    throw new CniError(CODE.io, `${id}: ${(error as Error).message}`, '', { cause: error })
  }
  troubles.delete(id)
  missed.delete(id)
}

function release(
  { state, gone, log, policies }: PodsContext,
  key: AttachmentKey,
  known?: Attachment,
): void {
  const id = attachmentId(key)
  try {
    state.release(key)
    policies?.changed()
    gone.delete(id)
  } catch (error) {
    if (!isStateFailure(error) || known === undefined) throw error
    gone.set(id, known.created)
    log.error(
      { attachment: id, cause: error.message },
      'it is gone, but its row can not be removed; its addresses stay reserved until it can',
    )
  }
}

/** An interface that an earlier daemon made and this one doesn't serve can only go by way of it. */
async function takeOver({ plane, log, policies }: PodsContext, known: Attachment): Promise<void> {
  if (look(known) === 'gone' || !hasInterfaceOf(known)) return
  try {
    await plane.attach(podSpec(known, policies?.of(known)), { adopt: true })
  } catch (error) {
    const cause = (error as Error).message
    const facts = { attachment: attachmentId(known), cause }
    log.warn(facts, 'the interface stays behind; it goes with its namespace')
  }
}

/** Whether an attachment's interface is there, as far as its namespace can be looked into. */
export function hasInterfaceOf({ netns, ifname }: Attachment): boolean {
  try {
    return hasInterface(netns, ifname)
  } catch {
    return false
  }
}
