/**
 * Maglev hashing: D. E. Eisenbud et al., "Maglev: A Fast and Reliable Software Network Load Balancer"
 * (NSDI 2016), section 3.4. A table of M backends, M a prime; a flow's hash picks a place, one load
 * answers. Each backend has a permutation of all places, from two hashes of its id alone; in turns
 * they take the next place of theirs that is free, until the table is full.
 *
 * A bank is the table: M 16-bit ids, all 0 when there is no backend. M is the least prime that is
 * neither below PLACES places a backend nor below LEAST_PLACES. Place of a hash: its fraction of 2^32,
 * times M.
 *
 * Weights change how often a backend has its turn: with w of the largest weight x, each round adds w
 * to its credit, and a credit of x buys a turn. All begin with x - w, so each has its turn in the
 * first round. So of V = W / x turns a round, W the sum of weights, a backend gets w / x: its share of
 * places is right to within one turn of it and one round of all.
 *
 * When a backend goes, its places are shared out, and few others change hands (README.md has
 * figures). The order of changes leaves no trace: one set of backends gives one table.
 */
import { hashByName } from '../hash/index.ts'
import {
  checkedBackends,
  checkLbLimits,
  HEADER_BYTES,
  headerOf,
  overtaken,
  publish,
  published,
} from './bank.ts'
import type { Backend, Lb, LbLimits, LbReader, LbWriter } from './lb.ts'

const PLACES = 100
const LEAST_PLACES = 1000
/** The same everywhere: nodes that balance the same backends agree. */
const OFFSETS = hashByName('murmur3').seeded([0x6d61_676c, 0])
const SKIPS = hashByName('murmur3').seeded([0x6576_0001, 0])

function isPrime(n: number): boolean {
  for (let d = 2; d * d <= n; d++) if (n % d === 0) return false
  return true
}

/** Places of the table. */
export function placesFor(limits: LbLimits): number {
  checkLbLimits(limits)
  let places = Math.max(LEAST_PLACES, PLACES * limits.backends)
  while (!isPrime(places)) places++
  return places
}

/** Where the permutation of a backend begins, and its step. */
export function walkOf(id: number, places: number): { offset: number; skip: number } {
  const hashes = new Uint32Array(2)
  OFFSETS.words(Uint32Array.of(id), 1, 1, hashes)
  SKIPS.words(Uint32Array.of(id), 1, 1, hashes.subarray(1))
  return { offset: hashes[0]! % places, skip: (hashes[1]! % (places - 1)) + 1 }
}

function banksOf({ buffer, byteOffset }: Uint8Array, places: number): [Uint16Array, Uint16Array] {
  const at = byteOffset + HEADER_BYTES
  return [new Uint16Array(buffer, at, places), new Uint16Array(buffer, at + places * 2, places)]
}

function fill(table: Uint16Array, backends: readonly Backend[]): void {
  const places = table.length
  table.fill(0)
  if (backends.length === 0) return
  const most = backends.reduce((max, { weight }) => Math.max(max, weight), 0)
  const next = new Int32Array(backends.length)
  const skips = new Int32Array(backends.length)
  const credits = new Int32Array(backends.length)
  for (const [i, { id, weight }] of backends.entries()) {
    const { offset, skip } = walkOf(id, places)
    next[i] = offset
    skips[i] = skip
    credits[i] = most - weight
  }
  for (let taken = 0; ; ) {
    for (let i = 0; i < backends.length; i++) {
      credits[i]! += backends[i]!.weight
      if (credits[i]! < most) continue
      credits[i]! -= most
      let place = next[i]!
      const skip = skips[i]!
      while (table[place] !== 0) {
        place += skip
        if (place >= places) place -= places
      }
      table[place] = backends[i]!.id
      next[i] = place
      if (++taken === places) return
    }
  }
}

function writer(memory: Uint8Array, limits: LbLimits): LbWriter {
  const banks = banksOf(memory, placesFor(limits))
  const header = headerOf(memory)
  let current: readonly Backend[] = []
  return {
    get size() {
      return current.length
    },
    set(backends) {
      const checked = checkedBackends(backends, limits)
      publish(header, bank => fill(banks[bank]!, checked))
      current = checked
    },
    backends: () => current.map(backend => ({ ...backend })),
  }
}

function reader(memory: Uint8Array, limits: LbLimits): LbReader {
  const places = placesFor(limits)
  const [even, odd] = banksOf(memory, places)
  const header = headerOf(memory)
  const scale = places / 2 ** 32
  return {
    choose(hashes, n, backends) {
      let generation: number
      do {
        generation = published(header)
        const table = (generation & 1) === 0 ? even : odd
        for (let i = 0; i < n; i++) backends[i] = table[(hashes[i]! * scale) | 0]!
      } while (overtaken(header, generation))
    },
    release() {},
    load: () => 0,
  }
}

export const maglev: Lb = {
  name: 'maglev',
  counts: false,
  bytes: limits => HEADER_BYTES + 4 * placesFor(limits),
  writer,
  reader,
}
