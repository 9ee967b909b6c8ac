/**
 * What an earlier daemon, or a runtime without a DEL, has left: at start all attachments are put in
 * force again (`restoreAll`); every few minutes those that could not be are tried again, and those
 * whose namespaces are gone are removed (`collect`).
 */
import { faultPoint } from '../base/fault-points.ts'
import { giveBackOrphans as giveBackAddresses } from '../ipam/delegations.ts'
import { ownersOf } from '../secondary/interfaces.ts'
import { type Attachment, type AttachmentKey, attachmentId } from '../state/state.ts'
import { letGo, remove, undoFurther } from './detach.ts'
import { look } from './namespace.ts'
import { open, type PodsContext } from './parts.ts'
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
  const { log, troubles, missed } = context
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
    await open(context, attachment, { adopt: true })
    faultPoint('restore.done')
    troubles.delete(id)
  } catch (error) {
    const cause = (error as Error).message
    const { pod } = attachment
    if (troubles.failed(id, cause, pod)) {
      log.error({ attachment: id, pod, cause }, 'a pod is not restored')
    }
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
  const { log } = context
  for (const step of [mendPorts, collectAttachments]) {
    try {
      await step(context)
    } catch (error) {
      log.error({ cause: (error as Error).message }, 'what is left behind can not be looked at')
    }
  }
  await giveBackOrphans(context)
}

async function collectAttachments(context: PodsContext): Promise<void> {
  const { state, log, troubles } = context
  const rows = state.list()
  const known = new Set(rows.map(attachmentId))
  // A trouble goes with its attachment, whoever removed that.
  for (const id of troubles.keys()) if (id !== PORTS && !known.has(id)) troubles.delete(id)
  const owners = ownersOf(state)
  const work = rows.map(each => collectOne(context, each, owners.get(attachmentId(each))))
  for (const result of await Promise.allSettled(work)) {
    if (result.status === 'fulfilled') continue
    log.error({ cause: (result.reason as Error).message }, 'an attachment is not collected')
  }
}

/** `owner`: of what is a further interface of another attachment, in whose turn it is worked on. */
async function collectOne(
  context: PodsContext,
  row: Attachment,
  owner: AttachmentKey | undefined,
): Promise<void> {
  const { plane, state, turns, log, troubles, missed, gone } = context
  const id = attachmentId(row)
  /** A DEL, and another ADD behind it, may have come before this turn: what is there then is not meant. */
  const inTurn = (work: (late: AbortSignal) => Promise<void>): Promise<void> =>
    turns.unasked(owner === undefined ? id : attachmentId(owner), async late => {
      const now = state.get(row)
      if (now?.created === row.created && now.phase === row.phase) await work(late)
    })
  if (gone.get(id) === row.created) return inTurn(() => letGo(context, row))
  if (row.phase === 'reserved') {
    // Of an ADD that is under way the turn comes only when it is attached, or undone.
    return inTurn(async late => {
      await remove(context, row, undefined, late)
      log.warn({ attachment: id }, 'collected: its ADD failed and was not undone whole')
    })
  }
  if (look(row) !== 'gone') {
    const served = (): boolean => plane.pods().some(pod => pod.id === id)
    const back = missed.delete(id) && !served()
    if (!back && !troubles.has(id)) return
    return inTurn(async () => {
      if (!served()) await restore(context, row)
    })
  }
  if (owner !== undefined) return
  const looks = (missed.get(id) ?? 0) + 1
  missed.set(id, looks)
  if (looks < LOOKS) return
  return inTurn(async late => {
    await remove(context, row, undefined, late)
    const facts = { attachment: id, netns: row.netns }
    log.warn(facts, 'collected: its namespace went without a DEL')
  })
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
  const { log } = context
  const failed = (error: unknown): void =>
    log.error(
      { cause: (error as Error).message },
      'further interfaces are not undone; tried again later',
    )
  try {
    const work = furtherOrphans(context)
    for (const result of await Promise.allSettled(work)) {
      if (result.status === 'rejected') failed(result.reason)
    }
  } catch (error) {
    failed(error)
  }
  await giveBackAddresses(context)
}

/** Undoes the further interfaces of attachments that are gone. */
function furtherOrphans(context: PodsContext): Promise<void>[] {
  const { state, turns } = context
  const keys = new Map(state.allSecondaries().map(({ key }) => [attachmentId(key), key]))
  return [...keys].map(async ([id, key]) => {
    if (state.get(key) !== undefined) return
    await turns.unasked(id, async late => {
      if (state.get(key) === undefined) await undoFurther(context, key, late)
    })
  })
}
