/** What adding, removing and restoring pods share. */
import type {
  ControlPlane,
  LearnedName,
  PodAttachment,
  PodPolicy,
} from '../../dataplane/control.ts'
import { faultPoint } from '../base/fault-points.ts'
import type { DelegationParts } from '../ipam/delegations.ts'
import type { Attachment } from '../state/state.ts'
import { podSpec } from './pod-spec.ts'
import type { PortMappings } from './port-mappings.ts'
import type { Troubles } from './troubles.ts'
import type { Turns } from './turns.ts'

/** What must stand before packets of an attachment may flow; rejects when it can't. */
export type Gate = (attachment: Attachment, late?: AbortSignal) => Promise<void>

/** Who says what policy makes of a pod (enforce/keeper.ts). */
export interface Policies {
  /** Once policy and addresses are in force; undefined for an attachment that policy is not for. Rejects when that can't be. */
  admit(attachment: Attachment): Promise<PodPolicy | undefined>
  /** What it had learned of domain names when an earlier daemon served it; given once. */
  names(attachment: Attachment): readonly LearnedName[]
  /** What is in force for it now. */
  of(attachment: Attachment): PodPolicy | undefined
  /** An attachment is gone. */
  changed(): void
}

/** What `Pods` is made of. */
export interface PodsParts extends DelegationParts {
  turns: Turns
  plane: ControlPlane
  /** Awaited before the engine opens a pod's way, at its ADD and when it is restored; absent: nothing. */
  gate?: Gate
  /** Absent: there is no policy. */
  policies?: Policies
}

/** The same, and what is remembered beside the state while the daemon runs. */
export interface PodsContext extends PodsParts {
  /** Attachments whose pods may be cut off. */
  troubles: Troubles
  /** Looks in a row that found an attachment's namespace gone, by its id. */
  missed: Map<string, number>
  ports: PortMappings
  /** Rows, by id and age (`created`), whose attachments are gone while the state could not say so. */
  gone: Map<string, number>
}

/** Rejects as soon as `late` is aborted, whatever becomes of the work. */
function inTime<T>(work: Promise<T>, late: AbortSignal | undefined): Promise<T> {
  if (late === undefined) return work
  return new Promise((resolve, reject) => {
    const gone = (): void => reject(late.reason)
    late.addEventListener('abort', gone, { once: true })
    work.then(resolve, reject).finally(() => late.removeEventListener('abort', gone))
    if (late.aborted) gone()
  })
}

/** Opens an attachment's way in the engine, once what must stand before does. */
export async function open(
  { gate, plane, policies }: PodsContext,
  attachment: Attachment,
  options?: { adopt: boolean },
  late?: AbortSignal,
): Promise<PodAttachment> {
  await gate?.(attachment, late)
  const policy = policies && (await inTime(policies.admit(attachment), late))
  faultPoint('attach.admitted')
  const names = policies?.names(attachment) ?? []
  const spec = podSpec(attachment, policy)
  return plane.attach(names.length === 0 ? spec : { ...spec, names }, options)
}
