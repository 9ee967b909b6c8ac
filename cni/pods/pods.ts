/**
 * The node's pods: the durable state and the packet engine, kept in step. All that changes an
 * attachment goes through here, in the turn of its key (turns.ts).
 *
 * Theory of operation. Made in this order (attach.ts): addresses reserved on disk (those of an IPAM
 * plugin: the call on disk, then the call, then the addresses), interface and way in the engine,
 * further interfaces of other plugins (secondary/interfaces.ts), `attached` on disk. Removed in the
 * reverse (detach.ts): further interfaces, the engine's way and the interface, then the row, and with
 * it the addresses; an IPAM plugin's DEL last, and then what was kept of its call
 * (ipam/delegations.ts). A step that fails undoes those before it; an address is released only when
 * nothing can use it any more, so a process that dies anywhere leaves a row that tells the next one
 * what may be there (restore.ts). Interfaces are known as ours by the row, and by what the engine
 * derives from its id (dataplane/README.md, "After a restart").
 */

import type { DelegateCall } from '../invoke/exec.ts'
import { type AttachmentKey, attachmentId } from '../state/state.ts'
import { type Added, add, type PodRequest } from './attach.ts'
import { letGo, remove } from './detach.ts'
import { look } from './namespace.ts'
import type { PodsContext, PodsParts } from './parts.ts'
import { PortMappings } from './port-mappings.ts'
import { collect, giveBackOrphans, restoreAll } from './restore.ts'
import { Troubles } from './troubles.ts'

export class Pods {
  readonly #context: PodsContext

  constructor(parts: PodsParts) {
    const ports = new PortMappings(parts.plane)
    this.#context = {
      ...parts,
      ports,
      troubles: new Troubles(),
      missed: new Map(),
      gone: new Map(),
    }
  }

  /** Attachments whose pods may be cut off. */
  get troubles(): Troubles {
    return this.#context.troubles
  }

  /** Attaches a pod, all or nothing. In its turn; gives up, and undoes, when `late` is aborted. */
  add(request: PodRequest, late: AbortSignal): Promise<Added> {
    return add(this.#context, request, late)
  }

  /**
   * Removes all of an attachment; succeeds when there is none. In its turn. Throws CniError (code
   * 5) when the engine can't let go, the addresses stay reserved then; and what a plugin's DEL
   * does: that of a further interface doesn't keep the rest. A further call goes on. What is gone while the
   * state can't be written (a full disk) is no error: `collect` removes the row later. `asked`: the IPAM
   * plugin's call that the runtime's DEL is. `late` ends the DELs of plugins.
   */
  remove(key: AttachmentKey, asked?: DelegateCall, late?: AbortSignal): Promise<void> {
    return remove(this.#context, key, asked, late)
  }

  /** What of `remove` needs no other plugin. In its turn. Throws CniError (code 5) when the engine can't let go. */
  letGo(key: AttachmentKey): Promise<void> {
    return letGo(this.#context, key)
  }

  /** Puts in force again what an earlier daemon left, before anything else may run. Never rejects for a pod's sake. */
  restoreAll(): Promise<void> {
    return restoreAll(this.#context)
  }

  /**
   * Collects attachments whose namespaces are gone without a DEL, LOOKS looks in a row (that of
   * `restoreAll` counts), and what an ADD that was not undone whole has left; tries again to restore, and to give
   * back, what could not be. Rules of port mappings that were lost come back. To be called every few minutes: that is the time that a
   * namespace has to come back. Never rejects.
   */
  collect(): Promise<void> {
    return collect(this.#context)
  }

  /**
   * Undoes the further interfaces, and gives back the addresses of IPAM plugins, of attachments that are
   * gone or never came to be: an earlier daemon died in between, or a plugin's DEL failed. Never rejects.
   */
  giveBackOrphans(): Promise<void> {
    return giveBackOrphans(this.#context)
  }

  /** What speaks against the node (troubles.ts). */
  hurting(): { passing: string[]; lasting: string[] } {
    const { state, troubles } = this.#context
    if (troubles.size === 0) return { passing: [], lasting: [] }
    return troubles.hurting(state.list(), each => look(each) === 'gone')
  }

  /** What the kernel has lost of an attachment's port mappings. */
  lostPorts(key: AttachmentKey): Promise<readonly string[]> {
    return this.#context.ports.lost(attachmentId(key))
  }
}
