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
import { TCP_FIN, TCP_RST, TCP_SYN } from '../wire/tcp.ts'
import { LearnedNames } from './learned.ts'
import { COUNT, type DnsMemory, PORT, regionAt } from './memory.ts'
import { DnsMessage, READ } from './message.ts'
import { PatternReader } from './patterns.ts'
import { DnsQuestions, type DnsWay } from './questions.ts'
import { DnsStreams, FED } from './streams.ts'

/** DNS (RFC 1035 section 4.2). */
export const DNS_PORT = 53

export class DnsWatch {
  /** Where the message that is being read has come along. */
  readonly way: DnsWay = { ports: 0, kind: 0, address: new Uint32Array(4) }
  /** Of the address that was asked about last. */
  readonly patterns: PatternReader
  private readonly message = new DnsMessage()
  private readonly streams: DnsStreams
  private readonly questions: DnsQuestions
  private readonly learned: LearnedNames
  private readonly regions: Int32Array
  private readonly counts: Uint32Array
  private readonly resolvers: readonly Cidr[]

  constructor(memory: DnsMemory) {
    this.streams = new DnsStreams(memory)
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

  /** A datagram along `way`, from the pod of `port` (`asks`) or to it: `length` bytes at `bytes[at]`. False: it must not go on, since it could not be written down. */
  datagram(
    port: number,
    asks: boolean,
    view: DataView,
    bytes: Uint8Array,
    at: number,
    length: number,
    second: number,
  ): boolean {
    if (!this.read(asks, view, at, length)) return true
    if (!this.lock(port)) return false
    this.write(port, asks, bytes, second)
    this.unlock(port)
    return true
  }

  /** The same for a TCP segment with these flags and this sequence number: all messages that end in it. */
  segment(
    port: number,
    asks: boolean,
    flags: number,
    sequence: number,
    view: DataView,
    bytes: Uint8Array,
    at: number,
    length: number,
    second: number,
  ): boolean {
    const ends = (flags & (TCP_FIN | TCP_RST)) !== 0
    const begins = (flags & TCP_SYN) !== 0
    if (!begins && !ends && length === 0) return true
    if (!this.lock(port)) return false
    const { streams, way } = this
    if (begins) streams.open(port, way, asks, sequence)
    else {
      if (length > 0) {
        const fed = streams.feed(port, way, asks, sequence, view, bytes, at, length)
        if (fed === FED.LOST) this.count(COUNT.UNFOLLOWED)
        while (streams.next()) {
          if (!this.read(asks, streams.view, streams.at, streams.length)) continue
          this.write(port, asks, streams.bytes, second)
        }
      }
      if (ends) streams.close(port, way, asks)
    }
    this.unlock(port)
    return true
  }

  /** Whether there is something to be written down of a message. */
  private read(asks: boolean, view: DataView, at: number, length: number): boolean {
    const { message } = this
    const read = asks
      ? message.readQuestion(view, at, length)
      : message.readAnswer(view, at, length)
    if (read === READ.MALFORMED || read === READ.MANY) this.count(COUNT.MALFORMED)
    return read === READ.OK
  }

  /** Writes down what was read last, whose bytes are in `bytes`. */
  private write(port: number, asks: boolean, bytes: Uint8Array, second: number): void {
    const { message, questions, way } = this
    if (asks) questions.note(port, way, message, bytes, second)
    else if (questions.take(port, way, message, bytes, second)) {
      this.learned.learn(port, message, second)
    } else this.count(COUNT.UNASKED)
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
    if (!this.lock(port)) return
    this.learned.find(port, family, words, at, second, known, patterns)
    this.unlock(port)
    if (patterns.beyond > 0) this.count(COUNT.PATTERNS)
  }

  /** Takes a port's lock; false, and counted, when others have it all the time. */
  private lock(port: number): boolean {
    if (lock(this.regions, regionAt(port) + PORT.LOCK)) return true
    this.count(COUNT.BUSY)
    return false
  }

  private unlock(port: number): void {
    unlock(this.regions, regionAt(port) + PORT.LOCK)
  }

  private count(word: number): void {
    Atomics.add(this.counts, word, 1)
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
