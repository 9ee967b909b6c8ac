/**
 * Who has an address: the identity of every pod of the cluster's own network, and the VTEP that its packets come
 * from. An address alone proves nothing: what claims to be a pod of node A and came from node B is nobody.
 *
 * A FIB holds each address whole; its next hop is an index of `who`, one for each different pair of identity and
 * VTEP. An index is used again only when no reader can be inside a lookup that began before it was given back.
 */
import { ipWords } from '../addresses.ts'
import type { PodIdentity } from '../control.ts'
import type { FibReader, FibWriter } from '../fib/fib.ts'
import { addressFibs, MAX_WHO, type PolicyMemory, WHO_WORDS } from './memory.ts'

/** What a change of the identities came to. */
export interface IdentityChange {
  /** Addresses that had none, or have none any more. */
  readonly moved: readonly string[]
  /** Whether an address has another one now. */
  readonly changed: boolean
}

interface Known {
  readonly index: number
  readonly key: string
}

/** The writer's end. */
export class IdentityWriter {
  private readonly who: Uint32Array
  private readonly fibs: { readonly 4: FibWriter; readonly 6: FibWriter }
  private readonly most: number
  private readonly byAddress = new Map<string, Known>()
  private readonly uses = new Map<string, { index: number; count: number }>()
  private readonly free: number[] = []
  /** Given back, and perhaps still read. */
  private readonly leaving: number[] = []
  private next = 1

  constructor({ who, addresses4, addresses6, room }: PolicyMemory) {
    this.who = who
    this.most = room.addresses
    const limits = { routes: room.addresses }
    this.fibs = {
      4: addressFibs[4].writer(addresses4, limits),
      6: addressFibs[6].writer(addresses6, limits),
    }
  }

  /** These are all there are. Throws RangeError with the limit's name, and nothing has changed. */
  follow(wanted: readonly PodIdentity[]): IdentityChange {
    const next = new Map(wanted.map(each => [each.address, each]))
    for (const family of [4, 6] as const) {
      const count = [...next.keys()].filter(text => text.includes(':') === (family === 6)).length
      if (count > this.most) {
        throw new RangeError(
          `policy: ${count} IPv${family} addresses of pods, at most ${this.most} (policy addresses)`,
        )
      }
    }
    const pairs = new Set([...next.values()].map(keyOf))
    // Those that are given back now are used again only later.
    const room = MAX_WHO - this.leaving.length
    if (new Set([...pairs, ...this.uses.keys()]).size > room) {
      throw new RangeError(
        `policy: ${pairs.size} kinds of pods on nodes, at most ${MAX_WHO} (MAX_WHO)`,
      )
    }
    const moved: string[] = []
    let changed = false
    // What goes goes first: the FIBs have room for as many as there will be.
    for (const [address, { key }] of this.byAddress) {
      if (next.has(address)) continue
      this.fib(address).remove(ipWords(address), bitsOf(address))
      this.byAddress.delete(address)
      this.giveBack(key)
      moved.push(address)
    }
    for (const [address, each] of next) {
      const known = this.byAddress.get(address)
      const key = keyOf(each)
      if (known?.key === key) continue
      const index = this.take(key, each)
      this.fib(address).insert(ipWords(address), bitsOf(address), index)
      this.byAddress.set(address, { index, key })
      if (known === undefined) moved.push(address)
      else {
        this.giveBack(known.key)
        changed = true
      }
    }
    return { moved, changed }
  }

  /** Writes an address that it has once more, as it should be. */
  rewrite({ address, identity, vtep }: PodIdentity): void {
    const known = this.byAddress.get(address)
    if (known === undefined) return
    this.who.set([identity, ...vtepWords(vtep)], known.index * WHO_WORDS)
    this.fib(address).insert(ipWords(address), bitsOf(address), known.index)
  }

  /** No reader is inside a lookup that began before the last `follow`. */
  quiesced(): void {
    this.fibs[4].quiesced()
    this.fibs[6].quiesced()
    this.free.push(...this.leaving.splice(0))
  }

  private fib(address: string): FibWriter {
    return this.fibs[address.includes(':') ? 6 : 4]
  }

  private take(key: string, { identity, vtep }: PodIdentity): number {
    const known = this.uses.get(key)
    if (known !== undefined) {
      known.count++
      return known.index
    }
    const index = this.free.pop() ?? this.next++
    this.who.set([identity, ...vtepWords(vtep)], index * WHO_WORDS)
    this.uses.set(key, { index, count: 1 })
    return index
  }

  private giveBack(key: string): void {
    const known = this.uses.get(key)!
    if (--known.count > 0) return
    this.uses.delete(key)
    this.leaving.push(known.index)
  }
}

function keyOf({ identity, vtep = '' }: PodIdentity): string {
  return `${identity} ${vtep}`
}

function bitsOf(address: string): number {
  return address.includes(':') ? 128 : 32
}

/** Four words: IPv4 as ::ffff:a.b.c.d, zeros for any. */
function vtepWords(vtep: string | undefined): ArrayLike<number> & Iterable<number> {
  if (vtep === undefined) return [0, 0, 0, 0]
  const words = ipWords(vtep)
  return words.length === 4 ? words : [0, 0, 0xffff, words[0]!]
}

/** A worker's end. Allocates nothing after it was made. */
export class IdentityReader {
  private readonly who: Uint32Array
  private readonly fibs: { readonly 4: FibReader; readonly 6: FibReader }
  private readonly address = new Uint32Array(4)
  private readonly found = new Uint16Array(1)

  constructor({ who, addresses4, addresses6, room }: PolicyMemory) {
    this.who = who
    const limits = { routes: room.addresses }
    this.fibs = {
      4: addressFibs[4].reader(addresses4, limits),
      6: addressFibs[6].reader(addresses6, limits),
    }
  }

  /** Index in `who` of the address whose words begin at `words[at]`; 0: nobody's. */
  find(family: 4 | 6, words: Uint32Array, at: number): number {
    const { address, found } = this
    const count = family === 4 ? 1 : 4
    for (let w = 0; w < count; w++) address[w] = words[at + w]!
    this.fibs[family].lookup(address, 1, found)
    return found[0]!
  }

  identity(index: number): number {
    return this.who[index * WHO_WORDS]!
  }

  /** Whether entry `index` is of this identity, from this VTEP. */
  is(index: number, { identity, vtep }: PodIdentity): boolean {
    const at = index * WHO_WORDS
    return [identity, ...vtepWords(vtep)].every((word, w) => this.who[at + w] === word)
  }

  /** Whether its packets may come from the VTEP with these words (IPv4 as ::ffff:a.b.c.d). */
  comesFrom(index: number, a: number, b: number, c: number, d: number): boolean {
    const { who } = this
    const at = index * WHO_WORDS + 1
    if ((who[at]! | who[at + 1]! | who[at + 2]! | who[at + 3]!) === 0) return true
    return who[at] === a && who[at + 1] === b && who[at + 2] === c && who[at + 3] === d
  }
}
