/** What the verbs, and whoever reads for an operator, work on. */
import type { ControlPlane } from '../../dataplane/control.ts'
import type { Logger } from '../base/logger.ts'
import type { AddressSources } from '../ipam/pools.ts'
import type { State } from '../state/state.ts'
import type { Pods } from './pods.ts'
import type { Turns } from './turns.ts'

/** What the verbs work on. */
export interface Node extends AddressSources {
  plane: ControlPlane
  state: State
  pods: Pods
  turns: Turns
  /** Why what the daemon installs on its node does not stand; absent: it installs nothing. */
  installation?: () => { problem: string | undefined; remarks: readonly string[] }
  /** What of the node's policy is in force; absent: there is none. */
  policy?: {
    /** Why the node is not ready for its sake. */
    causes(): string[]
    /** Whether it is what its files say now. */
    readonly inSync: boolean
    /** What of it was wrong in the engine, and has been written again. */
    readonly mended: number
    /** For an operator. */
    notes(): string[]
    status(): object
    /** Of rules by number (enforce/told.ts). */
    ruleText(origin: number): string | undefined
    ruleTexts(): readonly string[]
    /** Why a flow (JSON) is let through or not; and what policies are in force, for whom (enforce/explain.ts). */
    explain(asked: string): object
    known(): object
  }
  /** What plugins said against their STATUS, by network; filled by STATUS. */
  remarks?: Map<string, readonly string[]>
  /** Ends the calls of IPAM plugins that are under way. */
  stopping?: AbortSignal
  /** Told of every answer: `ok` or the error's code, and the seconds that it took. */
  observe?: (verb: string, outcome: string, seconds: number) => void
  log: Logger
}
