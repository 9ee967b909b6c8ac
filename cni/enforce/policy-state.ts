/**
 * All that the engine is told of policy. What files say of pods is made out once for a world; an attachment that comes or
 * goes only takes its own place in it.
 */
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

/** An address that the files give to a pod. */
interface Claim {
  identity: PodIdentity
  /** The pod's, when it is on this node as far as the files know: an attachment of that name knows better. */
  here?: string
}

export class PolicyStates {
  readonly #compiled: CompiledWorld
  readonly #nodes: Nodes
  readonly #claims: readonly Claim[]
  readonly #byAddress = new Map<string, Claim[]>()
  /** Addresses with more than one claim. */
  readonly #disputed: readonly string[]

  constructor(compiled: CompiledWorld, nodes: Nodes) {
    this.#compiled = compiled
    this.#nodes = nodes
    this.#claims = compiled.world.pods.flatMap(pod => {
      const identity = pod.hostNetwork ? undefined : compiled.identityOf(pod)
      if (identity === undefined) return []
      const vtep = pod.node === undefined ? undefined : nodes.vteps.get(pod.node)
      const elsewhere = pod.node !== undefined && pod.node !== nodes.self.name
      return pod.addresses.map(address => ({
        identity: { address, identity, ...(vtep === undefined ? {} : { vtep }) },
        ...(elsewhere ? {} : { here: qualified(pod) }),
      }))
    })
    for (const claim of this.#claims) {
      const { address } = claim.identity
      const others = this.#byAddress.get(address)
      if (others === undefined) this.#byAddress.set(address, [claim])
      else others.push(claim)
    }
    this.#disputed = [...this.#byAddress]
      .filter(([, claims]) => claims.length > 1)
      .map(([address]) => address)
  }

  /** Whether it is right for these as well. */
  fits(compiled: CompiledWorld, nodes: Nodes): boolean {
    return this.#compiled === compiled && this.#nodes === nodes
  }

  /**
   * The state with these pods of this node, whose addresses are those that they have here, and the addresses that several
   * pods of the files claim: they are nobody's. A pod that the files have on another node has its address
   * there, too, whatever of the same name is here.
   */
  with(own: readonly OwnPod[]): { state: PolicyState; contested: readonly string[] } {
    const names = new Set(own.map(qualified))
    const known = (claim: Claim): boolean => claim.here === undefined || !names.has(claim.here)
    const taken = new Set(own.flatMap(({ addresses }) => addresses))
    const contested = this.#disputed.filter(
      address => !taken.has(address) && this.#byAddress.get(address)!.filter(known).length > 1,
    )
    for (const address of contested) taken.add(address)
    const pods = new Map(own.map(pod => [pod.id, this.#compiled.policyOf(pod)] as const))
    const identities = this.#claims
      .filter(claim => known(claim) && !taken.has(claim.identity.address))
      .map(claim => claim.identity)
    const { vtep } = this.#nodes.self
    for (const { id, addresses } of own) {
      const { identity } = pods.get(id)!
      identities.push(...addresses.map(address => ({ address, identity, vtep })))
    }
    const node = this.#compiled.nodeOf(this.#nodes.self.name)
    return { state: { identities, pods, node }, contested }
  }
}

/** Nothing is known that could be in force: these pods get and send nothing. */
export function closedState(own: readonly OwnPod[]): PolicyState {
  return { identities: [], pods: new Map(own.map(({ id }) => [id, CLOSED])) }
}
