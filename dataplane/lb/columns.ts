/**
 * A bank that is a list of backends by id, for balancers that look at them one by one:
 *
 *     +0           i32  backends n; +4 i32 1 when all weights are the same; +8 i32 sum of the weights
 *     +16          n columns of 32-bit words, `limits.backends` each: id, weight, a hash of the id,
 *                  and the sum of weights up to and with this backend
 */
import { hashByName } from '../hash/index.ts'
import { checkedBackends, checkLbLimits, HEADER_BYTES, headerOf, publish } from './bank.ts'
import type { Backend, LbLimits, LbWriter } from './lb.ts'

const COLUMNS = 4
const COUNT = 0
const EQUAL = 1
const TOTAL = 2
const HEAD_WORDS = 4
/** The same everywhere: nodes that balance the same backends agree. */
const SALTS = hashByName('murmur3').seeded([0x6872_7700, 0])

export interface Columns {
  head: Int32Array
  ids: Uint32Array
  weights: Uint32Array
  salts: Uint32Array
  sums: Uint32Array
}

const bankBytes = ({ backends }: LbLimits) => 4 * (HEAD_WORDS + COLUMNS * backends)

/** Bytes of the header and both banks. */
export function columnsBytes(limits: LbLimits): number {
  return HEADER_BYTES + 2 * bankBytes(limits)
}

export function columnsOf(
  { buffer, byteOffset }: Uint8Array,
  limits: LbLimits,
): [Columns, Columns] {
  const bank = (number: number): Columns => {
    const at = byteOffset + HEADER_BYTES + number * bankBytes(limits)
    const column = (c: number) =>
      new Uint32Array(buffer, at + 4 * (HEAD_WORDS + c * limits.backends), limits.backends)
    return {
      head: new Int32Array(buffer, at, HEAD_WORDS),
      ids: column(0),
      weights: column(1),
      salts: column(2),
      sums: column(3),
    }
  }
  return [bank(0), bank(1)]
}

/** Backends of a bank; never more than its columns hold, whatever is being written there. */
export function countOf({ head, ids }: Columns): number {
  return Math.min(head[COUNT]!, ids.length)
}

export function allEqual({ head }: Columns): boolean {
  return head[EQUAL] === 1
}

export function totalOf({ head }: Columns): number {
  return head[TOTAL]!
}

/** What `id` is mixed with. */
export function saltOf(id: number): number {
  const salt = new Uint32Array(1)
  SALTS.words(Uint32Array.of(id), 1, 1, salt)
  return salt[0]!
}

/** 32 bits from a flow's hash and a salt: each bit depends on each (two multiply-xorshift steps). */
export function mixed(hash: number, salt: number): number {
  let word = hash ^ salt
  word = Math.imul(word ^ (word >>> 16), 0x21f0aaad)
  word = Math.imul(word ^ (word >>> 15), 0x735a2d97)
  return (word ^ (word >>> 15)) >>> 0
}

/** Publishes `backends`, which are checked and in order. */
function publishColumns(
  header: Int32Array,
  banks: readonly Columns[],
  backends: readonly Backend[],
): void {
  publish(header, number => {
    const { head, ids, weights, salts, sums } = banks[number]!
    let sum = 0
    for (const [i, { id, weight }] of backends.entries()) {
      ids[i] = id
      weights[i] = weight
      salts[i] = saltOf(id)
      sums[i] = sum += weight
    }
    head[COUNT] = backends.length
    head[EQUAL] = backends.every(({ weight }) => weight === backends[0]!.weight) ? 1 : 0
    head[TOTAL] = sum
  })
}

export function columnsWriter(memory: Uint8Array, limits: LbLimits): LbWriter {
  checkLbLimits(limits)
  const banks = columnsOf(memory, limits)
  const header = headerOf(memory)
  let current: readonly Backend[] = []
  return {
    get size() {
      return current.length
    },
    set(backends) {
      const checked = checkedBackends(backends, limits)
      publishColumns(header, banks, checked)
      current = checked
    },
    backends: () => current.map(backend => ({ ...backend })),
  }
}
