/**
 * A worker's end of the names that pods ask for: it writes questions down, learns from the answers that belong to them, and
 * says which patterns an address belongs to (policy asks that about new flows). stages/dns tells it of packets.
 *
 * What an answer says is written before the answer goes on, under the port's lock, so any worker that the pod's next packet
 * comes to finds it: the pod can't have sent it before it had the answer.
 *
 * Allocates nothing after it was made.
 */
import type { Cidr } from '../addresses.ts'
import { PATTERNS_OF_ADDRESS } from '../limits.ts'
import { lock, unlock } from '../memory/mutex.ts'
import { LearnedNames } from './learned.ts'
import { COUNT, type DnsMemory, PORT, regionAt } from './memory.ts'
import { DnsMessage, READ, type Read } from './message.ts'
import { PatternReader } from './patterns.ts'
import { DnsQuestions, type DnsWay } from './questions.ts'
import { DnsStreams } from './streams.ts'

/** DNS (RFC 1035 section 4.2). */
export const DNS_PORT = 53

export class DnsWatch {
  /** Where the message that is being read has come along. */
  readonly way: DnsWay = { ports: 0, kind: 0, address: new Uint32Array(4) }
  readonly streams = new DnsStreams()
  /** Of the address that was asked about last. */
  readonly patterns: PatternReader
  private readonly message = new DnsMessage()
  private readonly questions: DnsQuestions
  private readonly learned: LearnedNames
  private readonly regions: Int32Array
  private readonly counts: Uint32Array
  private readonly resolvers: readonly Cidr[]

  constructor(memory: DnsMemory) {
    this.patterns = new PatternReader(memory.patterns, PATTERNS_OF_ADDRESS)
    this.questions = new DnsQuestions(memory)
    this.learned = new LearnedNames(memory)
    this.regions = memory.regions
    this.counts = memory.counts
    this.resolvers = memory.resolvers
  }

  /** Whether `way.address` is a resolver's that the configuration names. */
  isResolver(family: 4 | 6): boolean {
    const { resolvers, way } = this
    for (let r = 0; r < resolvers.length; r++) {
      const each = resolvers[r]!
      if (each.family === family && inside(each, way.address)) return true
    }
    return false
  }

  /** A pod of `port` sends a message along `way`. */
  asked(
    port: number,
    view: DataView,
    bytes: Uint8Array,
    at: number,
    length: number,
    second: number,
  ) {
    const { message } = this
    const read = message.readQuestion(view, at, length)
    if (read !== READ.OK) {
      this.tally(read)
      return
    }
    const word = regionAt(port) + PORT.LOCK
    if (!lock(this.regions, word)) {
      this.count(COUNT.BUSY)
      return
    }
    this.questions.note(port, this.way, message, bytes, second)
    unlock(this.regions, word)
  }

  /** A pod of `port` is sent a message along `way`. False: it must not have it now, since what it says is not in force. */
  answered(
    port: number,
    view: DataView,
    bytes: Uint8Array,
    at: number,
    length: number,
    second: number,
  ): boolean {
    const { message } = this
    const read = message.readAnswer(view, at, length)
    if (read !== READ.OK) {
      this.tally(read)
      return true
    }
    const word = regionAt(port) + PORT.LOCK
    if (!lock(this.regions, word)) {
      this.count(COUNT.BUSY)
      return false
    }
    if (this.questions.take(port, this.way, message, bytes, second)) {
      this.learned.learn(port, message, second)
    } else this.count(COUNT.UNASKED)
    unlock(this.regions, word)
    return true
  }

  /** Finds `patterns` of an address for a pod of `port`; `known`: its flow was allowed before. */
  find(
    port: number,
    family: 4 | 6,
    words: Uint32Array,
    at: number,
    second: number,
    known: boolean,
  ): void {
    const { patterns } = this
    patterns.clear()
    const word = regionAt(port) + PORT.LOCK
    if (!lock(this.regions, word)) {
      this.count(COUNT.BUSY)
      return
    }
    this.learned.find(port, family, words, at, second, known, patterns)
    unlock(this.regions, word)
    if (patterns.beyond > 0) this.count(COUNT.PATTERNS)
  }

  /** Counts a message that was not read. */
  count(word: number): void {
    Atomics.add(this.counts, word, 1)
  }

  private tally(read: Read): void {
    if (read !== READ.OTHER) this.count(COUNT.MALFORMED)
  }
}

function inside({ family, words, prefix }: Cidr, address: Uint32Array): boolean {
  const first = family === 4 ? 3 : 0
  for (let w = 0, left = prefix; left > 0; w++, left -= 32) {
    const differ = address[first + w]! ^ words[w]!
    if (left >= 32 ? differ !== 0 : differ >>> (32 - left) !== 0) return false
  }
  return true
}
