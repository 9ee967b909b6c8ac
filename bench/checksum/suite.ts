/** The Internet checksum: the native loops and one in TypeScript. */
import { native } from '../../native/native.ts'
import { callsPerSecond } from '../fib/micro.ts'
import { generator } from '../fib/workload.ts'
import { alternate } from '../harness/rounds.ts'
import { median, pairedRatio, significant } from '../harness/statistics.ts'
import { type Options, type Report, type Suite, selected } from '../harness/suite.ts'
import { grouped, type Table } from '../harness/table.ts'

const ROUNDS = 5
const LEAST_ROUNDS = 3
const SECONDS = 0.1
/** A small packet, a full one, a superframe. */
const SIZES = [64, 1500, 65_536]
/** Bytes that one call of the bench sums, in pieces of the size, each at another place. */
const CALL_BYTES = 1 << 18
const ARENA_BYTES = 1 << 20

export const checksum: Suite = {
  name: 'checksum',
  about: 'Internet checksum: native AVX2 and scalar, TypeScript',
  run,
}

const NAMES = ['native', 'scalar', 'typescript'] as const
type Name = (typeof NAMES)[number]
type Sum = (offset: number, length: number, seed: number) => number

async function run(options: Options): Promise<Report> {
  const names = selected(NAMES, options)
  const rounds = Math.max(LEAST_ROUNDS, options.rounds ?? ROUNDS)
  const bytes = new Uint8Array(new SharedArrayBuffer(ARENA_BYTES))
  const random = generator(0x6373_756d)
  for (let i = 0; i < bytes.length; i++) bytes[i] = random()
  native.bind(bytes)
  const sums: Record<Name, Sum> = {
    native: native.checksum,
    scalar: native.checksumScalar,
    typescript: inTypeScript(bytes),
  }
  compare(names, sums, bytes)
  const samples = new Map<number, Record<Name, number[]>>()
  for (const size of SIZES) {
    const calls = new Map(names.map(name => [name, summing(sums[name], size)]))
    samples.set(
      size,
      await alternate(names, rounds, async name => {
        const call = calls.get(name)!
        const seconds = options.seconds ?? SECONDS
        const rate = await callsPerSecond(`${name} ${size} bytes`, seconds, call(), call)
        return rate * Math.floor(CALL_BYTES / size) * size
      }),
    )
  }
  return report(names, samples, rounds)
}

/** The same sum (RFC 1071) over the same bytes: 32 bits at a time, as the values of the CPU's byte order. */
function inTypeScript(bytes: Uint8Array): Sum {
  const words = new Uint32Array(bytes.buffer, bytes.byteOffset, bytes.length >>> 2)
  const fold = (sum: number): number => {
    let folded = sum
    while (folded > 0xffff) folded = (folded % 0x1_0000) + Math.floor(folded / 0x1_0000)
    return folded
  }
  return (offset, length, seed) => {
    const end = offset + length
    const aligned = (offset & 3) === 0 ? end - (length & 3) : offset
    let low = 0
    let high = 0
    let i = offset >>> 2
    for (const last = aligned >>> 2; i < last; i++) {
      const word = words[i]!
      low += word & 0xffff
      high += word >>> 16
    }
    // Sums of 16-bit words do not care for the byte order until the end (RFC 1071, 2 B).
    const little = fold(low + high)
    let sum = fold(seed) + (((little & 0xff) << 8) | (little >>> 8))
    for (let at = aligned; at < end; at += 2) {
      sum += (bytes[at]! << 8) | (at + 1 < end ? bytes[at + 1]! : 0)
    }
    return fold(sum)
  }
}

/** Throws unless all contenders agree with the sum made byte by byte. */
function compare(names: readonly Name[], sums: Record<Name, Sum>, bytes: Uint8Array): void {
  const lengths = [0, 1, 2, 3, 20, 63, 64, 65, 1499, 1500, 65_535, 65_536]
  for (const offset of [0, 1, 2, 3, 4096]) {
    for (const length of lengths) {
      for (const seed of [0, 0xffff, 0x1_2345]) {
        let right = seed
        for (let i = 0; i < length; i++) right += bytes[offset + i]! * (i % 2 === 0 ? 256 : 1)
        while (right > 0xffff) right = (right % 0x1_0000) + Math.floor(right / 0x1_0000)
        for (const name of names) {
          const sum = sums[name](offset, length, seed)
          if (sum !== right) {
            throw new Error(
              `${name}: ${length} bytes at ${offset}, seed ${seed}: ${sum}, not ${right}`,
            )
          }
        }
      }
    }
  }
}

function summing(sum: Sum, size: number): () => number {
  const pieces = Math.floor(CALL_BYTES / size)
  return () => {
    let total = 0
    for (let i = 0; i < pieces; i++) total += sum(i * size, size, 0)
    return total
  }
}

function report(
  names: readonly Name[],
  samples: ReadonlyMap<number, Record<Name, number[]>>,
  rounds: number,
): Report {
  const table: Table = {
    title: `checksum: GB/s, and ns a call; native is ${native.checksumKind()}`,
    head: ['contender', ...SIZES.flatMap(size => [`${grouped(size)} B`, 'ns'])],
    rows: names.map(name => [
      name,
      ...SIZES.flatMap(size => {
        const rate = median(samples.get(size)![name])
        return [grouped(rate / 1e9, 2), grouped((size / rate) * 1e9)]
      }),
    ]),
  }
  const ratios: Record<string, number> = {}
  for (const [size, of] of samples) {
    for (const name of names) {
      if (name === 'native' || !names.includes('native')) continue
      ratios[`checksum_native_vs_${name}_${size}`] = significant(pairedRatio(of.native, of[name]))
    }
  }
  return {
    samples: Object.fromEntries(samples),
    ratios,
    tables: [table],
    notes: [
      `medians of ${rounds} rounds, order rotated; ${grouped(CALL_BYTES)} bytes, warm in the cache; ` +
        'native calls cross Node-API once a piece',
    ],
  }
}
