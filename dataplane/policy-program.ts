/**
 * What policy says of one end of a flow, in the form that every source is compiled to and every classifier
 * can carry out: ordered rules over identities, networks, protocols and ports. The engine knows nothing
 * of selectors, namespaces or Kubernetes.
 *
 * A *program* is for one direction of one kind of pod (the *subject*): what it may receive, or what it may send. The
 * other end of the flow is the *peer*. A program is a list of *tiers*. In each the first rule that matches decides:
 * ALLOW and DENY are final, PASS goes on with the next tier. When none matches, `otherwise` of the tier says what
 * comes: DENY, or PASS to the next one. Behind the last tier everything is allowed.
 *
 * A rule matches when one of its *matches* does, and a match when all of its fields do; an absent field
 * matches everything.
 *
 * An **identity** is a word that stands for all pods that policy can't tell apart:
 *
 *     31  1: a pod of the cluster; 0: anything else (IDENTITY below)
 *     30-16  number of the namespace, 1 ..
 *     15-0   number of the kind of pod within the namespace
 *
 * so that "every pod" and "every pod of a namespace" are prefixes of it, as a network is one of addresses.
 */
import type { Cidr } from './addresses.ts'

export const VERDICT = { PASS: 0, ALLOW: 1, DENY: 2 } as const
export type Verdict = (typeof VERDICT)[keyof typeof VERDICT]

/** Peers that are no pods. */
export const IDENTITY = {
  /** Whatever has no other identity. */
  WORLD: 0,
  /** The node itself: kubelet's probes, pods with the node's network. */
  HOST: 1,
} as const

export const MAX_NAMESPACE_NUMBER = 0x7fff
export const MAX_KIND_NUMBER = 0xffff

/** Identity of a kind of pod. */
export function podIdentity(namespace: number, kind: number): number {
  return (0x8000_0000 | (namespace << 16) | kind) >>> 0
}

/** A set of identities: those whose first `bits` bits are `value`'s; bits behind are zero. */
export interface IdentityPrefix {
  readonly value: number
  /** 1: every pod (or nothing that is one); 16: every pod of a namespace; 32: one kind. */
  readonly bits: number
}

/** Every pod of the cluster. */
export const EVERY_POD: IdentityPrefix = { value: 0x8000_0000, bits: 1 }

/** Both ends belong to it. */
export interface Ports {
  readonly first: number
  readonly last: number
}

export interface Match {
  readonly peer?: IdentityPrefix
  /**
   * A name, or `*.` and a name (dns/names.ts): an address that the subject has learned for a name that it means. Only of what
   * the subject sends, and not beside `peer`.
   */
  readonly domain?: string
  /** Of the peer's address; matches no address of the other family. */
  readonly network?: Cidr
  /** IANA's number, 0 .. 255. */
  readonly protocol?: number
  /** Of the flow's destination. Only with a protocol that has ports. */
  readonly ports?: Ports
  /** Only with protocol 1 or 58. */
  readonly icmp?: { readonly type: number; readonly code?: number | undefined }
}

export interface Rule {
  readonly verdict: Verdict
  readonly matches: readonly Match[]
  /** Whose it is, for people and counters: a number that the compiler gave. */
  readonly origin: number
  /** New flows that it decides are told of. */
  readonly log?: boolean
}

export interface Tier {
  readonly rules: readonly Rule[]
  readonly otherwise: typeof VERDICT.PASS | typeof VERDICT.DENY
  /** Whose `otherwise: DENY` is. */
  readonly origin: number
}

export interface Program {
  readonly tiers: readonly Tier[]
  /** What the tiers would be with policies that are only tried: judged, counted and told of, never enforced. */
  readonly staged?: readonly Tier[]
}

/** A new flow as one end's program sees it. */
export interface Question {
  /** Of the peer. */
  readonly identity: number
  /** The peer's address: one word or four. */
  readonly address: ArrayLike<number>
  readonly protocol: number
  /** Of the flow's destination; of ICMP and ICMPv6 type << 16 | code; 0 for protocols without ports. */
  readonly port: number
  /** What the subject has learned the address for; absent: nothing. */
  readonly names?: readonly string[]
}

/** What a program says, and whose word it is; `origin` -1: nobody's, so it is allowed. */
export interface Answer {
  readonly verdict: typeof VERDICT.ALLOW | typeof VERDICT.DENY
  readonly origin: number
}

/** Number of subjects without rules: everything is allowed. */
export const OPEN: Program = { tiers: [] }
