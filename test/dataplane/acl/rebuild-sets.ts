/** Rule sets from seeds, of the shapes that trees and vectors care about, and ACLs to hold them. */

import type { Acl, AclReader, AclWriter } from '../../../dataplane/acl/acl.ts'
import { type AclPrefix, type AclRule, HEADER_WORDS } from '../../../dataplane/acl/acl.ts'
import { wordMask } from '../../../dataplane/acl/rule.ts'

export type Family = 4 | 6
export const FAMILIES = [4, 6] as const

export interface Table {
  writer: AclWriter
  reader: AclReader
  memory: Uint8Array
}

export function table(acl: Acl, rules: number): Table {
  const limits = { rules }
  const memory = new Uint8Array(new SharedArrayBuffer(acl.bytes(limits)))
  return { writer: acl.writer(memory, limits), reader: acl.reader(memory, limits), memory }
}

/** A committed ACL of these rules; its limit is exactly their number. */
export async function holding(acl: Acl, rules: readonly AclRule[]): Promise<Table> {
  const made = table(acl, Math.max(1, rules.length))
  for (const rule of rules) made.writer.insert(rule)
  await made.writer.commit()
  made.writer.quiesced()
  return made
}

/** Answers for headers behind each other, in batches of 256. */
export function answers(reader: AclReader, family: Family, headers: Uint32Array): Uint16Array {
  const words = HEADER_WORDS[family]
  const n = headers.length / words
  const found = new Uint16Array(n)
  for (let i = 0; i < n; i += 256) {
    const batch = Math.min(256, n - i)
    reader.classify(headers.subarray(i * words, (i + batch) * words), batch, found.subarray(i))
  }
  return found
}

/** Numbers from a seed (xorshift32, G. Marsaglia, 2003). */
export function generator(seed: number): (below: number) => number {
  let state = Math.imul(seed, 0x9e37_79b1) | 1
  return below => {
    state ^= state << 13
    state ^= state >>> 17
    state ^= state << 5
    return (state >>> 0) % below
  }
}

type Roll = (below: number) => number

function prefix(family: Family, words: readonly number[], length: number): AclPrefix {
  const [high, low = 0] = words as [number, number?]
  const all = family === 4 ? [high] : [0xfd44_0000, 0x1234_0000, high, low]
  const bits = family === 4 ? length : length === 0 ? 0 : 64 + length
  return { address: all.map((word, w) => (word & wordMask(bits, w)) >>> 0), prefix: bits }
}

const word = (roll: Roll) => ((roll(0x1_0000) << 16) | roll(0x1_0000)) >>> 0
/** Addresses of a cluster: pods in a /16. */
const pod = (roll: Roll) => (0x0af4_0000 | roll(0x1_0000)) >>> 0

function range(roll: Roll): { first: number; last: number } {
  const first = roll(0x1_0000)
  return { first, last: first + roll(0x1_0000 - first) }
}

/** One rule of a shape; `i` counts them. */
type Shape = (family: Family, roll: Roll, i: number) => Omit<AclRule, 'id' | 'priority'>

export const SHAPES: Record<string, Shape> = {
  'pods with ports': (family, roll) => ({
    destination: prefix(family, [pod(roll), word(roll)], roll(8) === 0 ? 24 : 32),
    ...(roll(3) > 0 && { source: prefix(family, [pod(roll)], [0, 8, 16, 24, 32][roll(5)]!) }),
    protocol: roll(4) === 0 ? 17 : 6,
    destinationPorts: (port => ({ first: port, last: port }))(
      [80, 443, 53, 8080, roll(65_536)][roll(5)]!,
    ),
  }),
  'prefixes of every length': (family, roll) => ({
    source: prefix(family, [word(roll), word(roll)], roll(33)),
    destination: prefix(family, [word(roll), word(roll)], roll(33)),
    ...(roll(2) === 0 && { protocol: roll(256) }),
  }),
  'nested prefixes': (family, roll) => ({
    source: prefix(family, [0x0af4_0102], roll(33)),
    destination: prefix(family, [0xc0a8_0000 | roll(4)], roll(33)),
    ...(roll(2) === 0 && { protocol: 6, sourcePorts: range(roll), destinationPorts: range(roll) }),
  }),
  'ranges of ports only': (_, roll) => ({
    protocol: [6, 17, 132][roll(3)]!,
    sourcePorts: range(roll),
    destinationPorts: range(roll),
  }),
  'ICMP types': (family, roll) => ({
    protocol: family === 4 ? 1 : 58,
    ...(roll(2) === 0 && { source: prefix(family, [pod(roll)], 24 + roll(9)) }),
    ...(roll(4) > 0 && { icmpType: roll(256), ...(roll(2) === 0 && { icmpCode: roll(256) }) }),
  }),
  'the same box again and again': family => ({
    source: prefix(family, [0x0a00_0001], 32),
    protocol: 6,
  }),
}

/** `count` rules of a shape; priorities repeat, ids are in no order. */
export function rulesOf(shape: Shape, family: Family, count: number, seed: number): AclRule[] {
  const roll = generator(seed)
  const ids = Uint16Array.from({ length: count }, (_, i) => i + 1)
  for (let i = count - 1; i > 0; i--) {
    const other = roll(i + 1)
    const id = ids[i]!
    ids[i] = ids[other]!
    ids[other] = id
  }
  return Array.from(ids, (id, i) => ({
    ...shape(family, roll, i),
    id,
    priority: roll(count) >>> 1,
  }))
}
