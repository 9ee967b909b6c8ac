/**
 * The queue of DELs (rpc/del-queue.ts), worked off by this daemon. Before the socket opens only what needs no other
 * plugin is done: pods let go, whole DELs without plugins. The rest follows behind it, in the turns of what nobody
 * waits for, so that plugins that hang keep no runtime waiting.
 */
import type { Node } from '../pods/node.ts'
import { drainQueue } from '../rpc/del-queue.ts'
import type { CniReply, CniRequest } from '../spec/request.ts'
import { answer, answerWithoutPlugins } from '../verbs/index.ts'

type Handle = (request: CniRequest, queuedAt: number) => Promise<CniReply | undefined>

export class Queue {
  readonly #node: Node
  readonly #socket: string
  readonly #running = new Set<Promise<number>>()
  #draining: Promise<number> | undefined

  constructor(node: Node, socket: string) {
    this.#node = node
    this.#socket = socket
  }

  /** Does what needs no plugin. Never rejects. */
  async withoutPlugins(): Promise<void> {
    await this.#run((request, at) => answerWithoutPlugins(this.#node, request, at))
  }

  /** Does all of it; once at a time. Never rejects. */
  async drain(): Promise<void> {
    this.#draining ??= this.#run((request, at) => answer(this.#node, request, at)).finally(() => {
      this.#draining = undefined
    })
    await this.#draining
  }

  /** Resolves when nothing of it is under way. */
  async idle(): Promise<void> {
    await Promise.all(this.#running)
  }

  #run(handle: Handle): Promise<number> {
    const { log, stopping } = this.#node
    const work = drainQueue(this.#socket, handle, log, stopping)
    this.#running.add(work)
    return work.finally(() => this.#running.delete(work))
  }
}
