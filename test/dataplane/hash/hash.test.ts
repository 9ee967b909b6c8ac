import { describe, expect, test } from 'vitest'
import { Assembler } from '../../../dataplane/bpf/assembler.ts'
import { type HashSeed, MAX_EMIT_WORDS, newSeed } from '../../../dataplane/hash/hash.ts'
import { hashByName, hashNames } from '../../../dataplane/hash/index.ts'
import { random } from './random.ts'

const SEEDS: readonly HashSeed[] = [
  [0, 0],
  [0x9e3779b9, 0x243f6a88],
  [0xffff_ffff, 1],
]

function one(name: string, seed: HashSeed, key: Uint32Array): number {
  const hashes = new Uint32Array(1)
  hashByName(name).seeded(seed).words(key, key.length, 1, hashes)
  return hashes[0]!
}

const wordsOf = (bytes: Uint8Array) => new Uint32Array(Uint8Array.from(bytes).buffer)

describe('published test vectors', () => {
  test('murmur3: x86_32 of keys of whole words', () => {
    const of = (bytes: number[] | string, seed: number) =>
      one('murmur3', [seed, 0], wordsOf(Uint8Array.from(Buffer.from(bytes as string))))
    expect(of('test', 0)).toBe(0xba6bd213)
    expect(of([0xff, 0xff, 0xff, 0xff], 0)).toBe(0x76293b50)
    expect(of([0x21, 0x43, 0x65, 0x87], 0)).toBe(0xf55b516b)
    expect(of([0x21, 0x43, 0x65, 0x87], 0x5082edee)).toBe(0x2362f9de)
    expect(of('aaaa', 0x9747b28c)).toBe(0x5a97808a)
    expect(of('abcd', 0x9747b28c)).toBe(0xf0478627)
  })

  test('halfsip13: the bytes 0 .. n - 1 under the key 0 .. 7', () => {
    const vectors = [
      0x5814c896, 0x7e059ea6, 0x577999b1, 0x6b28096c, 0x8b31d501, 0x911bb605, 0x57150ad7,
      0x0a4100d0, 0xbc6dda8d, 0x7c46fb7f, 0x05327eb2,
    ]
    for (const [words, hash] of vectors.entries()) {
      const key = wordsOf(Uint8Array.from({ length: 4 * words }, (_, i) => i))
      expect(one('halfsip13', [0x03020100, 0x07060504], key)).toBe(hash)
    }
  })
})

describe.each(hashNames())('%s', name => {
  test.each([1, 4, 10])(
    'each bit of %i words turns half of the bits of the hash',
    words => {
      const samples = 256
      const draw = random(words)
      for (const seed of SEEDS) {
        const hasher = hashByName(name).seeded(seed)
        const pair = new Uint32Array(2 * words)
        const hashes = new Uint32Array(2)
        for (let bit = 0; bit < 32 * words; bit++) {
          const turned = new Array<number>(32).fill(0)
          for (let s = 0; s < samples; s++) {
            for (let w = 0; w < words; w++) pair[w] = pair[words + w] = draw()
            pair[words + (bit >> 5)]! ^= 1 << (bit & 31)
            hasher.words(pair, words, 2, hashes)
            const differ = hashes[0]! ^ hashes[1]!
            for (let b = 0; b < 32; b++) turned[b]! += (differ >>> b) & 1
          }
          // Binomial(256, 1/2): 128 with a deviation of 8. Of 30,720 counts none should be six off.
          for (const count of turned) expect(Math.abs(count - samples / 2)).toBeLessThan(48)
        }
      }
    },
    60_000,
  )

  test('flows that differ in little spread evenly: chi-square of low and high bits', () => {
    const cells = 1024
    const keys = 64 * cells
    for (const seed of SEEDS) {
      const words = new Uint32Array(keys * 4)
      for (let i = 0; i < keys; i++) {
        // One client, one server, ports in turn; and neighbours of one /16.
        words.set(
          [0x0af4_0000 + (i >>> 12), 0x0a60_0001, ((1024 + (i & 4095)) << 16) | 443, 6],
          4 * i,
        )
      }
      const hashes = new Uint32Array(keys)
      hashByName(name).seeded(seed).words(words, 4, keys, hashes)
      for (const shift of [0, 22]) {
        const counts = new Array<number>(cells).fill(0)
        for (const hash of hashes) counts[(hash >>> shift) & (cells - 1)]!++
        const chi = counts.reduce((sum, count) => sum + (count - 64) ** 2 / 64, 0)
        // 1023 degrees of freedom: mean 1023, deviation 45.
        expect(Math.abs(chi - (cells - 1))).toBeLessThan(6 * 45.2)
      }
    }
  })

  test('both halves of the seed, the length and the order of words count', () => {
    const key = Uint32Array.of(1, 2, 3, 4)
    const hashes = [
      one(name, [1, 2], key),
      one(name, [2, 2], key),
      one(name, [1, 3], key),
      one(name, [1, 2], Uint32Array.of(2, 1, 3, 4)),
      one(name, [1, 2], Uint32Array.of(1, 2, 3, 4, 0)),
      one(name, [1, 2], Uint32Array.of(1, 2, 3)),
    ]
    expect(new Set(hashes).size).toBe(hashes.length)
  })

  test('a batch is its keys one by one', () => {
    const draw = random(7)
    const hasher = hashByName(name).seeded([5, 6])
    for (const words of [1, 3, 10, 16]) {
      const keys = Uint32Array.from({ length: 50 * words }, draw)
      const hashes = new Uint32Array(50)
      hasher.words(keys, words, 50, hashes)
      for (let i = 0; i < 50; i++) {
        expect(hashes[i]).toBe(one(name, [5, 6], keys.slice(i * words, (i + 1) * words)))
      }
    }
  })

  test('refuses to emit what has no words', () => {
    for (const words of [0, 1.5, MAX_EMIT_WORDS + 1]) {
      expect(() => hashByName(name).emit(new Assembler(), words, [1, 2])).toThrow(RangeError)
    }
  })
})

test('names', () => {
  expect(hashNames()).toEqual(['halfsip13', 'murmur3'])
  expect(() => hashByName('crc')).toThrow('hash "crc": there is none (halfsip13, murmur3)')
})

test('seeds come from the system and differ', () => {
  const seeds = Array.from({ length: 100 }, newSeed)
  expect(new Set(seeds.map(String)).size).toBe(100)
  for (const word of seeds.flat()) expect(word >>> 0).toBe(word)
})
