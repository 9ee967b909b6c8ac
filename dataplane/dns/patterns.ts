/**
 * Patterns of names (names.ts) that the programs in force speak of, each with a number, in memory that workers share. The main
 * thread writes; a reader finds all patterns that mean a name: the name itself, and what stands behind each of its labels.
 *
 * Patterns hang in chains by the hash of their bytes. A number that is given back is used again when no reader can be on
 * its way through its chain (`quiesced`). Nobody asks for a number whose pattern no program in force has, so what its bytes
 * say meanwhile is nobody's matter.
 */
import { MAX_PATTERNS } from '../limits.ts'
import { domainBytes, domainText } from './names.ts'

/** Chains; a power of two. */
const CHAINS = 4096
/** Words of a pattern: next in its chain, hash, bytes | WILDCARD; then its bytes, at most 254. */
const HEAD = 3
const ENTRY = HEAD + 64
const WILDCARD = 1 << 8
/** Labels of a name, at most. */
const MAX_LABELS = 128
const HASH = 0x811c_9dc5

export interface PatternMemory {
  /** By hash: number of the first pattern, 0: none. */
  readonly chains: Int32Array
  /** By number - 1. */
  readonly entries: Int32Array
}

export function patternMemory(): PatternMemory {
  return {
    chains: new Int32Array(new SharedArrayBuffer(CHAINS * 4)),
    entries: new Int32Array(new SharedArrayBuffer(MAX_PATTERNS * ENTRY * 4)),
  }
}

/** `hash` of what stands behind a label, and the label: `bytes[at .. at + its length]`. */
function behind(hash: number, bytes: Uint8Array, at: number): number {
  let h = hash
  for (let k = 0; k <= bytes[at]!; k++) h = Math.imul(h ^ bytes[at + k]!, 0x0100_0193)
  return h ^ (h >>> 15)
}

/** The writer's end; one thread. */
export class PatternWriter {
  private readonly chains: Int32Array
  private readonly entries: Int32Array
  private readonly text: Uint8Array
  private readonly kept = new Map<string, { number: number; uses: number }>()
  private readonly byNumber = new Map<number, string>()
  private readonly free: number[] = []
  /** Given back, and perhaps still on a reader's way. */
  private readonly leaving: number[] = []
  private next = 1

  constructor({ chains, entries }: PatternMemory) {
    this.chains = chains
    this.entries = entries
    this.text = new Uint8Array(entries.buffer)
  }

  /** The number of a pattern, 1 .. MAX_PATTERNS, which is the caller's until `release`. Throws RangeError with the limit's name. */
  take(pattern: string): number {
    const key = domainText(pattern)
    const known = this.kept.get(key)
    if (known !== undefined) {
      known.uses++
      return known.number
    }
    const { bytes, wildcard } = domainBytes(key)
    const number = this.free.pop() ?? this.next
    if (number > MAX_PATTERNS) {
      throw new RangeError(
        `policy: more than ${MAX_PATTERNS} different domain names (MAX_PATTERNS)`,
      )
    }
    if (number === this.next) this.next++
    const at = (number - 1) * ENTRY
    const hash = hashOf(bytes)
    const chain = hash & (CHAINS - 1)
    this.text.set(bytes, (at + HEAD) * 4)
    this.entries[at + 1] = hash
    this.entries[at + 2] = bytes.length | (wildcard ? WILDCARD : 0)
    this.entries[at] = this.chains[chain]!
    Atomics.store(this.chains, chain, number)
    this.kept.set(key, { number, uses: 1 })
    this.byNumber.set(number, key)
    return number
  }

  /** Gives one use back. Numbers that nobody has are a bug of the caller's. */
  release(number: number): void {
    const key = this.byNumber.get(number)
    const kept = key === undefined ? undefined : this.kept.get(key)
    if (key === undefined || kept === undefined) {
      throw new RangeError(`domain name ${number}: it is not there`)
    }
    if (--kept.uses > 0) return
    this.kept.delete(key)
    this.byNumber.delete(number)
    this.unlink(number)
    this.leaving.push(number)
  }

  /** No reader is inside a look that began before the last `release`. */
  quiesced(): void {
    this.free.push(...this.leaving.splice(0))
  }

  private unlink(number: number): void {
    const { chains, entries } = this
    const at = (number - 1) * ENTRY
    const chain = entries[at + 1]! & (CHAINS - 1)
    if (chains[chain] === number) {
      Atomics.store(chains, chain, entries[at]!)
      return
    }
    let before = chains[chain]!
    while (entries[(before - 1) * ENTRY] !== number) before = entries[(before - 1) * ENTRY]!
    Atomics.store(entries, (before - 1) * ENTRY, entries[at]!)
  }
}

function hashOf(bytes: Uint8Array): number {
  const starts: number[] = []
  for (let at = 0; at < bytes.length; at += bytes[at]! + 1) starts.push(at)
  return starts.reverse().reduce((hash, at) => behind(hash, bytes, at), HASH)
}

/** A worker's end. Allocates nothing after it was made. */
export class PatternReader {
  /** Numbers that were found. */
  readonly found: Uint16Array
  count = 0
  /** Patterns for which there was no room. */
  beyond = 0
  private readonly chains: Int32Array
  private readonly entries: Int32Array
  private readonly text: Uint8Array
  private readonly starts = new Uint8Array(MAX_LABELS)

  constructor({ chains, entries }: PatternMemory, most: number) {
    this.found = new Uint16Array(most)
    this.chains = chains
    this.entries = entries
    this.text = new Uint8Array(entries.buffer)
  }

  /** Nothing is found. */
  clear(): void {
    this.count = 0
    this.beyond = 0
  }

  /** Adds the numbers of the patterns that mean the name `bytes[at .. at + length]`, each once. */
  match(bytes: Uint8Array, at: number, length: number): void {
    const { starts } = this
    let labels = 0
    for (let k = 0; k < length && labels < MAX_LABELS; k += bytes[at + k]! + 1) starts[labels++] = k
    let hash = HASH
    for (let label = labels - 1; label >= 0; label--) {
      const from = at + starts[label]!
      hash = behind(hash, bytes, from)
      this.look(hash, bytes, from, length - starts[label]!, label > 0)
    }
  }

  private look(hash: number, bytes: Uint8Array, at: number, length: number, wildcard: boolean) {
    const { chains, entries } = this
    const wanted = length | (wildcard ? WILDCARD : 0)
    let number = Atomics.load(chains, hash & (CHAINS - 1))
    for (let k = 0; number !== 0 && k < MAX_PATTERNS; k++) {
      const entry = (number - 1) * ENTRY
      if (entries[entry + 1] === hash && entries[entry + 2] === wanted) {
        if (this.same(entry, bytes, at, length)) this.add(number)
      }
      number = Atomics.load(entries, entry)
    }
  }

  private same(entry: number, bytes: Uint8Array, at: number, length: number): boolean {
    const { text } = this
    const from = (entry + HEAD) * 4
    for (let k = 0; k < length; k++) if (text[from + k] !== bytes[at + k]) return false
    return true
  }

  private add(number: number): void {
    const { found } = this
    for (let k = 0; k < this.count; k++) if (found[k] === number) return
    if (this.count === found.length) this.beyond++
    else found[this.count++] = number
  }
}
