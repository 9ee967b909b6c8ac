/** Why a flow is let through or not: what each end's program says, and whose word it is. */
import { isIP } from 'node:net'
import { ipWords } from '../../dataplane/addresses.ts'
import { evaluate } from '../../dataplane/policy/evaluate.ts'
import { IDENTITY, VERDICT } from '../../dataplane/policy-program.ts'
import { type PodFacts, qualified } from '../model/facts.ts'
import { Compiler } from './compile.ts'
import { Identities } from './identities.ts'
import { PROTOCOL_NUMBER } from './matches.ts'
import type { Direction } from './network-policy.ts'
import { originText, type PolicyWorld, withNamespaces } from './sources.ts'

export const EXPLAINED_PROTOCOLS = ['TCP', 'UDP', 'SCTP', 'ICMP'] as const
export type ExplainedProtocol = (typeof EXPLAINED_PROTOCOLS)[number]

/** A new flow. Ends are `namespace/pod`, or an address of something else. */
export interface Flow {
  from: string
  to: string
  /** Of ICMP nothing: it is an echo request. */
  port: number
  protocol: ExplainedProtocol
  /** What the sender has learned the receiver's address for. */
  toName?: string | undefined
}

export interface End {
  /** What the pod sends at its node, or receives at its node. */
  direction: Direction
  pod: string
  allowed: boolean
  /** Whose word it is; absent: nobody's. */
  by?: string
  /** Why it is nobody's. */
  why?: string
}

export interface Explanation {
  allowed: boolean
  /** The pods among the two ends, the sender first. */
  ends: readonly End[]
}

interface Place {
  text: string
  pod?: PodFacts
  address: string
}

/** Answers about one world. */
export class Explainer {
  readonly #pods: ReadonlyMap<string, PodFacts>
  readonly #identities = new Identities()
  readonly #compiler: Compiler

  constructor(world: PolicyWorld) {
    this.#pods = new Map(world.pods.map(pod => [qualified(pod), pod]))
    const whole = withNamespaces(world)
    this.#identities.follow(whole.namespaces, whole.pods)
    this.#compiler = new Compiler(whole, this.#identities)
  }

  /** Throws Error when an end is neither a pod that is there nor an address. */
  explain({ from, to, port, protocol, toName }: Flow): Explanation {
    const family = this.#families(from, to)
    const sender = this.#place(from, family)
    const receiver = this.#place(to, family)
    const ends = [
      ...this.#end('egress', sender, receiver, port, protocol, toName),
      ...this.#end('ingress', receiver, sender, port, protocol),
    ]
    return { allowed: ends.every(({ allowed }) => allowed), ends }
  }

  #end(
    direction: Direction,
    { pod, text }: Place,
    peer: Place,
    port: number,
    protocol: ExplainedProtocol,
    name?: string,
  ): End[] {
    if (pod === undefined) return []
    const kind = this.#identities.of(pod)
    if (kind === undefined) {
      const why = "it has the node's network, and no policy selects it"
      return [{ direction, pod: text, allowed: true, why }]
    }
    const { identity } = (peer.pod && this.#identities.of(peer.pod)) ?? { identity: IDENTITY.WORLD }
    const number =
      protocol === 'ICMP' ? (peer.address.includes(':') ? 58 : 1) : PROTOCOL_NUMBER[protocol]
    // RFC 792: echo is type 8; RFC 4443: echo request is type 128.
    const echo = (peer.address.includes(':') ? 128 : 8) << 16
    const { verdict, origin } = evaluate(this.#compiler.programs(kind)[direction], {
      identity,
      address: ipWords(peer.address),
      protocol: number,
      port: protocol === 'ICMP' ? echo : port,
      ...(name === undefined ? {} : { names: [name] }),
    })
    const whose = this.#compiler.origin(origin)
    const allowed = verdict === VERDICT.ALLOW
    const said =
      whose === undefined
        ? { why: `no policy decides about its ${direction}` }
        : { by: originText(whose) }
    return [{ direction, pod: text, allowed, ...said }]
  }

  /** The family that both ends have; IPv4 when both do. */
  #families(...ends: readonly string[]): 4 | 6 {
    const of = ends.map(end => {
      const pod = this.#pods.get(end)
      const addresses = pod === undefined ? [end] : pod.addresses
      return new Set(addresses.map(isIP).filter(family => family !== 0))
    })
    const both = ([4, 6] as const).find(family => of.every(have => have.has(family)))
    // A pod without an address (a world that is only planned) has the other's.
    return both ?? (of.some(have => have.has(6) && !have.has(4)) ? 6 : 4)
  }

  #place(text: string, family: 4 | 6): Place {
    const pod = this.#pods.get(text)
    if (pod !== undefined) {
      const address = pod.addresses.find(each => isIP(each) === family)
      return { text, pod, address: address ?? (family === 4 ? '0.0.0.0' : '::') }
    }
    if (isIP(text) === 0) {
      throw new Error(`${text}: neither a pod that is there (namespace/name) nor an address`)
    }
    const owner = [...this.#pods.values()].find(each => each.addresses.includes(text))
    return owner === undefined
      ? { text, address: text }
      : { text: qualified(owner), pod: owner, address: text }
  }
}
