/** Ways to sum pieces of an arena: kinds of loops, and what is around a loop. */
import { join } from 'node:path'
import { BATCH_SIZE } from '../../dataplane/limits.ts'
import { native } from '../../native/native.ts'
import { compile, root } from '../harness/compile.ts'
import { fresh } from '../harness/fresh.ts'
import { callsPerSecond } from '../harness/micro.ts'
import { Program } from '../harness/program.ts'
import { inTypeScript, type Sum } from './typescript.ts'

/**
 * `kernel`: the loop alone, in a C++ program, by CPU time. `batch`: one call for BATCH_SIZE pieces,
 * as the packet path has packets. `call`: one Node-API call a piece. `copy`: the same, and the piece
 * is copied.
 */
export const WAYS = ['kernel', 'batch', 'call', 'copy'] as const
export type Way = (typeof WAYS)[number]

/** Bytes that are summed again and again, in pieces behind each other: they stay in the cache. */
export const CALL_BYTES = 1 << 18
/** Where copies, descriptors and sums lie in the arena. */
const COPIES = CALL_BYTES
const DESCRIPTORS = 2 * CALL_BYTES
const SUMS = 3 * CALL_BYTES
const ARENA_BYTES = 4 * CALL_BYTES

export interface Contender {
  name: string
  /** Throws for a wrong sum. */
  compare(): void
  /** Bytes a second in pieces of `size`. */
  rate(size: number, seconds: number): Promise<number>
}

/** The arena of this thread, filled as kernel.cc fills its memory. */
export function newArena(): Uint8Array {
  const bytes = new Uint8Array(new SharedArrayBuffer(ARENA_BYTES))
  for (let i = 0; i < CALL_BYTES; i++) bytes[i] = i * 131 + (i >>> 8)
  native.bind(bytes)
  return bytes
}

export function typescript(bytes: Uint8Array): Contender {
  return bySum('typescript', bytes, inTypeScript(bytes), () => {})
}

/** The native way of a kind. `kernel` throws where there is no compiler. */
export function contender(kind: string, way: Way, bytes: Uint8Array): Contender {
  const force = () => native.checksumForce(kind)
  const name = `${kind} ${way}`
  if (way === 'kernel') return kernel(name, kind, bytes)
  if (way === 'batch') return batch(name, bytes, force)
  if (way === 'call') return bySum(name, bytes, native.checksum, force)
  const copied: Sum = (offset, length, seed) =>
    native.copyChecksum(COPIES + offset, offset, length, seed)
  return bySum(name, bytes, copied, force)
}

/** By size: what `expected` found. The arena's bytes are always the same. */
const totals = new Map<number, number>()

/** The sum of all pieces' sums, as the naive loop makes them. */
function expected(bytes: Uint8Array, size: number): number {
  let total = totals.get(size)
  if (total !== undefined) return total
  total = 0
  for (let at = 0; at + size <= CALL_BYTES; at += size) total += naive(bytes, at, size, 0)
  totals.set(size, total)
  return total
}

/** RFC 1071, byte by byte. */
function naive(bytes: Uint8Array, offset: number, length: number, seed: number): number {
  let sum = seed
  for (let i = 0; i < length; i++) sum += bytes[offset + i]! * (i % 2 === 0 ? 256 : 1)
  while (sum > 0xffff) sum = (sum % 0x1_0000) + Math.floor(sum / 0x1_0000)
  return sum
}

const OFFSETS = [0, 1, 2, 3, 4096]
const LENGTHS = [0, 1, 2, 3, 20, 63, 64, 65, 1499, 1500, 65_535, 65_536]
const SEEDS = [0, 0xffff, 0x1_2345]

function compareSums(name: string, bytes: Uint8Array, sum: Sum): void {
  for (const offset of OFFSETS) {
    for (const length of LENGTHS) {
      const unseeded = naive(bytes, offset, length, 0)
      for (const seed of SEEDS) {
        const [found, right] = [sum(offset, length, seed), naive(bytes, 0, 0, unseeded + seed)]
        if (found === right) continue
        const what = `${length} bytes at ${offset}, seed ${seed}`
        throw new Error(`${name}: ${what}: ${found}, not ${right}`)
      }
    }
  }
}

/** Sums piece by piece. */
function sumPieces(sum: Sum, pieces: number, size: number): number {
  let total = 0
  for (let i = 0; i < pieces; i++) total += sum(i * size, size, 0)
  return total
}

function bySum(name: string, bytes: Uint8Array, sum: Sum, before: () => void): Contender {
  const pieces = fresh(sumPieces)
  return {
    name,
    compare() {
      before()
      compareSums(name, bytes, sum)
    },
    async rate(size, seconds) {
      before()
      const n = Math.floor(CALL_BYTES / size)
      const right = expected(bytes, size)
      const call = () => pieces(sum, n, size)
      return n * size * (await callsPerSecond(`${name} ${size} B`, seconds, right, call))
    },
  }
}

function batch(name: string, bytes: Uint8Array, before: () => void): Contender {
  const words = new Uint32Array(bytes.buffer)
  const put = (i: number, offset: number, length: number, seed: number) => {
    words.set([offset, length], DESCRIPTORS / 4 + 2 * i)
    words[SUMS / 4 + i] = seed
  }
  return {
    name,
    compare() {
      before()
      compareSums(name, bytes, (offset, length, seed) => {
        put(0, offset, length, seed)
        native.checksumBatch(DESCRIPTORS, 1, SUMS)
        return words[SUMS / 4]!
      })
    },
    async rate(size, seconds) {
      before()
      const n = Math.floor(CALL_BYTES / size)
      for (let i = 0; i < n; i++) put(i, i * size, size, 0)
      const sums = words.subarray(SUMS / 4, SUMS / 4 + BATCH_SIZE)
      const call = () => {
        let total = 0
        for (let i = 0; i < n; i += BATCH_SIZE) {
          const count = Math.min(BATCH_SIZE, n - i)
          sums.fill(0)
          native.checksumBatch(DESCRIPTORS + 8 * i, count, SUMS)
          for (let k = 0; k < count; k++) total += sums[k]!
        }
        return total
      }
      const right = expected(bytes, size)
      return n * size * (await callsPerSecond(`${name} ${size} B`, seconds, right, call))
    },
  }
}

function kernel(name: string, kind: string, bytes: Uint8Array): Contender {
  const header = join(root, 'native/addon/checksum.h')
  const file = compile('bench/checksum/native/kernel.cc', [
    `-I${join(root, 'native/addon')}`,
    '-include',
    header,
  ])
  return {
    name,
    compare() {},
    async rate(size, seconds) {
      const program = new Program(name, file, [])
      try {
        await program.ready()
        const request = `${kind} ${size} ${seconds}`
        const found = await program.ask(['bytesPerSecond', 'sum'], request)
        const right = expected(bytes, size) >>> 0
        if (found.sum !== right) throw new Error(`${name}: ${found.sum}, not ${right}`)
        return found.bytesPerSecond
      } finally {
        await program.stop()
      }
    },
  }
}
