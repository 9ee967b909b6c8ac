/**
 * The memory that policy is enforced by: one writer (the main thread) and every worker share it. It exists only
 * where policy is switched on, and survives a structured clone, which shares it.
 *
 *   classifier   programs of this node's pods (tables.ts)
 *   identities   who has an address (identities.ts)
 *   flows        what was decided (flow/flow.ts); every worker writes it
 *   dns          names that pods have asked for (dns/memory.ts); absent: no resolver is named, and no name is learned
 *   denials      what is denied, and how often rules have decided (denials.ts)
 *   clock        word EPOCH: number of the policy that is in force. A flow that another one has decided is decided again
 *                word RESUME_UNTIL: second of the monotonic clock until which connections of before this engine are taken on
 *                word NODE_PROGRAM: what the node itself receives from pods; 0: everything, and no flow of it is kept
 */
import type { Acl } from '../acl/acl.ts'
import { aclByName, defaultAcl } from '../acl/index.ts'
import type { Cidr } from '../addresses.ts'
import { type DnsMemory, dnsMemory } from '../dns/memory.ts'
import { fibByName } from '../fib/index.ts'
import type { Flow, FlowLimits } from '../flow/flow.ts'
import { flowByName, flowNames } from '../flow/index.ts'
import type { HashSeed } from '../hash/hash.ts'
import { newSeed } from '../hash/hash.ts'
import { MAX_PORTS } from '../limits.ts'
import { sharedPages } from '../memory/pages.ts'
import { type DenialMemory, denialMemory } from './denials.ts'
import { type PolicyFacts, policyFacts } from './tables.ts'

/** Words of `PolicyMemory.clock`. */
export const CLOCK = { EPOCH: 0, NODE_PROGRAM: 1, RESUME_UNTIL: 2, WORDS: 16 } as const

/** Room, as DataplaneOptions.policy says. */
export interface PolicyRoom {
  readonly matches: number
  readonly addresses: number
  readonly flows: number
  /** Whose answers say what a name's addresses are. */
  readonly resolvers?: readonly Cidr[]
}

export interface PolicyMemory {
  readonly room: PolicyRoom
  readonly rules: Uint8Array
  readonly facts: PolicyFacts
  readonly addresses4: Uint8Array
  readonly addresses6: Uint8Array
  readonly who: Uint32Array
  readonly flows: Uint8Array
  readonly seed: HashSeed
  readonly clock: Int32Array
  readonly denials: DenialMemory
  readonly dns?: DnsMemory
}

/** Different pairs of identity and node; what a FIB can name. */
export const MAX_WHO = 0x7fff
/** Words for each in `PolicyMemory.who`: the identity, and the VTEP that its packets come from. */
export const WHO_WORDS = 5

export const policyAcl: Acl = aclByName(defaultAcl(6), 6)
export const addressFibs = { 4: fibByName('poptrie4', 4), 6: fibByName('poptrie6', 6) } as const
export const policyFlow: Flow = flowByName(flowNames()[0]!)

/**
 * Whose a flow is in the table: its *account*. What a pod has begun is its port's; what other nodes and the host have begun with a pod is
 * of a second account of that pod, so that neither takes from the other, and nothing from other pods.
 */
export function accountOf(pod: number, beganHere: boolean): number {
  return beganHere ? pod : MAX_PORTS + pod
}

export function flowLimits({ flows }: PolicyRoom): FlowLimits {
  return { flows, ports: 2 * MAX_PORTS }
}

/** Zeroed. Throws RangeError for room out of range. */
export function policyMemory(room: PolicyRoom): PolicyMemory {
  const words = (n: number): SharedArrayBuffer => new SharedArrayBuffer(n * 4)
  const routes = { routes: room.addresses }
  const { resolvers = [] } = room
  return {
    room,
    rules: sharedPages(policyAcl.bytes({ rules: room.matches })),
    facts: policyFacts({ matches: room.matches }),
    addresses4: sharedPages(addressFibs[4].bytes(routes)),
    addresses6: sharedPages(addressFibs[6].bytes(routes)),
    who: new Uint32Array(words((MAX_WHO + 1) * WHO_WORDS)),
    flows: sharedPages(policyFlow.bytes(flowLimits(room))),
    seed: newSeed(),
    clock: new Int32Array(words(CLOCK.WORDS)),
    denials: denialMemory(),
    ...(resolvers.length === 0 ? {} : { dns: dnsMemory(resolvers) }),
  }
}
