/**
 * MurmurHash3 x86_32 (A. Appleby, SMHasher, 2011) over whole words: one multiply-rotate-multiply a
 * word, one multiply-add of the state, and a finalizer of two multiplications that lets each bit of
 * the state reach each bit of the hash. The first half of the seed is the algorithm's own, the second
 * one is added to the state before the finalizer; with 0 there it is the published function.
 *
 * It is no keyed hash: there are sets of keys that collide under every seed (J.-P. Aumasson, D. J.
 * Bernstein, "SipHash: a fast short-input PRF", Indocrypt 2012, section 7). For keys that no stranger
 * chooses.
 */
import { ALU, type Assembler, R0, R2, R3, R4, SIZE } from '../bpf/assembler.ts'
import { rotate } from './emit.ts'
import { FLOW_KEY_WORDS } from './flow-key.ts'
import { checkEmitWords, type Hash, type Hasher, type HashSeed } from './hash.ts'

const C1 = 0xcc9e2d51 | 0
const C2 = 0x1b873593
const ADDED = 0xe6546b64 | 0
const F1 = 0x85ebca6b | 0
const F2 = 0xc2b2ae35 | 0

function mix(state: number, word: number): number {
  const scaled = Math.imul(word, C1)
  const mixed = state ^ Math.imul((scaled << 15) | (scaled >>> 17), C2)
  return (Math.imul((mixed << 13) | (mixed >>> 19), 5) + ADDED) | 0
}

function finish(state: number, second: number, words: number): number {
  let hash = ((state + second) | 0) ^ (4 * words)
  hash = Math.imul(hash ^ (hash >>> 16), F1)
  hash = Math.imul(hash ^ (hash >>> 13), F2)
  return hash ^ (hash >>> 16)
}

function seeded([first, second]: HashSeed): Hasher {
  const seed = first | 0
  const added = second | 0
  return {
    words(keys, words, n, hashes) {
      for (let i = 0, at = 0; i < n; i++) {
        let state = seed
        for (const end = at + words; at < end; at++) state = mix(state, keys[at]!)
        hashes[i] = finish(state, added, words)
      }
    },

    flows(keys, n, hashes) {
      for (let i = 0; i < n; i++) {
        const at = i * FLOW_KEY_WORDS
        const kind = keys[at + 9]!
        let state = seed
        if (((kind >>> 8) & 255) === 4) {
          state = mix(state, keys[at + 3]!)
          state = mix(state, keys[at + 7]!)
          state = mix(state, keys[at + 8]!)
          hashes[i] = finish(mix(state, kind), added, 4)
        } else {
          for (let w = 0; w < FLOW_KEY_WORDS; w++) state = mix(state, keys[at + w]!)
          hashes[i] = finish(state, added, FLOW_KEY_WORDS)
        }
      }
    },
  }
}

/** State in R0, the word in R3, R4 for rotations. */
function emit(asm: Assembler, words: number, [first, second]: HashSeed): Assembler {
  checkEmitWords(words)
  asm.set32(R0, first | 0)
  for (let w = 0; w < words; w++) {
    asm.load(SIZE.W, R3, R2, 4 * w).alu32(ALU.MUL, R3, C1)
    rotate(asm, R3, 15, R4).alu32(ALU.MUL, R3, C2).alu32Register(ALU.XOR, R0, R3)
    rotate(asm, R0, 13, R4).alu32(ALU.MUL, R0, 5).alu32(ALU.ADD, R0, ADDED)
  }
  asm.alu32(ALU.ADD, R0, second | 0).alu32(ALU.XOR, R0, 4 * words)
  const steps = [
    [16, F1],
    [13, F2],
  ] as const
  for (const [shift, factor] of steps) {
    asm.move32(R4, R0).alu32(ALU.RSH, R4, shift).alu32Register(ALU.XOR, R0, R4)
    asm.alu32(ALU.MUL, R0, factor)
  }
  return asm.move32(R4, R0).alu32(ALU.RSH, R4, 16).alu32Register(ALU.XOR, R0, R4)
}

export const murmur3: Hash = { name: 'murmur3', seeded, emit }
