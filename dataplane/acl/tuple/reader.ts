/**
 * The readers of a tuple space (tuple-memory.ts says where everything is): table after table, the
 * smallest best rank first, until the best rule found so far is better than all that is left.
 *
 * A reader takes no lock. It takes what it found only if no step of the writer was between, and
 * looks again otherwise: first a chunk at once, then header by header (tuple-tables.ts argues why
 * that is enough).
 */
import { unmoved, versionOf } from '../../fib/version.ts'
import { type AclReader, HEADER_WORDS } from '../acl.ts'
import { idOf, NO_RANK } from '../rule.ts'
import {
  BEST,
  DIRECTORY,
  DIRECTORY_HEADER,
  firstSlot,
  MIX,
  MULTIPLIERS,
  NODE4,
  NODE6,
  PORTS_MASK,
  PROTOCOL_MASK,
  SLOTS,
  SOURCE_MASK,
  type Space,
  shiftOf,
  TAG,
  TAG_BITS,
} from './memory.ts'

/** Headers that are classified between two looks at the version. */
const CHUNK = 32

export function tupleReader(space: Space): AclReader {
  const { header, places } = space
  const stride = HEADER_WORDS[places.family]
  const some = places.family === 4 ? some4 : some6

  function settle(headers: Uint32Array, i: number, rules: Uint16Array): void {
    for (;;) {
      const version = versionOf(header)
      some(space, headers, i, i + 1, rules)
      if (unmoved(header, version)) return
    }
  }

  return {
    classify(headers, n, rules) {
      if (headers.length < n * stride) return
      for (let from = 0; from < n; from += CHUNK) {
        const to = Math.min(n, from + CHUNK)
        const version = versionOf(header)
        some(space, headers, from, to, rules)
        if (unmoved(header, version)) continue
        for (let i = from; i < to; i++) settle(headers, i, rules)
      }
    },
  }
}

const [K0, K1, K2, K3, K4, K5, K6, K7, K8, K9] = MULTIPLIERS

/** Headers `from .. to` by what is valid now. */
function some4(
  { header, words, places }: Space,
  headers: Uint32Array,
  from: number,
  to: number,
  rules: Uint16Array,
): void {
  const directory = places.directories[header[DIRECTORY]! & 1]!
  const first = directory + DIRECTORY_HEADER
  const end = first + Atomics.load(words, directory) * 8
  const nodes = places.nodes
  for (let i = from; i < to; i++) {
    const source = headers[4 * i]!
    const destination = headers[4 * i + 1]!
    const ports = headers[4 * i + 2]!
    const protocol = headers[4 * i + 3]!
    let best = NO_RANK
    for (let table = first; table < end; table += 8) {
      if (words[table + BEST]! >= best) break
      const s = source & words[table + SOURCE_MASK]!
      const d = destination & words[table + SOURCE_MASK + 1]!
      const sum =
        Math.imul(ports & words[table + PORTS_MASK]!, K0) +
        Math.imul(protocol & words[table + PROTOCOL_MASK]!, K1) +
        Math.imul(s ^ (s >>> 16), K2) +
        Math.imul(d ^ (d >>> 16), K3)
      const hash = Math.imul(sum ^ (sum >>> 15), MIX) | 1
      const place = words[table + SLOTS]!
      const shift = shiftOf(place)
      const slots = firstSlot(place)
      const mask = -1 >>> shift
      const home = hash >>> shift
      for (let p = home; ; ) {
        const slot = words[slots + p]!
        if (slot === 0) break
        p = (p + 1) & mask
        // Only a reader that is late gets around.
        if (p === home) break
        if (((slot ^ hash) & TAG) !== 0) continue
        const node = nodes + (slot >>> TAG_BITS) * 8
        const wanted = words[node + NODE4.protocol]!
        const protocolFar = words[node + NODE4.far + 3]!
        const rank = ((protocolFar & 0xffff_0000) | (wanted >>> 16)) >>> 0
        if (rank >= best) continue
        const first = words[node + NODE4.ports]!
        const far = words[node + NODE4.far + 2]!
        if (
          ((source ^ words[node + NODE4.source]!) & ~words[node + NODE4.far]!) === 0 &&
          ((destination ^ words[node + NODE4.destination]!) & ~words[node + NODE4.far + 1]!) ===
            0 &&
          (((ports >>> 16) - (first >>> 16)) & 0xffff) <= far >>> 16 &&
          ((ports - first) & 0xffff) <= (far & 0xffff) &&
          ((protocol - wanted) & 0xffff) <= (protocolFar & 0xffff)
        ) {
          best = rank
        }
      }
    }
    rules[i] = idOf(best)
  }
}

function some6(
  { header, words, places }: Space,
  headers: Uint32Array,
  from: number,
  to: number,
  rules: Uint16Array,
): void {
  const directory = places.directories[header[DIRECTORY]! & 1]!
  const first = directory + DIRECTORY_HEADER
  const end = first + Atomics.load(words, directory) * 16
  const nodes = places.nodes
  for (let i = from; i < to; i++) {
    const at = 10 * i
    const s0 = headers[at]!
    const s1 = headers[at + 1]!
    const s2 = headers[at + 2]!
    const s3 = headers[at + 3]!
    const d0 = headers[at + 4]!
    const d1 = headers[at + 5]!
    const d2 = headers[at + 6]!
    const d3 = headers[at + 7]!
    const ports = headers[at + 8]!
    const protocol = headers[at + 9]!
    let best = NO_RANK
    for (let table = first; table < end; table += 16) {
      if (words[table + BEST]! >= best) break
      const a = s0 & words[table + SOURCE_MASK]!
      const b = s1 & words[table + SOURCE_MASK + 1]!
      const c = s2 & words[table + SOURCE_MASK + 2]!
      const d = s3 & words[table + SOURCE_MASK + 3]!
      const e = d0 & words[table + SOURCE_MASK + 4]!
      const f = d1 & words[table + SOURCE_MASK + 5]!
      const g = d2 & words[table + SOURCE_MASK + 6]!
      const h = d3 & words[table + SOURCE_MASK + 7]!
      const sum =
        Math.imul(ports & words[table + PORTS_MASK]!, K0) +
        Math.imul(protocol & words[table + PROTOCOL_MASK]!, K1) +
        Math.imul(a ^ (a >>> 16), K2) +
        Math.imul(b ^ (b >>> 16), K3) +
        Math.imul(c ^ (c >>> 16), K4) +
        Math.imul(d ^ (d >>> 16), K5) +
        Math.imul(e ^ (e >>> 16), K6) +
        Math.imul(f ^ (f >>> 16), K7) +
        Math.imul(g ^ (g >>> 16), K8) +
        Math.imul(h ^ (h >>> 16), K9)
      const hash = Math.imul(sum ^ (sum >>> 15), MIX) | 1
      const place = words[table + SLOTS]!
      const shift = shiftOf(place)
      const slots = firstSlot(place)
      const mask = -1 >>> shift
      const home = hash >>> shift
      for (let p = home; ; ) {
        const slot = words[slots + p]!
        if (slot === 0) break
        p = (p + 1) & mask
        // Only a reader that is late gets around.
        if (p === home) break
        if (((slot ^ hash) & TAG) !== 0) continue
        const node = nodes + (slot >>> TAG_BITS) * 16
        const wanted = words[node + NODE6.protocol]!
        const protocolFar = words[node + NODE6.far + 1]!
        const rank = ((protocolFar & 0xffff_0000) | (wanted >>> 16)) >>> 0
        if (rank >= best) continue
        const first = words[node + NODE6.ports]!
        const far = words[node + NODE6.far]!
        const lengths = words[node + NODE6.lengths]!
        if (
          (((ports >>> 16) - (first >>> 16)) & 0xffff) <= far >>> 16 &&
          ((ports - first) & 0xffff) <= (far & 0xffff) &&
          ((protocol - wanted) & 0xffff) <= (protocolFar & 0xffff) &&
          covers(words, node + NODE6.source, lengths & 255, headers, at) &&
          covers(words, node + NODE6.destination, (lengths >>> 8) & 255, headers, at + 4)
        ) {
          best = rank
        }
      }
    }
    rules[i] = idOf(best)
  }
}

/** Whether the prefix of `length` bits at `words[at ..]` covers the address at `headers[from ..]`. */
function covers(
  words: Uint32Array,
  at: number,
  length: number,
  headers: Uint32Array,
  from: number,
): boolean {
  let bits = length
  for (; bits >= 32; bits -= 32) {
    if (words[at++] !== headers[from++]) return false
  }
  return bits === 0 || (words[at]! ^ headers[from]!) >>> (32 - bits) === 0
}
