/** All that the engine is told of policy. */
import type { NodeSpec, PodIdentity, PolicyState } from '../../dataplane/control.ts'
import { qualified } from '../model/facts.ts'
import { CLOSED, type CompiledWorld } from './compiled.ts'
import type { OwnPod } from './own-pods.ts'

/** The nodes that policy knows by name. */
export interface Nodes {
  self: NodeSpec
  /** VTEPs by the name of their node, this one's, too. */
  vteps: ReadonlyMap<string, string>
}

export interface WholeState {
  state: PolicyState
  /** Addresses that several pods of the files claim: they are nobody's. */
  contested: readonly string[]
}

/**
 * What `compiled` comes to with these pods of this node, whose addresses are those that they have here. A pod that the
 * files have on another node has its address there, too, whatever of the same name is here.
 */
export function policyState(
  compiled: CompiledWorld,
  own: readonly OwnPod[],
  { self, vteps }: Nodes,
): WholeState {
  const identities = new Map<string, PodIdentity>()
  const contested = new Set<string>()
  const here = new Set(own.map(qualified))
  for (const pod of compiled.world.pods) {
    const elsewhere = pod.node !== undefined && pod.node !== self.name
    if (pod.hostNetwork || (here.has(qualified(pod)) && !elsewhere)) continue
    const identity = compiled.identityOf(pod)
    if (identity === undefined) continue
    const vtep = pod.node === undefined ? undefined : vteps.get(pod.node)
    for (const address of pod.addresses) {
      if (identities.has(address)) contested.add(address)
      identities.set(address, { address, identity, ...(vtep === undefined ? {} : { vtep }) })
    }
  }
  for (const address of contested) identities.delete(address)
  const pods = new Map(own.map(pod => [pod.id, compiled.policyOf(pod)] as const))
  for (const pod of own) {
    const { identity } = pods.get(pod.id)!
    for (const address of pod.addresses) {
      identities.set(address, { address, identity, vtep: self.vtep })
      contested.delete(address)
    }
  }
  return { state: { identities: [...identities.values()], pods }, contested: [...contested] }
}

/** Nothing is known that could be in force: these pods get and send nothing. */
export function closedState(own: readonly OwnPod[]): PolicyState {
  return { identities: [], pods: new Map(own.map(({ id }) => [id, CLOSED])) }
}
