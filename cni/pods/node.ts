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
  /** Why the engine doesn't follow the cluster file; undefined when it does. */
  outOfSync: () => string | undefined
  /** Ends the calls of IPAM plugins that are under way. */
  stopping?: AbortSignal
  /** Told of every answer: `ok` or the error's code, and the seconds that it took. */
  observe?: (verb: string, outcome: string, seconds: number) => void
  log: Logger
}
