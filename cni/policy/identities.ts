/**
 * Identities: numbers for kinds of pods that no policy can tell apart, which have the same namespace, labels, service
 * account and named ports (dataplane/policy-program.ts has the word's layout). A number that stands for a kind stays
 * with it as long as a pod of that kind is there, so that a change of one pod moves nobody else's.
 */
import {
  MAX_KIND_NUMBER,
  MAX_NAMESPACE_NUMBER,
  podIdentity,
} from '../../dataplane/policy-program.ts'
import type { NamespaceFacts, PodFacts } from '../model/facts.ts'
import { qualified } from '../model/facts.ts'

/** Pods that policy can't tell apart. */
export interface PodKind {
  identity: number
  namespace: NamespaceFacts
  /** One of them; all of its labels, ports and the service account are the others', too. */
  pod: PodFacts
}

export class Identities {
  #namespaces = new Map<string, number>()
  #kinds = new Map<string, { namespace: string; number: number }>()
  #byPod = new Map<string, PodKind>()
  #byKey = new Map<string, PodKind>()
  #all: PodKind[] = []

  /** Kinds that have pods. */
  get kinds(): readonly PodKind[] {
    return this.#all
  }

  /** A pod's kind; undefined for one with the node's network, or of a namespace that nobody knows. */
  of(pod: { namespace: string; name: string }): PodKind | undefined {
    return this.#byPod.get(qualified(pod))
  }

  /** The kind that a pod with these labels, ports and account in this namespace is of, if there is one. */
  like(pod: PodFacts): PodKind | undefined {
    return this.#byKey.get(keyOf(pod))
  }

  /** Number of a namespace that has pods. */
  namespaceNumber(name: string): number | undefined {
    return this.#namespaces.get(name)
  }

  /** The same numbers, to be followed apart. */
  copy(): Identities {
    const copied = new Identities()
    copied.#namespaces = new Map(this.#namespaces)
    copied.#kinds = new Map(this.#kinds)
    copied.#byPod = this.#byPod
    copied.#byKey = this.#byKey
    copied.#all = this.#all
    return copied
  }

  /** Takes the pods that are there now. Throws RangeError with the limit's name, and nothing has changed. */
  follow(namespaces: readonly NamespaceFacts[], pods: readonly PodFacts[]): void {
    const known = new Map(namespaces.map(namespace => [namespace.name, namespace]))
    const members = new Map<string, PodFacts[]>()
    for (const pod of pods) {
      if (pod.hostNetwork || !known.has(pod.namespace)) continue
      const key = keyOf(pod)
      const list = members.get(key)
      if (list === undefined) members.set(key, [pod])
      else list.push(pod)
    }
    const used = new Set([...members.values()].map(([pod]) => pod!.namespace))
    const numbers = renumber(this.#namespaces, used, MAX_NAMESPACE_NUMBER, 'MAX_NAMESPACE_NUMBER')
    const kinds = this.#renumberKinds(members)
    this.#namespaces = numbers
    this.#kinds = kinds
    this.#byPod = new Map()
    this.#byKey = new Map()
    this.#all = []
    for (const [key, [pod, ...others]] of members) {
      const number = kinds.get(key)!.number
      const identity = podIdentity(numbers.get(pod!.namespace)!, number)
      const kind = { identity, namespace: known.get(pod!.namespace)!, pod: pod! }
      this.#all.push(kind)
      this.#byKey.set(key, kind)
      for (const each of [pod!, ...others]) this.#byPod.set(qualified(each), kind)
    }
  }

  #renumberKinds(members: ReadonlyMap<string, PodFacts[]>) {
    const wanted = new Map<string, Set<string>>()
    for (const [key, [pod]] of members) {
      const set = wanted.get(pod!.namespace) ?? new Set()
      wanted.set(pod!.namespace, set.add(key))
    }
    const before = new Map<string, Map<string, number>>()
    for (const [key, { namespace, number }] of this.#kinds) {
      const numbers = before.get(namespace) ?? new Map()
      before.set(namespace, numbers.set(key, number))
    }
    const kinds = new Map<string, { namespace: string; number: number }>()
    for (const [namespace, keys] of wanted) {
      const old = before.get(namespace) ?? new Map<string, number>()
      const limit = `MAX_KIND_NUMBER, namespace ${namespace}`
      for (const [key, number] of renumber(old, keys, MAX_KIND_NUMBER, limit)) {
        kinds.set(key, { namespace, number })
      }
    }
    return kinds
  }
}

/** Numbers from 1 for `wanted`: what had one keeps it. */
function renumber(
  before: ReadonlyMap<string, number>,
  wanted: ReadonlySet<string>,
  most: number,
  limit: string,
): Map<string, number> {
  if (wanted.size > most) throw new RangeError(`${wanted.size} are more than ${most} (${limit})`)
  const kept = new Map([...before].filter(([key]) => wanted.has(key)))
  const taken = new Set(kept.values())
  let next = 1
  for (const key of wanted) {
    if (kept.has(key)) continue
    while (taken.has(next)) next++
    kept.set(key, next++)
  }
  return kept
}

const keys = new WeakMap<PodFacts, string>()

/** The same text for pods of one kind; made out once for each. */
function keyOf(pod: PodFacts): string {
  const known = keys.get(pod)
  if (known !== undefined) return known
  const key = newKeyOf(pod)
  keys.set(pod, key)
  return key
}

function newKeyOf({ namespace, labels, ports, serviceAccount }: PodFacts): string {
  const sorted = Object.entries(labels).sort(([a], [b]) => (a < b ? -1 : 1))
  const named = ports.map(({ name, protocol, port }) => [name, protocol, port].join(' ')).sort()
  return JSON.stringify([namespace, serviceAccount, sorted, named])
}
