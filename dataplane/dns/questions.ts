/**
 * Questions of pods that are on their way to a resolver. An answer is the pod's only when it came back along the same
 * addresses and ports, with the same id and the same question, byte by byte as it was asked (RFC 5452 sections 6 and 9.1);
 * and only the first one is. Whoever calls has the port's lock.
 */
import { DNS_QUESTION_SECONDS, DNS_QUESTIONS } from '../limits.ts'
import { type DnsMemory, PORT, QUESTION, QUESTIONS_AT, regionAt } from './memory.ts'
import type { DnsMessage } from './message.ts'

/** Where a message went, or came back: the pod's end of it is the port. */
export interface DnsWay {
  /** The pod's port << 16 | the resolver's. */
  ports: number
  /** Protocol | family << 8. */
  kind: number
  /** The resolver's; IPv4 in the last word. */
  readonly address: Uint32Array
}

/** Allocates nothing after it was made. */
export class DnsQuestions {
  private readonly words: Int32Array
  private readonly bytes: Uint8Array

  constructor({ regions }: DnsMemory) {
    this.words = regions
    this.bytes = new Uint8Array(regions.buffer)
  }

  /** Writes a question of a pod's down, whose bytes are in `view`; the oldest goes where there is no room. */
  note(port: number, way: DnsWay, message: DnsMessage, view: Uint8Array, second: number): void {
    const { words, bytes } = this
    const at = this.place(port, second)
    words[at + QUESTION.PORTS] = way.ports
    words[at + QUESTION.ID] = (message.id << 16) | message.questionBytes
    words[at + QUESTION.KIND] = way.kind
    for (let w = 0; w < 4; w++) words[at + QUESTION.ADDRESS + w] = way.address[w]!
    const to = (at + QUESTION.BYTES) * 4
    for (let k = 0; k < message.questionBytes; k++) bytes[to + k] = view[message.questionAt + k]!
    words[at + QUESTION.SECOND] = second
  }

  /** Whether the pod has asked what `message` answers; then it has not any more. */
  take(port: number, way: DnsWay, message: DnsMessage, view: Uint8Array, second: number): boolean {
    const { words } = this
    const region = regionAt(port)
    const used = words[region + PORT.QUESTIONS]!
    const id = (message.id << 16) | message.questionBytes
    for (let q = 0; q < used; q++) {
      const at = region + QUESTIONS_AT + q * QUESTION.WORDS
      if (words[at + QUESTION.ID] !== id || !this.isLive(at, second)) continue
      if (words[at + QUESTION.PORTS] !== (way.ports | 0)) continue
      if (words[at + QUESTION.KIND] !== way.kind) continue
      if (!this.isTo(at, way.address) || !this.asks(at, message, view)) continue
      words[at + QUESTION.SECOND] = 0
      return true
    }
    return false
  }

  private isLive(at: number, second: number): boolean {
    const asked = this.words[at + QUESTION.SECOND]!
    return asked !== 0 && second - asked <= DNS_QUESTION_SECONDS
  }

  private isTo(at: number, address: Uint32Array): boolean {
    for (let w = 0; w < 4; w++) {
      if (this.words[at + QUESTION.ADDRESS + w] !== (address[w]! | 0)) return false
    }
    return true
  }

  private asks(at: number, message: DnsMessage, view: Uint8Array): boolean {
    const { bytes } = this
    const from = (at + QUESTION.BYTES) * 4
    for (let k = 0; k < message.questionBytes; k++) {
      if (bytes[from + k] !== view[message.questionAt + k]) return false
    }
    return true
  }

  /** A free place, or the oldest question's. */
  private place(port: number, second: number): number {
    const { words } = this
    const region = regionAt(port)
    const used = words[region + PORT.QUESTIONS]!
    let oldest = region + QUESTIONS_AT
    for (let q = 0; q < used; q++) {
      const at = region + QUESTIONS_AT + q * QUESTION.WORDS
      if (!this.isLive(at, second)) return at
      if (words[at + QUESTION.SECOND]! < words[oldest + QUESTION.SECOND]!) oldest = at
    }
    if (used === DNS_QUESTIONS) return oldest
    words[region + PORT.QUESTIONS] = used + 1
    return region + QUESTIONS_AT + used * QUESTION.WORDS
  }
}
