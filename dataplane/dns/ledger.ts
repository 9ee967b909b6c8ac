/**
 * What pods have learned (learned.ts), as the main thread looks at it: what there is, what is out of date, what is gone with
 * its pod. Each call takes the port's lock; one that doesn't get it has done nothing.
 */
import { DNS_STREAMS } from '../limits.ts'
import { lock, unlock } from '../memory/mutex.ts'
import { entryAt, LearnedNames, nameAt, takeOut } from './learned.ts'
import {
  ADDRESS,
  CHAINS,
  CHAINS_AT,
  type DnsMemory,
  NAME,
  PORT,
  QUESTION,
  QUESTIONS_AT,
  regionAt,
  STREAM,
  STREAMS_AT,
} from './memory.ts'

/** An address that a pod has learned. */
export interface LearnedAddress {
  /** Canonical bytes (names.ts). */
  readonly name: Uint8Array
  readonly family: 4 | 6
  /** One word or four. */
  readonly words: Uint32Array
  /** Second from which on no new flow may go to it. */
  readonly expires: number
  /** Its place, for `forget`. */
  readonly place: number
}

export class NameLedger {
  private readonly words: Int32Array
  private readonly bytes: Uint8Array
  private readonly learned: LearnedNames

  constructor(memory: DnsMemory) {
    const { regions } = memory
    this.learned = new LearnedNames(memory)
    this.words = regions
    this.bytes = new Uint8Array(regions.buffer)
  }

  /** A port is another pod's now, and `known` is all that is known. False when others have the lock all the time. */
  begin(port: number, known: readonly Omit<LearnedAddress, 'family' | 'place'>[] = []): boolean {
    return this.locked(port, region => {
      const { words } = this
      // What lies behind these counts was never written.
      const questions = region + QUESTIONS_AT
      words.fill(0, questions, questions + words[region + PORT.QUESTIONS]! * QUESTION.WORDS)
      words.fill(0, nameAt(region, 1), nameAt(region, words[region + PORT.NAMES]! + 1))
      words.fill(0, entryAt(region, 1), entryAt(region, words[region + PORT.ADDRESSES]! + 1))
      words.fill(0, region + CHAINS_AT, region + CHAINS_AT + CHAINS)
      for (let k = 0; k < DNS_STREAMS; k++) {
        const at = region + STREAMS_AT + k * STREAM.WORDS
        words.fill(0, at, at + STREAM.BYTES)
      }
      words.fill(0, region + PORT.LOCK + 1, region + PORT.WORDS)
      for (const { name, words: address, expires } of known) {
        this.learned.put(port, name, name.length, address, expires)
      }
    })
  }

  /** What a port has learned: all of it, or what is out of date at `second`. */
  list(port: number, second = Infinity): LearnedAddress[] {
    const found: LearnedAddress[] = []
    this.locked(port, region => {
      const { words, bytes } = this
      for (let a = 1; a <= words[region + PORT.ADDRESSES]!; a++) {
        const entry = entryAt(region, a)
        if (words[entry + ADDRESS.NAME] === 0) continue
        if (second !== Infinity && words[entry + ADDRESS.EXPIRES]! > second) continue
        const name = nameAt(region, words[entry + ADDRESS.NAME]!)
        const from = (name + NAME.BYTES) * 4
        const family = words[entry + ADDRESS.FAMILY] === 4 ? 4 : 6
        const at = entry + ADDRESS.WORDS_AT
        found.push({
          name: bytes.slice(from, from + words[name + NAME.LENGTH]!),
          family,
          words: Uint32Array.from(words.subarray(family === 4 ? at + 3 : at, at + 4)),
          expires: words[entry + ADDRESS.EXPIRES]!,
          place: a,
        })
      }
    })
    return found
  }

  /** What limits have refused of a port's since its pod came: names, addresses, addresses of one name. */
  refused(port: number): { names: number; addresses: number; ofName: number } {
    const region = regionAt(port)
    const word = (at: number): number => Atomics.load(this.words, region + at)
    return {
      names: word(PORT.REFUSED_NAMES),
      addresses: word(PORT.REFUSED_ADDRESSES),
      ofName: word(PORT.REFUSED_OF_NAME),
    }
  }

  /** Takes those out that are still as `list` gave them. */
  forget(port: number, those: readonly LearnedAddress[]): void {
    if (those.length === 0) return
    this.locked(port, region => {
      for (const { place, expires } of those) {
        const entry = entryAt(region, place)
        if (this.words[entry + ADDRESS.NAME] === 0) continue
        if (this.words[entry + ADDRESS.EXPIRES] === expires) takeOut(this.words, region, place)
      }
    })
  }

  private locked(port: number, work: (region: number) => void): boolean {
    const region = regionAt(port)
    if (!lock(this.words, region + PORT.LOCK)) return false
    try {
      work(region)
    } finally {
      unlock(this.words, region + PORT.LOCK)
    }
    return true
  }
}
