/** ACLs for the tests: on memory of their own, with arbitraries that lean to the edges. */
import fc from 'fast-check'
import {
  type Acl,
  type AclPrefix,
  type AclReader,
  type AclRule,
  type AclWriter,
  HEADER_WORDS,
  MAX_PRIORITY,
} from '../../../dataplane/acl/acl.ts'
import { aclByName, aclNames } from '../../../dataplane/acl/index.ts'
import { type FlatRule, flatten, matches, wordMask } from '../../../dataplane/acl/rule.ts'
import { SEEDS as SEED_COUNT } from '../../runner/tiers.ts'

export type Family = 4 | 6

/** Every ACL there is, with its family. */
export const ALL = ([4, 6] as const).flatMap(family =>
  aclNames(family).map(name => ({ name, family })),
)

/** The oracle has another one. */
export const BUT_LINEAR = ALL.filter(({ name }) => !name.startsWith('linear'))

/** Seeds that a property is tried with; more on demand (HAWSER_SEEDS=100). */
export const SEEDS = Array.from({ length: SEED_COUNT }, (_, i) => i + 1)

export interface Table {
  acl: Acl
  memory: Uint8Array
  writer: AclWriter
  reader: AclReader
}

export function table(name: string, family: Family, rules: number): Table {
  const acl = aclByName(name, family)
  const limits = { rules }
  const memory = new Uint8Array(new SharedArrayBuffer(acl.bytes(limits)))
  return { acl, memory, writer: acl.writer(memory, limits), reader: acl.reader(memory, limits) }
}

/**
 * Shows the changes to readers, none of which is inside a classification. An algorithm that rebuilds
 * may wait for `quiesced` before it commits again.
 */
export async function commit(writer: AclWriter): Promise<void> {
  await writer.commit()
  writer.quiesced()
}

/** Answers for headers that lie behind each other, in batches of 256 as the engine makes them. */
export function classify(reader: AclReader, headers: Uint32Array, family: Family): Uint16Array {
  const words = HEADER_WORDS[family]
  const n = headers.length / words
  const found = new Uint16Array(n)
  for (let i = 0; i < n; i += 256) {
    const batch = Math.min(256, n - i)
    reader.classify(headers.subarray(i * words, (i + batch) * words), batch, found.subarray(i))
  }
  return found
}

/** An oracle's oracle: rules in a Map, and `matches`. */
export function mapOracle(family: Family) {
  const rules = new Map<number, FlatRule>()
  return {
    insert: (rule: AclRule) => void rules.set(rule.id, flatten(family, rule)),
    remove: (id: number) => rules.delete(id),
    classify(headers: Uint32Array): Uint16Array {
      const words = HEADER_WORDS[family]
      return Uint16Array.from({ length: headers.length / words }, (_, i) => {
        let best: FlatRule | undefined
        for (const rule of rules.values()) {
          if (best !== undefined && best.rank < rule.rank) continue
          if (matches(rule, headers, i * words)) best = rule
        }
        return best?.id ?? 0
      })
    },
  }
}

/** Few, so that prefixes nest and lie side by side. */
const PLACES = {
  4: [[0], [0xffff_ffff], [0x0af4_0102], [0x0af4_0180], [0x0af5_0000]],
  6: [
    [0, 0, 0, 0],
    [0xffff_ffff, 0xffff_ffff, 0xffff_ffff, 0xffff_ffff],
    [0xfd44_0000, 0x0000_0001, 0, 2],
    [0xfd44_0000, 0x0000_0001, 0, 0x0100_0002],
    [0xfd44_0000, 0x0001_0001, 0x8000_0000, 0],
  ],
}
const LENGTHS = {
  4: [0, 1, 8, 15, 16, 17, 23, 24, 25, 28, 30, 31, 32],
  6: [0, 1, 16, 31, 32, 33, 48, 63, 64, 65, 96, 127, 128],
}
const ENDS = [0, 1, 79, 80, 81, 255, 256, 1023, 1024, 0x7fff, 0x8000, 0xfffe, 0xffff]
const ICMP = { 4: 1, 6: 58 } as const
const PORTED = [6, 17, 33, 132, 136]

function clip(address: readonly number[], prefix: number): AclPrefix {
  return { address: address.map((word, w) => (word & wordMask(prefix, w)) >>> 0), prefix }
}

function anyPrefix(family: Family): fc.Arbitrary<AclPrefix> {
  const bits = family === 4 ? 32 : 128
  return fc
    .tuple(
      fc.constantFrom(...PLACES[family]),
      fc.oneof(
        { weight: 4, arbitrary: fc.constantFrom(...LENGTHS[family]) },
        { weight: 1, arbitrary: fc.nat({ max: bits }) },
      ),
      fc.array(fc.nat({ max: bits - 1 }), { maxLength: 1 }),
    )
    .map(([place, prefix, flips]) => {
      const address = [...place]
      for (const bit of flips) {
        address[bit >>> 5] = (address[bit >>> 5]! ^ (1 << (31 - (bit & 31)))) >>> 0
      }
      return clip(address, prefix)
    })
}

const anyRange = fc
  .tuple(fc.constantFrom(...ENDS), fc.constantFrom(...ENDS), fc.boolean())
  .map(([a, b, exact]) => ({
    first: Math.min(a, b),
    last: exact ? Math.min(a, b) : Math.max(a, b),
  }))

const maybe = <T>(arbitrary: fc.Arbitrary<T>) => fc.option(arbitrary, { nil: undefined })

/** Rules with ids up to `ids`. Priorities are few, or at the ends. */
export function anyRule(family: Family, ids: number): fc.Arbitrary<AclRule> {
  const parts = fc.record({
    id: fc.integer({ min: 1, max: ids }),
    priority: fc.constantFrom(0, 1, 2, 3, 3, 4, 100, 0x7fff, 0x8000, MAX_PRIORITY),
    source: maybe(anyPrefix(family)),
    destination: maybe(anyPrefix(family)),
    protocol: maybe(
      fc.constantFrom(...PORTED, 6, 17, 6, 17, ICMP[family], ICMP[family], 0, 47, 255),
    ),
    sourcePorts: maybe(anyRange),
    destinationPorts: maybe(anyRange),
    icmpType: maybe(fc.constantFrom(0, 1, 8, 128, 255)),
    icmpCode: maybe(fc.constantFrom(0, 1, 255)),
  })
  return parts.map(all => {
    const { id, priority, source, destination, protocol } = all
    const { sourcePorts, destinationPorts, icmpType, icmpCode } = all
    const ported = PORTED.includes(protocol ?? -1)
    const icmp = protocol === ICMP[family] && icmpType !== undefined
    return {
      id,
      priority,
      ...(source && { source }),
      ...(destination && { destination }),
      ...(protocol !== undefined && { protocol }),
      ...(ported && sourcePorts && { sourcePorts }),
      ...(ported && destinationPorts && { destinationPorts }),
      ...(icmp && { icmpType }),
      ...(icmp && icmpCode !== undefined && { icmpCode }),
    }
  })
}

/**
 * Headers where rules can go wrong: source and destination of two rules of the list (their first
 * address, their last, or one beyond), ports and protocol of one of them (the ends of its ranges, or
 * one beyond). `roll(n)` gives 0 .. n - 1.
 */
export function edgeHeaders(
  rules: readonly AclRule[],
  family: Family,
  count: number,
  roll: (sides: number) => number,
): Uint32Array {
  const words = HEADER_WORDS[family]
  const flat = rules.map(rule => flatten(family, rule))
  const headers = new Uint32Array(count * words)
  const address = (at: number, prefix: Uint32Array, length: number) => {
    const way = roll(8)
    for (const [w, word] of prefix.entries()) {
      headers[at + w] = way < 4 ? word : word | ~wordMask(length, w)
    }
    const last = at + prefix.length - 1
    if (way === 0) headers[last] = headers[last]! - 1
    if (way === 7) headers[last] = headers[last]! + 1
  }
  const port = (first: number, last: number) =>
    (roll(2) === 0 ? first - (roll(6) === 0 ? 1 : 0) : last + (roll(6) === 0 ? 1 : 0)) & 0xffff
  for (let i = 0; i < count && flat.length > 0; i++) {
    const rule = flat[roll(flat.length)]!
    const other = roll(3) === 0 ? flat[roll(flat.length)]! : rule
    const at = i * words
    const half = family === 4 ? 1 : 4
    address(at, rule.source, rule.sourceLength)
    address(at + half, other.destination, other.destinationLength)
    const protocol =
      rule.protocol < 0 || roll(8) === 0 ? [6, 17, 47, ICMP[family]][roll(4)]! : rule.protocol
    const ports =
      port(rule.sourceFirst, rule.sourceLast) * 0x1_0000 +
      port(rule.destinationFirst, rule.destinationLast)
    const typeAndCode = ports & 0x00ff_00ff
    headers[at + 2 * half] = PORTED.includes(protocol)
      ? ports
      : protocol === ICMP[family]
        ? typeAndCode
        : 0
    headers[at + 2 * half + 1] = protocol
  }
  return headers
}

/** Numbers below its argument, from a seed (xorshift32, G. Marsaglia, 2003). */
export function dice(seed: number): (sides: number) => number {
  let state = Math.imul(seed + 1, 0x9e37_79b1) | 1
  return sides => {
    state ^= state << 13
    state ^= state >>> 17
    state ^= state << 5
    return (state >>> 0) % sides
  }
}

/** One header. */
export function headerOf(
  source: readonly number[],
  destination: readonly number[],
  ports: readonly [number, number],
  protocol: number,
): number[] {
  return [...source, ...destination, ports[0] * 0x1_0000 + ports[1], protocol]
}
