/**
 * Addresses that pods have learned: of each port the names that it has asked for, and the addresses that answers had for
 * them. One pod's are nobody else's. Names are kept as bytes, so that a policy that comes later finds them.
 *
 * An address is *live*, so that new flows may go to it, until its TTL and a grace are over. It stays beyond that as long as a
 * flow uses it, for those flows alone, which a change of policy judges again (ledger.ts takes it out then). Where a limit
 * leaves no room an address is not learned, and counted; but a name that no pattern means, now, makes room for one that some
 * pattern does.
 *
 * Whoever calls has the port's lock. Allocates nothing after it was made.
 */
import {
  DNS_ADDRESSES,
  DNS_ADDRESSES_OF_NAME,
  DNS_GRACE_SECONDS,
  DNS_NAMES,
  DNS_TTL_SECONDS,
} from '../limits.ts'
import {
  ADDRESS,
  ADDRESSES_AT,
  CHAINS,
  CHAINS_AT,
  COUNT,
  type DnsMemory,
  NAME,
  NAMES_AT,
  PORT,
  regionAt,
} from './memory.ts'
import { type DnsMessage, TYPE } from './message.ts'
import { PatternReader } from './patterns.ts'

export class LearnedNames {
  private readonly words: Int32Array
  private readonly bytes: Uint8Array
  private readonly counts: Uint32Array
  private readonly one = new Uint32Array(4)
  /** Whether any pattern means a name. */
  private readonly meant: PatternReader

  constructor({ regions, counts, patterns }: DnsMemory) {
    this.meant = new PatternReader(patterns, 1)
    this.words = regions
    this.bytes = new Uint8Array(regions.buffer)
    this.counts = counts
  }

  /** Learns what an answer says of the name that it is about. */
  learn(port: number, message: DnsMessage, second: number): void {
    const region = regionAt(port)
    const family = message.type === TYPE.A ? 4 : 6
    const name = this.nameOf(region, message.name, message.nameBytes)
    if (name === 0) return
    for (let k = 0; k < message.count; k++) {
      const life = Math.min(message.ttls[k]!, DNS_TTL_SECONDS) + DNS_GRACE_SECONDS
      for (let w = 0; w < 4; w++) this.one[w] = message.addresses[k * 4 + w]!
      this.keep(region, name, family, second + life)
    }
  }

  /** Learns one address, of one word or four, for a name of `length` bytes. */
  put(
    port: number,
    bytes: Uint8Array,
    length: number,
    words: ArrayLike<number>,
    expires: number,
  ): void {
    const region = regionAt(port)
    const name = this.nameOf(region, bytes, length)
    if (name === 0) return
    const family = words.length === 1 ? 4 : 6
    for (let w = 0; w < 4; w++) this.one[w] = family === 6 ? words[w]! : w === 3 ? words[0]! : 0
    this.keep(region, name, family, expires)
  }

  /**
   * Adds to `patterns` those that the names of an address mean, which the pod has learned. `known`: the flow is one that was
   * allowed before, and an address counts for it as long as it is there.
   */
  find(
    port: number,
    family: 4 | 6,
    words: Uint32Array,
    at: number,
    second: number,
    known: boolean,
    patterns: PatternReader,
  ): void {
    const region = regionAt(port)
    const { one } = this
    for (let w = 0; w < 4; w++) one[w] = family === 6 ? words[at + w]! : w === 3 ? words[at]! : 0
    for (let a = this.words[region + CHAINS_AT + this.chain()]!; a !== 0; ) {
      const entry = entryAt(region, a)
      if (this.isOne(entry, family) && (known || second < this.words[entry + ADDRESS.EXPIRES]!)) {
        const name = nameAt(region, this.words[entry + ADDRESS.NAME]!)
        patterns.match(this.bytes, (name + NAME.BYTES) * 4, this.words[name + NAME.LENGTH]!)
      }
      a = this.words[entry + ADDRESS.NEXT]!
    }
  }

  /** Number of a name, with a place of its own from now on; 0, and counted: there is no room. */
  private nameOf(region: number, name: Uint8Array, length: number): number {
    const { words } = this
    const used = words[region + PORT.NAMES]!
    let free = 0
    for (let n = 1; n <= used; n++) {
      const at = nameAt(region, n)
      if (words[at + NAME.COUNT] === 0) free = free === 0 ? n : free
      else if (this.isNamed(at, name, length)) return n
    }
    if (free === 0) {
      free = used < DNS_NAMES ? used + 1 : this.displaced(region, name, length)
      if (free === 0) {
        words[region + PORT.REFUSED_NAMES]!++
        return 0
      }
      words[region + PORT.NAMES] = Math.max(used, free)
    }
    const at = nameAt(region, free)
    words[at + NAME.LENGTH] = length
    const to = (at + NAME.BYTES) * 4
    for (let k = 0; k < length; k++) this.bytes[to + k] = name[k]!
    return free
  }

  /** The place of a name that no pattern means, if one means `name`: its addresses go. 0: there is none. */
  private displaced(region: number, name: Uint8Array, length: number): number {
    if (!this.isMeant(name, 0, length)) return 0
    for (let n = 1; n <= DNS_NAMES; n++) {
      const at = nameAt(region, n)
      if (this.isMeant(this.bytes, (at + NAME.BYTES) * 4, this.words[at + NAME.LENGTH]!)) continue
      for (let a = 1; a <= this.words[region + PORT.ADDRESSES]!; a++) {
        if (this.words[entryAt(region, a) + ADDRESS.NAME] === n) takeOut(this.words, region, a)
      }
      return n
    }
    return 0
  }

  private isMeant(bytes: Uint8Array, at: number, length: number): boolean {
    this.meant.clear()
    this.meant.match(bytes, at, length)
    return this.meant.count > 0
  }

  private isNamed(at: number, name: Uint8Array, length: number): boolean {
    if (this.words[at + NAME.LENGTH] !== length) return false
    const from = (at + NAME.BYTES) * 4
    for (let k = 0; k < length; k++) if (this.bytes[from + k] !== name[k]) return false
    return true
  }

  /** Puts `one` under a name, or lets it live on. */
  private keep(region: number, name: number, family: number, expires: number): void {
    const { words } = this
    const chain = region + CHAINS_AT + this.chain()
    for (let a = words[chain]!; a !== 0; a = words[entryAt(region, a) + ADDRESS.NEXT]!) {
      const entry = entryAt(region, a)
      if (words[entry + ADDRESS.NAME] !== name || !this.isOne(entry, family)) continue
      words[entry + ADDRESS.EXPIRES] = Math.max(words[entry + ADDRESS.EXPIRES]!, expires)
      Atomics.add(this.counts, COUNT.LEARNED, 1)
      return
    }
    const count = nameAt(region, name) + NAME.COUNT
    if (words[count]! >= DNS_ADDRESSES_OF_NAME) {
      words[region + PORT.REFUSED_OF_NAME]!++
      return
    }
    const a = this.place(region)
    if (a === 0) {
      words[region + PORT.REFUSED_ADDRESSES]!++
      return
    }
    const entry = entryAt(region, a)
    words[entry + ADDRESS.NAME] = name
    words[entry + ADDRESS.FAMILY] = family
    for (let w = 0; w < 4; w++) words[entry + ADDRESS.WORDS_AT + w] = this.one[w]!
    words[entry + ADDRESS.EXPIRES] = expires
    words[entry + ADDRESS.NEXT] = words[chain]!
    words[chain] = a
    words[count]!++
    Atomics.add(this.counts, COUNT.LEARNED, 1)
  }

  /** Number of a free address; 0: there is none. */
  private place(region: number): number {
    const { words } = this
    const used = words[region + PORT.ADDRESSES]!
    if (used < DNS_ADDRESSES) {
      words[region + PORT.ADDRESSES] = used + 1
      return used + 1
    }
    for (let a = 1; a <= DNS_ADDRESSES; a++) {
      if (words[entryAt(region, a) + ADDRESS.NAME] === 0) return a
    }
    return 0
  }

  private isOne(entry: number, family: number): boolean {
    const { words, one } = this
    if (words[entry + ADDRESS.FAMILY] !== family) return false
    for (let w = 0; w < 4; w++) {
      if (words[entry + ADDRESS.WORDS_AT + w] !== (one[w]! | 0)) return false
    }
    return true
  }

  /** Chain of `one`. */
  private chain(): number {
    const { one } = this
    return chainOf(one[0]!, one[1]!, one[2]!, one[3]!)
  }
}

function chainOf(a: number, b: number, c: number, d: number): number {
  const hash = a ^ Math.imul(b, 0x85eb_ca6b) ^ Math.imul(c, 0xc2b2_ae35)
  return (Math.imul(hash ^ d, 0x9e37_79b1) >>> 16) & (CHAINS - 1)
}

/** Takes an address out that is there; whoever calls has the port's lock. */
export function takeOut(words: Int32Array, region: number, place: number): void {
  const entry = entryAt(region, place)
  const at = entry + ADDRESS.WORDS_AT
  const chain = chainOf(words[at]!, words[at + 1]!, words[at + 2]!, words[at + 3]!)
  let link = region + CHAINS_AT + chain
  while (words[link] !== place) link = entryAt(region, words[link]!) + ADDRESS.NEXT
  words[link] = words[entry + ADDRESS.NEXT]!
  words[nameAt(region, words[entry + ADDRESS.NAME]!) + NAME.COUNT]!--
  words.fill(0, entry, entry + ADDRESS.WORDS)
}

export function nameAt(region: number, name: number): number {
  return region + NAMES_AT + (name - 1) * NAME.WORDS
}

export function entryAt(region: number, address: number): number {
  return region + ADDRESSES_AT + (address - 1) * ADDRESS.WORDS
}
