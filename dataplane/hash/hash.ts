/**
 * Seeded hashes of 32-bit words: the interface of every one. They spread flows over the flow table,
 * backends and queues, so two things are asked of them.
 *
 * **eBPF can compute them.** Only 32-bit multiplications, additions, xors, shifts and rotations, no
 * table and no loop that depends on the data: `emit` writes the same hash as eBPF instructions, so
 * that an XDP program finds the entry that TypeScript wrote.
 *
 * **A stranger can't aim.** A pod chooses its addresses' last bits and its ports; who knew the hash
 * could put all its flows into one bucket. The seed is 64 bits from a CSPRNG (`newSeed`), made when a
 * table is made, and never leaves the node. What that is worth differs by algorithm: its header
 * comment says so.
 *
 * A key is N words in the order of its array; the hash is one word, and so is each half of the seed.
 * The bytes of a word are little endian wherever a definition speaks of bytes. Keys of different
 * length are different keys.
 */
import { randomBytes } from 'node:crypto'
import type { Assembler } from '../bpf/assembler.ts'

/** Two 32-bit words, 0 .. 2^32 - 1. */
export type HashSeed = readonly [number, number]

/** Words of a key that `emit` takes at the most: an IPv6 flow key has ten. */
export const MAX_EMIT_WORDS = 16

/** A hash with its seed. Allocates nothing and throws nothing. */
export interface Hasher {
  /** Hashes `n` keys of `words` words that lie behind each other, `keys[0 .. n * words)`, into `hashes[0 .. n)`. */
  words(keys: Uint32Array, words: number, n: number, hashes: Uint32Array): void
  /**
   * Hashes `n` flow keys (flow-key.ts, FLOW_KEY_WORDS each). Of an IPv4 key only the four words that
   * can differ are hashed, in order: A, B, ports, protocol; of an IPv6 key all ten.
   */
  flows(keys: Uint32Array, n: number, hashes: Uint32Array): void
}

/** An algorithm. */
export interface Hash {
  readonly name: string
  seeded(seed: HashSeed): Hasher
  /**
   * Appends instructions that leave the hash of `words` words (1 .. MAX_EMIT_WORDS) at R2, in host
   * order, zero-extended in R0. R2 must be proven readable that far. Uses R3, R4, R5, R7, R8 and R9;
   * R1, R2 and R6 stay. Throws RangeError for a number of words that is none.
   */
  emit(asm: Assembler, words: number, seed: HashSeed): Assembler
}

/** A seed from the operating system's CSPRNG. */
export function newSeed(): HashSeed {
  const bytes = randomBytes(8)
  return [bytes.readUInt32LE(0), bytes.readUInt32LE(4)]
}

/** What every `emit` asks of its number of words. */
export function checkEmitWords(words: number): void {
  if (!Number.isInteger(words) || words < 1 || words > MAX_EMIT_WORDS) {
    throw new RangeError(`a key of ${words} words: not in 1..${MAX_EMIT_WORDS} (MAX_EMIT_WORDS)`)
  }
}
