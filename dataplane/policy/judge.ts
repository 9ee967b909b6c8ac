/**
 * A worker's end of policy: flows that are known, and what is asked about those that are not. `pass` lets the packets
 * of known flows go by. Of the others that policy has to do with the stage fills rows, `probe` says which flows are
 * allowed already (what begins or ends a connection comes this way, too); of the rest the stage says who is at which
 * end, `decide` asks the programs of both ends that are pods of this node, and writes down what is allowed, and where
 * it goes (action.ts). Nothing is written down of what is denied: it is judged again, packet by packet.
 *
 * An action tells the direction from the flow's second end to its first (REPLY). So a flow that an older policy has
 * decided is judged again as it was begun, whichever end speaks next.
 *
 * Allocates nothing after it was made.
 */

import type { BatchHandle } from '../../native/native.ts'
import { DnsWatch } from '../dns/watch.ts'
import { ENTRY_WORDS, type EndedFlows, type FlowTable, FOUND } from '../flow/flow.ts'
import { FLOW_KEY_WORDS, flowKeys4, flowKeys6 } from '../hash/flow-key.ts'
import { halfsip13 } from '../hash/halfsip13.ts'
import type { Hasher } from '../hash/hash.ts'
import { BATCH_SIZE, FLOW_TICK_MS } from '../limits.ts'
import type { Batch } from '../packet/batch.ts'
import { VERDICT } from '../policy-program.ts'
import { ACTION, VERDICT_BITS } from './action.ts'
import { DenialWriter, TOLD } from './denials.ts'
import { Fragments } from './fragments.ts'
import { IdentityReader } from './identities.ts'
import { KnownFlows } from './known.ts'
import { CLOCK, flowLimits, type PolicyMemory, policyAcl, policyFlow } from './memory.ts'
import { PolicyReader, Questions } from './tables.ts'

/** Classes of timeouts of the flow table. */
export const FLOW_CLASS = {
  /** Begun by one end; or met in the middle, before the other end has spoken. */
  OPENING: 0,
  ESTABLISHED: 1,
  /** Was established. */
  CLOSING: 2,
  DATAGRAM: 3,
  ICMP: 4,
  /** The other end has answered SYN with SYN and ACK. */
  ANSWERED: 5,
  /** Ended before it was established. */
  REFUSED: 6,
} as const

/** Label of a flow's account, where no rule has decided: that end is no pod of this node, or nobody has isolated it. */
export const NO_ORIGIN = 0xffff_ffff

/** Class of a row that is allowed and begins no flow. */
export const NO_FLOW = 255

/** Who says no: nobody, the program of the end that sends, or of the one that receives; or there are too many that are half open. */
export const DENIED = { NOBODY: 0, EGRESS: 1, INGRESS: 2, HALF_OPEN: 3 } as const

/** Of a batch: both ends of each row, and both the other way round. */
const MOST_QUESTIONS = 4 * BATCH_SIZE

/** Places of the wheel that one `sweep` looks at. */
const SWEEP = 1 << 14

/** Columns that the stage fills for packets of one family, and which packets they are. */
export interface Tuples {
  n: number
  readonly packets: Uint16Array
  readonly source: Uint32Array
  readonly destination: Uint32Array
  readonly ports: Uint32Array
  readonly kinds: Uint32Array
}

function tuples(words: number): Tuples {
  return {
    n: 0,
    packets: new Uint16Array(BATCH_SIZE),
    source: new Uint32Array(BATCH_SIZE * words),
    destination: new Uint32Array(BATCH_SIZE * words),
    ports: new Uint32Array(BATCH_SIZE),
    kinds: new Uint32Array(BATCH_SIZE),
  }
}

function keys() {
  return {
    words: new Uint32Array(BATCH_SIZE * FLOW_KEY_WORDS),
    hashes: new Uint32Array(BATCH_SIZE),
    directions: new Uint8Array(BATCH_SIZE),
  }
}

function answers() {
  return {
    slots: new Int32Array(BATCH_SIZE),
    actions: new Uint32Array(BATCH_SIZE),
    found: new Uint8Array(BATCH_SIZE),
  }
}

export class Judge {
  readonly ipv4 = tuples(1)
  readonly ipv6 = tuples(4)
  readonly identities: IdentityReader
  readonly fragments = new Fragments()
  readonly table: FlowTable
  readonly denials: DenialWriter
  /** Absent where no name is learned. */
  readonly names: DnsWatch | undefined
  /** What `probe` found, by row: those of `ipv4`, then those of `ipv6`. */
  readonly answers = answers()
  /** Of the current batch: the clock in ticks, 16 bits of it, and seconds of the monotonic clock. */
  private ticks = 0
  tick = 0
  second = 0
  /** By row: its questions, -1 for none; and what came of them (DENIED). */
  readonly egress = new Int16Array(BATCH_SIZE)
  readonly ingress = new Int16Array(BATCH_SIZE)
  readonly denied = new Uint8Array(BATCH_SIZE)
  /** By row: the part of its action that names the next hop; 0 for a row whose packet doesn't go the way of its flow. */
  readonly routes = new Uint32Array(BATCH_SIZE)
  /** By row that is open: the same for answers; 0: written down with the first of them. */
  readonly backRoutes = new Uint32Array(BATCH_SIZE)
  /** By row: bytes of its packet. */
  readonly bytes = new Uint32Array(BATCH_SIZE)
  /** By row that may resume a connection: the questions as they would be, had the other end begun it; and whether it is so. */
  readonly resumes = new Uint8Array(BATCH_SIZE)
  readonly turnedEgress = new Int16Array(BATCH_SIZE)
  readonly turnedIngress = new Int16Array(BATCH_SIZE)
  private readonly turned = new Uint8Array(BATCH_SIZE)
  readonly questions = new Questions(MOST_QUESTIONS)
  /** Questions of the current batch. */
  asked = 0
  /** Rows that are to be decided. */
  readonly open = new Uint16Array(BATCH_SIZE)
  openCount = 0
  private readonly known: KnownFlows
  private readonly reader: PolicyReader
  private readonly clock: Int32Array
  private readonly hasher: Hasher
  private readonly keys = keys()
  private readonly fresh = keys()
  private readonly freshAnswers = answers()
  private readonly freshRows = new Uint16Array(BATCH_SIZE)
  /** By row that is open. */
  private readonly accounts = new Uint16Array(BATCH_SIZE)
  private readonly stale = keys()
  private readonly moved = keys()
  private readonly movedActions = new Uint32Array(BATCH_SIZE)
  private movedCount = 0
  private readonly decisions = {
    forward: new Uint32Array(BATCH_SIZE),
    reverse: new Uint32Array(BATCH_SIZE),
    ports: new Uint16Array(BATCH_SIZE),
    classes: new Uint8Array(BATCH_SIZE),
    labels: new Uint32Array(2 * BATCH_SIZE),
  }
  /** What their packets add to the accounts of flows that are known, and of those that begin. */
  private readonly counted = new Int32Array(BATCH_SIZE)
  private readonly countedBytes = new Uint32Array(BATCH_SIZE)
  private countedCount = 0
  private readonly freshBytes = new Uint32Array(BATCH_SIZE)
  private readonly ended: EndedFlows = new Uint32Array(SWEEP * ENTRY_WORDS)
  private epoch = 0
  /** What the node itself receives from pods; 0: everything, and no flow of it is kept. */
  nodeProgram = 0
  private resuming = false

  constructor(memory: PolicyMemory, worker: number) {
    const { rules, facts, room, flows, clock, seed } = memory
    this.clock = clock
    const limits = { rules: room.matches }
    this.reader = new PolicyReader(policyAcl.reader(rules, limits), facts, MOST_QUESTIONS)
    this.identities = new IdentityReader(memory)
    this.denials = new DenialWriter(memory.denials, worker)
    this.names = memory.dns && new DnsWatch(memory.dns)
    this.table = policyFlow.open(flows, flowLimits(room))
    this.known = new KnownFlows(memory, this.table.slots)
    this.hasher = halfsip13.seeded(seed)
  }

  /** Begins a batch at `now`, nanoseconds. */
  begin(now: number): void {
    this.epoch = Atomics.load(this.clock, CLOCK.EPOCH)
    this.nodeProgram = Atomics.load(this.clock, CLOCK.NODE_PROGRAM)
    this.ticks = Math.floor(now / (FLOW_TICK_MS * 1e6)) >>> 0
    this.tick = this.ticks & 0xffff
    this.second = Math.floor(now / 1e9)
    this.resuming = this.second < Atomics.load(this.clock, CLOCK.RESUME_UNTIL)
    this.ipv4.n = 0
    this.ipv6.n = 0
    this.asked = 0
    this.openCount = 0
    this.movedCount = 0
    this.countedCount = 0
  }

  /** Writes what is known of the packets of `b`, whose handle is `batch`: `known` and `unknown` of packet/batch.ts. */
  pass(b: Batch, batch: BatchHandle, network: number, sender: number): void {
    b.unknown = this.known.pass(batch, b.n, network, this.epoch, this.tick, sender)
  }

  /** Packet of a row. */
  packet(row: number): number {
    const { ipv4, ipv6 } = this
    return row < ipv4.n ? ipv4.packets[row]! : ipv6.packets[row - ipv4.n]!
  }

  /** Looks the rows' flows up; returns how many rows there are. */
  probe(): number {
    const { ipv4, ipv6, keys, table } = this
    if (ipv4.n > 0) flowKeys4(ipv4, ipv4.n, keys.words, keys.directions)
    if (ipv6.n > 0) flowKeys6(ipv6, ipv6.n, keys.words, keys.directions, ipv4.n)
    const n = ipv4.n + ipv6.n
    this.hasher.flows(keys.words, n, keys.hashes)
    table.probe(keys, n, this.epoch, this.answers)
    return n
  }

  /** Whether the row's flow is allowed by the policy that is in force. */
  allowed(row: number): boolean {
    const { found, actions } = this.answers
    return found[row] === FOUND.CURRENT && (actions[row]! & ACTION.ALLOWED) !== 0
  }

  /** Whether a row that is open was begun by the other end than the one that has sent this packet. */
  reversed(row: number): boolean {
    const { found, actions } = this.answers
    if (this.turned[row] !== 0) return true
    return found[row] === FOUND.STALE && (actions[row]! & ACTION.REPLY) !== 0
  }

  /** A packet whose flow is allowed counts there, and goes where `routes` says, which is written down when it is elsewhere. */
  follow(row: number): void {
    const action = this.answers.actions[row]!
    const route = this.routes[row]!
    this.counted[this.countedCount] = this.answers.slots[row]!
    this.countedBytes[this.countedCount++] = this.bytes[row]!
    if (route === 0 || (action & ~VERDICT_BITS) >>> 0 === route) return
    this.copyKey(row, this.moved, this.movedCount)
    this.movedActions[this.movedCount++] = ((action & VERDICT_BITS) | route) >>> 0
  }

  /** Writes down what `follow` was told. */
  writeDown(): void {
    this.table.count(this.counted, this.countedCount, this.countedBytes)
    if (this.movedCount > 0) {
      this.table.redirect(this.moved, this.movedCount, this.movedActions, this.epoch)
    }
  }

  /** A new question; the caller fills its columns. */
  ask(): number {
    this.questions.patternCounts[this.asked] = 0
    return this.asked++
  }

  /**
   * Question `q` is about what the pod of `port` sends: finds what names it has learned the address for, where its program has
   * rules about names. The address is a row's: its words begin at `words[at]`.
   */
  name(row: number, q: number, port: number, family: 4 | 6, words: Uint32Array, at: number): void {
    const { names, questions, answers } = this
    if (names === undefined || !this.reader.asksNames(questions.programs[q]!)) return
    const known = answers.found[row] === FOUND.STALE
    names.find(port, family, words, at, this.second, known)
    questions.setPatterns(q, names.patterns)
  }

  /** Whether it may be that row `row`, a segment in the middle of a connection, is of one that was there before this engine. */
  mayResume(row: number): boolean {
    return this.resuming && this.answers.found[row] === FOUND.MISS
  }

  /** The row's flow is to be decided; the stage asks its questions. `account`: whose flow it will be (memory.ts). */
  openRow(row: number, account: number): void {
    this.accounts[row] = account
    this.open[this.openCount++] = row
    this.egress[row] = -1
    this.ingress[row] = -1
    this.denied[row] = DENIED.NOBODY
    this.turned[row] = 0
    this.resumes[row] = 0
    this.turnedEgress[row] = -1
    this.turnedIngress[row] = -1
  }

  /** Asks, and writes down what is allowed. `classes` by row. */
  decide(classes: Uint8Array): void {
    const { questions, open, openCount, egress, ingress, denied } = this
    this.reader.judge(questions, this.asked)
    let fresh = 0
    let stale = 0
    for (let k = 0; k < openCount; k++) {
      const row = open[k]!
      const out = egress[row]!
      const into = ingress[row]!
      if (out >= 0 && questions.verdicts[out] === VERDICT.DENY) denied[row] = DENIED.EGRESS
      else if (into >= 0 && questions.verdicts[into] === VERDICT.DENY) denied[row] = DENIED.INGRESS
      if (denied[row] !== DENIED.NOBODY && this.resumes[row] !== 0 && this.isAllowedTurned(row)) {
        this.turn(row)
        classes[row] = FLOW_CLASS.ANSWERED
      }
      this.countHit(egress[row]!)
      this.countHit(ingress[row]!)
      if (denied[row] === DENIED.NOBODY) {
        if (classes[row] !== NO_FLOW) this.allow(row, fresh++, classes[row]!)
      } else if (this.answers.found[row] === FOUND.STALE) this.copyKey(row, this.stale, stale++)
    }
    const { table, epoch, ticks, decisions, freshAnswers } = this
    if (fresh > 0) {
      table.insert(this.fresh, fresh, decisions, epoch, ticks, freshAnswers)
      table.count(freshAnswers.slots, fresh, this.freshBytes)
    }
    for (let at = 0; at < fresh; at++) {
      if (freshAnswers.found[at] !== FOUND.REFUSED_PENDING) continue
      denied[this.freshRows[at]!] = DENIED.HALF_OPEN
    }
    if (stale > 0) table.remove(this.stale, stale, this.ended)
  }

  /** Whether the flow would be allowed, had the other end begun it. */
  private isAllowedTurned(row: number): boolean {
    const { verdicts } = this.questions
    const out = this.turnedEgress[row]!
    const into = this.turnedIngress[row]!
    return (
      (out < 0 || verdicts[out] === VERDICT.ALLOW) && (into < 0 || verdicts[into] === VERDICT.ALLOW)
    )
  }

  /** The row's flow was begun by the other end. */
  private turn(row: number): void {
    this.turned[row] = 1
    this.denied[row] = DENIED.NOBODY
    this.egress[row] = this.turnedEgress[row]!
    this.ingress[row] = this.turnedIngress[row]!
  }

  /** The rules that have answered question `q` have decided. */
  private countHit(q: number): void {
    if (q < 0) return
    const { questions } = this
    this.denials.count(questions.origins[q]!)
    if (questions.stagedVerdicts[q] !== questions.verdicts[q]) {
      this.denials.count(questions.stagedOrigins[q]!)
    }
  }

  /** Tells of a row's question `q`: `port` is the pod's whose policy has spoken, `told` says why, `time` milliseconds since 1970. */
  tell(row: number, port: number, q: number, egress: boolean, told: number, time: number): void {
    const at = this.denials.claim(this.tick)
    if (at < 0) return
    const { ipv4, ipv6, questions } = this
    const { words } = this.denials
    const four = row < ipv4.n
    const columns = four ? ipv4 : ipv6
    const r = four ? row : row - ipv4.n
    words[at] = port
    words[at + 1] =
      (egress ? 0 : 1) | (told << 1) | ((columns.kinds[r]! & 255) << 8) | ((four ? 4 : 6) << 16)
    for (let w = 0; w < 4; w++) {
      words[at + 2 + w] = four ? (w === 3 ? columns.source[r]! : 0) : columns.source[r * 4 + w]!
      words[at + 6 + w] = four
        ? w === 3
          ? columns.destination[r]!
          : 0
        : columns.destination[r * 4 + w]!
    }
    words[at + 10] = columns.ports[r]!
    words[at + 11] = (told === TOLD.STAGED ? questions.stagedOrigins : questions.origins)[q]!
    words[at + 12] = time >>> 0
    words[at + 13] = Math.floor(time / 2 ** 32)
    this.denials.publish()
  }

  private allow(row: number, at: number, timeoutClass: number): void {
    const { decisions } = this
    this.freshRows[at] = row
    this.copyKey(row, this.fresh, at)
    const reversed = this.reversed(row)
    const own = reversed ? ACTION.ALLOWED | ACTION.REPLY : ACTION.ALLOWED
    decisions.forward[at] = (own | this.routes[row]!) >>> 0
    const back = reversed ? ACTION.ALLOWED : ACTION.ALLOWED | ACTION.REPLY
    decisions.reverse[at] = (back | this.backRoutes[row]!) >>> 0
    decisions.ports[at] = this.accounts[row]!
    decisions.classes[at] = timeoutClass
    decisions.labels[2 * at] = this.originOf(this.egress[row]!)
    decisions.labels[2 * at + 1] = this.originOf(this.ingress[row]!)
    this.freshBytes[at] = this.bytes[row]!
  }

  /** The rule that has answered question `q`; NO_ORIGIN for none. */
  private originOf(q: number): number {
    return q < 0 ? NO_ORIGIN : this.questions.origins[q]! >>> 0
  }

  private copyKey(row: number, to: ReturnType<typeof keys>, at: number): void {
    const { words, hashes, directions } = this.keys
    for (let w = 0; w < FLOW_KEY_WORDS; w++) {
      to.words[at * FLOW_KEY_WORDS + w] = words[row * FLOW_KEY_WORDS + w]!
    }
    to.hashes[at] = hashes[row]!
    to.directions[at] = directions[row]!
  }

  /** Rows of the first `n` that had a packet live on. */
  touch(n: number): void {
    this.table.touch(this.answers.slots, n, this.tick)
  }

  /** Lets go of flows that had no packet for long: a part of the table at each call. */
  sweep(now: number): void {
    const tick = Math.floor(now / (FLOW_TICK_MS * 1e6)) & 0xffff
    this.table.sweep(SWEEP, tick, this.ended)
  }
}
