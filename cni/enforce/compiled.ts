/**
 * A world with this node's pods in it, and the programs of their kinds, each compiled when a pod first needs it. Where
 * policies alone are others than before, a kind whose policies are the same has the programs of before.
 *
 * A pod of this node that the files don't have is one of its namespace with the labels that it has brought along. All
 * such pods of a namespace with the same labels are of one kind, and one without a name stands for them in the world, so
 * that a pod more changes nothing that is compiled: only the first of a kind does.
 */
import type { PodPolicy } from '../../dataplane/control.ts'
import { IDENTITY, type Program, VERDICT } from '../../dataplane/policy-program.ts'
import { type PodFacts, qualified } from '../model/facts.ts'
import { Compiler } from '../policy/compile.ts'
import { Identities, type PodKind } from '../policy/identities.ts'
import { Origins } from '../policy/origins.ts'
import { type Origin, type Policy, type PolicyWorld, withNamespaces } from '../policy/sources.ts'
import type { OwnPod } from './own-pods.ts'

const NOTHING: Program = { tiers: [{ rules: [], otherwise: VERDICT.DENY, origin: -1 }] }
/** Of a pod that no policy is known for, where there should be one. */
export const CLOSED: PodPolicy = { identity: IDENTITY.WORLD, ingress: NOTHING, egress: NOTHING }

/** What this node's pods add to the files' world. */
interface Added {
  /** Pods that the files don't have: one of each kind, by what says that it is another one. */
  unnamed: ReadonlyMap<string, PodFacts>
  /** Pods that the files say have the network of their node. */
  attached: ReadonlySet<string>
}

/** What a kind of pods has, and the policies that say so. */
interface Compiled {
  policy: PodPolicy
  from: readonly Policy[]
}

export class CompiledWorld {
  readonly world: PolicyWorld
  readonly #pods: ReadonlyMap<string, PodFacts>
  readonly #added: string
  readonly #identities: Identities
  readonly #origins: Origins
  readonly #compiler: Compiler
  #node: Program | undefined
  readonly #policies = new Map<PodKind, Compiled>()
  /** Of the world before, where it had the same kinds of pods. */
  readonly #earlier: ReadonlyMap<PodKind, Compiled> | undefined

  /** `before`: whose identities stay with their kinds of pods, and numbers with rules. Throws RangeError with a limit's name. */
  constructor(world: PolicyWorld, own: readonly OwnPod[], before?: CompiledWorld) {
    this.world = world
    this.#pods =
      before?.world === world ? before.#pods : new Map(world.pods.map(pod => [qualified(pod), pod]))
    const added = addedBy(own, this.#pods)
    this.#added = textOf(added)
    this.#origins = before === undefined || before.#origins.full ? new Origins() : before.#origins
    const whole = withAdded(world, added)
    if (
      before !== undefined &&
      this.#added === before.#added &&
      sameButPolicies(world, before.world)
    ) {
      this.#identities = before.#identities
      if (this.#origins === before.#origins) this.#earlier = before.#policies
    } else {
      this.#identities = before === undefined ? new Identities() : before.#identities.copy()
      this.#identities.follow(whole.namespaces, whole.pods)
    }
    this.#compiler = new Compiler(whole, this.#identities, this.#origins)
  }

  /** Whether it is right for these pods of this node as well. */
  fits(world: PolicyWorld, own: readonly OwnPod[]): boolean {
    return this.world === world && textOf(addedBy(own, this.#pods)) === this.#added
  }

  /** The identity of a pod of the files; undefined for one that has its node's network. */
  identityOf(pod: PodFacts): number | undefined {
    return this.#identities.of(pod)?.identity
  }

  /** Whose word a number in its programs is. */
  origin(number: number): Origin | undefined {
    return this.#origins.of(number)
  }

  /** Whose words there are, by number. */
  origins(): readonly Origin[] {
    return this.#origins.all()
  }

  /** What a node receives from pods; one that the files don't have has no labels. */
  nodeOf(name: string): Program {
    this.#node ??= this.#compiler.node(
      this.world.nodes.find(each => each.name === name)?.labels ?? {},
    )
    return this.#node
  }

  /** What is in force for a pod of this node: of one kind always the same object. */
  policyOf(pod: OwnPod): PodPolicy {
    const kind = this.#pods.has(qualified(pod))
      ? this.#identities.of(pod)
      : this.#identities.like(unnamedPod(pod))
    if (kind === undefined) return CLOSED
    const known = this.#policies.get(kind)
    if (known !== undefined) return known.policy
    const from = this.#compiler.policiesOf(kind)
    const earlier = this.#earlier?.get(kind)
    const same = earlier !== undefined && sameItems(earlier.from, from)
    const policy = same
      ? earlier.policy
      : { identity: kind.identity, ...this.#compiler.programs(kind) }
    this.#policies.set(kind, { policy, from })
    return policy
  }
}

/** Objects of manifests that have not changed are the ones of before. */
function sameButPolicies(world: PolicyWorld, before: PolicyWorld): boolean {
  return (
    sameItems(world.namespaces, before.namespaces) &&
    sameItems(world.nodes, before.nodes) &&
    sameItems(world.pods, before.pods)
  )
}

function sameItems<T>(some: readonly T[], others: readonly T[]): boolean {
  return some.length === others.length && some.every((each, i) => each === others[i])
}

/** The files' world with these pods of this node in it, each by its name and with the addresses that it has here. */
export function withOwn(world: PolicyWorld, own: readonly OwnPod[]): PolicyWorld {
  const here = new Map(own.map(pod => [qualified(pod), pod]))
  const named = new Set(world.pods.map(qualified))
  const pods = world.pods.map(pod => {
    const mine = here.get(qualified(pod))
    return mine === undefined ? pod : { ...pod, addresses: mine.addresses, hostNetwork: false }
  })
  const unnamed = [...here.values()]
    .filter(pod => !named.has(qualified(pod)))
    .map(pod => ({ ...unnamedPod(pod), name: pod.name, addresses: pod.addresses }))
  return { ...world, pods: [...pods, ...unnamed] }
}

function addedBy(own: readonly OwnPod[], pods: ReadonlyMap<string, PodFacts>): Added {
  const unnamed = new Map<string, PodFacts>()
  const attached = new Set<string>()
  for (const pod of own) {
    const known = pods.get(qualified(pod))
    if (known === undefined) unnamed.set(kindText(pod), unnamedPod(pod))
    else if (known.hostNetwork) attached.add(qualified(pod))
  }
  return { unnamed, attached }
}

function kindText({ namespace, labels }: OwnPod): string {
  return JSON.stringify([namespace, Object.entries(labels).sort(([a], [b]) => (a < b ? -1 : 1))])
}

function textOf({ unnamed, attached }: Added): string {
  return JSON.stringify([[...unnamed.keys()].sort(), [...attached].sort()])
}

function withAdded(world: PolicyWorld, { unnamed, attached }: Added): PolicyWorld {
  const pods = [
    ...world.pods.map(pod => (attached.has(qualified(pod)) ? { ...pod, hostNetwork: false } : pod)),
    ...unnamed.values(),
  ]
  return withNamespaces({ ...world, pods })
}

/** Stands for all pods of a namespace that only labels are known of; no pod of the files has its name. */
function unnamedPod({ namespace, labels }: OwnPod): PodFacts {
  return {
    ...{ namespace, name: '', labels, addresses: [], ports: [] },
    ...{ serviceAccount: 'default', hostNetwork: false },
  }
}
