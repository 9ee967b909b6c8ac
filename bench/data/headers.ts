/** Packet headers for classification: traces from files, and seeded ones drawn from a rule set. */
import { type AclRule, HEADER_WORDS } from '../../dataplane/acl/acl.ts'
import { type FlatRule, flatten, MAX_PORT, matches, wordMask } from '../../dataplane/acl/rule.ts'
import { seeded } from '../../dataplane/fib/columns.ts'
import { Intake, isComment, lines } from './files.ts'

export interface HeaderFile {
  count: number
  /** HEADER_WORDS[4] each, behind each other. */
  headers: Uint32Array
  /** By header: the 0-based rule that it was generated from; an earlier one may match it. -1 where the file doesn't say. */
  from: Int32Array
  intake: Intake
}

/**
 * Reads a trace of IPv4 headers, as ClassBench's generator writes them: `SOURCE DESTINATION PORT
 * PORT PROTOCOL [FLAGS [RULE]]`, decimal words, one header a line. Protocols without ports get none,
 * whatever the file says; ICMP's type and code are the two low bytes of the flags.
 */
export function readHeaders(path: string): HeaderFile {
  const intake = new Intake(path)
  const headers: number[] = []
  const from: number[] = []
  for (const [i, line] of lines(path).entries()) {
    if (isComment(line)) continue
    const fields = line.trim().split(/\s+/)
    const numbers = fields.map(field => (/^\d{1,10}$/.test(field) ? Number(field) : Number.NaN))
    const [source, destination, sourcePort, destinationPort, protocol, flags = 0, rule = -1] =
      numbers
    if (numbers.length < 5 || !numbers.every(number => number <= 0xffff_ffff)) {
      intake.refuse(i + 1, line, 'not five to seven decimal 32-bit numbers')
      continue
    }
    if (sourcePort! > MAX_PORT || destinationPort! > MAX_PORT || protocol! > 255) {
      intake.refuse(i + 1, line, 'a port or the protocol is too large')
      continue
    }
    const ports = sourcePort! * 0x1_0000 + destinationPort!
    headers.push(source!, destination!, portsWord(4, protocol!, ports, flags & 0xffff), protocol!)
    from.push(rule)
    intake.taken++
  }
  const count = from.length
  return { count, headers: Uint32Array.from(headers), from: Int32Array.from(from), intake }
}

/** Protocols with ports, as many as traces have. */
const PORTED = [6, 17, 33, 132, 136]
/** What a rule without a protocol is asked with. */
const PROTOCOLS = { 4: [6, 17, 1, 47, 50, 132], 6: [6, 17, 58, 47, 50, 132] } as const

function portsWord(family: 4 | 6, protocol: number, ports: number, typeAndCode: number): number {
  if (PORTED.includes(protocol)) return ports >>> 0
  if (protocol !== (family === 4 ? 1 : 58)) return 0
  return ((typeAndCode >>> 8) << 16) | (typeAndCode & 255)
}

/** One of so many headers lies anywhere, and one of so many corners just outside of its rule. */
const ANYWHERE = 32
const OUTSIDE = 16

/**
 * `count` different headers, the same for the same seed: each a point of a rule's box, all rules
 * equally likely. Half of its coordinates are the box's ends, a few are one beyond, the others
 * anywhere between; some headers lie anywhere at all. Two thirds or so are decided by the rule they
 * were drawn from, the others by one before it.
 */
export function flowsOf(
  rules: readonly AclRule[],
  family: 4 | 6,
  count: number,
  seed = 1,
): Uint32Array {
  const words = HEADER_WORDS[family]
  const random = seeded(Math.imul(seed, 0x9e37_79b1))
  const flat = rules.map(rule => flatten(family, rule))
  const flows = new Uint32Array(count * words)
  const seen = new Set<string>()
  while (seen.size < count) {
    const anywhere = flat.length === 0 || random() % ANYWHERE === 0
    const rule = anywhere ? undefined : flat[random() % flat.length]
    const header = pointOf(rule, family, random)
    const at = seen.size * words
    if (seen.has(header.join())) continue
    seen.add(header.join())
    flows.set(header, at)
  }
  return flows
}

/**
 * A trace of `length` headers over `flows` different ones of `flowsOf`: evenly, or with Zipf's
 * exponent (flow k is asked for in proportion to k ^ -zipf).
 */
export function headersOf(
  rules: readonly AclRule[],
  family: 4 | 6,
  flows: number,
  zipf = 0,
  length = 1 << 16,
  seed = 1,
): Uint32Array {
  const words = HEADER_WORDS[family]
  const of = flowsOf(rules, family, flows, seed)
  const random = seeded(Math.imul(seed ^ 0x7a69_7066, 0x9e37_79b1))
  const weights = new Float64Array(flows)
  let sum = 0
  for (let k = 0; k < flows; k++) {
    sum += (k + 1) ** -zipf
    weights[k] = sum
  }
  const trace = new Uint32Array(length * words)
  for (let i = 0; i < length; i++) {
    const flow = firstAbove(weights, (random() / 2 ** 32) * sum)
    trace.set(of.subarray(flow * words, (flow + 1) * words), i * words)
  }
  return trace
}

/** How many headers some rule of the list matches, of `count` behind each other. */
export function matched(rules: readonly AclRule[], family: 4 | 6, headers: Uint32Array): number {
  const flat = rules.map(rule => flatten(family, rule))
  let count = 0
  for (let at = 0; at < headers.length; at += HEADER_WORDS[family]) {
    if (flat.some(rule => matches(rule, headers, at))) count++
  }
  return count
}

/** The first element above `value`; they ascend. */
function firstAbove(values: Float64Array, value: number): number {
  let low = 0
  let high = values.length - 1
  while (low < high) {
    const middle = (low + high) >>> 1
    if (values[middle]! > value) high = middle
    else low = middle + 1
  }
  return low
}

function pointOf(rule: FlatRule | undefined, family: 4 | 6, random: () => number): number[] {
  const words = family === 4 ? 1 : 4
  const any = new Uint32Array(words)
  const asked = rule?.protocol ?? -1
  const protocol = asked >= 0 ? asked : PROTOCOLS[family][random() % 6]!
  const port = (first: number, last: number, max: number) => {
    const way = random() % 4
    const between = first + (random() % (Math.min(last, max) - first + 1))
    const at = way === 0 ? first : way === 1 ? Math.min(last, max) : between
    return way < 2 && random() % OUTSIDE === 0 ? (at + (way === 0 ? max : 1)) % (max + 1) : at
  }
  const max = PORTED.includes(protocol) ? MAX_PORT : 255
  const source = port(rule?.sourceFirst ?? 0, rule?.sourceLast ?? MAX_PORT, max)
  const destination = port(rule?.destinationFirst ?? 0, rule?.destinationLast ?? MAX_PORT, max)
  return [
    ...addressIn(rule?.source ?? any, rule?.sourceLength ?? 0, random),
    ...addressIn(rule?.destination ?? any, rule?.destinationLength ?? 0, random),
    portsWord(family, protocol, source * 0x1_0000 + destination, (source << 8) | destination),
    protocol,
  ]
}

function addressIn(prefix: Uint32Array, length: number, random: () => number): number[] {
  const way = random() % 4
  const address = Array.from(prefix, (word, w) => {
    const filler = way === 0 ? 0 : way === 1 ? 0xffff_ffff : random()
    const mask = wordMask(length, w)
    return ((word & mask) | (filler & ~mask)) >>> 0
  })
  const last = address.length - 1
  if (way < 2 && random() % OUTSIDE === 0) {
    address[last] = (address[last]! + (way === 0 ? -1 : 1)) >>> 0
  }
  return address
}
