/**
 * Policy as the main thread keeps it in force: the programs of this node's pods, who has which address, and flows.
 *
 * A change comes in steps, one change at a time. New programs are written beside those in force; identities follow;
 * then port records name the new programs, and when every worker works by them the epoch moves: flows that an older
 * policy has decided are judged again at their next packet, as they were begun. Only then the old programs go. A
 * change that a limit refuses has changed nothing. What was the same before stays as it is: the coming and going
 * of pods moves no epoch, and so no flow but those of their addresses.
 */

import { native } from '../../native/native.ts'
import { type Cidr, parseCidr } from '../addresses.ts'
import type {
  Denial,
  DenialsRead,
  FlowEntry,
  PodPolicy,
  PodSpec,
  PolicyAnswer,
  PolicyLimits as PolicyOptions,
  PolicyQuestion,
  PolicyState,
} from '../control.ts'
import { ENTRY, type FlowTable } from '../flow/flow.ts'
import { KEY } from '../hash/flow-key.ts'
import {
  DEFAULT_FLOWS,
  DEFAULT_POLICY_ADDRESSES,
  DEFAULT_POLICY_MATCHES,
  FLOW_TIMEOUTS,
  FLOWS_OF_POD,
  FLOWS_WITH_POD,
  HALF_OPEN_OF_POD,
  RESUME_SECONDS,
} from '../limits.ts'
import type { Parts } from '../manage/parts.ts'
import { type PodGuard, type PortPolicy, policed } from '../manage/pods.ts'
import { HEADER } from '../memory/arena.ts'
import { DenialReader } from '../policy/denials.ts'
import { IdentityWriter } from '../policy/identities.ts'
import { FLOW_CLASS } from '../policy/judge.ts'
import {
  accountOf,
  CLOCK,
  flowLimits,
  type PolicyMemory,
  policyAcl,
  policyFlow,
  policyMemory,
} from '../policy/memory.ts'
import { type PolicyTables, policyTables } from '../policy/tables.ts'
import { OPEN } from '../policy-program.ts'
import { PORT_FLAG } from '../tables/ports.ts'
import { Answers } from './answers.ts'
import { wrongIdentities, wrongPrograms } from './audit.ts'
import { Ends } from './ends.ts'
import { denialOf, flowEntry, NODE_END } from './entries.ts'
import { Names } from './names.ts'

export class Enforcement implements PodGuard {
  readonly memory: PolicyMemory
  private readonly parts: Parts
  private readonly programs: PolicyTables
  private readonly identities: IdentityWriter
  /** Its quotas and counters; flows are written by workers. */
  readonly table: FlowTable
  /** Absent where no resolver is named. */
  readonly names: Names | undefined
  private readonly denied: DenialReader
  private readonly answers: Answers
  /** What a pod may have of the table: begun by it, begun with it, and half open of either. */
  private readonly shares: {
    readonly began: number
    readonly met: number
    readonly halfOpen: number
  }
  /** Name of a network by its index. */
  private readonly networkName: (index: number) => string | undefined
  private readonly byPod = new Map<string, PortPolicy>()
  private state: PolicyState = { identities: [], pods: new Map() }
  private nodeProgram = 0
  /** What is in the tables has been found wrong: all of it is written again, and all flows are judged. */
  private doubted = false
  private audits = 0
  /** The change that is under way, or was last. */
  private last: Promise<unknown> = Promise.resolve()

  /** Throws RangeError for room out of range. */
  constructor(
    parts: Parts,
    options: PolicyOptions,
    networkName: (index: number) => string | undefined,
  ) {
    const { matches, addresses, flows, resolvers = [] } = options
    const { flowsOfPod, flowsWithPod, halfOpenOfPod } = options
    this.parts = parts
    this.networkName = networkName
    this.memory = policyMemory({
      matches: matches ?? DEFAULT_POLICY_MATCHES,
      addresses: addresses ?? DEFAULT_POLICY_ADDRESSES,
      flows: flows ?? DEFAULT_FLOWS,
      resolvers: resolvers.map(resolverCidr),
    })
    const { room, rules, facts, dns } = this.memory
    this.identities = new IdentityWriter(this.memory)
    this.denied = new DenialReader(this.memory.denials)
    this.table = policyFlow.create(this.memory.flows, flowLimits(room))
    this.names =
      dns &&
      new Names({
        memory: dns,
        flows: this.table,
        pods: () => this.ports(),
        log: parts.log,
      })
    const limits = { matches: room.matches }
    this.programs = policyTables(policyAcl, rules, limits, facts, this.names?.patterns)
    this.table.setTimeout(FLOW_CLASS.OPENING, FLOW_TIMEOUTS.opening)
    this.table.setTimeout(FLOW_CLASS.ESTABLISHED, FLOW_TIMEOUTS.established)
    this.table.setTimeout(FLOW_CLASS.CLOSING, FLOW_TIMEOUTS.closing)
    this.table.setTimeout(FLOW_CLASS.DATAGRAM, FLOW_TIMEOUTS.datagram)
    this.table.setTimeout(FLOW_CLASS.ICMP, FLOW_TIMEOUTS.icmp)
    this.table.setTimeout(FLOW_CLASS.ANSWERED, FLOW_TIMEOUTS.answered)
    this.table.setTimeout(FLOW_CLASS.REFUSED, FLOW_TIMEOUTS.refused)
    this.shares = {
      began: Math.min(flowsOfPod ?? FLOWS_OF_POD, room.flows),
      met: Math.min(flowsWithPod ?? FLOWS_WITH_POD, room.flows),
      halfOpen: Math.min(halfOpenOfPod ?? HALF_OPEN_OF_POD, room.flows),
    }
    this.answers = new Answers(this.memory)
    const { resumeSeconds = RESUME_SECONDS } = options
    const until = Math.floor(native.monotonic() / 1e9) + resumeSeconds
    Atomics.store(this.memory.clock, CLOCK.RESUME_UNTIL, until)
    Atomics.store(this.memory.clock, CLOCK.EPOCH, 1)
  }

  /** As ControlPlane.setPolicy. */
  set(policy: PolicyState): Promise<void> {
    return this.inTurn(() => this.change(policy))
  }

  enter(spec: PodSpec, port: number): Promise<PortPolicy | undefined> {
    return this.inTurn(async () => {
      // Policies are for the cluster's own network.
      if (spec.network !== undefined) return undefined
      this.names?.enter(port, spec.names)
      const policy = this.state.pods.get(spec.id) ?? spec.policy
      const taken = policy === undefined ? NONE : this.take(policy)
      const entry: PortPolicy = { port: -1, ...taken }
      try {
        await this.programs.commit()
      } catch (error) {
        this.giveBack(entry)
        throw error
      }
      this.byPod.set(spec.id, entry)
      this.limit(port)
      return entry
    })
  }

  closing(id: string): void {
    const entry = this.byPod.get(id)
    if (entry === undefined || entry.port < 0) return
    entry.port = -1
  }

  leave(id: string, addresses: readonly string[]): Promise<void> {
    return this.inTurn(async () => {
      const entry = this.byPod.get(id)
      if (entry === undefined) return
      this.byPod.delete(id)
      await this.quiesce()
      this.giveBack(entry)
      await this.programs.commit()
      this.forget(addresses)
    })
  }

  /** A port may be another pod's than before: its accounts are the same for any. */
  private limit(port: number): void {
    const { began, met, halfOpen } = this.shares
    for (const beganHere of [true, false]) {
      const account = accountOf(port, beganHere)
      this.table.setQuota(account, beganHere ? began : met)
      this.table.setPendingQuota(account, halfOpen)
    }
  }

  /** As ControlPlane.flows. */
  flows(most: number): FlowEntry[] {
    const found: FlowEntry[] = []
    for (const entry of this.table.flows()) {
      if (found.length >= most) break
      found.push(flowEntry(entry, this.networkName))
    }
    return found
  }

  /** As ControlPlane.denials. */
  denials(read?: DenialsRead): { denials: Denial[]; missed: number; read: DenialsRead } {
    const cursor = this.denied.now()
    if (read === undefined)
      return { denials: [], missed: 0, read: [...cursor.read, ...cursor.leftOut] }
    const half = cursor.read.length
    const from = { read: read.slice(0, half), leftOut: read.slice(half) }
    if (read.length !== 2 * half)
      throw new RangeError('denials: what was read is not what was given')
    const { denials, missed } = this.denied.since(from)
    const pods = new Map([...this.byPod].map(([id, { port }]) => [port, id]))
    const host = this.parts.arena.header()[HEADER.HOST_PORT]! - 1
    return {
      denials: denials.map(each =>
        denialOf(each, each.port === host ? NODE_END : pods.get(each.port)),
      ),
      missed,
      read: [...from.read, ...from.leftOut],
    }
  }

  /** As ControlPlane.policyHits. */
  hits(origins: readonly number[]): number[] {
    return origins.map(origin => this.denied.count(origin))
  }

  /** As ControlPlane.askPolicy. */
  ask(question: PolicyQuestion): PolicyAnswer | undefined {
    if (question.pod === undefined) {
      const program = Atomics.load(this.memory.clock, CLOCK.NODE_PROGRAM)
      return this.answers.ask({ program, port: -1 }, question)
    }
    const port = this.byPod.get(question.pod)?.port ?? -1
    if (port < 0) return undefined
    const { ingressProgram, egressProgram } = this.parts.ports.record(port)!
    const egress = question.direction === 'egress'
    const program = egress ? egressProgram : ingressProgram
    return this.answers.ask({ program, port: egress ? port : -1 }, question)
  }

  /** Pods that have a port. */
  private *ports(): Generator<[id: string, port: number]> {
    for (const [id, { port }] of this.byPod) if (port >= 0) yield [id, port]
  }

  private inTurn<T>(work: () => Promise<T>): Promise<T> {
    const turn = this.last.then(work)
    this.last = turn.catch(() => {})
    return turn
  }

  private async change(state: PolicyState): Promise<void> {
    const { pods, identities, node = OPEN } = state
    const next = new Map<string, Taken>()
    let nodeProgram = 0
    try {
      nodeProgram = this.programs.add(node)
      for (const [id, policy] of pods) if (this.byPod.has(id)) next.set(id, this.take(policy))
      await this.programs.commit()
    } catch (error) {
      for (const taken of next.values()) this.giveBack(taken)
      this.programs.remove(nodeProgram)
      await this.programs.commit()
      throw error
    }
    let followed: ReturnType<IdentityWriter['follow']>
    try {
      followed = this.identities.follow(identities)
    } catch (error) {
      for (const taken of next.values()) this.giveBack(taken)
      this.programs.remove(nodeProgram)
      await this.programs.commit()
      throw error
    }
    this.state = state
    const nodeBefore = this.nodeProgram
    this.nodeProgram = nodeProgram
    Atomics.store(this.memory.clock, CLOCK.NODE_PROGRAM, nodeProgram)
    const before: Taken[] = []
    let differ = followed.changed || nodeBefore !== nodeProgram || this.doubted
    this.doubted = false
    for (const [id, taken] of next) {
      const entry = this.byPod.get(id)!
      before.push({ ...entry })
      if (entry.port >= 0) differ ||= !same(entry, taken)
      Object.assign(entry, taken)
    }
    if (differ) this.parts.tables.change(() => this.writeRecords(next.keys()))
    await this.quiesce()
    if (differ) Atomics.add(this.memory.clock, CLOCK.EPOCH, 1)
    for (const taken of before) this.giveBack(taken)
    this.programs.remove(nodeBefore)
    await this.programs.commit()
    this.identities.quiesced()
    this.forget(followed.moved)
  }

  /**
   * As ControlPlane.auditPolicy. What has been decided by tables that were wrong is decided again: all flows are judged anew.
   */
  audit(): Promise<string[]> {
    return this.inTurn(async () => {
      const { answers, state } = this
      const round = this.audits++
      const programs = await wrongPrograms(this.programs, answers, round)
      const addresses = await wrongIdentities(answers, state.identities)
      const records = this.wrongRecords()
      const told = [
        ...programs.map(number => `program ${number} is not what policy says`),
        ...addresses.map(address => `${address} is taken for somebody else`),
        ...records.map(id => `the port of ${id} has another policy`),
      ]
      if (told.length === 0) return []
      for (const number of programs) this.programs.distrust(number)
      const wrong = new Set(addresses)
      for (const each of state.identities) {
        if (wrong.has(each.address)) this.identities.rewrite(each)
      }
      this.identities.quiesced()
      this.doubted = true
      await this.change(state)
      return told
    })
  }

  /** The ids of pods whose port's record has another policy than it should; `the node` for its own. */
  private wrongRecords(): string[] {
    const { ports } = this.parts
    const wrong = [...this.byPod].flatMap(([id, entry]) => {
      const record = entry.port < 0 ? undefined : ports.record(entry.port)
      if (record === undefined) return []
      const right = same(record, entry) && (record.flags & PORT_FLAG.POLICED) !== 0
      return right ? [] : [id]
    })
    const node = Atomics.load(this.memory.clock, CLOCK.NODE_PROGRAM) === this.nodeProgram
    return node ? wrong : [...wrong, 'the node']
  }

  private writeRecords(ids: Iterable<string>): void {
    const { ports } = this.parts
    for (const id of ids) {
      const { port, ...policy } = this.byPod.get(id)!
      const record = port < 0 ? undefined : ports.record(port)
      if (record !== undefined) ports.update(port, policed(record.flags, policy))
    }
  }

  /** No worker asks by what was in force before any more. */
  private async quiesce(): Promise<void> {
    const { tables } = this.parts
    await tables.acknowledged(tables.change(() => {}))
    this.programs.quiesced()
  }

  private take({ identity, ingress, egress }: PodPolicy): Taken {
    const ingressProgram = this.programs.add(ingress)
    try {
      return { identity, ingressProgram, egressProgram: this.programs.add(egress) }
    } catch (error) {
      this.programs.remove(ingressProgram)
      throw error
    }
  }

  private giveBack({ ingressProgram, egressProgram }: Taken): void {
    this.programs.remove(ingressProgram)
    this.programs.remove(egressProgram)
  }

  /** Takes out the flows of these addresses: they are somebody else's, or nobody's, from now on. */
  private forget(addresses: readonly string[]): void {
    if (addresses.length === 0) return
    const those = new Ends(addresses)
    this.table.removeWhere((words, at) => {
      const key = at + ENTRY.KEY
      return those.has(words, key + KEY.A) || those.has(words, key + KEY.B)
    })
  }

  /** Takes out all flows: each is judged as a new one with its next packet, whichever end sends that. */
  forgetAll(): void {
    this.table.removeWhere(() => true)
  }
}

/** An address alone is a resolver whole. Throws RangeError. */
function resolverCidr(text: string): Cidr {
  return parseCidr(text.includes('/') ? text : `${text}/${text.includes(':') ? 128 : 32}`)
}

type Taken = Omit<PortPolicy, 'port'>

const NONE: Taken = { identity: 0, ingressProgram: 0, egressProgram: 0 }

function same(a: Taken, b: Taken): boolean {
  return (
    a.identity === b.identity &&
    a.ingressProgram === b.ingressProgram &&
    a.egressProgram === b.egressProgram
  )
}
