/**
 * What every ACL asks of a rule before it takes it, the flat form that algorithms work on, and the
 * writer's book of rules. Only here is decided which rules are good and what one of them matches.
 *
 * Flat form: prefixes as words and masks, ports as two ranges (for ICMP and ICMPv6 the type is the
 * source half, the code the destination half, as in a header), everything absent as "all of it".
 */
import { wordsToIp } from '../addresses.ts'
import {
  type AclLimits,
  type AclPrefix,
  type AclRule,
  MAX_PRIORITY,
  MAX_RULE_ID,
  type PortRange,
} from './acl.ts'

export const MAX_PORT = 0xffff
/** `FlatRule.protocol` of a rule that takes any. */
export const ANY_PROTOCOL = -1
/** No rule: larger than every rank, and `idOf` makes 0 of it. */
export const NO_RANK = 0xffff_ffff

/** A rule as numbers. All unsigned. */
export interface FlatRule {
  readonly id: number
  /** `rankOf`: of two rules that match, the one of the smaller rank decides. No two rules have the same. */
  readonly rank: number
  /** One word (IPv4) or four (IPv6), and how many bits of them count. */
  readonly source: Uint32Array
  readonly sourceLength: number
  readonly destination: Uint32Array
  readonly destinationLength: number
  /** Both ends belong to it; 0 .. MAX_PORT is everything. */
  readonly sourceFirst: number
  readonly sourceLast: number
  readonly destinationFirst: number
  readonly destinationLast: number
  /** 0 .. 255, or ANY_PROTOCOL. */
  readonly protocol: number
}

/** Protocols that have ports: TCP, UDP, DCCP, SCTP, UDP-Lite. */
const WITH_PORTS: readonly number[] = [6, 17, 33, 132, 136]
/** Protocols with types and codes; in a classifier of IPv6 headers both, since some hold what stands for IPv4 (policy/tables.ts). */
const ICMP: { readonly [F in 4 | 6]: readonly number[] } = { 4: [1], 6: [58, 1] }

/**
 * priority << 16 | id, less one: ids begin with 1, so that no rule has NO_RANK and the smallest
 * rank of nothing gives the answer 0 by itself.
 */
export function rankOf(priority: number, id: number): number {
  return priority * 0x1_0000 + id - 1
}

/** The answer that a rank stands for: a rule id, 0 for NO_RANK. */
export function idOf(rank: number): number {
  return (rank + 1) & 0xffff
}

/** Words of an address. */
export function wordsOf(family: 4 | 6): 1 | 4 {
  return family === 4 ? 1 : 4
}

/** The bits of word `w` that belong to a prefix of `prefix` bits, as an unsigned mask. */
export function wordMask(prefix: number, w: number): number {
  const bits = Math.min(32, Math.max(0, prefix - 32 * w))
  return bits === 0 ? 0 : (-1 << (32 - bits)) >>> 0
}

/** Throws RangeError when `rules` is no number of rules. */
export function checkLimits({ rules }: AclLimits): void {
  if (!Number.isInteger(rules) || rules < 1 || rules > MAX_RULE_ID) {
    throw new RangeError(`rules: ${rules} is not in 1..${MAX_RULE_ID} (MAX_RULE_ID)`)
  }
}

/** Throws RangeError, with the rule's id and the field, unless an ACL of this family can take the rule. */
export function checkRule(family: 4 | 6, rule: AclRule): void {
  const { id, priority, source, destination, protocol } = rule
  checkInteger(id, 'id', id, 1, MAX_RULE_ID, ' (MAX_RULE_ID)')
  checkInteger(id, 'priority', priority, 0, MAX_PRIORITY, ' (MAX_PRIORITY)')
  if (source !== undefined) checkPrefix(family, id, 'source', source)
  if (destination !== undefined) checkPrefix(family, id, 'destination', destination)
  if (protocol !== undefined) checkInteger(id, 'protocol', protocol, 0, 255)
  checkPorts(rule, 'sourcePorts', rule.sourcePorts)
  checkPorts(rule, 'destinationPorts', rule.destinationPorts)
  checkIcmp(family, rule)
}

function refuse(id: number, field: string, why: string): never {
  throw new RangeError(`rule ${id}: ${field} ${why}`)
}

function checkInteger(
  id: number,
  field: string,
  value: number,
  min: number,
  max: number,
  limit = '',
): void {
  if (!Number.isInteger(value) || value < min || value > max) {
    refuse(id, field, `${value} is not in ${min}..${max}${limit}`)
  }
}

function checkPrefix(family: 4 | 6, id: number, field: string, of: AclPrefix): void {
  const { address, prefix } = of
  const words = wordsOf(family)
  if (address.length !== words) {
    refuse(id, field, `has ${address.length} words: an IPv${family} address has ${words}`)
  }
  for (let w = 0; w < words; w++) {
    const word = address[w]!
    if (word >>> 0 !== word) refuse(id, field, `word ${word} is not in 0..2^32-1`)
  }
  checkInteger(id, `${field} prefix length`, prefix, 0, 32 * words)
  for (let w = 0; w < words; w++) {
    if ((address[w]! & ~wordMask(prefix, w)) !== 0) {
      refuse(id, field, `${wordsToIp(address)}/${prefix} has bits behind its prefix`)
    }
  }
}

function checkPorts({ id, protocol }: AclRule, field: string, ports?: PortRange): void {
  if (ports === undefined) return
  checkInteger(id, `${field} first`, ports.first, 0, MAX_PORT)
  checkInteger(id, `${field} last`, ports.last, 0, MAX_PORT)
  if (ports.first > ports.last) refuse(id, field, `${ports.first}..${ports.last} is backwards`)
  if (protocol === undefined || !WITH_PORTS.includes(protocol)) {
    refuse(id, field, `needs a protocol with ports (${WITH_PORTS.join(', ')}), not ${protocol}`)
  }
}

function checkIcmp(family: 4 | 6, { id, protocol, icmpType, icmpCode }: AclRule): void {
  if (icmpType !== undefined) {
    checkInteger(id, 'icmpType', icmpType, 0, 255)
    if (protocol === undefined || !ICMP[family].includes(protocol)) {
      refuse(id, 'icmpType', `needs protocol ${ICMP[family].join(' or ')}, not ${protocol}`)
    }
  }
  if (icmpCode !== undefined) {
    checkInteger(id, 'icmpCode', icmpCode, 0, 255)
    if (icmpType === undefined) refuse(id, 'icmpCode', 'needs an icmpType')
  }
}

/** The flat form of a rule that `checkRule` has let through. */
export function flatten(family: 4 | 6, rule: AclRule): FlatRule {
  const { id, priority, source, destination, icmpType, icmpCode } = rule
  const words = wordsOf(family)
  const address = (of?: AclPrefix) => (of ? Uint32Array.from(of.address) : new Uint32Array(words))
  return {
    id,
    rank: rankOf(priority, id),
    source: address(source),
    sourceLength: source?.prefix ?? 0,
    destination: address(destination),
    destinationLength: destination?.prefix ?? 0,
    sourceFirst: rule.sourcePorts?.first ?? icmpType ?? 0,
    sourceLast: rule.sourcePorts?.last ?? icmpType ?? MAX_PORT,
    destinationFirst: rule.destinationPorts?.first ?? icmpCode ?? 0,
    destinationLast: rule.destinationPorts?.last ?? icmpCode ?? MAX_PORT,
    protocol: rule.protocol ?? ANY_PROTOCOL,
  }
}

/** Whether the header at `headers[at ..]` (HEADER_WORDS of the rule's family) matches. */
export function matches(rule: FlatRule, headers: ArrayLike<number>, at = 0): boolean {
  const words = rule.source.length
  const ports = headers[at + 2 * words]!
  const source = ports >>> 16
  const destination = ports & 0xffff
  return (
    source >= rule.sourceFirst &&
    source <= rule.sourceLast &&
    destination >= rule.destinationFirst &&
    destination <= rule.destinationLast &&
    (rule.protocol === ANY_PROTOCOL || rule.protocol === (headers[at + 2 * words + 1]! & 255)) &&
    covers(rule.source, rule.sourceLength, headers, at) &&
    covers(rule.destination, rule.destinationLength, headers, at + words)
  )
}

function covers(
  prefix: Uint32Array,
  length: number,
  headers: ArrayLike<number>,
  at: number,
): boolean {
  for (let w = 0, bits = length; bits > 0; w++, bits -= 32) {
    const differ = prefix[w]! ^ headers[at + w]!
    if (bits >= 32 ? differ !== 0 : differ >>> (32 - bits) !== 0) return false
  }
  return true
}

/** The writer's rules by id. */
export interface RuleBook {
  readonly size: number
  /**
   * Checks the rule and the limit and takes it; throws RangeError and takes nothing else. Gives the
   * flat forms: the rule's, and the one of the same id that it replaces.
   */
  insert(rule: AclRule): { flat: FlatRule; replaced: FlatRule | undefined }
  /** The flat form of the rule that was taken out, if there was one. */
  remove(id: number): FlatRule | undefined
  get(id: number): FlatRule | undefined
  /** Copies that nobody else holds. */
  rules(): Iterable<AclRule>
  flat(): Iterable<FlatRule>
}

export function ruleBook(family: 4 | 6, limits: AclLimits): RuleBook {
  checkLimits(limits)
  const book = new Map<number, { rule: AclRule; flat: FlatRule }>()
  return {
    get size() {
      return book.size
    },
    insert(rule) {
      checkRule(family, rule)
      const before = book.get(rule.id)
      if (before === undefined && book.size >= limits.rules) {
        throw new RangeError(`rule ${rule.id}: no room, the ACL has its ${limits.rules} rules`)
      }
      const flat = flatten(family, rule)
      book.set(rule.id, { rule: copyOf(rule), flat })
      return { flat, replaced: before?.flat }
    },
    remove(id) {
      const flat = book.get(id)?.flat
      book.delete(id)
      return flat
    },
    get: id => book.get(id)?.flat,
    *rules() {
      for (const { rule } of book.values()) yield copyOf(rule)
    },
    *flat() {
      for (const { flat } of book.values()) yield flat
    },
  }
}

/** Of the fields that are there, and of nothing else that the caller may change later. */
function copyOf(rule: AclRule): AclRule {
  const { id, priority, source, destination, protocol, sourcePorts, destinationPorts } = rule
  const { icmpType, icmpCode } = rule
  return {
    id,
    priority,
    ...(source && { source: prefixOf(source) }),
    ...(destination && { destination: prefixOf(destination) }),
    ...(protocol !== undefined && { protocol }),
    ...(sourcePorts && { sourcePorts: rangeOf(sourcePorts) }),
    ...(destinationPorts && { destinationPorts: rangeOf(destinationPorts) }),
    ...(icmpType !== undefined && { icmpType }),
    ...(icmpCode !== undefined && { icmpCode }),
  }
}

const prefixOf = ({ address, prefix }: AclPrefix): AclPrefix => ({
  address: Uint32Array.from(address),
  prefix,
})

const rangeOf = ({ first, last }: PortRange): PortRange => ({ first, last })
