/** What adding, removing and restoring pods share. */
import type { ControlPlane } from '../../dataplane/control.ts'
import type { DelegationParts } from '../ipam/delegations.ts'
import type { PortMappings } from './port-mappings.ts'
import type { Troubles } from './troubles.ts'
import type { Turns } from './turns.ts'

/** What `Pods` is made of. */
export interface PodsParts extends DelegationParts {
  turns: Turns
  plane: ControlPlane
}

/** The same, and what is remembered beside the state while the daemon runs. */
export interface PodsContext extends PodsParts {
  /** Attachments whose pods may be cut off. */
  troubles: Troubles
  /** Looks in a row that found an attachment's namespace gone, by its id. */
  missed: Map<string, number>
  ports: PortMappings
}
