/** A set of addresses that is asked by words of flow keys (hash/flow-key.ts): for every flow of a table, so it makes nothing. */
import { ipWords } from '../addresses.ts'

export class Ends {
  /** Whole addresses, by their last word, which an IPv4 one has alone. */
  private readonly byLast = new Map<number, Int32Array[]>()

  constructor(addresses: readonly string[]) {
    for (const text of addresses) {
      const words = new Int32Array(4)
      const some = ipWords(text)
      words.set(some, 4 - some.length)
      const last = words[3]!
      this.byLast.set(last, [...(this.byLast.get(last) ?? []), words])
    }
  }

  /** Whether the address in the four words from `at` is one of them. */
  has(words: Int32Array, at: number): boolean {
    const those = this.byLast.get(words[at + 3]!)
    if (those === undefined) return false
    for (const each of those) {
      if (each[0] === words[at] && each[1] === words[at + 1] && each[2] === words[at + 2])
        return true
    }
    return false
  }
}
