/** What the verbs, and whoever reads for an operator, work on. */
import type { ControlPlane } from '../../dataplane/control.ts'
import type { Logger } from '../base/logger.ts'
import type { Block, RangeSets } from '../ipam/ranges.ts'
import type { State } from '../state/state.ts'
import type { Pods } from './pods.ts'
import type { Turns } from './turns.ts'

/** What the verbs work on. */
export interface Node {
  plane: ControlPlane
  state: State
  pods: Pods
  turns: Turns
  /** This node's pod CIDRs, as they are now; those in an overlay network beside the cluster's own, if any. */
  podCidrs: (overlay?: string) => readonly string[]
  /** Overlay networks beside the cluster's own that this node is in; absent: none. */
  overlays?: () => readonly string[]
  /** Addresses that no pod may have, whatever a network configuration says. */
  exclude?: readonly Block[]
  /** Ranges of networks that have some, by name; filled by ADD and STATUS. */
  ranges?: Map<string, { sets: RangeSets; overlay: string | undefined }>
  /** Why the engine doesn't follow the cluster file; undefined when it does. */
  outOfSync: () => string | undefined
  /** Ends the calls of IPAM plugins that are under way. */
  stopping?: AbortSignal
  /** Told of every answer: `ok` or the error's code, and the seconds that it took. */
  observe?: (verb: string, outcome: string, seconds: number) => void
  log: Logger
}
