/**
 * The node's pods: the durable state and the packet engine, kept in step. All that changes an
 * attachment goes through here, in the turn of its key (turns.ts).
 *
 * Theory of operation. Made in this order: addresses reserved on disk (those of an IPAM plugin:
 * the call on disk, then the call, then the addresses), interface and way in the engine, further
 * interfaces of other plugins (secondaries.ts), `attached` on disk. Removed in the reverse: further
 * interfaces, the engine's way and the interface, then the row, and with it the addresses; an IPAM
 * plugin's DEL last, and then what was kept of its call (delegations.ts). A step that fails undoes
 * those before it; an address is released only when nothing can use it any more, so a process that
 * dies anywhere leaves a row that tells the next one what may be there. Interfaces are known as ours
 * by the row, and by what the engine derives from its id (dataplane/README.md, "After a restart").
 *
 * It is long because adding, removing, restoring and collecting must agree on that order.
 */

import type { AttachKind, ControlPlane, PodAttachment, PodSpec } from '../../dataplane/control.ts'
import { hasInterface } from '../../dataplane/netns.ts'
import { faultPoint } from '../base/fault-points.ts'
import type { DelegateCall } from '../invoke/exec.ts'
import { reserve, type Wanted } from '../ipam/allocator.ts'
import {
  askDelegate,
  type Delegated,
  type DelegationParts,
  giveBack,
  giveBackOrphans,
  type Reserved,
} from '../ipam/delegations.ts'
import type { Gateways } from '../ipam/lease.ts'
import { gatewayFor, type Pool } from '../ipam/ranges.ts'
import type { Address } from '../netip/cidr.ts'
import { storedAddress } from '../netip/cidr.ts'
import {
  addSecondaries,
  ownersOf,
  removeSecondaries,
  type WantedSecondaries,
} from '../secondary/interfaces.ts'
import { CniError, CODE } from '../spec/errors.ts'
import type { Dns } from '../spec/netconf.ts'
import type { Runtime } from '../spec/runtime-config.ts'
import { type Attachment, type AttachmentKey, attachmentId } from '../state/state.ts'
import { labelOf } from './label.ts'
import { look, podNamespace } from './namespace.ts'
import { PortMappings } from './port-mappings.ts'
import { PORTS, Troubles } from './troubles.ts'
import { MAX_PARALLEL, type Turns } from './turns.ts'

/** Looks, one after the other, that must find a namespace gone before its attachment is removed. */
export const LOOKS = 2

export interface PodRequest extends AttachmentKey {
  netns: string
  kind: AttachKind
  mtu?: number
  pod: string
  runtime?: Runtime
  /** As in its row. */
  overlay?: string
  /** Where its addresses come from. */
  from: OwnAddresses | Delegated
  /** Its further interfaces; absent: none. */
  secondaries?: WantedSecondaries
}

/** Out of the node's pools, those in `asked` where it names one. */
export interface OwnAddresses {
  pools: readonly Pool[]
  asked: readonly Address[]
}

/** What ADD has made. */
export interface Added {
  attachment: PodAttachment
  /** As the pools or the IPAM plugin have them; a family may lack one. */
  gateways: Gateways
  /** What the IPAM plugin said. */
  dns?: Dns
}

export interface PodsParts extends DelegationParts {
  turns: Turns
  plane: ControlPlane
}

export class Pods {
  /** Attachments whose pods may be cut off. */
  readonly troubles = new Troubles()
  readonly #parts: PodsParts
  readonly #missed = new Map<string, number>()
  readonly #ports: PortMappings

  constructor(parts: PodsParts) {
    this.#parts = parts
    this.#ports = new PortMappings(parts.plane)
  }

  /** Attaches a pod, all or nothing. In its turn; gives up, and undoes, when `late` is aborted. */
  async add(request: PodRequest, late: AbortSignal): Promise<Added> {
    const { plane, state } = this.#parts
    const { netns, ifname, kind, mtu, pod, runtime, overlay, from, secondaries } = request
    const { network, containerId } = request
    const key = { network, containerId, ifname }
    const id = attachmentId(key)
    faultPoint('add.begun')
    const { dev, ino } = podNamespace(netns)
    const earlier = state.get(key)
    if (earlier !== undefined) {
      if (earlier.phase === 'attached' && look(earlier) !== 'gone' && this.#interfaceOf(earlier)) {
        throw new CniError(CODE.exists, `${id}: it is attached already`, 'DEL it first')
      }
      await this.remove(key)
    } else {
      if (state.secondaries(key).length > 0) await this.#removeSecondaries(key)
      if (state.delegation(key) !== undefined) await giveBack(this.#parts, key)
    }
    // Of our own addresses the engine sees it in time; a plugin shall not be asked in vain.
    if ('call' in from && hasInterface(netns, ifname)) throw alreadyThere(netns, ifname)
    const undo: (() => void | Promise<void>)[] = []
    try {
      const namespace = { netns, netnsDev: String(dev), netnsIno: String(ino) }
      const wanted = {
        ...key,
        ...namespace,
        kind,
        pod,
        ...(mtu === undefined ? {} : { mtu }),
        ...(runtime === undefined ? {} : { runtime }),
        ...(overlay === undefined ? {} : { overlay }),
      }
      const { reserved, ...given } =
        'call' in from
          ? await askDelegate(this.#parts, from, wanted, late, undo)
          : this.#reserve(from, wanted)
      undo.push(() => state.release(key))
      faultPoint('add.reserved')
      this.#ports.claim(reserved)
      undo.push(() => this.#ports.close(id))
      late.throwIfAborted()
      const attachment = await plane.attach(podSpec(reserved)).catch((error: unknown) => {
        if ((error as { code?: string }).code === 'EEXIST') throw alreadyThere(netns, ifname)
        throw new CniError(CODE.io, (error as Error).message, '', { cause: error })
      })
      undo.push(() => plane.detach(id))
      faultPoint('add.made')
      await this.#ports.open(id)
      faultPoint('add.mapped')
      late.throwIfAborted()
      if (secondaries !== undefined) {
        // What fails of it is logged, and stays kept for the next attempt.
        undo.push(() => this.#removeSecondaries(key).catch(() => {}))
        await addSecondaries(this.#parts, key, secondaries, late)
      }
      state.markAttached(key, attachment.mtu)
      faultPoint('add.attached')
      return { attachment, ...given }
    } catch (error) {
      await this.#undo(id, undo)
      throw error
    }
  }

  #reserve({ pools, asked }: OwnAddresses, wanted: Wanted): Reserved {
    const reserved = reserve(this.#parts.state, pools, asked, wanted)
    const gateways: Gateways = {}
    for (const pool of pools) {
      const ip = pool.family === 4 ? reserved.ip4 : reserved.ip6
      const via = ip === undefined ? undefined : gatewayFor(pool, storedAddress(ip))
      if (via !== undefined) gateways[pool.family] = via
    }
    return { reserved, gateways }
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
   * 5) when the engine can't let go, the addresses stay reserved then; and what a plugin's DEL
   * does: that of a further interface doesn't keep the rest. A further call goes on. `asked`: the IPAM
   * plugin's call that the runtime's DEL is. `late` ends the DELs of further interfaces.
   */
  async remove(key: AttachmentKey, asked?: DelegateCall, late?: AbortSignal): Promise<void> {
    faultPoint('del.begun')
    const [further] = await Promise.allSettled([this.#removeSecondaries(key, late)])
    await this.#letGo(key)
    faultPoint('del.released')
    await giveBack(this.#parts, key, asked)
    if (further.status === 'rejected') throw further.reason
  }

  async #removeSecondaries(key: AttachmentKey, late?: AbortSignal): Promise<void> {
    const own = (inner: AttachmentKey, held?: AbortSignal): Promise<void> =>
      this.remove(inner, undefined, held)
    await removeSecondaries(this.#parts, key, own, late)
  }

  /** All but what an IPAM plugin has given. */
  async #letGo(key: AttachmentKey): Promise<void> {
    const { plane, state } = this.#parts
    const id = attachmentId(key)
    const known = state.get(key)
    const served = plane.pods().some(pod => pod.id === id)
    try {
      if (!served && known !== undefined) await this.#takeOver(known)
      await this.#ports.close(id)
      faultPoint('del.unmapped')
      await plane.detach(id)
      faultPoint('del.detached')
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
    this.#ports.load(left)
    const work = async (): Promise<void> => {
      for (let next = left.shift(); next !== undefined; next = left.shift()) {
        await this.#restore(next)
      }
    }
    await Promise.all(Array.from({ length: MAX_PARALLEL }, work))
    await this.#restorePorts()
  }

  /** The engine has not heard of port mappings yet; what an earlier daemon left beyond them goes. */
  async #restorePorts(): Promise<void> {
    try {
      await this.#ports.restore()
      this.troubles.delete(PORTS)
    } catch (error) {
      const cause = (error as Error).message
      if (this.troubles.failed(PORTS, cause))
        this.#parts.log.error({ cause }, 'port mappings are not restored')
    }
  }

  /** What speaks against the node (troubles.ts). */
  hurting(): { passing: string[]; lasting: string[] } {
    const { troubles } = this
    if (troubles.size === 0) return { passing: [], lasting: [] }
    return troubles.hurting(this.#parts.state.list(), each => look(each) === 'gone')
  }

  /** What the kernel has lost of an attachment's port mappings. */
  lostPorts(key: AttachmentKey): Promise<readonly string[]> {
    return this.#ports.lost(attachmentId(key))
  }

  /** Somebody may have flushed the kernel's rules: those of the port mappings come back. */
  async #mendPorts(): Promise<void> {
    const lost = this.troubles.has(PORTS) ? [] : await this.#ports.lost()
    if (lost.length > 0) {
      const facts = { lost: lost.slice(0, 5), all: lost.length }
      this.#parts.log.warn(facts, 'port mappings were lost; they are put in force again')
    }
    if (lost.length > 0 || this.troubles.has(PORTS)) await this.#restorePorts()
  }

  async #restore(attachment: Attachment): Promise<void> {
    const { plane, log } = this.#parts
    const id = attachmentId(attachment)
    try {
      faultPoint('restore.begun')
      const state = look(attachment)
      if (attachment.phase === 'reserved') {
        await this.#letGo(attachment)
        faultPoint('restore.done')
        log.info({ attachment: id, state }, 'the leftovers of an attachment are removed')
        return
      }
      if (state === 'gone') {
        // The first look of `collect`: a node that comes up may not have all its mounts yet.
        this.#missed.set(id, 1)
        log.warn({ attachment: id, netns: attachment.netns }, 'its namespace is not there')
        return
      }
      if (state === 'unsure') throw new Error(`${attachment.netns}: not a network namespace now`)
      await plane.attach(podSpec(attachment), { adopt: true })
      faultPoint('restore.done')
      this.troubles.delete(id)
    } catch (error) {
      const cause = (error as Error).message
      if (this.troubles.failed(id, cause))
        log.error({ attachment: id, cause }, 'a pod is not restored')
    }
  }

  /**
   * Collects attachments whose namespaces are gone without a DEL, LOOKS looks in a row (that of
   * `restoreAll` counts), and tries again to restore, and to give back, what could not be. Rules of
   * port mappings that were lost come back. To be called every few minutes: that is the time that a
   * namespace has to come back. Never rejects.
   */
  async collect(): Promise<void> {
    const { plane, state, turns, log } = this.#parts
    const due = state.list().filter(each => each.phase === 'attached')
    const owners = ownersOf(state)
    const work = due.map(async each => {
      const id = attachmentId(each)
      const owner = owners.get(id)
      if (look(each) !== 'gone') {
        const back = this.#missed.delete(id) && !plane.pods().some(pod => pod.id === id)
        const turn = owner === undefined ? id : attachmentId(owner)
        if (back || this.troubles.has(id)) await turns.run(turn, () => this.#restore(each))
        return
      }
      if (owner !== undefined) return
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
    await this.#mendPorts()
    await this.giveBackOrphans()
  }

  /**
   * Undoes the further interfaces, and gives back the addresses of IPAM plugins, of attachments that are
   * gone or never came to be: an earlier daemon died in between, or a plugin's DEL failed. Never rejects.
   */
  async giveBackOrphans(): Promise<void> {
    const { state, turns, log } = this.#parts
    const keys = new Map(state.allSecondaries().map(({ key }) => [attachmentId(key), key]))
    const work = [...keys].map(async ([id, key]) => {
      if (state.get(key) !== undefined) return
      await turns.run(id, async late => {
        if (state.get(key) === undefined) await this.#removeSecondaries(key, late)
      })
    })
    for (const result of await Promise.allSettled(work)) {
      if (result.status === 'fulfilled') continue
      const cause = (result.reason as Error).message
      log.error({ cause }, 'further interfaces are not undone; tried again later')
    }
    await giveBackOrphans(this.#parts)
  }
}

/** What the engine is told of an attachment. */
function podSpec(attachment: Attachment): PodSpec {
  const { kind, netns, ifname, ip4, ip6, mtu, runtime, overlay } = attachment
  const { bandwidth, mac, further } = runtime ?? {}
  const label = labelOf(attachment)
  return {
    id: attachmentId(attachment),
    kind,
    netns,
    ifname,
    ...(ip4 === undefined ? {} : { ip4 }),
    ...(ip6 === undefined ? {} : { ip6 }),
    ...(mtu === undefined ? {} : { mtu }),
    ...(bandwidth === undefined ? {} : { bandwidth }),
    ...(mac === undefined ? {} : { mac }),
    ...(further === undefined ? {} : { further }),
    ...(overlay === undefined ? {} : { network: overlay }),
    ...(label === undefined ? {} : { label }),
  }
}

function alreadyThere(netns: string, ifname: string): CniError {
  return new CniError(CODE.exists, `${ifname} in ${netns}: the interface is there already`)
}
