/**
 * Keeps the packet engine in step with policy files and this node's pods.
 *
 * Theory of operation. Level-triggered: a round takes what the files say and what the state lists, makes all of it one
 * `PolicyState`, and gives that to the engine. One round at a time; whoever wants something in force waits for the end of a
 * round that began after it was asked for, and one round serves all who ask meanwhile. A round first tries what the
 * files say now. When a limit refuses it, it puts the last good files in force, with the pods that are there now. Where
 * nothing is known that could be in force, pods get nothing through and no new ones come.
 */
import type {
  ControlPlane,
  LearnedName,
  NamesStatus,
  PodPolicy,
  PolicyState,
} from '../../dataplane/control.ts'
import type { Logger } from '../base/logger.ts'
import type { ClusterView } from '../cluster/view.ts'
import type { Explanation } from '../policy/explain.ts'
import type { PolicyFiles } from '../policy/files.ts'
import { isAboutNames } from '../policy/remarks.ts'
import { originText } from '../policy/sources.ts'
import { attachmentId } from '../spec/attachment.ts'
import { CniError, CODE } from '../spec/errors.ts'
import type { Attachment } from '../state/rows.ts'
import { CLOSED, CompiledWorld, withOwn } from './compiled.ts'
import { explainRunning } from './explain.ts'
import type { KeptNames } from './kept-names.ts'
import type { LastGoodPolicy } from './last-good.ts'
import { type OwnPod, ownPods } from './own-pods.ts'
import { closedState, type Nodes, PolicyStates } from './policy-state.ts'
import { Rounds } from './rounds.ts'
import type { PolicySource, Problem } from './source.ts'
import type { Rules } from './told.ts'

/** Milliseconds between two audits of what the engine has. */
export const AUDIT_MS = 300_000
/** Findings of an audit that are told one by one. */
const MOST_TOLD = 10

/** Milliseconds before the engine is asked again; doubled each time, up to the second. */
export const FIRST_PAUSE_MS = 1_000
export const LONGEST_PAUSE_MS = 30_000

export interface KeeperParts {
  plane: Pick<
    ControlPlane,
    'setPolicy' | 'askPolicy' | 'auditPolicy' | 'namesStatus' | 'learnedNames'
  >
  /** Attachments of this node, the oldest first. */
  attachments: () => readonly Attachment[]
  cluster: () => ClusterView
  source: PolicySource
  lastGood: LastGoodPolicy
  names: KeptNames
  log: Logger
  /** AUDIT_MS when absent. */
  auditMs?: number
}

/** What is in force. */
export interface PolicyStatus {
  folder: string
  policies: number
  /** Kinds of this node's pods. */
  programs: number
  /** Of pods, in the whole cluster. */
  addresses: number
  /** Since when these files are in force (ISO 8601, UTC); absent: none are, and no pod gets anything through. */
  since?: string
  /** Domain names that pods have asked for; absent where no resolver is named. */
  names?: NamesStatus
  /** Findings of audits: what the engine had was not what it was given, and has been written again. */
  mended: number
  /** Why that is not what the files say now. */
  problem?: Problem
}

/** For an operator. */
const UNHEARD =
  'policy: rules about domain names match nothing, since no resolver is named (policy.dns.resolvers)'

interface InForce {
  files: PolicyFiles
  /** They speak of domain names, and none is learned. */
  unheard: boolean
  since: string
  compiled: CompiledWorld
  states: PolicyStates
}

export class PolicyKeeper implements Rules {
  readonly #parts: KeeperParts
  readonly #rounds = new Rounds(() => this.#round())
  readonly #watch: { close(): void }
  #inForce: InForce | undefined
  /** What the engine has, and of whom. */
  #state: PolicyState = { identities: [], pods: new Map() }
  #own = new Map<string, string>()
  #contested: readonly string[] = []
  #refused: Problem | undefined
  /** The files that were refused are worth another try. */
  #again = false
  #timer: NodeJS.Timeout | undefined
  readonly #auditTimer: NodeJS.Timeout
  #mended = 0
  /** What the last audit could not mend. */
  #wrong: Problem | undefined
  #pauseMs = FIRST_PAUSE_MS
  #nodes: (Nodes & { of: ClusterView }) | undefined

  /** Follows from now on; `first` puts in force what there is. */
  constructor(parts: KeeperParts) {
    this.#parts = parts
    this.#auditTimer = setInterval(() => void this.audit(), parts.auditMs ?? AUDIT_MS)
    this.#auditTimer.unref()
    this.#watch = parts.source.watch(() => {
      this.#pauseMs = FIRST_PAUSE_MS
      this.#again = true
      this.changed()
    })
  }

  /** Resolves when the first round is over, whatever came of it. */
  async first(): Promise<void> {
    await this.#rounds.next().catch(() => {})
  }

  /**
   * The policy of an attachment, once it and its addresses are in force; undefined for one that policy is not for.
   * Throws CniError (code 11) when that can't be now. One of an earlier daemon is closed where nothing is known.
   */
  async admit(attachment: Attachment): Promise<PodPolicy | undefined> {
    if (!this.#stands(attachment)) {
      const id = attachmentId(attachment)
      if (!ownPods(this.#parts.attachments()).some(pod => pod.id === id)) return undefined
      await this.#rounds.next().catch((error: Error) => {
        throw new CniError(CODE.tryAgain, `policy: ${error.message}`)
      })
    }
    if (this.#inForce === undefined && attachment.phase === 'reserved') {
      throw new CniError(CODE.tryAgain, `policy: ${this.#problem()?.what ?? 'not known yet'}`)
    }
    return this.of(attachment)
  }

  /** What is in force for an attachment: nothing passes where that is not known. */
  of(attachment: Attachment): PodPolicy | undefined {
    if (ownPods([attachment]).length === 0) return undefined
    return this.#state.pods.get(attachmentId(attachment)) ?? CLOSED
  }

  /** What an attachment of an earlier daemon had learned of names; given once. */
  names(attachment: Attachment): readonly LearnedName[] {
    return this.#parts.names.take(attachmentId(attachment))
  }

  /** An attachment is gone, or the cluster is another one. Not waited for. */
  changed(): void {
    this.#rounds.next().catch(() => {})
  }

  status(): PolicyStatus {
    const problem = this.#problem()
    const names = this.#parts.plane.namesStatus()
    return {
      folder: this.#parts.source.folder,
      policies: this.#inForce?.files.world.policies.length ?? 0,
      programs: new Set(this.#state.pods.values()).size,
      addresses: this.#state.identities.length,
      ...(this.#inForce === undefined ? {} : { since: this.#inForce.since }),
      ...(names === undefined ? {} : { names }),
      mended: this.#mended,
      ...(problem === undefined ? {} : { problem }),
    }
  }

  /** Whether what is in force is what the files say now. */
  get inSync(): boolean {
    return this.#problem() === undefined
  }

  /** As `Rules`. */
  readonly ruleText = (origin: number): string | undefined => {
    const rule = this.#inForce?.compiled.origin(origin)
    return rule && originText(rule)
  }
  readonly ruleTexts = (): string[] => (this.#inForce?.compiled.origins() ?? []).map(originText)

  /**
   * Compares what the engine has with what it was given; it mends what differs. Done every AUDIT_MS, and behind a round that
   * failed. What is wrong still is a reason not to be ready.
   */
  async audit(): Promise<void> {
    const { plane, log } = this.#parts
    try {
      const found = await plane.auditPolicy()
      if (found.length === 0) {
        this.#wrong = undefined
        return
      }
      this.#mended += found.length
      const some = { found: found.slice(0, MOST_TOLD), count: found.length }
      log.error(some, 'the engine had another policy than it was given; it is written again')
      const [still] = await plane.auditPolicy()
      this.#wrong =
        still === undefined ? undefined : { what: still, since: new Date().toISOString() }
    } catch (error) {
      log.warn({ cause: (error as Error).message }, 'policy could not be audited')
    }
  }

  /** Findings of audits, in all. */
  get mended(): number {
    return this.#mended
  }

  /** As `explainRunning`: a flow as JSON. Throws Error where nothing is in force. */
  explain(asked: string): Explanation {
    const own = ownPods(this.#parts.attachments())
    return explainRunning(this.#parts.plane, withOwn(this.#files().world, own), own, this, asked)
  }

  /** What is in force, for who would know what other policies would come to: the objects, and this node's pods. */
  known(): { objects: readonly unknown[]; own: readonly OwnPod[] } {
    return { objects: this.#files().objects, own: ownPods(this.#parts.attachments()) }
  }

  #files(): PolicyFiles {
    if (this.#inForce !== undefined) return this.#inForce.files
    throw new Error('no policy is in force: nothing passes')
  }

  /** For an operator; empty while all is well. */
  notes(): string[] {
    const problem = this.#problem()
    const { length } = this.#contested
    const claimed = `policy: ${length} addresses are claimed by several pods and are nobody's, as ${this.#contested[0]}`
    const unheard = this.#inForce?.unheard === true
    return [
      ...(unheard ? [UNHEARD] : []),
      ...(problem === undefined ? [] : [`policy: ${problem.what} (since ${problem.since})`]),
      ...(length === 0 ? [] : [claimed]),
    ]
  }

  /** Why the node is not ready: the files are too much for it, or nothing is known that could be in force. */
  causes(): string[] {
    const problem = this.#wrong ?? (this.#inForce === undefined ? this.#problem() : this.#refused)
    return problem === undefined ? [] : [`policy: ${problem.what}`]
  }

  /** Resolves when nothing is put in force any more, and nothing will be. */
  async close(): Promise<void> {
    this.#watch.close()
    clearTimeout(this.#timer)
    clearInterval(this.#auditTimer)
    await this.#rounds.close()
    await this.#parts.lastGood.close()
    await this.#parts.names.close()
  }

  #problem(): Problem | undefined {
    return this.#wrong ?? this.#refused ?? this.#parts.source.unreadable
  }

  #stands(attachment: Attachment): boolean {
    if (ownPods([attachment]).length === 0) return true
    const id = attachmentId(attachment)
    const pod = ownPods(this.#parts.attachments()).find(each => each.id === id)
    return pod !== undefined && this.#own.get(id) === textOf(pod)
  }

  async #round(): Promise<void> {
    const { plane, attachments, source } = this.#parts
    const own = ownPods(attachments())
    const earlier = this.#inForce?.files ?? source.kept
    const newest = source.newest ?? earlier
    const tried = this.#refused === undefined || this.#again ? newest : earlier
    this.#again = false
    let refusal: unknown
    for (const files of new Set([tried, earlier])) {
      if (files === undefined) continue
      try {
        await this.#enforce(files, own)
        if (files === newest) this.#refused = undefined
        return
      } catch (error) {
        refusal = error
        if (files === newest) this.#refuse(error as Error)
      }
    }
    if (this.#inForce === undefined) {
      const state = closedState(own)
      await plane.setPolicy(state)
      this.#took(state, own)
    }
    if (refusal !== undefined) {
      void this.audit()
      throw refusal
    }
  }

  async #enforce(files: PolicyFiles, own: readonly OwnPod[]): Promise<void> {
    const { plane, lastGood, log } = this.#parts
    const before = this.#inForce
    const compiled = before?.compiled.fits(files.world, own)
      ? before.compiled
      : new CompiledWorld(files.world, own, before?.compiled)
    const nodes = this.#nodesNow()
    const states = before?.states.fits(compiled, nodes)
      ? before.states
      : new PolicyStates(compiled, nodes)
    const { state, contested } = states.with(own)
    await plane.setPolicy(state)
    this.#took(state, own)
    this.#contested = contested
    if (before?.files === files) {
      this.#inForce = { ...before, compiled, states }
      return
    }
    const unheard = plane.namesStatus() === undefined && files.remarks.some(isAboutNames)
    this.#inForce = { files, unheard, compiled, states, since: new Date().toISOString() }
    if (unheard) log.warn(UNHEARD)
    lastGood.keep(files.objects)
    const { policies, programs, addresses } = this.status()
    const remarks = files.remarks.length
    log.info({ policies, programs, addresses, remarks }, 'policy is in force')
  }

  #took(state: PolicyState, own: readonly OwnPod[]): void {
    this.#state = state
    this.#own = new Map(own.map(pod => [pod.id, textOf(pod)]))
  }

  /** The files that were tried are refused; they are tried again, since pods of this node go. */
  #refuse({ message: what }: Error): void {
    if (this.#refused?.what !== what) {
      this.#refused = { what, since: new Date().toISOString() }
      this.#parts.log.error(
        { cause: what },
        'the engine refuses the policy; the last good one stays, this one is tried again',
      )
    }
    clearTimeout(this.#timer)
    this.#timer = setTimeout(() => {
      this.#again = true
      this.changed()
    }, this.#pauseMs)
    this.#timer.unref()
    this.#pauseMs = Math.min(this.#pauseMs * 2, LONGEST_PAUSE_MS)
  }

  #nodesNow(): Nodes {
    const view = this.#parts.cluster()
    if (this.#nodes?.of !== view) {
      const { self, peers } = view
      const vteps = new Map([self, ...peers].map(({ name, vtep }) => [name, vtep]))
      this.#nodes = { of: view, self, vteps }
    }
    return this.#nodes
  }
}

function textOf({ namespace, name, labels, addresses }: OwnPod): string {
  return JSON.stringify([namespace, name, labels, addresses])
}
