/**
 * The node's pods: the durable state and the packet engine, kept in step. All that changes an
 * attachment goes through here, in the turn of its key (turns.ts).
 *
 * Theory of operation. Made in this order: addresses reserved on disk, interface and way in the
 * engine, `attached` on disk. Removed in the reverse: the engine's way and the interface, then the
 * row, and with it the addresses. A step that fails undoes those before it; an address is released
 * only when nothing can use it any more, so a process that dies anywhere leaves a row that tells
 * the next one what may be there. Interfaces are known as ours by the row, and by what the engine
 * derives from its id (dataplane/README.md, "After a restart").
 */
import { existsSync } from 'node:fs'
import { dirname } from 'node:path'
import type { AttachKind, ControlPlane, PodAttachment, PodSpec } from '../dataplane/control.ts'
import { hasInterface, netnsIdentity } from '../dataplane/netns.ts'
import { CniError, CODE } from './errors.ts'
import { reserve } from './ipam.ts'
import type { Logger } from './logger.ts'
import { type Attachment, type AttachmentKey, attachmentId, type State } from './state.ts'
import { MAX_PARALLEL, type Turns } from './turns.ts'

/** Looks, one after the other, that must find a namespace gone before its attachment is removed. */
export const LOOKS = 2

export interface PodRequest extends AttachmentKey {
  netns: string
  kind: AttachKind
  mtu?: number
  pod: string
}

export interface PodsParts {
  plane: ControlPlane
  state: State
  turns: Turns
  /** This node's, as they are now. */
  podCidrs: () => readonly string[]
  log: Logger
}

export class Pods {
  /** Attachments whose pods may be cut off, by id, and why. */
  readonly troubles = new Map<string, string>()
  readonly #parts: PodsParts
  readonly #missed = new Map<string, number>()

  constructor(parts: PodsParts) {
    this.#parts = parts
  }

  /** Attaches a pod, all or nothing. In its turn; gives up, and undoes, when `late` is aborted. */
  async add(request: PodRequest, late: AbortSignal): Promise<PodAttachment> {
    const { plane, state, podCidrs } = this.#parts
    const { netns, ifname, kind, mtu, pod } = request
    const { network, containerId } = request
    const key = { network, containerId, ifname }
    const id = attachmentId(key)
    const { dev, ino } = podNamespace(netns)
    const earlier = state.get(key)
    if (earlier !== undefined) {
      if (earlier.phase === 'attached' && look(earlier) !== 'gone' && this.#interfaceOf(earlier)) {
        throw new CniError(CODE.exists, `${id}: it is attached already`, 'DEL it first')
      }
      await this.remove(key)
    }
    if (hasInterface(netns, ifname)) throw alreadyThere(netns, ifname)
    const undo: (() => void | Promise<void>)[] = []
    try {
      const namespace = { netns, netnsDev: String(dev), netnsIno: String(ino) }
      const wanted = { ...key, ...namespace, kind, pod, ...(mtu === undefined ? {} : { mtu }) }
      const reserved = reserve(state, podCidrs(), wanted)
      undo.push(() => state.release(key))
      const attachment = await plane.attach(podSpec(reserved)).catch((error: unknown) => {
        if ((error as { code?: string }).code === 'EEXIST') throw alreadyThere(netns, ifname)
        throw new CniError(CODE.io, (error as Error).message, '', { cause: error })
      })
      undo.push(() => plane.detach(id))
      late.throwIfAborted()
      state.markAttached(key, attachment.mtu)
      return attachment
    } catch (error) {
      await this.#undo(id, undo)
      throw error
    }
  }

  /** Undoes in reverse and stops at the first failure: what lies before it still may be in use. */
  async #undo(id: string, undo: (() => void | Promise<void>)[]): Promise<void> {
    try {
      for (const step of undo.reverse()) await step()
    } catch (error) {
      const cause = (error as Error).message
      this.#parts.log.error(
        { attachment: id, cause },
        'a failed ADD is not undone whole; DEL tries again',
      )
    }
  }

  /**
   * Removes all of an attachment; succeeds when there is none. In its turn. Throws CniError (code
   * 5) when the engine can't let go; the addresses stay reserved then, and a further call goes on.
   */
  async remove(key: AttachmentKey): Promise<void> {
    const { plane, state } = this.#parts
    const id = attachmentId(key)
    const known = state.get(key)
    const served = plane.pods().some(pod => pod.id === id)
    try {
      if (!served && known !== undefined) await this.#takeOver(known)
      await plane.detach(id)
      state.release(key)
    } catch (error) {
      throw new CniError(CODE.io, `${id}: ${(error as Error).message}`, '', { cause: error })
    }
    this.troubles.delete(id)
    this.#missed.delete(id)
  }

  /** An interface that an earlier daemon made and this one doesn't serve can only go by way of it. */
  async #takeOver(known: Attachment): Promise<void> {
    if (look(known) === 'gone' || !this.#interfaceOf(known)) return
    try {
      await this.#parts.plane.attach(podSpec(known), { adopt: true })
    } catch (error) {
      const cause = (error as Error).message
      const facts = { attachment: attachmentId(known), cause }
      this.#parts.log.warn(facts, 'the interface stays behind; it goes with its namespace')
    }
  }

  #interfaceOf({ netns, ifname }: Attachment): boolean {
    try {
      return hasInterface(netns, ifname)
    } catch {
      return false
    }
  }

  /** Puts in force again what an earlier daemon left, before anything else may run. Never rejects for a pod's sake. */
  async restoreAll(): Promise<void> {
    const left = this.#parts.state.list()
    const work = async (): Promise<void> => {
      for (let next = left.shift(); next !== undefined; next = left.shift()) {
        await this.#restore(next)
      }
    }
    await Promise.all(Array.from({ length: MAX_PARALLEL }, work))
  }

  async #restore(attachment: Attachment): Promise<void> {
    const { plane, log } = this.#parts
    const id = attachmentId(attachment)
    try {
      const state = look(attachment)
      if (attachment.phase === 'reserved' || state === 'gone') {
        await this.remove(attachment)
        log.info({ attachment: id, state }, 'the leftovers of an attachment are removed')
        return
      }
      if (state === 'unsure') throw new Error(`${attachment.netns}: not a network namespace now`)
      await plane.attach(podSpec(attachment), { adopt: true })
      this.troubles.delete(id)
    } catch (error) {
      const cause = (error as Error).message
      if (this.troubles.get(id) !== cause)
        log.error({ attachment: id, cause }, 'a pod is not restored')
      this.troubles.set(id, cause)
    }
  }

  /**
   * Collects attachments whose namespaces are gone without a DEL, LOOKS calls in a row, and tries
   * again to restore what could not be. To be called every few minutes. Never rejects.
   */
  async collect(): Promise<void> {
    const { state, turns, log } = this.#parts
    const due = state.list().filter(each => each.phase === 'attached')
    const work = due.map(async each => {
      const id = attachmentId(each)
      if (look(each) !== 'gone') {
        this.#missed.delete(id)
        if (this.troubles.has(id)) await turns.run(id, () => this.#restore(each))
        return
      }
      const missed = (this.#missed.get(id) ?? 0) + 1
      this.#missed.set(id, missed)
      if (missed < LOOKS) return
      await turns.run(id, async () => {
        // A DEL and another ADD may have come before this turn.
        if (state.get(each)?.created !== each.created) return
        await this.remove(each)
        log.warn(
          { attachment: id, netns: each.netns },
          'collected: its namespace went without a DEL',
        )
      })
    })
    for (const result of await Promise.allSettled(work)) {
      if (result.status === 'fulfilled') continue
      log.error({ cause: (result.reason as Error).message }, 'an attachment is not collected')
    }
  }
}

/** What the engine is told of an attachment. */
function podSpec(attachment: Attachment): PodSpec {
  const { kind, netns, ifname, ip4, ip6, mtu } = attachment
  return {
    id: attachmentId(attachment),
    kind,
    netns,
    ifname,
    ...(ip4 === undefined ? {} : { ip4 }),
    ...(ip6 === undefined ? {} : { ip6 }),
    ...(mtu === undefined ? {} : { mtu }),
  }
}

/** The namespace at `path`; throws CniError when it is none (code 4) or the node's own (code 8). */
export function podNamespace(path: string): { dev: bigint; ino: bigint } {
  let found: { dev: bigint; ino: bigint }
  try {
    found = netnsIdentity(path)
  } catch (error) {
    throw new CniError(CODE.environment, `CNI_NETNS: ${(error as Error).message}`, '', {
      cause: error,
    })
  }
  const own = netnsIdentity('/proc/self/ns/net')
  if (found.dev === own.dev && found.ino === own.ino) {
    throw new CniError(CODE.ownNetns, `CNI_NETNS ${path}: it is the node's own namespace`)
  }
  return found
}

/**
 * Whether an attachment's namespace is still there. `gone` only when that is certain: a path that
 * merely can't be read as a namespace may be a mount that this process doesn't see yet.
 */
function look({ netns, netnsDev, netnsIno }: Attachment): 'there' | 'gone' | 'unsure' {
  try {
    const { dev, ino } = netnsIdentity(netns)
    return String(dev) === netnsDev && String(ino) === netnsIno ? 'there' : 'gone'
  } catch (error) {
    if ((error as { code?: string }).code !== 'ENOENT') return 'unsure'
    return existsSync(dirname(netns)) || netns.startsWith('/proc/') ? 'gone' : 'unsure'
  }
}

function alreadyThere(netns: string, ifname: string): CniError {
  return new CniError(CODE.exists, `${ifname} in ${netns}: the interface is there already`)
}
