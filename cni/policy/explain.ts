/** Why a flow is let through or not: what each end's program says, and whose word it is. */
import { isIP } from 'node:net'
import { ipWords } from '../../dataplane/addresses.ts'
import { evaluate } from '../../dataplane/policy/evaluate.ts'
import { type Answer, IDENTITY, type Question, VERDICT } from '../../dataplane/policy-program.ts'
import { type NodeFacts, type PodFacts, qualified } from '../model/facts.ts'
import type { Labels } from '../model/labels.ts'
import { Compiler } from './compile.ts'
import { Identities } from './identities.ts'
import { PROTOCOL_NUMBER } from './matches.ts'
import type { Direction } from './network-policy.ts'
import { originText, type PolicyWorld, withNamespaces } from './sources.ts'

export const EXPLAINED_PROTOCOLS = ['TCP', 'UDP', 'SCTP', 'ICMP'] as const
export type ExplainedProtocol = (typeof EXPLAINED_PROTOCOLS)[number]

/** How a node is named as an end; with `/NAME` behind it that one. */
const NODE = /^node(?:\/(.+))?$/

/** A new flow. Ends are `namespace/pod`, `node` or `node/NAME`, or an address of something else. */
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
  /** The tables of the running node said so; else it is what the policies would come to. */
  enforced?: true
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

/** What the tables of a running node say of a flow at one end; undefined where they know nothing of it. */
export type Tables = (
  /** `namespace/pod`; absent: the node. */
  pod: string | undefined,
  direction: Direction,
  /** Address of the other end. */
  peer: string,
  protocol: number,
  port: number,
) => { allowed: boolean; by?: string | undefined } | undefined

/** Answers about one world. */
export class Explainer {
  readonly #pods: ReadonlyMap<string, PodFacts>
  readonly #nodes: readonly NodeFacts[]
  readonly #tables: Tables | undefined
  readonly #identities = new Identities()
  readonly #compiler: Compiler

  /** `tables`: asked first where there is a running node. */
  constructor(world: PolicyWorld, tables?: Tables) {
    this.#tables = tables
    this.#nodes = world.nodes
    this.#pods = new Map(world.pods.map(pod => [qualified(pod), pod]))
    const whole = withNamespaces(world)
    this.#identities.follow(whole.namespaces, whole.pods)
    this.#compiler = new Compiler(whole, this.#identities)
  }

  /** Throws Error when an end is neither a pod that is there nor an address. */
  explain({ from, to, port, protocol, toName }: Flow): Explanation {
    if (this.#isNode(from)) return this.#fromNode(from, to)
    const family = this.#families(from, to)
    const sender = this.#place(from, family)
    if (this.#isNode(to)) return this.#toNode(sender, to, port, protocol)
    const receiver = this.#place(to, family)
    const ends = [
      ...this.#end('egress', sender, receiver, port, protocol, toName),
      ...this.#end('ingress', receiver, sender, port, protocol),
    ]
    return { allowed: ends.every(({ allowed }) => allowed), ends }
  }

  #isNode(text: string): boolean {
    return NODE.test(text) && !this.#pods.has(text)
  }

  /** The rule `node`: what a node sends to its pods is always let through. */
  #fromNode(from: string, to: string): Explanation {
    if (!this.#pods.has(to)) throw new Error(`${to}: not a pod that is there (namespace/name)`)
    const why = `${from} always reaches its own pods (rule node)`
    return { allowed: true, ends: [{ direction: 'ingress', pod: to, allowed: true, why }] }
  }

  #toNode(sender: Place, to: string, port: number, protocol: ExplainedProtocol): Explanation {
    if (sender.pod === undefined) throw new Error(`${sender.text}: not a pod that is there`)
    const rules = this.#compiler.node(this.#labelsOf(NODE.exec(to)?.[1]))
    const egress: End = {
      ...{ direction: 'egress', pod: sender.text, allowed: true },
      why: 'what it sends to its own node no policy of a pod decides about (rule node)',
    }
    const question = this.#question(sender, sender.address, port, protocol)
    const nobody = 'no GlobalPolicy for hosts decides'
    const said =
      this.#enforced(undefined, 'ingress', sender.address, question, nobody) ??
      this.#said(evaluate(rules, question), nobody)
    const ingress: End = { direction: 'ingress', pod: to, ...said }
    return { allowed: ingress.allowed, ends: [egress, ingress] }
  }

  #labelsOf(name: string | undefined): Labels {
    if (name === undefined) return {}
    const node = this.#nodes.find(each => each.name === name)
    if (node === undefined) throw new Error(`node ${name}: it is not there`)
    return node.labels
  }

  /** What is asked about a new flow with `peer` at the other end; `address`: of that. */
  #question(
    peer: Place,
    address: string,
    port: number,
    protocol: ExplainedProtocol,
  ): Omit<Question, 'names'> {
    const { identity } = (peer.pod && this.#identities.of(peer.pod)) ?? { identity: IDENTITY.WORLD }
    const ipv6 = address.includes(':')
    // RFC 792: echo is type 8; RFC 4443: echo request is type 128.
    const echo = (ipv6 ? 128 : 8) << 16
    return {
      ...{ identity, address: ipWords(address) },
      protocol: protocol === 'ICMP' ? (ipv6 ? 58 : 1) : PROTOCOL_NUMBER[protocol],
      port: protocol === 'ICMP' ? echo : port,
    }
  }

  #enforced(
    pod: string | undefined,
    direction: Direction,
    peer: string,
    { protocol, port }: Pick<Question, 'protocol' | 'port'>,
    nobody: string,
  ): Omit<End, 'direction' | 'pod'> | undefined {
    const answer = this.#tables?.(pod, direction, peer, protocol, port)
    if (answer === undefined) return undefined
    const { allowed, by } = answer
    return { allowed, ...(by === undefined ? { why: nobody } : { by }), enforced: true }
  }

  /** An answer in words; `nobody`: when it is nobody's. */
  #said({ verdict, origin }: Answer, nobody: string): Pick<End, 'allowed' | 'by' | 'why'> {
    const whose = this.#compiler.origin(origin)
    const allowed = verdict === VERDICT.ALLOW
    return whose === undefined ? { allowed, why: nobody } : { allowed, by: originText(whose) }
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
    const question = this.#question(peer, peer.address, port, protocol)
    const nobody = `no policy decides about its ${direction}`
    const enforced =
      name === undefined
        ? this.#enforced(text, direction, peer.address, question, nobody)
        : undefined
    if (enforced !== undefined) return [{ direction, pod: text, ...enforced }]
    const answer = evaluate(this.#compiler.programs(kind)[direction], {
      ...question,
      ...(name === undefined ? {} : { names: [name] }),
    })
    return [{ direction, pod: text, ...this.#said(answer, nobody) }]
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
