/**
 * HalfSipHash-1-3: the 32-bit relative of SipHash (J.-P. Aumasson, D. J. Bernstein, "SipHash: a fast
 * short-input PRF", Indocrypt 2012; the half-width variant is their reference code's), one round a
 * word and three at the end. A keyed hash: who doesn't know the 64-bit seed can't find keys that
 * collide better than by trying, which is what it is for. Linux takes the same for its hash tables.
 *
 * Four words of state; a round is four additions, six rotations and four xors. The last word that
 * goes in is the key's length in bytes (mod 256) in its top byte.
 */
import { ALU, type Assembler, R0, R2, R3, R4, R5, R7, R8, R9, SIZE } from '../bpf/assembler.ts'
import { rotate } from './emit.ts'
import { FLOW_KEY_WORDS } from './flow-key.ts'
import { checkEmitWords, type Hash, type Hasher, type HashSeed } from './hash.ts'

/** "lyge", "tedb": the constants of the state's second half. */
const C2 = 0x6c796765
const C3 = 0x74656462
const FINAL = 0xff
const FINAL_ROUNDS = 3

function seeded([k0, k1]: HashSeed): Hasher {
  const i0 = k0 | 0
  const i1 = k1 | 0
  const i2 = C2 ^ k0
  const i3 = C3 ^ k1
  /** The four words of an IPv4 key. */
  const short = new Uint32Array(4)

  /** The hash of `count` words from `at`. Its state lives in locals: it is inlined into both loops. */
  function one(keys: Uint32Array, at: number, count: number): number {
    let v0 = i0
    let v1 = i1
    let v2 = i2
    let v3 = i3
    // The words, their length, and the empty words of the last rounds.
    const last = count + FINAL_ROUNDS
    for (let w = 0; w <= last; w++) {
      const word = w < count ? keys[at + w]! | 0 : w === count ? count << 26 : 0
      v3 ^= word
      v0 = (v0 + v1) | 0
      v1 = ((v1 << 5) | (v1 >>> 27)) ^ v0
      v0 = (v0 << 16) | (v0 >>> 16)
      v2 = (v2 + v3) | 0
      v3 = ((v3 << 8) | (v3 >>> 24)) ^ v2
      v0 = (v0 + v3) | 0
      v3 = ((v3 << 7) | (v3 >>> 25)) ^ v0
      v2 = (v2 + v1) | 0
      v1 = ((v1 << 13) | (v1 >>> 19)) ^ v2
      v2 = (v2 << 16) | (v2 >>> 16)
      v0 ^= word
      if (w === count) v2 ^= FINAL
    }
    return v1 ^ v3
  }

  return {
    words(keys, words, n, hashes) {
      for (let i = 0; i < n; i++) hashes[i] = one(keys, i * words, words)
    },

    flows(keys, n, hashes) {
      for (let i = 0; i < n; i++) {
        const at = i * FLOW_KEY_WORDS
        const kind = keys[at + 9]!
        if (((kind >>> 8) & 255) === 4) {
          short[0] = keys[at + 3]!
          short[1] = keys[at + 7]!
          short[2] = keys[at + 8]!
          short[3] = kind
          hashes[i] = one(short, 0, 4)
        } else {
          hashes[i] = one(keys, at, FLOW_KEY_WORDS)
        }
      }
    },
  }
}

/** v0 .. v3 in R3, R4, R5 and R7, the word in R8; R9 for rotations. */
function emit(asm: Assembler, words: number, [k0, k1]: HashSeed): Assembler {
  checkEmitWords(words)
  const [v0, v1, v2, v3, word] = [R3, R4, R5, R7, R8]
  asm.set32(v0, k0 | 0).set32(v1, k1 | 0)
  asm.set32(v2, C2 ^ k0).set32(v3, C3 ^ k1)
  const add = (to: number, from: number) => asm.alu32Register(ALU.ADD, to, from)
  const xor = (to: number, from: number) => asm.alu32Register(ALU.XOR, to, from)
  const turn = (register: number, bits: number) => rotate(asm, register, bits, R9)
  for (let w = 0; w <= words + FINAL_ROUNDS; w++) {
    if (w < words) asm.load(SIZE.W, word, R2, 4 * w)
    else asm.set32(word, w === words ? words << 26 : 0)
    xor(v3, word)
    add(v0, v1)
    turn(v1, 5)
    xor(v1, v0)
    turn(v0, 16)
    add(v2, v3)
    turn(v3, 8)
    xor(v3, v2)
    add(v0, v3)
    turn(v3, 7)
    xor(v3, v0)
    add(v2, v1)
    turn(v1, 13)
    xor(v1, v2)
    turn(v2, 16)
    xor(v0, word)
    if (w === words) asm.alu32(ALU.XOR, v2, FINAL)
  }
  asm.move32(R0, v1)
  return asm.alu32Register(ALU.XOR, R0, v3)
}

export const halfsip13: Hash = { name: 'halfsip13', seeded, emit }
