/**
 * The node's routes: the FIBs of both families in the arena, by prefixes as text. The main thread's
 * end; workers open readers of their own over the same memory.
 */
import { ipWords, parseCidr, wordsToIp } from '../addresses.ts'
import type { FibReader, FibWriter } from '../fib/fib.ts'
import { defaultFib, fibByName } from '../fib/index.ts'
import type { Arena } from '../memory/arena.ts'

interface Family {
  writer: FibWriter
  reader: FibReader
}

export class Routes {
  /** Grows with every change: what one frees may still be in use until a quiescent point behind it. */
  changes = 0
  private readonly ipv4: Family
  private readonly ipv6: Family
  private readonly found = new Uint16Array(1)

  /** Bytes of each family's region in the arena, for at most `routes` routes. */
  static bytes(routes: number): { fib4Bytes: number; fib6Bytes: number } {
    const bytes = (family: 4 | 6) => fibByName(defaultFib(family), family).bytes({ routes })
    return { fib4Bytes: bytes(4), fib6Bytes: bytes(6) }
  }

  constructor(arena: Arena, routes: number) {
    const open = (family: 4 | 6): Family => {
      const fib = fibByName(defaultFib(family), family)
      const { fib4, fib6 } = arena.layout
      const memory = arena.slice(family === 4 ? fib4 : fib6)
      return { writer: fib.writer(memory, { routes }), reader: fib.reader(memory, { routes }) }
    }
    this.ipv4 = open(4)
    this.ipv6 = open(6)
  }

  get sizes(): { ipv4: number; ipv6: number } {
    return { ipv4: this.ipv4.writer.size, ipv6: this.ipv6.writer.size }
  }

  /** Adds a route or gives it another next hop. Throws RangeError; then nothing is changed. */
  insert(prefix: string, hop: number): void {
    const { family, words, prefix: length } = parseCidr(prefix)
    this.changes++
    this.of(family).writer.insert(words, length, hop)
  }

  remove(prefix: string): void {
    const { family, words, prefix: length } = parseCidr(prefix)
    this.changes++
    this.of(family).writer.remove(words, length)
  }

  /** The next hop id that packets to `ip` take; 0 for none. */
  lookup(ip: string): number {
    const words = ipWords(ip)
    this.of(words.length === 1 ? 4 : 6).reader.lookup(words, 1, this.found)
    return this.found[0]!
  }

  /** Every route, IPv4 first. */
  *list(): Iterable<{ prefix: string; hop: number }> {
    for (const { writer } of [this.ipv4, this.ipv6]) {
      for (const { address, prefix, nextHop } of writer.routes()) {
        yield { prefix: `${wordsToIp(address)}/${prefix}`, hop: nextHop }
      }
    }
  }

  /** No reader is inside a lookup that began before the last change. */
  quiesced(): void {
    this.ipv4.writer.quiesced()
    this.ipv6.writer.quiesced()
  }

  private of(family: 4 | 6): Family {
    return family === 4 ? this.ipv4 : this.ipv6
  }
}
