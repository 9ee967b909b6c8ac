/**
 * What an earlier daemon, or a runtime without a DEL, has left: at start all attachments are put in
 * force again (`restoreAll`); every few minutes those that could not be are tried again, and those
 * whose namespaces are gone are removed (`collect`).
 */
import { faultPoint } from '../base/fault-points.ts'
import { giveBackOrphans as giveBackAddresses } from '../ipam/delegations.ts'
import { ownersOf } from '../secondary/interfaces.ts'
import { type Attachment, attachmentId } from '../state/state.ts'
import { letGo, remove, undoFurther } from './detach.ts'
import { look } from './namespace.ts'
import type { PodsContext } from './parts.ts'
import { podSpec } from './pod-spec.ts'
import { PORTS } from './troubles.ts'
import { MAX_PARALLEL } from './turns.ts'

/** Looks, one after the other, that must find a namespace gone before its attachment is removed. */
export const LOOKS = 2

/** `Pods.restoreAll`. */
export async function restoreAll(context: PodsContext): Promise<void> {
  const left = context.state.list()
  context.ports.load(left)
  const work = async (): Promise<void> => {
    for (let next = left.shift(); next !== undefined; next = left.shift()) {
      await restore(context, next)
    }
  }
  await Promise.all(Array.from({ length: MAX_PARALLEL }, work))
  await restorePorts(context)
}

async function restore(context: PodsContext, attachment: Attachment): Promise<void> {
  const { plane, log, troubles, missed } = context
  const id = attachmentId(attachment)
  try {
    faultPoint('restore.begun')
    const state = look(attachment)
    if (attachment.phase === 'reserved') {
      await letGo(context, attachment)
      faultPoint('restore.done')
      log.info({ attachment: id, state }, 'the leftovers of an attachment are removed')
      return
    }
    if (state === 'gone') {
      // The first look of `collect`: a node that comes up may not have all its mounts yet.
      missed.set(id, 1)
      log.warn({ attachment: id, netns: attachment.netns }, 'its namespace is not there')
      return
    }
    if (state === 'unsure') throw new Error(`${attachment.netns}: not a network namespace now`)
    await plane.attach(podSpec(attachment), { adopt: true })
    faultPoint('restore.done')
    troubles.delete(id)
  } catch (error) {
    const cause = (error as Error).message
    if (troubles.failed(id, cause)) log.error({ attachment: id, cause }, 'a pod is not restored')
  }
}

/** The engine has not heard of port mappings yet; what an earlier daemon left beyond them goes. */
async function restorePorts({ ports, troubles, log }: PodsContext): Promise<void> {
  try {
    await ports.restore()
    troubles.delete(PORTS)
  } catch (error) {
    const cause = (error as Error).message
    if (troubles.failed(PORTS, cause)) log.error({ cause }, 'port mappings are not restored')
  }
}

/** `Pods.collect`. */
export async function collect(context: PodsContext): Promise<void> {
  const { plane, state, turns, log, troubles, missed } = context
  const due = state.list().filter(each => each.phase === 'attached')
  const owners = ownersOf(state)
  const work = due.map(async each => {
    const id = attachmentId(each)
    const owner = owners.get(id)
    if (look(each) !== 'gone') {
      const back = missed.delete(id) && !plane.pods().some(pod => pod.id === id)
      const turn = owner === undefined ? id : attachmentId(owner)
      if (back || troubles.has(id)) await turns.run(turn, () => restore(context, each))
      return
    }
    if (owner !== undefined) return
    const looks = (missed.get(id) ?? 0) + 1
    missed.set(id, looks)
    if (looks < LOOKS) return
    await turns.run(id, async () => {
      // A DEL and another ADD may have come before this turn.
      if (state.get(each)?.created !== each.created) return
      await remove(context, each)
      const facts = { attachment: id, netns: each.netns }
      log.warn(facts, 'collected: its namespace went without a DEL')
    })
  })
  for (const result of await Promise.allSettled(work)) {
    if (result.status === 'fulfilled') continue
    log.error({ cause: (result.reason as Error).message }, 'an attachment is not collected')
  }
  await mendPorts(context)
  await giveBackOrphans(context)
}

/** Somebody may have flushed the kernel's rules: those of the port mappings come back. */
async function mendPorts(context: PodsContext): Promise<void> {
  const { ports, troubles, log } = context
  const lost = troubles.has(PORTS) ? [] : await ports.lost()
  if (lost.length > 0) {
    const facts = { lost: lost.slice(0, 5), all: lost.length }
    log.warn(facts, 'port mappings were lost; they are put in force again')
  }
  if (lost.length > 0 || troubles.has(PORTS)) await restorePorts(context)
}

/** `Pods.giveBackOrphans`. */
export async function giveBackOrphans(context: PodsContext): Promise<void> {
  const { state, turns, log } = context
  const keys = new Map(state.allSecondaries().map(({ key }) => [attachmentId(key), key]))
  const work = [...keys].map(async ([id, key]) => {
    if (state.get(key) !== undefined) return
    await turns.run(id, async late => {
      if (state.get(key) === undefined) await undoFurther(context, key, late)
    })
  })
  for (const result of await Promise.allSettled(work)) {
    if (result.status === 'fulfilled') continue
    const cause = (result.reason as Error).message
    log.error({ cause }, 'further interfaces are not undone; tried again later')
  }
  await giveBackAddresses(context)
}
