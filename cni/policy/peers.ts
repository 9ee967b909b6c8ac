/** Peers of rules as identities: which kinds of pods, and which namespaces whole, a selector means. */
import { EVERY_POD, type IdentityPrefix, podIdentity } from '../../dataplane/policy-program.ts'
import type { NamespaceFacts } from '../model/facts.ts'
import { type LabelSelector, selects } from '../model/labels.ts'
import type { Identities, PodKind } from './identities.ts'

/** A peer that is pods: `kinds` are all that it means, `prefixes` the same in as few as may be. */
export interface PodPeers {
  kinds: readonly PodKind[]
  prefixes: readonly IdentityPrefix[]
}

export class PeerIndex {
  readonly #identities: Identities
  readonly #namespaces: readonly NamespaceFacts[]
  readonly #byNamespace = new Map<string, PodKind[]>()
  readonly #known = new Map<string, PodPeers>()

  constructor(identities: Identities, namespaces: readonly NamespaceFacts[]) {
    this.#identities = identities
    this.#namespaces = namespaces
    for (const kind of identities.kinds) {
      const list = this.#byNamespace.get(kind.namespace.name)
      if (list === undefined) this.#byNamespace.set(kind.namespace.name, [kind])
      else list.push(kind)
    }
  }

  /**
   * Pods that `pods` selects in the namespaces that `namespaces` does: a selector, or one namespace's name. With
   * `accounts` only those of these service accounts.
   */
  find(
    namespaces: LabelSelector | string,
    pods: LabelSelector,
    accounts?: readonly string[],
  ): PodPeers {
    const key = JSON.stringify([namespaces, pods, accounts])
    const known = this.#known.get(key)
    if (known !== undefined) return known
    const found = this.#find(namespaces, pods, accounts)
    this.#known.set(key, found)
    return found
  }

  #find(
    namespaces: LabelSelector | string,
    pods: LabelSelector,
    accounts: readonly string[] | undefined,
  ): PodPeers {
    const chosen =
      typeof namespaces === 'string'
        ? this.#namespaces.filter(({ name }) => name === namespaces)
        : this.#namespaces.filter(({ labels }) => selects(namespaces, labels))
    const kinds: PodKind[] = []
    const prefixes: IdentityPrefix[] = []
    for (const { name } of chosen) {
      const all = this.#byNamespace.get(name) ?? []
      const some = all.filter(
        ({ pod }) => selects(pods, pod.labels) && (accounts?.includes(pod.serviceAccount) ?? true),
      )
      kinds.push(...some)
      if (some.length === all.length && all.length > 0) {
        const number = this.#identities.namespaceNumber(name)!
        prefixes.push({ value: podIdentity(number, 0), bits: 16 })
      } else {
        prefixes.push(...some.map(({ identity }) => ({ value: identity, bits: 32 })))
      }
    }
    const every = kinds.length > 0 && kinds.length === this.#identities.kinds.length
    return { kinds, prefixes: every ? [EVERY_POD] : prefixes }
  }
}
