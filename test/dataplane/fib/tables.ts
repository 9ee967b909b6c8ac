/** Tables for the tests: FIBs on memory of their own, and arbitraries that lean to the edges. */
import fc from 'fast-check'
import type { Fib, FibReader, FibWriter } from '../../../dataplane/fib/fib.ts'
import { MAX_NEXT_HOP_ID } from '../../../dataplane/fib/fib.ts'
import { fibByName, fibNames } from '../../../dataplane/fib/index.ts'
import { wordMask } from '../../../dataplane/fib/route.ts'
import { memoryOf, newTable } from '../../../dataplane/fib/table.ts'

export type Words = 1 | 4

export const wordsOf = (family: 4 | 6): Words => (family === 4 ? 1 : 4)

const NATIVE = '_native'

/** Every FIB there is, with its family. */
export const ALL = ([4, 6] as const).flatMap(family =>
  fibNames(family).map(name => ({ name, family })),
)

/**
 * The FIBs that are made by one writer: an algorithm and its native twin, by the algorithm's name.
 * One table serves both, and is looked up in by both.
 */
export const GROUPS = ALL.filter(({ name }) => !name.endsWith(NATIVE)).map(({ name, family }) => ({
  name,
  family,
  names: ALL.map(each => each.name).filter(each => each === name || each === name + NATIVE),
}))

export interface Table {
  fib: Fib
  memory: Uint8Array
  writer: FibWriter
  reader: FibReader
}

export function table(name: string, family: 4 | 6, routes: number): Table {
  const fib = fibByName(name, family)
  const limits = { routes }
  const memory = memoryOf(newTable({ name, family }, fib.bytes(limits), limits))
  return { fib, memory, writer: fib.writer(memory, limits), reader: fib.reader(memory, limits) }
}

/** Next hops of addresses that lie behind each other, in batches of 256 as the engine makes them. */
export function lookUp(reader: FibReader, addresses: Uint32Array, words: Words): Uint16Array {
  const n = addresses.length / words
  const found = new Uint16Array(n)
  for (let i = 0; i < n; i += 256) {
    const batch = Math.min(256, n - i)
    reader.lookup(addresses.subarray(i * words, (i + batch) * words), batch, found.subarray(i))
  }
  return found
}

export interface Prefix {
  address: number[]
  prefix: number
}

/** The address with the bits behind the prefix cleared, or set. */
export function clip(address: readonly number[], prefix: number, ones = false): number[] {
  return address.map((word, w) => {
    const mask = wordMask(prefix, w)
    return (ones ? word | ~mask : word & mask) >>> 0
  })
}

/** The address `by` (1 or -1) further, around the ends. */
export function step(address: readonly number[], by: 1 | -1): number[] {
  const next = [...address]
  for (let w = next.length - 1; w >= 0; w--) {
    next[w] = (next[w]! + by) >>> 0
    if (next[w] !== (by === 1 ? 0 : 0xffff_ffff)) break
  }
  return next
}

/** Where a prefix can go wrong: its first and last address, and their neighbours outside. */
export function edges({ address, prefix }: Prefix): number[][] {
  const first = clip(address, prefix)
  const last = clip(address, prefix, true)
  return [first, last, step(first, -1), step(last, 1)]
}

const LENGTHS = {
  4: [0, 1, 2, 7, 8, 9, 15, 16, 17, 22, 23, 24, 25, 26, 30, 31, 32],
  6: [0, 1, 15, 16, 17, 19, 20, 21, 31, 32, 33, 47, 48, 49, 63, 64, 65, 95, 96, 97, 127, 128],
}
/** Few, so that prefixes nest and lie side by side. */
const PLACES = {
  4: [[0], [0xffff_ffff], [0x0af4_0102], [0x0af4_01ff], [0x0af4_0200], [0x7fff_ffff]],
  6: [
    [0, 0, 0, 0],
    [0xffff_ffff, 0xffff_ffff, 0xffff_ffff, 0xffff_ffff],
    [0xfd44_0000, 0x0000_0001, 0, 2],
    [0xfd44_0000, 0x0000_0001, 0, 0x0100_0002],
    [0xfd44_0000, 0x0001_0001, 0, 0],
    [0x2001_0db8, 0x7fff_ffff, 0xffff_ffff, 0xffff_ffff],
  ],
}

const word = fc.integer({ min: 0, max: 0xffff_ffff })

/** An address near one of PLACES (some bits turned), or any. */
export function anyAddress(family: 4 | 6): fc.Arbitrary<number[]> {
  const words = wordsOf(family)
  const near = fc
    .tuple(
      fc.constantFrom(...PLACES[family]),
      fc.array(fc.integer({ min: 0, max: 32 * words - 1 }), { maxLength: 2 }),
    )
    .map(([place, flips]) => {
      const address = [...place]
      for (const bit of flips) {
        const w = bit >>> 5
        address[w] = (address[w]! ^ (1 << (31 - (bit & 31)))) >>> 0
      }
      return address
    })
  const any = fc.array(word, { minLength: words, maxLength: words })
  return fc.oneof({ weight: 4, arbitrary: near }, { weight: 1, arbitrary: any })
}

export function anyPrefix(family: 4 | 6): fc.Arbitrary<Prefix> {
  const length = fc.oneof(
    { weight: 4, arbitrary: fc.constantFrom(...LENGTHS[family]) },
    { weight: 1, arbitrary: fc.integer({ min: 0, max: 32 * wordsOf(family) }) },
  )
  return fc
    .tuple(anyAddress(family), length)
    .map(([address, prefix]) => ({ address: clip(address, prefix), prefix }))
}

export const anyNextHop = fc.oneof(
  fc.integer({ min: 1, max: 5 }),
  fc.constant(MAX_NEXT_HOP_ID),
  fc.integer({ min: 1, max: MAX_NEXT_HOP_ID }),
)
